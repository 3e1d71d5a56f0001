"""A thousand connections (ten thousand with --deep) that are idle or slow in every way: health still answers, memory is bounded, and each is closed in time.

Of each kind as many: silent, one byte, half a head, a head that drips, a body that stands still, one that drips, an answer that is not read, idle after an answer,
each with and without TLS; TLS that is never begun; HTTP/2 that asks nothing, that idles after an answer and shows that it is there, and that idles and shows nothing.
While all are held, health is asked for at a fixed rate; then each connection has to end within its limit and 15 s. The limits are the listener's own, as no
configuration has changed them; the clients have many addresses of 127.0.0.0/8. Bodies go to a content server that answers when it has the whole one.

File descriptor 3, where it is open, hears when the figures are taken: what is left then is to wait.
"""
import asyncio
import collections
import concurrent.futures
import os
import socket
import ssl
import time

from clients import HEADERS, H1, H2, PREFACE, SETTINGS, Gone, context, frame, opened
from support import DEEP, configuration, figure, free_port, main, metric, milliseconds, more_files, nginx, percentile, shared_album, until

CONNECTIONS = 10_000 if DEEP else 1_000
# Clients' connections of one address at a time.
OF_ONE = 200
# Seconds: from accepting to the end of a head; between two pieces of a body, and for all waits of one; after an answer; for a ping and its answer; until a client takes
# of its answer. Then the time that a closing may take.
HEAD, PIECE, BODY, IDLE, PINGS, WRITE, LATE = 10, 15, 60, 60, 40, 60, 15
HOLD = 20 if DEEP else 6
HEALTH_WITHIN = 0.1
MEMORY = 256 * 1024 * 1024
HEALTH_RATE = 50
HALF = b"GET /public/a HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
UPLOAD = b"POST /whole/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"
DOWNLOAD = b"GET /whole/large HTTP/1.1\r\nHost: localhost\r\n\r\n"
# More than what lies between two sockets.
LARGE, PIECES = 16 * 1024 * 1024, bytes(64 * 1024)

Kind = collections.namedtuple("Kind", "name tls limit hold")


async def closed(reader):
    """Until the other side has ended it, in whatever way."""
    try:
        while await reader.read(65536):
            pass
    except (OSError, ssl.SSLError):
        pass


async def says(world, tls, source, begun):
    reader, writer = await opened(world.tls if tls else world.plain, tls, "http/1.1", source)
    writer.write(begun)
    return reader, writer


async def wrote(world, tls, source, begun, held):
    reader, writer = await says(world, tls, source, begun)
    since = held()
    await closed(reader)
    writer.transport.abort()
    return since


def saying(begun):
    return lambda world, tls, source, held: wrote(world, tls, source, begun, held)


def dripping(begun):
    return lambda world, tls, source, held: drips(world, tls, source, held, begun)


async def drips(world, tls, source, held, begun):
    """What never ends: one byte each second."""
    reader, writer = await says(world, tls, source, begun)
    since = held()
    end = asyncio.ensure_future(closed(reader))
    while not end.done():
        if not writer.is_closing():
            writer.write(b"x")
        await asyncio.wait([end], timeout=1)
    writer.transport.abort()
    return since


async def does_not_read(world, tls, source, held):
    """Nothing of the answer is taken, so nothing tells that it ended: when it has to have ended, the rest of it does not come."""
    reader, writer = await opened(world.tls if tls else world.plain, tls, "http/1.1", source, 65536)
    writer.transport.pause_reading()
    writer.write(DOWNLOAD)
    since = held()
    await asyncio.sleep(WRITE + LATE)
    writer.transport.resume_reading()
    taken = 0
    try:
        while piece := await reader.read(65536):
            taken += len(piece)
    except (OSError, ssl.SSLError):
        pass
    writer.transport.abort()
    if taken >= LARGE:
        raise RuntimeError("the whole answer came")
    return since


async def not_begun(world, tls, source, held):
    """No ClientHello comes."""
    reader, writer = await opened(world.tls, False, "", source)
    since = held()
    await closed(reader)
    writer.transport.abort()
    return since


