"""An hour (with --deep; else a short while) at half of what the machine can do, while nothing around the gateway is quiet: memory and descriptors stay where they are.

Every minute there is a new RPT, and a rate of half of what was measured at the start, over HTTP/1.1, h2c and h2 in turn. Beside it: a reload every second, clients
without an RPT, RPTs of four seconds, clients that go away in the middle of a head, a body or an answer; one content server of two is killed every 40 s and comes
back; the authorization server stands still (SIGSTOP) for five seconds in every 90 s. Memory, descriptors and threads are read from /proc every ten seconds.
"""
import itertools
import os
import pathlib
import signal
import socket
import struct
import threading
import time

from content import __file__ as CONTENT
from support import DEEP, Asks, Beside, Load, Reloads, call, configuration, figure, free_port, listens, main, metric, nginx, shared_album, until

MINUTES = float(os.environ.get("SOAK_MINUTES", "60" if DEEP else "0.5"))
SLICE = min(60, MINUTES * 60 / 3)
SAMPLE = 10 if DEEP else 1
# MiB: how much more may be resident in the last quarter of the run than in the second, at the highest; a leak of a byte per request would be above it.
GROWTH = 1 if MINUTES >= 60 else 4


def leaves(port, number, rpt):
    """A client that goes away: in the middle of a head, of a body, or of the answer, by an end or by a reset."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        begun = [b"GET /album/a HTTP/1.1\r\nHost: localhost\r\nX-", b"PUT /album/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nbegin",
                 b"GET /album/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + rpt.encode() + b"\r\n\r\n"][number % 3]
        client.sendall(begun)


def sample(pid):
    """Resident memory in KiB, open descriptors, threads."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def keycloak_jvm():
    """The process of the authorization server itself."""
    found = [int(path.name) for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()
             and b"quarkus-run" in (path / "cmdline").read_bytes() and f"--http-port={os.environ.get('KEYCLOAK_PORT', '8180')}".encode() in (path / "cmdline").read_bytes()]
    if not found:
        raise RuntimeError("the authorization server's process was not found")
    return found[-1]


def stand_still(jvm, times, stop):
    os.kill(jvm, signal.SIGSTOP)
    began = time.time()
    try:
        stop.wait(5)
    finally:
        os.kill(jvm, signal.SIGCONT)
    times.append((began, time.time()))


class Server:
    """One of the two content servers: killed by force, and back two seconds later."""

    def __init__(self, world):
        self.world, self.port, self.times = world, free_port(), []
        self.start(0)

    def start(self, number):
        self.process = self.world.start(f"content-{number}", ["python3", CONTENT, self.port, 0.001])
        until("the content server listens", lambda: listens(self.port))

    def kill(self, number):
        began = time.time()
        self.process.kill()
        self.process.wait()
        self.world._processes.remove(self.process)
        time.sleep(2)
        self.start(number + 1)
        self.times.append((began, time.time()))


