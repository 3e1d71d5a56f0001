"""One of three servers is killed by force under load: at most the requests that it had in flight fail, and then none.

The servers count what they have in flight in a file that outlives them, so "in flight" is the dead server's own word. h2load notes when each request began; the
time of the kill is taken before and after the signal.
"""
import signal
import time

from content import __file__ as CONTENT, read
from support import DEEP, Load, configuration, figure, free_port, listens, main, metric, milliseconds, percentile, shared_album, until

ROUNDS = 5 if DEEP else 2
# Each answer takes so long, so that there is something in flight.
TAKES = 0.03
BEFORE, AFTER = 1, 2


def start(world, number, port):
    counts = world.folder / f"server-{number}.counts"
    process = world.start(f"server-{number}", ["python3", CONTENT, port, TAKES, counts])
    until("the server listens", lambda: listens(port))
    return process, counts


def round_of(world, gateway, number, ports, servers, plain, tls, rpt, check):
    protocol, at = [("h1", plain), ("h2", tls)][number % 2]
    victim = number % 3
    # The server is full of requests, but nobody waits for its processor: the rate is below what three Python programs can answer.
    load = Load(world, protocol, at, "/album/a", rpt, seconds=BEFORE + AFTER + 1, clients=24, streams=4, rate=40)
    time.sleep(BEFORE)
    process, counts = servers[victim]
    before = time.time()
    process.send_signal(signal.SIGKILL)
    process.wait()
    after = time.time()
    in_flight, so_far, most = read(counts.read_bytes())
    load.end()
    bad = [row for row in load.rows if not 200 <= row.status < 300]
    # Given to the dead server's sockets a moment before, and not read any more: its own count does not have them.
    unread = [row for row in bad if before - 0.005 < row.began <= after]
    began_later = [row for row in bad if row.began > after]
    name = f"round {number + 1}, {protocol}"
    figure(name, f"{load.done} requests, {in_flight} in flight on the dead server of {so_far} that it had (at most {most} at once), {len(bad)} failed, "
                 f"p99 after {milliseconds(percentile([row.took for row in load.rows if row.began > after], 0.99))}")
    check(f"{name}: the dead server had requests in flight", in_flight > 0, in_flight)
    check(f"{name}: at most the requests in flight failed", len(bad) - len(unread) - len(began_later) <= in_flight, f"{len(bad)} of {in_flight}: {[(row.began - before, row.status) for row in bad][:10]}")
    check(f"{name}: then none", not began_later, [(f"{row.began - after:+.3f} s", row.status) for row in began_later][:10])
    check(f"{name}: the load came back to its rate", sum(row.began > after for row in load.rows) > 0.8 * 24 * 40 * AFTER, load.text)
    servers[victim] = start(world, victim, ports[victim])
    # It is taken back once its rest is over; the next round needs all three.
    until("the server is used again", lambda: read(servers[victim][1].read_bytes())[1] > 0 or Load(
        world, "h1", plain, "/album/a", rpt, seconds=0, clients=8, requests=64).end() is None)


def checks(world, check):
    ports = [free_port() for _ in range(3)]
    servers = [start(world, number, port) for number, port in enumerate(ports)]
    album, rpt = shared_album(world)
    content = world.upstream("") | {"servers": [f"http://127.0.0.1:{port}" for port in ports]}
    plain, tls, keys = configuration(world, album, {"content": content})
    gateway = world.gateway(keys)
    for number in range(ROUNDS):
        round_of(world, gateway, number, ports, servers, plain, tls, rpt, check)
    again = {reason: int(metric(gateway, "uma_gateway_upstream_retries_total", reason=reason)) for reason in ("stale_connection", "connect", "budget_spent")}
    figure("sent once more", again)
    check.equal("no panic", metric(gateway, "uma_gateway_panics_total"), 0)


main(checks)
