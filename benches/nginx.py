#!/usr/bin/env python3
"""CPU time per request, side by side: nginx's plain proxy_pass, our pass-through, our enforcement with a cached RPT.

    cargo build --release && benches/nginx.py [--rounds 12] [--slice 2] [--gateway PATH] [--limit 1.5]

All servers are up at once. The proxies are pinned to CPU 0, the load (wrk, one thread, 64 connections), the content
server (nginx, 1 KiB) and the authorization server (a double below) to CPU 1. Each round gives every proxy one slice in
rotating order; CPU time is the run time in /proc/PID/task/*/schedstat divided by the requests that wrk completed. The
result is the ratio to nginx *within a round*, so that a machine that is faster in one minute than in the next does not
matter. Requests per second are no result here: CPU 1 is the bottleneck.

nginx has tuned buffers, keep-alive on both sides and its access log off; ours has metrics and its JSON access log on (to
/dev/null). Every request carries the same five headers and an RPT of 1,221 characters. Any failure fails the run.
"""
import argparse
import http.client
import http.server
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROXY_CPU, LOAD_CPU = 0, 1
BODY = "x" * 1024
RPT = secrets.token_urlsafe(1000)[:1221]
CREDENTIAL = "the gateway's own password"


def main():
    options = arguments()
    need_two_cpus()
    need_tools(["nginx", "wrk", "taskset"])
    gateway_binary = pathlib.Path(options.gateway)
    if not gateway_binary.is_file():
        sys.exit(f"{gateway_binary} is missing: cargo build --release")

    with tempfile.TemporaryDirectory(prefix="uma-bench-") as folder, Processes() as processes:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)  # nginx drops its privileges and still has to enter
        os.sched_setaffinity(0, {LOAD_CPU})
        issuer = AuthorizationServer().start()
        upstream = processes.start_nginx(folder / "upstream", LOAD_CPU, upstream_server)
        nginx = processes.start_nginx(folder / "proxy", PROXY_CPU, lambda port: proxy_server(port, upstream.port))
        ours = processes.start_gateway(gateway_binary, folder, issuer, upstream.port)

        contenders = [
            Contender("nginx proxy_pass", nginx, "/album/photo"),
            Contender("ours, pass-through", ours, "/public/photo"),
            Contender("ours, enforcing", ours, "/album/photo"),
        ]
        check_answers(contenders)
        failures = run_rounds(contenders, options)
        ratios = report(contenders, failures)

    if failures:
        sys.exit(f"{failures} requests failed")
    if options.limit is not None and ratios[-1] > options.limit:
        sys.exit(f"enforcing costs {ratios[-1]:.3f} of nginx, the limit is {options.limit}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="at least 8 for a figure worth quoting")
    parser.add_argument("--slice", type=int, default=2, help="seconds for each proxy in a round")
    parser.add_argument("--gateway", default=str(ROOT / "target" / "release" / "uma-gateway"))
    parser.add_argument("--limit", type=float, help="fail when the median of enforcing over nginx is above it")
    return parser.parse_args()


def need_two_cpus():
    if not {PROXY_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        sys.exit("this needs CPU 0 and CPU 1: the proxies on one, the load on the other")


def need_tools(names):
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    packages = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        sys.exit(f"missing: {', '.join(missing)}")
    print(f"installing {', '.join(missing)}", file=sys.stderr)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["update"], ["install", "-y", *(packages[name] for name in missing)]):
        subprocess.run(["apt-get", "-qq", *command], check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Contender:
    """One proxy and the path that it is asked for."""

    def __init__(self, name, process, path):
        self.name, self.process, self.url = name, process, f"http://127.0.0.1:{process.port}{path}"
        self.path = path
        self.microseconds = []


def run_rounds(contenders, options):
    """Runs every contender once a round and returns how many requests failed. The first round only warms up."""
    failures = 0
    for round_number in range(options.rounds + 1):
        shift = round_number % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            before = contender.process.run_time()
            completed, failed = load(contender.url, 1 if round_number == 0 else options.slice)
            used = contender.process.run_time() - before
            failures += failed
            if round_number > 0:
                contender.microseconds.append(used / 1000 / max(completed, 1))
        if round_number > 0:
            print(f"round {round_number:2}: " + "   ".join(f"{c.name} {c.microseconds[-1]:.2f} us" for c in contenders), flush=True)
    return failures


def load(url, seconds):
    """Loads `url` and returns (completed requests, failed ones): answers other than 2xx and socket errors."""
    headers = {"Authorization": f"Bearer {RPT}", "Accept": "*/*", "Accept-Language": "en", "User-Agent": "wrk", "Accept-Encoding": "identity"}
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--timeout", "5s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    # wrk's own line about bad answers lets 3xx pass; no contender has a reason to redirect.
    output = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    completed = int(re.search(r"(\d+) requests in", output).group(1))
    failed = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    for line in re.findall(r"Socket errors: (.*)", output):
        failed += sum(int(count) for count in re.findall(r"\d+", line))
    if failed or completed == 0:
        print(output, file=sys.stderr)
    return completed, failed + (completed == 0)


def report(contenders, failures):
    """Prints the figures and returns the median ratio of each contender to the first."""
    reference = contenders[0]
    print(f"\n{'':20} {'us/request':>10} {'[min - max]':>17}   ratio to nginx, paired: median [q1 - q3] (min - max)")
    medians = []
    for contender in contenders:
        times = contender.microseconds
        ratios = [mine / theirs for mine, theirs in zip(times, reference.microseconds)]
        q1, median, q3 = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        medians.append(median)
        print(
            f"{contender.name:20} {statistics.median(times):10.2f} {f'[{min(times):.2f} - {max(times):.2f}]':>17}   "
            f"{median:.3f} [{q1:.3f} - {q3:.3f}] ({min(ratios):.3f} - {max(ratios):.3f})"
        )
    print(f"{len(reference.microseconds)} rounds, {failures} failed requests")
    return medians


def check_answers(contenders):
    """Before anything is measured: the right bytes with the RPT, and from the enforcing route nothing without it."""
    for contender in contenders:
        status, body = ask(contender, {"Authorization": f"Bearer {RPT}"})
        if (status, body) != (200, BODY):
            sys.exit(f"{contender.name}: {contender.url} answered {status} with {len(body)} bytes, not 200 with {len(BODY)}: {body[:300]}")
    status, _ = ask(contenders[-1], {})
    if status != 401:
        sys.exit(f"{contenders[-1].name} answered {status} without a token, not 401")


def ask(contender, headers):
    connection = http.client.HTTPConnection("127.0.0.1", contender.process.port, timeout=10)
    connection.request("GET", contender.path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


class Processes:
    """Everything that was started; ended when the block ends, however it ends."""

    def __enter__(self):
        self.started = []
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.stop()

    def start_nginx(self, folder, cpu, server):
        folder.mkdir()
        port = free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(nginx_configuration(folder, server(port)))
        command = ["nginx", "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]
        return self.start(command, cpu, port, folder / "output.log", dict(os.environ))

    def start_gateway(self, binary, folder, issuer, upstream_port):
        port, health_port = free_port(), free_port()
        configuration = folder / "gateway.yaml"
        configuration.write_text(gateway_configuration(port, health_port, issuer, upstream_port))
        environment = dict(os.environ, BENCH_CLIENT_SECRET="bench", BENCH_PROXY_PASSWORD=CREDENTIAL)
        command = [str(binary), "run", "--config", str(configuration)]
        process = self.start(command, PROXY_CPU, port, folder / "gateway.log", environment, stdout=subprocess.DEVNULL)
        process.wait_until_ready(health_port)
        return process

    def start(self, command, cpu, port, log, environment, stdout=None):
        with open(log, "wb") as file:
            child = subprocess.Popen(["taskset", "-c", str(cpu), *command], stdin=subprocess.DEVNULL, stdout=stdout or file, stderr=file, env=environment)
        process = Process(child, port, log)
        self.started.append(process)
        process.wait_for_port()
        return process


class Process:
    """A server and its children, all on one CPU."""

    def __init__(self, child, port, log):
        self.child, self.port, self.log = child, port, log

    def run_time(self):
        """Nanoseconds on the CPU so far, all threads of the server and of its children."""
        total = 0
        for process in [self.child.pid, *children(self.child.pid)]:
            for task in pathlib.Path(f"/proc/{process}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total

    def wait_for_port(self):
        self.wait(lambda: socket.create_connection(("127.0.0.1", self.port), timeout=1).close() or True)

    def wait_until_ready(self, health_port):
        def ready():
            connection = http.client.HTTPConnection("127.0.0.1", health_port, timeout=2)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200

        self.wait(ready)

    def wait(self, condition):
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                break
            try:
                if condition():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        sys.exit(f"{self.child.args[3]} did not come up:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx_configuration(folder, server):
    return f"""
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def upstream_server(port):
    return f'server {{ listen 127.0.0.1:{port}; location / {{ default_type application/octet-stream; return 200 "{BODY}"; }} }}'


def proxy_server(port, upstream_port):
    return f"""
    upstream content {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        large_client_header_buffers 8 16k;
        location / {{
            proxy_pass http://content;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffer_size 32k;
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k;
        }}
    }}
"""


def gateway_configuration(port, health_port, issuer, upstream_port):
    return f"""
version: 1
workers: 1
listeners: [ {{ address: 127.0.0.1:{port} }} ]
health: {{ address: 127.0.0.1:{health_port} }}
log: {{ format: json, access: on }}
limits: {{ off_for: [ 127.0.0.0/8 ] }}
authorization_servers:
  double:
    profile: uma2
    issuer: {issuer}
    client: {{ id: bench, secret: {{ env: BENCH_CLIENT_SECRET }} }}
upstreams:
  content:
    servers: [ http://127.0.0.1:{upstream_port} ]
    credentials: {{ basic: {{ username: gateway, password: {{ env: BENCH_PROXY_PASSWORD }} }} }}
routes:
  - path: /album/**
    protect:
      resource: {{ id: album-1 }}
      scopes: {{ GET: [view] }}
  - path: /public/**
    public: true
"""


class AuthorizationServer:
    """As much of a UMA 2.0 server as the gateway asks for here: it knows one RPT, for one resource."""

    def start(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.daemon_threads = True
        server.issuer = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.issuer


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        issuer = self.server.issuer
        if self.path == "/.well-known/uma2-configuration":
            self.answer(200, {
                "issuer": issuer,
                "token_endpoint": f"{issuer}/token",
                "introspection_endpoint": f"{issuer}/introspect",
                "permission_endpoint": f"{issuer}/permission",
                "resource_registration_endpoint": f"{issuer}/resource_set",
                "authorization_endpoint": f"{issuer}/authorize",
                "jwks_uri": f"{issuer}/keys",
                "grant_types_supported": ["client_credentials", "urn:ietf:params:oauth:grant-type:uma-ticket"],
                "response_types_supported": ["code"],
            })
        elif self.path.rstrip("/") == "/resource_set":
            self.answer(200, ["album-1"])
        elif self.path == "/resource_set/album-1":
            self.answer(200, {"_id": "album-1", "name": "album 1", "resource_scopes": ["view"]})
        else:
            self.answer(404, {"error": "not_found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/token":
            self.answer(200, {"access_token": "pat", "token_type": "Bearer", "expires_in": 3600})
        elif self.path == "/introspect":
            known = urllib.parse.parse_qs(body).get("token") == [RPT]
            self.answer(200, self.introspection() if known else {"active": False})
        elif self.path == "/permission":
            self.answer(201, {"ticket": secrets.token_urlsafe(16)})
        else:
            self.answer(404, {"error": "not_found"})

    def introspection(self):
        now = int(time.time())
        permission = {"resource_id": "album-1", "resource_scopes": ["view"], "exp": now + 3600}
        return {"active": True, "iss": self.server.issuer, "sub": "bob", "iat": now, "exp": now + 3600, "permissions": [permission]}

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    main()