async def answered_once(world, tls, source, held):
    connection = await H1.open(world.tls if tls else world.plain, tls, source)
    status, _ = await connection.get("/public/a")
    if status != 200:
        raise RuntimeError(f"answered {status}")
    since = held()
    await closed(connection.reader)
    connection.writer.transport.abort()
    return since


async def asks_nothing(world, tls, source, held):
    """HTTP/2 begins, and no request comes."""
    reader, writer = await opened(world.tls if tls else world.plain, tls, "h2", source)
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    since = held()
    await closed(reader)
    writer.transport.abort()
    return since


async def h2_once(world, tls, source, held, pongs):
    connection = await H2.open(world.tls if tls else world.plain, tls, source)
    connection.answers_pings = pongs
    status, _ = await connection.get("/public/a")
    if status != 200:
        raise RuntimeError(f"answered {status}")
    since = held()
    await connection.ended.wait()
    return since


KINDS = [Kind(f"{name}{', TLS' if tls else ''}", tls, limit, hold) for tls in (False, True) for name, limit, hold in (
    ("silent", HEAD, saying(b"")),
    ("one byte", HEAD, saying(b"G")),
    ("half a head", HEAD, saying(HALF)),
    ("a dripping head", HEAD, dripping(HALF)),
    ("a body that stands still", PIECE, saying(UPLOAD)),
    ("a dripping body", BODY, dripping(UPLOAD)),
    ("an answer that is not read", WRITE + LATE, does_not_read),
    ("idle after an answer", IDLE, answered_once),
    ("HTTP/2 that asks nothing", HEAD, asks_nothing),
    ("HTTP/2 idle, alive", IDLE, lambda *all: h2_once(*all, True)),
    ("HTTP/2 idle, silent", PINGS, lambda *all: h2_once(*all, False)),
)] + [Kind("TLS never begun", True, HEAD, not_begun)]


