"""What the measurements of this folder share, beside the world of tests/clients: content servers, h2load, one RPT, percentiles.

    def checks(world, check): …
    main(checks)          # BINARY COUNT [--deep]

A figure is printed by `figure`; what an issue asks for is a check. Nothing here looks into the gateway: it is the release binary, its ports and its metrics.
"""
import collections
import itertools
import json
import math
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))
from world import PASSWORD, PATIENCE, USERNAME, call, claims, free_port, listens, main, until  # noqa: E402,F401 (handed on to the measurements)

DEEP = "--deep" in sys.argv
RELOADED = "the configuration was read anew and is in force"
# Debian's packages of the programs that are started.
PACKAGES = {"h2load": "nghttp2-client", "nginx": "nginx-light", "h2spec": None}


def tool(name):
    """Where a program is; one that is missing is a failure and never a reason to leave the measurement out."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"{name} is missing" + (f" (Debian: apt-get install {PACKAGES[name]})" if PACKAGES.get(name) else ""))
    return found


def figure(what, value):
    print(f"  figure  {what}: {value}", flush=True)


def milliseconds(seconds):
    return f"{seconds * 1000:.2f} ms"


def percentile(values, share):
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def more_files(wanted):
    """Raises the number of files that this process and what it starts may open, as far as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
        except (ValueError, PermissionError):
            raise RuntimeError(f"{wanted} open files are needed, this machine allows {hard} (ulimit -Hn)") from None
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def shared_album(world):
    """An album that Bob may view, and his RPT for it."""
    album = world.realm.album()
    world.realm.share(album, "bob", ["view"])
    return album, world.realm.rpt("bob", album, ["view"])


def configuration(world, album, upstreams, **more):
    """A plain listener that speaks HTTP/2 as well, one with TLS, the album's route and a public one. Nobody is held back for asking often."""
    plain, tls = free_port(), free_port()
    return plain, tls, {
        "listeners": [world.listener(plain, h2c=True), world.listener(tls, tls=True)],
        "limits": {"off_for": ["127.0.0.0/8"]},
        # The record of each request is made; a line is written only for what is refused.
        "log": {"access": "denied"},
        "upstreams": upstreams,
        "routes": [world.album_route("/album/**", album), {"path": "/public/**", "upstream": "content", "public": True}],
    } | more


def nginx_of(world, name, http):
    """Starts an nginx with this inside of `http { … }`."""
    folder = world.folder / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid;
        events {{ worker_connections 4096; }}
        http {{ {temporary} access_log off; default_type application/octet-stream; {http} }}""")
    world.start(name, [tool("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"])


def nginx(world, name="content", size=1024):
    """A content server that wants the gateway's credential. Answers any path with `size` bytes; returns its port and its file of passwords."""
    folder, port = world.folder / name, free_port()
    (folder / "root").mkdir(parents=True)
    passwords = folder / "passwords"
    passwords.write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}\n")
    (folder / "root/content").write_bytes(b"x" * size)
    nginx_of(world, name, f"""
        keepalive_requests 1000000000;
        server {{
            listen 127.0.0.1:{port}; root {folder}/root;
            location / {{ auth_basic content; auth_basic_user_file {passwords}; try_files /content =404; }}
        }}""")
    until("nginx listens", lambda: listens(port))
    return port, passwords


Row = collections.namedtuple("Row", "began status took")

# One number for each run: runs at the same time keep their files apart.
LOADS = itertools.count(1)


