"""A thousand connections (ten thousand with --deep) that are idle or slow in every way: health still answers, memory is bounded, and each is closed in time.

Of each kind as many: silent, one byte, half a head, a head that drips, a body that stands still, one that drips, an answer that is not read, idle after an answer,
each with and without TLS; TLS that is never begun; HTTP/2 that asks nothing, that idles after an answer and shows that it is there, and that idles and shows nothing.
While all are held, health is asked for at a fixed rate, and beside it a server that does nothing, which shows what the machine does by itself; then each connection has
to end within its limit and 15 s. Where not all are there at once, since the first have ended before the last came, they are opened once more. The limits are the listener's own, as no
configuration has changed them; the clients have many addresses of 127.0.0.0/8. Bodies go to a content server that answers when it has the whole one.

With --each it is 500 of one kind after the other, and then 1,500 of all, each time with a gateway that has just been started; what one connection takes is printed, and
nothing is judged.

File descriptor 3, where it is open, hears when the figures are taken: what is left then is to wait.
"""
import asyncio
import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import socket
import sys
import time

from slow import H2, Answered, Clients, Kind, Ports, Slow, Unread
from support import DEEP, configuration, figure, main, metric, milliseconds, more_files, nginx, percentile, shared_album, until

CONNECTIONS = 10_000 if DEEP else 1_000
EACH = 500
# Seconds: from accepting to the end of a head; between two pieces of a body, and for all waits of one; after an answer; for a ping and its answer; until a client takes
# of its answer. Then the time that a closing may take.
HEAD, PIECE, BODY, IDLE, PINGS, WRITE, LATE = 10, 15, 60, 60, 40, 60, 15
# Health is asked for so long, and where not all are there by then at most so long.
HOLD, LONGEST = (20, 60) if DEEP else (6, 30)
HEALTH_WITHIN = 0.1
MEMORY = 256 * 1024 * 1024
HEALTH_RATE = 50
HALF = b"GET /public/a HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
GET = b"GET /public/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPLOAD = b"POST /whole/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"
DOWNLOAD = b"GET /whole/large HTTP/1.1\r\nHost: localhost\r\n\r\n"
# More than what lies between two sockets.
LARGE, PIECES = 16 * 1024 * 1024, bytes(64 * 1024)

KINDS = [Kind(f"{name}{', TLS' if tls else ''}", tls, limit, speaks, make) for tls in (False, True) for name, limit, speaks, make in (
    ("silent", HEAD, "http/1.1", lambda: Slow(b"")),
    ("one byte", HEAD, "http/1.1", lambda: Slow(b"G")),
    ("half a head", HEAD, "http/1.1", lambda: Slow(HALF)),
    ("a dripping head", HEAD, "http/1.1", lambda: Slow(HALF, drips=True)),
    ("a body that stands still", PIECE, "http/1.1", lambda: Slow(UPLOAD)),
    ("a dripping body", BODY, "http/1.1", lambda: Slow(UPLOAD, drips=True)),
    ("an answer that is not read", WRITE, "http/1.1", lambda: Unread(DOWNLOAD)),
    ("idle after an answer", IDLE, "http/1.1", lambda: Answered(GET)),
    ("HTTP/2 that asks nothing", HEAD, "h2", H2),
    ("HTTP/2 idle, alive", IDLE, "h2", lambda: H2("/public/a")),
    ("HTTP/2 idle, silent", PINGS, "h2", lambda: H2("/public/a", pongs=False)),
)] + [Kind("TLS never begun", True, HEAD, None, lambda: Slow(b""))]


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


def content(listener):
    """Is that server, as a process."""
    async def serve():
        await (await asyncio.start_server(whole, sock=listener, backlog=1024)).serve_forever()

    asyncio.run(serve())


def nothing(listener):
    """Is a server that answers each connection by 200, as a process."""
    while True:
        with contextlib.suppress(OSError), listener.accept()[0] as stream:
            stream.recv(4096)
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@contextlib.contextmanager
def served(*servers):
    """The ports of such servers."""
    listeners, fork = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in servers], multiprocessing.get_context("fork")
    processes = [fork.Process(target=server, args=(listener,), daemon=True) for server, listener in zip(servers, listeners)]
    for process in processes:
        process.start()
    try:
        yield [listener.getsockname()[1] for listener in listeners]
    finally:
        for process in processes:
            process.kill()