def checks(world, check):
    quiet, _ = nginx(world)
    server, stopped = Server(world), []
    album, rpt = shared_album(world)
    unused = {"timeouts": {"idle": "30s"}}
    upstreams = {"content": world.upstream(f"http://127.0.0.1:{quiet}", **unused),
                 "two": world.upstream("") | unused | {"servers": [f"http://127.0.0.1:{quiet}", f"http://127.0.0.1:{server.port}"]}}
    plain, tls, keys = configuration(world, album, upstreams)
    keys["routes"].append(world.album_route("/two/**", album, "two"))
    gateway = world.gateway(keys)
    quiet_files = sample(gateway.process.pid)[1]
    ways = itertools.cycle((("h1", plain), ("h2c", plain), ("h2", tls)))
    link = f"http://127.0.0.1:{plain}/album/a"
    full = {way: Load(world, *way, "/album/a", rpt, seconds=3).end().rate for way in (("h1", plain), ("h2c", plain), ("h2", tls))}
    figure("all that it can do", ", ".join(f"{protocol} {rate:.0f}/s" for (protocol, _), rate in full.items()))
    jvm = keycloak_jvm()
    stop = threading.Event()
    short = lambda _: call("GET", link, {"Authorization": f"Bearer {world.realm.rpt('bob', album, ['view'], 'short-app')}"})
    samples, failures, answered, refused = [], [], 0, 0
    began = time.time()
    with (Reloads(gateway, 1) as reloads, Asks("GET", link, pause=0.2) as without, Beside(0.1, lambda number: leaves(plain, number, rpt)) as gone,
          Beside(3, short) as new, Beside(40, server.kill) as killed, Beside(85, lambda _: stand_still(jvm, stopped, stop)) as still,
          Beside(SAMPLE, lambda _: samples.append((time.time() - began, *sample(gateway.process.pid)))) as eyes):
        while time.time() - began < MINUTES * 60:
            way = next(ways)
            try:
                rpt = world.realm.rpt("bob", album, ["view"])
            except OSError:
                continue
            # Two routes, so half of a half each.
            loads = [Load(world, *way, path, rpt, seconds=SLICE, clients=16, rate=max(1, int(full[way] / 4 / 16))) for path in ("/album/a", "/two/a")]
            for load in loads:
                load.end()
                bad = [row for row in load.rows if not 200 <= row.status < 300]
                failures += [(row.began, row.status, load.name) for row in bad]
                answered, refused = answered + load.done, refused + len(bad)
                load.rows.clear()
        stop.set()
    faults = stopped + server.times
    unexplained = [one for one in failures if not any(begin - 0.5 <= one[0] <= end + 5 for begin, end in faults)]
    figure("requests", f"{answered} in {(time.time() - began) / 60:.1f} minutes, {refused} of them not 2xx, in {len(stopped)} stand-stills and {len(server.times)} kills")
    figure("beside", f"{reloads.sent} reloads, {sum(without.statuses.values())} without an RPT, {new.done} new RPTs, {gone.done} clients that went away")
    until("the clients are gone", lambda: metric(gateway, "uma_gateway_connections") <= 1, 90)
    # Unused connections to content servers are kept for a while; then there are no more descriptors than before the first load.
    end = time.time() + 150
    while sample(gateway.process.pid)[1] > quiet_files + 10 and time.time() < end:
        time.sleep(1)
    last = sample(gateway.process.pid)
    show(samples, last)
    check("requests were answered all the time", answered > 100 * MINUTES * 60, answered)
    check("whatever was refused was refused while something stood still", not unexplained, unexplained[:10])
    check("whoever has no RPT never sees more than a refusal", set(without.statuses) <= {401, 503, 504, 429} and 401 in without.statuses, without.statuses)
    quarter = max(1, len(samples) // 4)
    before, after = (max(memory for _, memory, _, _ in part) / 1024 for part in (samples[quarter:2 * quarter], samples[-quarter:]))
    figure("memory at most", f"{before:.1f} MiB in the second quarter, {after:.1f} MiB in the last")
    # Each way of speaking has its own size; a shorter run has not seen each of them in each quarter.
    if MINUTES >= 12:
        check(f"memory is flat: at most {GROWTH} MiB more at the end than at the beginning", after - before <= GROWTH, f"{before:.1f} MiB, then {after:.1f} MiB")
    check("no descriptor is left", last[1] <= quiet_files + 10, f"{quiet_files} before the first load, {last[1]} at the end")
    check("no thread is left", last[2] <= samples[0][3], f"{samples[0][3]} at the beginning, {last[2]} at the end")
    check.equal("no panic", metric(gateway, "uma_gateway_panics_total"), 0)
    check("the gateway lives", gateway.process.poll() is None)
    check("all that stood beside it did happen", min(reloads.sent, new.done, gone.done) > 0 and (not DEEP or min(killed.done, still.done) > 0) and eyes.done > 0,
          [new.failed[:3], gone.failed[:3], killed.failed[:3], still.failed[:3], eyes.failed[:3]])


def show(samples, last):
    """The curve: at most thirty points, and the end with nobody connected."""
    step = max(1, len(samples) // 30)
    for at, memory, files, threads in samples[::step]:
        figure(f"{at / 60:5.1f} min", f"{memory / 1024:.1f} MiB, {files} descriptors, {threads} threads")
    figure("nobody connected", f"{last[0] / 1024:.1f} MiB, {last[1]} descriptors, {last[2]} threads")


main(checks)
