"""What every program here needs: the real gateway, a real Keycloak's side of it, certificates, free ports, and an end for all that was started.

    with World(binary) as world:
        album = world.realm.album()
        world.realm.share(album, "bob", ["view"])
        gateway = world.gateway({"listeners": […], "upstreams": {…}, "routes": […]})   # waits until it is ready
        rpt = world.realm.rpt("bob", album, ["view"])

Keycloak is the one of tests/keycloak/start, at KEYCLOAK_PORT (8180). Nothing but Python's own library and `openssl` is needed. Each album has a name of its
own, so that what an earlier run shared does not count.
"""
import base64
import contextlib
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "uma-gateway/tools"
# Seconds for anything that has to happen: far above what is measured, so that a busy machine does not fail a run.
PATIENCE = 30
# Where `free_port` looks: below what the system gives to `bind(0)` and to connections that go out, so that nothing else takes one before its server has it.
# The tests in Rust have those below. Each process begins elsewhere.
PORTS = range(16_000, 21_000)
FIRST_PORT = os.getpid() * 97 % len(PORTS)
_given = []
# What the gateway presents to content servers.
USERNAME, PASSWORD = "gateway", "proxy-password"
CREDENTIAL = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()

# Straight to loopback, whatever proxy the environment names; no redirect is followed and no status is an exception.
_opener = urllib.request.OpenerDirector()
_opener.add_handler(urllib.request.HTTPHandler())


def free_port():
    """A port of 127.0.0.1 that nothing uses, and that this process has not been given before."""
    while len(_given) < len(PORTS):
        port = PORTS[(FIRST_PORT + len(_given)) % len(PORTS)]
        _given.append(port)
        with contextlib.suppress(OSError), socket.socket() as free:
            # As servers bind: what an earlier one left in TIME_WAIT is in nobody's way.
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port of {PORTS.start} to {PORTS.stop - 1} is free")