def health(gateway, control, process, seconds):
    """What the gateway's health and the control took, and the most memory seen. Runs in a process of its own, and both in a thread of their own: neither waits for the other,
    and what stops one stops both."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asked, other = pool.submit(answers, gateway, seconds, lambda: resident(process)), pool.submit(answers, control, seconds, lambda: 0)
        return asked.result()[0], other.result()[0], asked.result()[1]


def answers(port, seconds, look):
    """Asks at a fixed rate, each time on a new connection; what it took, from when it was due, and the most that `look` said."""
    took, most, began = [], 0, time.monotonic()
    for number in range(int(seconds * HEALTH_RATE)):
        due = began + number / HEALTH_RATE
        time.sleep(max(0, due - time.monotonic()))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
            stream.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: stream.recv(4096), b""))
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"health: {answer[:100]}")
        took.append(time.monotonic() - due)
        most = max(most, look())
    return took, most


def resident(process):
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hold(ports, gateway, control, check):
    """Opens all and asks for health meanwhile; then waits for their ends."""
    asked = [health, int(gateway.health.rpartition(":")[2]), control, gateway.process.pid]
    # The clients here must not delay those that ask for health.
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        quiet, _, before = pool.submit(*asked, 2).result()
        figure("health with nobody there", f"p99 {milliseconds(percentile(quiet, 0.99))}, memory {before / 2**20:.1f} MiB")
        for last in (False, True):
            with Clients(ports, KINDS, CONNECTIONS) as clients:
                most, took, others, memory = opened(pool, asked, clients)
                if most == CONNECTIONS or last:
                    said()
                    check.equal("all were held at once", most, CONNECTIONS)
                    answered(took, others, check)
                    figure("memory", f"{memory / 2**20:.1f} MiB at most, {(memory - before) / CONNECTIONS / 1024:.1f} KiB for each connection")
                    check("less than 256 MiB of memory", memory < MEMORY, f"{memory / 2**20:.1f} MiB")
                    return judge(clients.outcomes(max(kind.limit for kind in KINDS) + 2 * LATE), check)
            figure("opened once more", f"{most} of {CONNECTIONS} were there at once")
            until("the gateway knows that they are gone", lambda: metric(gateway, "uma_gateway_connections") == 0)


def opened(pool, asked, clients):
    """Asks for health until all are there and HOLD is over; how many were there at most, and what `health` says."""
    began, most, seen, took, others, memory = time.monotonic(), 0, 0, [], [], 0
    while not took or (most < CONNECTIONS and time.monotonic() - began < LONGEST):
        asking = pool.submit(*asked, 2 if took else HOLD)
        while not asking.done():
            most = max(most, clients.standing())
            if most == CONNECTIONS and not seen:
                seen = time.monotonic() - began
            time.sleep(0.05)
        more = asking.result()
        took, others, memory = took + more[0], others + more[1], max(memory, more[2])
    figure("held at once", f"{most} of {CONNECTIONS}" + (f", all of them {seen:.1f} s after the first" if seen else ""))
    return most, took, others, memory


def answered(took, others, check):
    """Health answers in its time; what the machine does by itself is not the gateway's."""
    p99, control = percentile(took, 0.99), percentile(others, 0.99)
    figure("health while they are opened and held", f"{len(took)} asked, p50 {milliseconds(percentile(took, 0.5))}, p99 {milliseconds(p99)}, longest {milliseconds(max(took))}")
    figure("a server that does nothing, asked beside it", f"p50 {milliseconds(percentile(others, 0.5))}, p99 {milliseconds(control)}")
    check(f"health answers within {HEALTH_WITHIN * 1000:.0f} ms more than a server that does nothing (p99)", p99 <= HEALTH_WITHIN + control, f"{p99}, control {control}")


def judge(outcomes, check):
    """Each connection ended in its time."""
    check.equal("each came to its end", len(outcomes), CONNECTIONS)
    check.equal("nothing went wrong", collections.Counter((outcome.kind, outcome.wrong) for outcome in outcomes if outcome.wrong), {})
    for kind in KINDS:
        times = [outcome.stood for outcome in outcomes if outcome.kind == kind.name and outcome.stood]
        figure(kind.name, f"{len(times)}, closed after {min(times, default=0):.1f} - {max(times, default=0):.1f} s, limit {kind.limit} s")
        # Not before its time either: a second for what passes between the gateway's clock and ours.
        good = times and min(times) > kind.limit - HEAD / 2 and max(times) <= kind.limit + LATE
        check(f"{kind.name}: closed within {kind.limit + LATE} s", good, sorted(times)[:1] + sorted(times)[-1:])


def steady(process):
    """What it holds when that has not grown for two seconds: answers are still on their way to those who do not read them."""
    most, since = 0, time.monotonic()
    while time.monotonic() - since < 2:
        if (now := resident(process)) > most:
            most, since = now, time.monotonic()
        time.sleep(0.1)
    return most


def each(world, keys, ports):
    """What one connection of each kind takes, and one of all kinds together. The time that this takes ends none."""
    keys["limits"]["timeouts"] = dict.fromkeys(("head", "idle", "body", "write"), "600s")
    for name, kinds in [(kind.name, [kind]) for kind in KINDS] + [("all kinds together", KINDS)]:
        gateway, count = world.gateway(keys), EACH * (3 if len(kinds) > 1 else 1)
        before = resident(gateway.process.pid)
        with Clients(ports, kinds, count) as clients:
            until("all stand", lambda: clients.standing() == count)
            took = steady(gateway.process.pid) - before
            figure(name, f"{took / count / 1024:.1f} KiB")
        world.stop(gateway.process)


def said():
    try:
        os.write(3, b"held\n")
        os.close(3)
    except OSError:
        pass


def checks(world, check):
    # Each connection is two here at most, and the content server's are further ones.
    more_files(CONNECTIONS * 4 // 3 + 2000)
    port, _ = nginx(world)
    album, _ = shared_album(world)
    with served(content, nothing) as (slow, control):
        held(world, port, slow, control, album, check)


def held(world, port, slow, control, album, check):
    upstreams = {"content": world.upstream(f"http://127.0.0.1:{port}"), "whole": world.upstream(f"http://127.0.0.1:{slow}", max_connections=CONNECTIONS)}
    plain, tls, keys = configuration(world, album, upstreams,
                                     # All listeners count together, and others than these ask as well.
                                     limits={"off_for": ["127.0.0.0/8"], "connections": 20_000})
    keys["routes"].append({"path": "/whole/**", "upstream": "whole", "public": True})
    ports = Ports(plain, tls)
    if "--each" in sys.argv:
        each(world, keys, ports)
        return check("each kind was measured", True)
    gateway = world.gateway(keys)
    hold(ports, gateway, control, check)
    until("the gateway knows that they are gone", lambda: metric(gateway, "uma_gateway_connections") == 0)
    check.equal("no panic", metric(gateway, "uma_gateway_panics_total"), 0)
    figure("memory in the end", f"{resident(gateway.process.pid) / 2**20:.1f} MiB")


main(checks)