class Load:
    """One run of h2load: how it speaks (`h1`, `h2c` or `h2`), where, for how long, and what came of it. With `data`, a file, it is POST."""

    def __init__(self, world, protocol, port, path, rpt=None, *, seconds, clients=32, streams=10, rate=None, requests=None, data=None):
        scheme = "https" if protocol == "h2" else "http"
        self.name = f"{protocol} {path}"
        self._rows = world.folder / f"h2load-{next(LOADS)}.rows"
        command = [tool("h2load"), f"--log-file={self._rows}", "-c", clients, "-m", 1 if protocol == "h1" else streams, "-t", 1]
        command += ["-n", requests] if requests else ["-D", f"{seconds * 1000:.0f}ms"]
        command += ["--h1"] if protocol == "h1" else []
        command += ["--rps", rate] if rate else []
        command += ["-d", data] if data else []
        command += ["-H", f"Authorization: Bearer {rpt}"] if rpt else []
        # By file, so that an end by force is not needed where nobody reads a full pipe.
        self._output = open(self._rows.with_suffix(".log"), "w+")
        self.process = subprocess.Popen([*map(str, command), f"{scheme}://127.0.0.1:{port}{path}"], stdout=self._output, stderr=subprocess.STDOUT)
        world._processes.append(self.process)

    def running(self):
        return self.process.poll() is None

    def end(self):
        """Waits for it; then `total`, `failed` (not answered), `refused` (answered otherwise than 2xx), `rate` and `rows` are there."""
        self.process.wait()
        self._output.seek(0)
        self.text = self._output.read()
        self._output.close()
        counts = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", self.text)
        classes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", self.text)
        speed = re.search(r"finished in .*?, ([\d.]+) req/s", self.text)
        if not (counts and classes and speed):
            raise RuntimeError(f"h2load: {self.text}")
        self.total, _, self.done, _, failed, errored, late = map(int, counts.groups())
        self.failed, self.refused, self.rate = failed + errored + late, sum(map(int, classes.groups()[1:])), float(speed.group(1))
        # h2load itself counts 4xx and 5xx among the failed.
        lines = (line.split("\t") for line in self._rows.read_text().splitlines())
        self.rows = [Row(int(began) / 1e6, int(status), int(took) / 1e6) for began, status, took, *_ in lines]
        self._rows.unlink()
        return self

    def whole(self, check, what=""):
        """The check that each request was answered by 2xx."""
        self.end()
        figure(f"{self.name}{what}", f"{self.done} requests, {self.rate:.0f}/s, p99 {milliseconds(percentile([row.took for row in self.rows], 0.99))}")
        good = self.done > 0 and self.failed == 0 and self.refused == 0 and all(200 <= row.status < 300 for row in self.rows)
        return check(f"{self.name}{what}: no request failed", good, self.text)


def metric(gateway, name, **labels):
    """The sum of a metric's series that carry these labels."""
    total = 0.0
    for line in gateway.metrics().splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{label}="{value}"' in (found.group(1) or "") for label, value in labels.items()):
            total += float(found.group(2))
    return total


def reloads(gateway):
    """How often the gateway has said so far that it has a new configuration."""
    return gateway.log.read_text().count(RELOADED)


class Reloads:
    """Writes a changed configuration and sends SIGHUP, every so many seconds: a route comes and goes."""

    def __init__(self, gateway, every):
        self.gateway, self.every, self.sent, self.stop = gateway, every, 0, threading.Event()
        self.keys = json.loads(gateway.file.read_text())
        self.thread = threading.Thread(target=self.run)

    def write(self, more):
        new = self.gateway.file.with_suffix(".new")
        new.write_text(json.dumps(self.keys | {"routes": self.keys["routes"] + more}, indent=1))
        new.rename(self.gateway.file)

    def run(self):
        due = time.monotonic()
        for number in itertools.count():
            self.write([{"path": f"/other/{number}", "upstream": "content", "public": True}] if number % 2 else [])
            self.gateway.process.send_signal(signal.SIGHUP)
            self.sent += 1
            due += self.every
            if self.stop.wait(max(0, due - time.monotonic())):
                return

    def __enter__(self):
        self.done = self.count()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def count(self):
        return reloads(self.gateway)


class Beside:
    """Something that is done again and again in a thread of its own until the end."""

    def __init__(self, every, do):
        self.every, self.do, self.done, self.failed, self.stop = every, do, 0, [], threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.stop.wait(self.every):
            try:
                self.do(self.done)
                self.done += 1
            except Exception as error:  # counted, and a check of its own
                self.failed.append(repr(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


class Asks(Beside):
    """A client that asks the same again and again, a few times a second, and keeps the statuses that it got."""

    def __init__(self, method, address, rpt=None, pause=0.05):
        self.statuses = {}
        headers = {"Authorization": f"Bearer {rpt}"} if rpt else {}

        def ask(_):
            try:
                came = call(method, address, headers)[0]
            except OSError as error:
                came = repr(error)
            self.statuses[came] = self.statuses.get(came, 0) + 1

        super().__init__(pause, ask)