def until(what, ask, patience=PATIENCE):
    """Asks until the answer is true, and returns it. A connection that fails counts as no."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            found = ask()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"not within {patience} s: {what}")


def listens(port):
    """Whether something accepts connections there."""
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return True


def call(method, address, headers=None, body=None):
    """One plain HTTP/1.1 request: status, headers and body."""
    request = urllib.request.Request(address, method=method, headers=headers or {}, data=body)
    with _opener.open(request, timeout=PATIENCE) as answer:
        return answer.status, answer.headers, answer.read()


def whole_lines(file):
    """The lines of a file that somebody is writing, without one that has not come to its end."""
    return file.read_bytes().rpartition(b"\n")[0].decode(errors="replace").splitlines()


def ticket_of(challenge):
    """The permission ticket of a `WWW-Authenticate: UMA …` line, or None."""
    found = re.search(r'\bUMA .*\bticket="([^"]+)"', challenge or "")
    return found and found.group(1)


def claims(token):
    """The payload of a token, unverified."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Checks:
    """Counts, and prints a line for each check."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, good, came=""):
        """One check; `came` is printed where it fails."""
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print(f"  {'good' if good else 'BAD '}  {what}" + ("" if good else f"\n        came: {came}"), flush=True)
        return bool(good)

    def equal(self, what, came, wanted):
        return self(what, came == wanted, f"{came!r} instead of {wanted!r}")

    def named(self, name):
        """The same, with a name before each line."""
        return _Named(self, name)


class _Named(Checks):
    def __init__(self, checks, name):
        self.checks, self.name = checks, name

    def __call__(self, what, good, came=""):
        return self.checks(f"{self.name}: {what}", good, came)


class Realm:
    """A realm of Keycloak, as its owners and its resource server use it. Nothing here goes through the gateway."""

    APPLICATIONS = {"client-app": "client-secret", "short-app": "short-secret"}

    def __init__(self, name="photoz", client="content-gateway", secret="gateway-secret"):
        port = os.environ.get("KEYCLOAK_PORT", "8180")
        self.issuer, self.client, self.secret = f"http://127.0.0.1:{port}/realms/{name}", client, secret
        self._pat = (None, 0)

    def album(self):
        """Registers an album of Alice's with `view` and `edit`; returns `{"id": …, "name": …}`. Nobody may see it yet."""
        name = "Album " + secrets.token_hex(6)
        made = self._protection("POST", "resource_set", {"name": name, "owner": "alice", "ownerManagedAccess": True, "resource_scopes": ["view", "edit"]})
        return {"id": made["_id"], "name": name}

    def share(self, album, user, scopes):
        """Alice shares it; returns the policy, for `withdraw`."""
        policy = {"name": "share " + secrets.token_hex(6), "users": [user], "scopes": scopes}
        return self._api("POST", f"authz/protection/uma-policy/{album['id']}", self._alice(), policy)["id"]

    def withdraw(self, policy):
        """Alice takes it back."""
        self._api("DELETE", f"authz/protection/uma-policy/{policy}", self._alice())

    def ticket(self, album, scopes):
        """A permission ticket, as the gateway would ask for it."""
        return self._protection("POST", "permission", [{"resource_id": album["id"], "resource_scopes": scopes}])["ticket"]

    def trade(self, ticket, user, application="client-app"):
        """Trades a ticket for an RPT, with the user's access token as the claim token. Users' passwords are their names."""
        access = self._token(application, self.APPLICATIONS[application], grant_type="password", username=user, password=user, scope="openid")
        return self._token(application, self.APPLICATIONS[application], grant_type="urn:ietf:params:oauth:grant-type:uma-ticket", ticket=ticket,
                           claim_token=access, claim_token_format="http://openid.net/specs/openid-connect-core-1_0.html#IDToken")

    def rpt(self, user, album, scopes, application="client-app"):
        """An RPT with these scopes; `short-app` gets one of four seconds."""
        return self.trade(self.ticket(album, scopes), user, application)

    def _alice(self):
        return self._token(self.client, self.secret, grant_type="password", username="alice", password="alice")

    def _protection(self, method, path, body):
        pat, end = self._pat
        if time.monotonic() > end:
            pat = self._token(self.client, self.secret, grant_type="client_credentials")
            self._pat = pat, time.monotonic() + 60
        return self._api(method, "authz/protection/" + path, pat, body)

    def _api(self, method, path, token, body=None):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self._call(method, path, headers, None if body is None else json.dumps(body).encode())

    def _token(self, client, secret, **fields):
        basic = base64.b64encode(f"{client}:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        return self._call("POST", "protocol/openid-connect/token", headers, urllib.parse.urlencode(fields).encode())["access_token"]

    def _call(self, method, path, headers, body):
        status, _, text = call(method, f"{self.issuer}/{path}", headers, body)
        if status >= 300:
            raise RuntimeError(f"Keycloak: {method} {path}: {status} {text.decode(errors='replace')[:300]}")
        return json.loads(text) if text else None


class Certificates:
    """A certification authority of a run's own, and certificates that it signs. Paths are `ca` and what `pair` returns."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.ca = self.folder / "ca.pem"
        self._key = self.folder / "ca-key.pem"
        self._openssl("req", "-x509", *self._new_key(self._key), "-out", self.ca, "-days", "2", "-subj", "/CN=clients test CA")

    def pair(self, name, names="DNS:localhost,IP:127.0.0.1"):
        """Certificate and key of a server with these names."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        self._openssl("req", "-x509", *self._new_key(key), "-out", certificate, "-days", "2", "-subj", f"/CN={name}", "-CA", self.ca, "-CAkey", self._key,
                      "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth")
        return certificate, key

    @staticmethod
    def _new_key(path):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path

    @staticmethod
    def _openssl(*arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"openssl {arguments[0]}: {done.stderr}")


