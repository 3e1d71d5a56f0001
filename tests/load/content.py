"""A content server that takes its time, for the measurements: content.py PORT SECONDS [COUNTS] [SIZE]

It answers 200 with SIZE bytes (1024) after SECONDS. In the file COUNTS it keeps three numbers of eight bytes that outlive its death by force: requests in
flight now, requests so far, and the most in flight at once.
"""
import asyncio
import mmap
import struct
import sys


class Answers(asyncio.Protocol):
    def __init__(self, seconds, counts, body):
        self.seconds, self.counts, self.head = seconds, counts, b""
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        # Requests without a body, one after the other: the gateway sends no next one before the answer.
        self.head += data
        if b"\r\n\r\n" in self.head:
            self.head = b""
            self.counts.begin()
            asyncio.get_running_loop().call_later(self.seconds, self.give)

    def give(self):
        self.counts.end()
        if not self.transport.is_closing():
            self.transport.write(self.answer)


class Counts:
    def __init__(self, path):
        if path is None:
            self.map = bytearray(24)
        else:
            with open(path, "w+b") as file:
                file.write(bytes(24))
                file.flush()
                self.map = mmap.mmap(file.fileno(), 24)

    def begin(self):
        now, all_of_them, most = read(self.map)
        self.map[:24] = struct.pack("=qqq", now + 1, all_of_them + 1, max(most, now + 1))

    def end(self):
        now, all_of_them, most = read(self.map)
        self.map[:24] = struct.pack("=qqq", now - 1, all_of_them, most)


def read(counts):
    """(in flight, so far, most) of the bytes of COUNTS."""
    return struct.unpack("=qqq", bytes(counts[:24]))


async def serve(port, seconds, counts, size):
    loop = asyncio.get_running_loop()
    counts, body = Counts(counts), b"x" * size
    server = await loop.create_server(lambda: Answers(seconds, counts, body), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    arguments = sys.argv[1:] + [None] * 2
    asyncio.run(serve(int(arguments[0]), float(arguments[1]), arguments[2], int(arguments[3] or 1024)))