async def whole(reader, writer):
    """The content server that takes whole bodies and gives large answers."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            upload = head.startswith(b"POST")
            if upload:
                await reader.readexactly(1000)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (0 if upload else LARGE))
            for _ in range(0 if upload else LARGE // len(PIECES)):
                writer.write(PIECES)
                await writer.drain()
    except (OSError, EOFError):
        pass
    finally:
        writer.close()


class Ports:
    def __init__(self, plain, tls):
        self.plain, self.tls = plain, tls


class Held:
    """All connections, and what came of each."""

    def __init__(self, ports):
        self.ports = ports
        self.standing, self.ended, self.early, self.wrong = 0, collections.defaultdict(list), [], []
        # So many are being opened at a time: fewer than the system's queue of connections holds.
        self.opening = asyncio.Semaphore(100)

    async def one(self, number):
        kind = KINDS[number % len(KINDS)]
        source = f"127.1.{number // OF_ONE}.1"
        await self.opening.acquire()
        opening = True

        def held():
            nonlocal opening
            opening = False
            self.opening.release()
            self.standing += 1
            return time.monotonic()

        try:
            since = await kind.hold(self.ports, kind.tls, source, held)
            self.ended[kind.name].append(time.monotonic() - since)
            self.standing -= 1
        except (OSError, EOFError, Gone, RuntimeError, ssl.SSLError) as error:
            self.wrong.append(f"{kind.name}: {error!r}")
        finally:
            if opening:
                self.opening.release()


def health(address, process, seconds):
    """Asks at a fixed rate, each time on a new connection; what it took, from when it was due, and the most memory seen. Runs in a process of its own."""
    host, port = address.removeprefix("http://").split(":")
    took, memory, began = [], 0, time.monotonic()
    for number in range(int(seconds * HEALTH_RATE)):
        due = began + number / HEALTH_RATE
        time.sleep(max(0, due - time.monotonic()))
        with socket.create_connection((host, int(port)), timeout=30) as stream:
            stream.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: stream.recv(4096), b""))
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"health: {answer[:100]}")
        took.append(time.monotonic() - due)
        memory = max(memory, resident(process))
    return took, memory


def resident(process):
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def hold(ports, gateway, check, pool, port):
    server = await asyncio.start_server(whole, "127.0.0.1", port, backlog=1024)
    held = Held(ports)
    asked = [health, gateway.health, gateway.process.pid]
    quiet, before = await asyncio.get_running_loop().run_in_executor(pool, *asked, 2)
    figure("health with nobody there", f"p99 {milliseconds(percentile(quiet, 0.99))}, memory {before / 2**20:.1f} MiB")
    began = time.monotonic()
    # The kinds that live longest come first, so that all are there together.
    order = sorted(range(CONNECTIONS), key=lambda number: -KINDS[number % len(KINDS)].limit)
    tasks = [asyncio.create_task(held.one(number)) for number in order]
    opening = asyncio.get_running_loop().run_in_executor(pool, *asked, HOLD)
    most = seen = 0
    while not opening.done():
        most = max(most, held.standing)
        await asyncio.sleep(0.05)
        if held.standing == CONNECTIONS and not seen:
            seen = time.monotonic() - began
    took, memory = opening.result()
    await asyncio.to_thread(said)
    figure("held at once", f"{most} of {CONNECTIONS}" + (f", all of them {seen:.1f} s after the first" if seen else ""))
    figure("health while they are opened and held", f"{len(took)} asked, p50 {milliseconds(percentile(took, 0.5))}, p99 {milliseconds(percentile(took, 0.99))}, "
           f"longest {milliseconds(max(took))}")
    figure("memory", f"{memory / 2**20:.1f} MiB at most, {(memory - before) / CONNECTIONS / 1024:.1f} KiB for each connection")
    check.equal("all were held at once", most, CONNECTIONS)
    check(f"health answers within {HEALTH_WITHIN * 1000:.0f} ms (p99)", percentile(took, 0.99) <= HEALTH_WITHIN, percentile(took, 0.99))
    check("less than 256 MiB of memory", memory < MEMORY, f"{memory / 2**20:.1f} MiB")
    await asyncio.wait(tasks, timeout=max(kind.limit for kind in KINDS) + LATE + 5)
    left = sum(not task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    check.equal("nothing else went wrong", held.wrong[:5], [])
    check.equal("all were closed", left, 0)
    for kind in KINDS:
        times = held.ended[kind.name]
        figure(kind.name, f"{len(times)}, closed after {min(times, default=0):.1f} - {max(times, default=0):.1f} s, limit {kind.limit} s")
        # Not before its time either: a second for what passes between the gateway's clock and ours.
        good = times and min(times) > kind.limit - HEAD / 2 and max(times) <= kind.limit + LATE
        check(f"{kind.name}: closed within {kind.limit + LATE} s", good, sorted(times)[:1] + sorted(times)[-1:])
    server.close()


def said():
    try:
        os.write(3, b"held\n")
        os.close(3)
    except OSError:
        pass


def checks(world, check):
    # The content server of the bodies is here as well.
    more_files(CONNECTIONS * 4 // 3 + 2000)
    port, _ = nginx(world)
    album, _ = shared_album(world)
    slow = free_port()
    upstreams = {"content": world.upstream(f"http://127.0.0.1:{port}"), "whole": world.upstream(f"http://127.0.0.1:{slow}", max_connections=CONNECTIONS)}
    plain, tls, keys = configuration(world, album, upstreams,
                                     # All listeners count together, and others than these ask as well.
                                     limits={"off_for": ["127.0.0.0/8"], "connections": 20_000})
    keys["routes"].append({"path": "/whole/**", "upstream": "whole", "public": True})
    gateway = world.gateway(keys)
    # The clients here must not delay those that ask for health.
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        asyncio.run(hold(Ports(plain, tls), gateway, check, pool, slow))
    until("the gateway knows that they are gone", lambda: metric(gateway, "uma_gateway_connections") == 0)
    check.equal("no panic", metric(gateway, "uma_gateway_panics_total"), 0)
    figure("memory in the end", f"{resident(gateway.process.pid) / 2**20:.1f} MiB")


main(checks)
