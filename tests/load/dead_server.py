"""One of three servers is killed by force under load: at most the requests that it had in flight fail, and then none.

The servers count what they have in flight in a file that outlives them, so "in flight" is the dead server's own word. h2load notes when each request began; the
time of the kill is taken before and after the signal. What a round shows is red when it shows it three times: a machine that stands still just then leaves requests with
the server that it has not read, or takes the load's time. A request that began after the kill and failed is red at once.
"""
import collections
import signal
import time

from content import __file__ as CONTENT, read
from support import DEEP, Load, configuration, figure, free_port, listens, main, metric, milliseconds, percentile, shared_album, until

ROUNDS = 5 if DEEP else 2
# Each answer takes so long, so that there is something in flight.
TAKES = 0.03
BEFORE, AFTER = 1, 2
SECONDS = BEFORE + AFTER + 1
TIMES = 3
# Requests of the load that are given to the dead server's sockets so shortly before the kill are not read any more.
SHORTLY = 0.005


def start(world, number, port):
    counts = world.folder / f"server-{number}.counts"
    process = world.start(f"server-{number}", ["python3", CONTENT, port, TAKES, counts])
    until("the server listens", lambda: listens(port))
    return process, counts


def round_of(world, number, ports, servers, plain, tls, rpt, check):
    protocol, at = [("h1", plain), ("h2", tls)][number % 2]
    name, victim = f"round {number + 1}, {protocol}", number % 3
    for time_left in reversed(range(TIMES)):
        # The server is full of requests, but nobody waits for its processor: the rate is below what three Python programs can answer.
        load = Load(world, protocol, at, "/album/a", rpt, seconds=SECONDS, clients=24, streams=4, rate=40)
        seen = killed(servers[victim], load)
        bad, began_later, in_flight = seen.bad, [row for row in seen.bad if row.began > seen.after], seen.in_flight
        unread = [row for row in bad if seen.before - SHORTLY < row.began <= seen.after]
        figure(name, f"{load.done} requests, {in_flight} in flight on the dead server of {seen.so_far} that it had (at most {seen.most} at once), {len(bad)} failed, "
                     f"{seen.rates[0]:.0f}/s before and {seen.rates[1]:.0f}/s after with p99 {milliseconds(seen.p99)}")
        servers[victim] = start(world, victim, ports[victim])
        # It is taken back once its rest is over; the next round needs all three.
        until("the server is used again", lambda: read(servers[victim][1].read_bytes())[1] > 0 or Load(
            world, "h1", plain, "/album/a", rpt, seconds=0, clients=8, requests=64).end() is None)
        check(f"{name}: none failed that began later", not began_later, [(f"{row.began - seen.after:+.3f} s", row.status) for row in began_later][:10])
        found = [
            ("the dead server had requests in flight", in_flight > 0, in_flight),
            ("at most the requests in flight failed", len(bad) - len(unread) - len(began_later) <= in_flight,
             f"{len(bad)} of {in_flight}: {[(row.began - seen.before, row.status) for row in bad][:10]}"),
            ("the load came back to its rate", seen.rates[1] >= seen.rates[0] / 2 > 0, load.text),
        ]
        if all(good for _, good, _ in found) or not time_left:
            break
        figure(name, "is taken again: not " + ", not ".join(what for what, good, _ in found if not good))
    for what, good, came in found:
        check(f"{name}: {what}", good, came)


Seen = collections.namedtuple("Seen", "before after in_flight so_far most bad rates p99")


def killed(server, load):
    """Kills the server while it has requests, and waits for the end of the load; what was seen of both."""
    process, counts = server
    busy = lambda: read(counts.read_bytes())[0] > 0
    until("the load has begun", busy)
    time.sleep(BEFORE)
    until("the server has requests", lambda: busy() or not load.running())
    before = time.time()
    process.send_signal(signal.SIGKILL)
    process.wait()
    after = time.time()
    load.end()
    began, later = min(row.began for row in load.rows), [row.took for row in load.rows if row.began > after]
    rates = (len(load.rows) - len(later)) / (before - began), len(later) / max(began + SECONDS - after, AFTER / 2)
    return Seen(before, after, *read(counts.read_bytes()), [row for row in load.rows if not 200 <= row.status < 300], rates, percentile(later or [0], 0.99))


def checks(world, check):
    ports = [free_port() for _ in range(3)]
    servers = [start(world, number, port) for number, port in enumerate(ports)]
    album, rpt = shared_album(world)
    content = world.upstream("") | {"servers": [f"http://127.0.0.1:{port}" for port in ports]}
    plain, tls, keys = configuration(world, album, {"content": content})
    gateway = world.gateway(keys)
    for number in range(ROUNDS):
        round_of(world, number, ports, servers, plain, tls, rpt, check)
    again = {reason: int(metric(gateway, "uma_gateway_upstream_retries_total", reason=reason)) for reason in ("stale_connection", "connect", "budget_spent")}
    figure("sent once more", again)
    check.equal("no panic", metric(gateway, "uma_gateway_panics_total"), 0)


main(checks)
