"""SIGTERM under load: every request that was sent before the end of `drain.delay` gets its whole answer, over HTTP/1.1 and HTTP/2, with and without TLS.

The clients note when they hand a request to the socket. The gateway's delay begins when the signal arrives, which is after it was sent from here; so a request
of before "sent + delay" is one of before the end, but for what passes between the note and the socket: SHORTLY, and as long as this program itself stood still.
What is asked later may fail, and in the end must: nobody listens any more.
"""
import asyncio
import signal
import time

from clients import H1, H2, Gone
from content import __file__ as CONTENT
from support import configuration, figure, free_port, listens, main, milliseconds, nginx, percentile, shared_album, until

DELAY, TIMEOUT = 2, 15
SIZE = 64 * 1024
SLOW = 4
SHORTLY = 0.25


class Clients:
    """All of them, and what each request came to: when it was sent, how, what came."""

    def __init__(self, plain, tls, rpt):
        self.plain, self.tls, self.rpt, self.stop = plain, tls, rpt, False
        self.done = []

    async def one(self, kind, port, tls, path, streams=1):
        """Asks on a connection, and on a new one where that has ended; ends when no new one is to be had."""
        protocol = "h1" if kind is H1 else "h2"
        name = f"{protocol}{' TLS' if tls else ''} {path.split('/')[1]}"
        while not self.stop:
            began = time.time()
            try:
                connection = await kind.open(port, tls)
            except OSError as error:
                self.done.append((began, f"{name} connect", error))
                return
            await asyncio.gather(*(self.asks(connection, name, path) for _ in range(streams)))
            connection.close()

    async def asks(self, connection, name, path):
        while not self.stop and not connection.closing:
            began = time.time()
            try:
                status, body = await connection.get(path, self.rpt)
                good = status == 200 and len(body) == SIZE
                self.done.append((began, name, None if good else f"{status} with {len(body)} bytes"))
            except Gone as error:
                if str(error) != "before it was asked":
                    self.done.append((began, name, error))
                return

    def start(self):
        ways = [(kind, self.tls if tls else self.plain, tls) for kind in (H1, H2) for tls in (False, True)]
        for kind, port, tls in ways:
            for _ in range(6 if kind is H1 else 2):
                yield self.one(kind, port, tls, "/album/a", 1 if kind is H1 else 6)
            # Those are on their way when no new connection is taken any more.
            for _ in range(4 if kind is H1 else 1):
                yield self.one(kind, port, tls, "/slow/a", 1 if kind is H1 else 8)


async def beats(still):
    """Notes how long this program stood still, again and again."""
    while True:
        due = time.time() + 0.05
        await asyncio.sleep(0.05)
        still.append((due, time.time() - due))


async def drained(gateway, clients):
    """(when it was told, how it ended and when, and how long at most the clients stood still around the end of the delay)"""
    still = []
    beating = asyncio.create_task(beats(still))
    tasks = [asyncio.create_task(one) for one in clients.start()]
    await asyncio.sleep(1)
    told = time.time()
    gateway.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(gateway.process.wait, DELAY + TIMEOUT + 10)
    ended = time.time()
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    beating.cancel()
    return told, code, ended, max(long for due, long in still if due + long > told and due <= told + DELAY)


def checks(world, check):
    port, _ = nginx(world, size=SIZE)
    slow = free_port()
    world.start("slow", ["python3", CONTENT, slow, SLOW, world.folder / "slow.counts", SIZE])
    until("the slow server listens", lambda: listens(slow))
    album, rpt = shared_album(world)
    upstreams = {"content": world.upstream(f"http://127.0.0.1:{port}"), "slow": world.upstream(f"http://127.0.0.1:{slow}")}
    plain, tls, keys = configuration(world, album, upstreams, drain={"delay": f"{DELAY}s", "timeout": f"{TIMEOUT}s"})
    keys["routes"].append(world.album_route("/slow/**", album, "slow"))
    gateway = world.gateway(keys)
    clients = Clients(plain, tls, rpt)
    told, code, ended, still = asyncio.run(drained(gateway, clients))

    end = told + DELAY
    limit = end - SHORTLY - still
    early, late = [one for one in clients.done if one[0] < limit], [one for one in clients.done if one[0] >= limit]
    lost = [(f"{began - told:+.3f} s", name, what) for began, name, what in early if what is not None]
    kinds = sorted({name for _, name, _ in early})
    figure("sent before the end of the delay", f"{len(early)}, of them after the signal {sum(one[0] >= told for one in early)}, lost {len(lost)}; the clients stood still for {milliseconds(still)} at most")
    figure("sent later", f"{len(late)}, of them answered {sum(what is None for _, _, what in late)}")
    figure("the end", f"{ended - told:.2f} s after the signal, with {DELAY} s of delay and answers that take {SLOW} s")
    for name in kinds:
        mine = [what for _, kind, what in early if kind == name]
        check(f"{name}: each of {len(mine)} requests got its whole answer", mine and all(what is None for what in mine), [one for one in lost if one[1] == name][:3])
    check("all kinds of clients asked", len(kinds) == 8, kinds)
    check("new connections were taken up to the end of the delay", not any("connect" in name for _, name, _ in early), kinds)
    check("and none in the end", sum("connect" in name for _, name, _ in late) > 0, len(late))
    under_way = {name for began, name, what in early if "slow" in name and began + SLOW > end}
    check("some of each kind were under way when the delay ended", len(under_way) == 4, under_way)
    check.equal("its exit code", code, 0)
    check("it ended when the last was answered", ended - told < DELAY + TIMEOUT, f"{ended - told:.1f} s")


main(checks)
