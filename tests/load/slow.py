"""Clients that are idle or slow in every way, many thousands of them: plain sockets and one epoll for each of a few processes, since thousands of asyncio's
streams would be slower than what they measure.

    with Clients(ports, kinds, count) as clients:
        clients.standing()       # how many stand and do what their kind does
        clients.outcomes()       # waits; of each connection its kind, and how long it stood in seconds, or what went wrong

Each connection has one of many addresses of 127.0.0.0/8.
"""
import collections
import multiprocessing
import select
import socket
import ssl
import struct
import time

from clients import DATA, HEADERS, PING, PREFACE, SETTINGS, context, frame, literal, status_of

PROCESSES = 4
# Clients' connections of one address at a time.
OF_ONE = 200
# So many are being opened at a time by one process: fewer than the system's queue of connections holds.
OPENING = 40
# Bytes for what comes in to one that does not read.
WINDOW = 16 * 1024
# Seconds between two bytes of one that drips.
DRIP = 1

Ports = collections.namedtuple("Ports", "plain tls")
# `speaks`: what is spoken inside TLS, none where TLS is never begun; `make`: what it does, a `Slow`.
Kind = collections.namedtuple("Kind", "name tls limit speaks make")
Outcome = collections.namedtuple("Outcome", "kind stood wrong")


class Slow:
    """What a connection does: says something, and is held from then on."""

    def __init__(self, begun, drips=False):
        self.begun, self.drips, self.held = begun, drips, True

    def came(self, _):
        """What is said to what has come."""
        return b""

    def ended(self):
        """What is wrong with its end, if something is."""
        return "" if self.held else "ended before its answer"


class Unread(Slow):
    """Takes nothing of its answer. It hears of a reset only: of an end that comes behind what it does not read nothing tells it."""


class Answered(Slow):
    """Is held when its answer has come."""

    def __init__(self, begun):
        super().__init__(begun)
        self.held, self.answer = False, b""

    def came(self, piece):
        if self.held:
            return b""
        self.answer += piece
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if found and not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"answered {head[:40]}")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        self.held = bool(found) and len(body) >= int(fields[b"content-length"])
        return b""


class H2(Slow):
    """Speaks HTTP/2; with `path` it is held when the answer has come."""

    def __init__(self, path=None, pongs=True):
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        request = frame(HEADERS, 5, 1, b"".join(literal(*field) for field in fields)) if path else b""
        super().__init__(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 1, 0)) + request)
        self.held, self.pongs, self.left = path is None, pongs, b""

    def came(self, piece):
        self.left, says = self.left + piece, b""
        while len(self.left) >= 9 and len(self.left) >= 9 + (length := int.from_bytes(self.left[:3], "big")):
            kind, flags, payload = self.left[3], self.left[4], self.left[9:9 + length]
            self.left = self.left[9 + length:]
            if kind == HEADERS and status_of(payload) != 200:
                raise RuntimeError("not answered by 200")
            if kind in (HEADERS, DATA) and flags & 1:
                self.held = True
            elif kind == SETTINGS and not flags & 1:
                says += frame(SETTINGS, 1, 0)
            elif kind == PING and not flags & 1 and self.pongs:
                says += frame(PING, 1, 0, payload)
        return says


class _Connection:
    """One socket and what is done with it. `events`: what it waits for."""

    def __init__(self, kind, source, ports):
        self.kind, self.slow, self.since = kind, kind.make(), None
        self.says, self.reads, self.open = b"", True, False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if isinstance(self.slow, Unread):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
            # With the segments of loopback, 64 KiB each, the system keeps some MiB for each.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        self.socket.bind((source, 0))
        self.socket.connect_ex(("127.0.0.1", ports.tls if kind.tls else ports.plain))
        self.events = select.EPOLLOUT

    def number(self):
        return self.socket.fileno()

    def go_on(self):
        """Does what can be done now; whether it has ended."""
        try:
            if not self.open:
                self._begin()
            elif not self.reads:
                # Only a reset tells of itself then.
                return True
            if self.reads:
                while piece := self.socket.recv(256 * 1024):
                    self.say(self.slow.came(piece))
                    self.look()
                return True
        except ssl.SSLWantWriteError:
            self.events |= select.EPOLLOUT
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        return False

    def _begin(self):
        """Until all that it says is said."""
        failed = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, "not connected")
        self.events = select.EPOLLIN
        if self.kind.tls and self.kind.speaks:
            if not isinstance(self.socket, ssl.SSLSocket):
                self.socket = context(self.kind.speaks).wrap_socket(self.socket, do_handshake_on_connect=False)
            self.socket.do_handshake()
        self.open, self.reads = True, not isinstance(self.slow, Unread)
        if not self.reads:
            self.events = 0
        self.say(self.slow.begun)
        self.look()

    def look(self):
        if self.slow.held and self.since is None:
            self.since = time.monotonic()

    def say(self, more):
        """Short things, for which there is always room."""
        if more:
            self.socket.send(more)


