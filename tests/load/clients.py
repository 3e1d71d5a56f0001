"""Two small clients for asyncio that know when a request was sent and whether its answer came whole: `H1`, and `H2` with as much of HTTP/2 as that takes.

    connection = await H2.open(port, tls)
    status, body = await connection.get("/album/beach", rpt)      # raises Gone when the connection ended first

Heads are written without compression and read without a table (SETTINGS_HEADER_TABLE_SIZE 0): of an answer only its status and the length of its body count.
"""
import asyncio
import functools
import socket
import ssl
import struct

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WIDE = 2**31 - 1 - 65535


class Gone(Exception):
    """The connection ended before the answer did."""


@functools.cache
def context(*protocols):
    """TLS without looking at the certificate: other programs look at it. Made once: making one takes longer than a handshake."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols(protocols)
    return made


async def opened(port, tls, protocol, source=None, window=None):
    """A connection, of this address and with this room for what comes in, in bytes."""
    if window is None:
        return await asyncio.open_connection("127.0.0.1", port, ssl=context(protocol) if tls else None, local_addr=(source, 0) if source else None)
    stream = socket.socket()
    stream.setblocking(False)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    if source:
        stream.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(stream, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=stream, limit=window, **({"ssl": context(protocol), "server_hostname": "localhost"} if tls else {}))


class H1:
    """One HTTP/1.1 connection; `closing` when the last answer said that it is the last."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.closing = reader, writer, False

    @classmethod
    async def open(cls, port, tls=False, source=None):
        return cls(*await opened(port, tls, "http/1.1", source))

    async def get(self, path, rpt=None):
        bearer = f"Authorization: Bearer {rpt}\r\n" if rpt else ""
        try:
            self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n".encode())
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            self.closing = fields.get("connection") == "close"
            return int(head.split(" ", 2)[1]), await self.reader.readexactly(int(fields["content-length"]))
        except (OSError, EOFError, KeyError) as error:
            self.closing = True
            raise Gone(repr(error)) from None

    def close(self):
        self.writer.close()


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A field without indexing and without Huffman's code (RFC 7541, 6.2.2)."""
    return b"\x00" + text(name) + text(value)


def text(value):
    octets, length = value.encode(), len(value.encode())
    if length < 127:
        return bytes([length]) + octets
    coded, left = b"\x7f", length - 127
    while left >= 128:
        coded, left = coded + bytes([left % 128 + 128]), left // 128
    return coded + bytes([left]) + octets


def status_of(block):
    """The status of a head that was coded without a dynamic table: a size update may stand in front."""
    while block and block[0] & 0xE0 == 0x20:
        block = block[1:]
    static = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
    if block[:1] and block[0] in static:
        return static[block[0]]
    # A literal with the name of an indexed :status; its value is three octets, or two by Huffman's code.
    length = block[1] & 0x7F
    return int(block[2:2 + length]) if not block[1] & 0x80 else -1


class H2:
    """One HTTP/2 connection that many ask on at the same time; `closing` when GOAWAY has come."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.closing, self.answers_pings = reader, writer, False, True
        self.next, self.waiting, self.ended, self.pings = 1, {}, asyncio.Event(), 0
        # The windows are opened wide at once, so that no answer waits for us.
        settings = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, 2**31 - 1)
        writer.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW, 0, 0, struct.pack(">I", WIDE)))
        self.task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, port, tls=False, source=None):
        return cls(*await opened(port, tls, "h2", source))

    async def get(self, path, rpt=None):
        if self.closing or self.ended.is_set():
            raise Gone("before it was asked")
        stream, self.next = self.next, self.next + 2
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        if rpt:
            fields.append(("authorization", f"Bearer {rpt}"))
        answer = asyncio.get_running_loop().create_future()
        self.waiting[stream] = [answer, None, bytearray()]
        self.writer.write(frame(HEADERS, 5, stream, b"".join(literal(*field) for field in fields)))
        return await answer

    def close(self):
        self.task.cancel()
        self.writer.close()

    async def _read(self):
        try:
            while True:
                head = await self.reader.readexactly(9)
                length, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
                self._take(kind, flags, stream, await self.reader.readexactly(length))
        except (OSError, EOFError) as error:
            self._gone(repr(error))
        finally:
            self.ended.set()
            self.writer.close()

    def _take(self, kind, flags, stream, payload):
        waiting = self.waiting.get(stream)
        if kind == HEADERS and waiting and waiting[1] is None:
            waiting[1] = status_of(payload)
        elif kind == DATA and waiting:
            waiting[2] += payload
            if payload and not self.writer.is_closing():
                self.writer.write(frame(WINDOW, 0, 0, struct.pack(">I", len(payload))))
        elif kind == RESET and waiting:
            self._settle(stream, Gone(f"reset with {int.from_bytes(payload, 'big')}"))
        elif kind == SETTINGS and not flags & 1:
            self.writer.write(frame(SETTINGS, 1, 0))
        elif kind == PING and not flags & 1:
            self.pings += 1
            if self.answers_pings:
                self.writer.write(frame(PING, 1, 0, payload))
        elif kind == GOAWAY:
            self.closing = True
            last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
            for left in [number for number in self.waiting if number > last]:
                self._settle(left, Gone("GOAWAY without it"))
        if kind in (HEADERS, DATA) and flags & 1 and stream in self.waiting:
            answer, status, body = self.waiting[stream]
            self._settle(stream, (status, bytes(body)))

    def _settle(self, stream, outcome):
        answer = self.waiting.pop(stream)[0]
        if answer.done():
            return
        if isinstance(outcome, Gone):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _gone(self, why):
        for stream in list(self.waiting):
            self._settle(stream, Gone(why))