class Gateway:
    """A gateway that runs. `process`, `log` (a file) and `health` (an address) are for whoever measures or asks."""

    def __init__(self, process, log, health, file):
        self.process, self.log, self.health, self.file = process, log, health, file

    def ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {self.process.returncode}:\n{self.tail()}")
        return call("GET", f"{self.health}/readyz")[0] == 200

    def metrics(self):
        return call("GET", f"{self.health}/metrics")[2].decode()

    def lines(self):
        """The lines of its log that are whole: of the last one a part may be there."""
        return whole_lines(self.log)

    def tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class World:
    """A folder, a realm, and processes, which all end with it."""

    def __init__(self, binary):
        self.binary = str(pathlib.Path(binary).resolve())
        self.realm = Realm()
        self._processes = []
        # A Chromium that was ended has children that write to their profile for a moment more.
        self._folder = tempfile.TemporaryDirectory(prefix="uma-clients-", ignore_cleanup_errors=True)
        self.folder = pathlib.Path(self._folder.name)
        self.folder.chmod(0o755)  # servers that drop their privileges still have to enter
        self._certificates = self._pair = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for process in reversed(self._processes):
            self.stop(process)
        if kind is not None:
            for log in sorted(self.folder.glob("*.log")):
                print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        self._folder.cleanup()

    @property
    def certificates(self):
        if self._certificates is None:
            self._certificates = Certificates(self.folder)
        return self._certificates

    def start(self, name, command, environment=None, **options):
        """A process whose output goes to `name.log` in the folder."""
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                   env=os.environ | (environment or {}), **options)
        log.close()
        self._processes.append(process)
        return process

    @staticmethod
    def stop(process, patience=10):
        """Ends it by SIGINT, for which the gateway leaves `drain.delay` out, and by force where that is not heard."""
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def album_route(self, path, album, upstream="content", **more):
        """A protected route: GET needs `view`, every other usual method `edit`."""
        scopes = {"GET": ["view"], "POST, PUT, DELETE": ["edit"]}
        return {"path": path, "upstream": upstream, "protect": {"resource": {"id": album["id"]}, "scopes": scopes}, **more}

    def upstream(self, address, **more):
        """An upstream with one server and the gateway's credential."""
        return {"servers": [address], "credentials": {"basic": {"username": USERNAME, "password": {"env": "PROXY_PASSWORD"}}}, **more}

    def listener(self, port, tls=False, **more):
        """A listener; with `tls` it shows a certificate for localhost of the run's own authority."""
        if tls:
            self._pair = self._pair or self.certificates.pair("gateway")
            certificate, key = self._pair
            more["tls"] = {"certificates": [{"certificate": str(certificate), "key": str(key)}]}
        return {"address": f"127.0.0.1:{port}", **more}

    def authorization_server(self, **more):
        """The realm as the gateway's authorization server."""
        return {"profile": "keycloak", "issuer": self.realm.issuer, "client": {"id": self.realm.client, "secret": {"env": "GATEWAY_CLIENT_SECRET"}},
                "timeout": "10s", **more}

    def complete(self, configuration):
        """The configuration with what a run here always has; what it says itself counts."""
        always = {"version": 1, "health": {"address": f"127.0.0.1:{free_port()}"}, "authorization_servers": {"keycloak": self.authorization_server()},
                  "drain": {"delay": "0s", "timeout": "2s"}}
        return always | configuration

    def gateway(self, configuration, name="gateway", ready=True, **options):
        """Starts the gateway: `configuration` is its keys as a dict (JSON is YAML). `options` go to Popen."""
        configuration = self.complete(configuration)
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps(configuration, indent=1))
        environment = {"GATEWAY_CLIENT_SECRET": self.realm.secret, "PROXY_PASSWORD": PASSWORD}
        process = self.start(name, [self.binary, "run", "--config", file], environment, **options)
        gateway = Gateway(process, self.folder / f"{name}.log", f"http://{configuration['health']['address']}", file)
        if ready:
            until("the gateway is ready", gateway.ready)
        return gateway


def main(checks):
    """Runs `checks(world, check)` as a program: BINARY COUNT, and writes "PASSED FAILED" into the file COUNT."""
    binary, count = sys.argv[1:3]
    check = Checks()
    began = time.monotonic()
    try:
        with World(binary) as world:
            checks(world, check)
    except Exception as error:  # whatever stops the walk is a failed check, with what came before it
        import traceback
        traceback.print_exc(file=sys.stdout)
        check("the walk comes to its end", False, f"{type(error).__name__}: {error}")
    if check.passed + check.failed == 0:
        check("something was checked", False, "nothing")
    print(f"  {check.passed} good, {check.failed} bad, {time.monotonic() - began:.1f} s", flush=True)
    pathlib.Path(count).write_text(f"{check.passed} {check.failed}\n")
    sys.exit(check.failed > 0)