class _Process:
    """One process's share of the connections."""

    def __init__(self, kinds, numbers, ports, standing):
        self.kinds, self.waiting, self.ports, self.standing = kinds, collections.deque(numbers), ports, standing
        self.epoll, self.all, self.opening, self.outcomes = select.epoll(), {}, set(), []
        # Which connection is to do something, and when.
        self.dripping = collections.deque()

    def run(self, pipe):
        while self.waiting or self.all:
            while self.waiting and len(self.opening) < OPENING:
                self._open(self.waiting.popleft())
            for number, _ in self.epoll.poll(0.1):
                self._go_on(self.all[number])
            self._drip(time.monotonic())
            if pipe.poll():
                # No more time: what stands is left over.
                break
        left = [Outcome(connection.kind.name, None, "not closed") for connection in self.all.values()]
        pipe.send(self.outcomes + left)

    def _open(self, number):
        kind = self.kinds[number % len(self.kinds)]
        connection = _Connection(kind, f"127.1.{number // OF_ONE}.1", self.ports)
        self.all[connection.number()] = connection
        self.opening.add(connection)
        self.epoll.register(connection.number(), connection.events)

    def _go_on(self, connection):
        number, before = connection.number(), connection.events
        try:
            ended, wrong = connection.go_on(), ""
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            # However it was ended is an end; what went wrong before it was held is not.
            ended, wrong = True, "" if connection.since and isinstance(error, OSError) else repr(error)
        if connection.since and connection in self.opening:
            self.opening.remove(connection)
            with self.standing.get_lock():
                self.standing.value += 1
            if connection.slow.drips:
                self.dripping.append((connection.since + DRIP, connection))
        if ended:
            self._ended(connection, number, wrong)
        elif connection.events != before:
            self.epoll.modify(number, connection.events)

    def _ended(self, connection, number, wrong):
        now = time.monotonic()
        if connection.since:
            with self.standing.get_lock():
                self.standing.value -= 1
        self.opening.discard(connection)
        stood = connection.since and now - connection.since
        self.outcomes.append(Outcome(connection.kind.name, stood, wrong or connection.slow.ended()))
        del self.all[number]
        self.epoll.unregister(number)
        connection.socket.close()

    def _drip(self, now):
        while self.dripping and self.dripping[0][0] <= now:
            _, connection = self.dripping.popleft()
            if self.all.get(connection.number()) is connection:
                try:
                    connection.say(b"x")
                    self.dripping.append((now + DRIP, connection))
                except OSError:
                    self._go_on(connection)


def _run(kinds, numbers, ports, standing, pipe):
    _Process(kinds, numbers, ports, standing).run(pipe)


class Clients:
    """All connections: so many of each kind."""

    def __init__(self, ports, kinds, count):
        fork = multiprocessing.get_context("fork")
        self._standing, self._processes = fork.Value("i", 0), []
        # The kinds that live longest come first, so that all are there together.
        order = sorted(range(count), key=lambda number: -kinds[number % len(kinds)].limit)
        for place in range(PROCESSES):
            here, there = fork.Pipe()
            process = fork.Process(target=_run, args=(kinds, order[place::PROCESSES], ports, self._standing, there), daemon=True)
            process.start()
            self._processes.append((process, here))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process, _ in self._processes:
            process.kill()
            process.join()

    def standing(self):
        return self._standing.value

    def outcomes(self, patience):
        """What became of each, `patience` seconds from now at the latest."""
        end, outcomes = time.monotonic() + patience, []
        for _, pipe in self._processes:
            if not pipe.poll(max(0, end - time.monotonic())):
                pipe.send("end")
            outcomes += pipe.recv()
        return outcomes
