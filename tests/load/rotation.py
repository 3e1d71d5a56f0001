"""Each secret is replaced under load and no request fails: client secret, proxy credential, admin token, certificate.

As the README says it: the gateway's file first, then the other side. The other side is a real one: Keycloak's client gets the new secret by its admin API,
nginx reads its passwords from a file at each request. In between, both secrets must do.
"""
import concurrent.futures
import json
import os
import ssl
import threading
import time
import urllib.parse

from clients import context
from support import Beside, DEEP, Load, PASSWORD, USERNAME, call, configuration, figure, free_port, main, metric, nginx, reloads, shared_album, until

# Requests go on for so long with the one side changed, and with both.
WHILE = 5 if DEEP else 1


def written(file, text):
    """As a mounted secret is replaced: whole, by a rename."""
    new = file.with_name(file.name + ".new")
    new.write_text(text)
    new.chmod(0o644 if file.name == "passwords" else 0o600)
    new.rename(file)


def read(gateway, file, text):
    """Replaces a secret of the gateway's, and waits until the gateway has read it."""
    seen = reloads(gateway)
    written(file, text)
    until("the gateway has read its file", lambda: reloads(gateway) > seen)


class Loads(Beside):
    """Loads of two seconds, one after the other until the end of the block, however long that takes."""

    def __init__(self, *what):
        super().__init__(0, self._one)
        self.what, self.all = what, []

    def _one(self, _):
        self.all.append(Load(*self.what, seconds=2))
        self.all[-1].process.wait()

    def whole(self, check, what):
        """The check of each."""
        check(f"there was a load{what}", self.all and not self.failed, self.failed)
        for number, load in enumerate(self.all, 1):
            load.whole(check, f"{what}, {number} of {len(self.all)}")


class Client:
    """Keycloak's client of the gateway, as Keycloak's administrator sees it."""

    def __init__(self, realm):
        self.realm, self.base = realm, realm.issuer.replace("/realms/", "/admin/realms/")
        self.master = realm.issuer.rsplit("/", 1)[0] + "/master/protocol/openid-connect/token"

    def ask(self, method, path, body=None):
        form = urllib.parse.urlencode({"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}).encode()
        token = json.loads(call("POST", self.master, {"Content-Type": "application/x-www-form-urlencoded"}, form)[2])["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        status, _, text = call(method, f"{self.base}/{path}", headers, None if body is None else json.dumps(body).encode())
        if status >= 300:
            raise RuntimeError(f"Keycloak: {method} {path}: {status} {text[:300]}")
        return json.loads(text) if text else None

    def secret(self, secret):
        found, = self.ask("GET", "clients?" + urllib.parse.urlencode({"clientId": self.realm.client}))
        self.ask("PUT", f"clients/{found['id']}", found | {"secret": secret})


def loaded(gateway, kind):
    """Since when the gateway has this secret, by its own gauge."""
    return metric(gateway, "uma_gateway_secret_loaded_timestamp_seconds", kind=kind)


def client_secret(world, gateway, plain, rpt, check):
    """The authorization server is asked all the time, since answers are used for 200 ms only; each question shows the client's secret."""
    keycloak, kinds = Client(world.realm), "client_secret"
    before = loaded(gateway, kinds)
    asked = lambda: metric(gateway, "uma_as_requests_total", endpoint="introspection")
    try:
        with Loads(world, "h1", plain, "/album/a", rpt) as loads:
            time.sleep(WHILE)
            read(gateway, world.folder / "client-secret", "another-secret")
            seen = asked()
            time.sleep(WHILE)
            check("client secret: the server was asked while only the file had the new one", until("the server is asked", lambda: asked() > seen))
            check.equal("client secret: meanwhile the old one stayed in use", (loaded(gateway, kinds), call("GET", f"{gateway.health}/readyz")[0]), (before, 200))
            keycloak.secret("another-secret")
            took = time.monotonic()
            until("the new secret is in use", lambda: loaded(gateway, kinds) > before)
            figure("client secret", f"in use {time.monotonic() - took:.1f} s after Keycloak had it")
            time.sleep(WHILE)
        loads.whole(check, " while the client secret is replaced")
    finally:
        keycloak.secret(world.realm.secret)


def proxy_credential(world, gateway, plain, rpt, passwords, check):
    with Loads(world, "h1", plain, "/album/a", rpt) as loads:
        time.sleep(WHILE)
        before = loaded(gateway, "proxy_credential")
        read(gateway, world.folder / "proxy-password", "another-password")
        time.sleep(WHILE)
        check.equal("proxy credential: the old one stays in use while the content server knows no other", loaded(gateway, "proxy_credential"), before)
        written(passwords, f"{USERNAME}:{{PLAIN}}another-password\n")
        check("proxy credential: the new one comes into use", until("the new one is in use", lambda: loaded(gateway, "proxy_credential") > before))
        time.sleep(WHILE)
    loads.whole(check, " while the proxy credential is replaced")
    # The new one has worked, so that the old one is not shown any more.
    written(passwords, f"{USERNAME}:{{PLAIN}}{PASSWORD}\n")
    until("the old one is gone", lambda: call("GET", f"http://127.0.0.1:{plain}/album/a", {"Authorization": f"Bearer {rpt}"})[0] == 502)
    written(passwords, f"{USERNAME}:{{PLAIN}}another-password\n")
    check.equal("proxy credential: and the old one is gone", call("GET", f"http://127.0.0.1:{plain}/album/a", {"Authorization": f"Bearer {rpt}"})[0], 200)


def admin_token(gateway, admin, token, check):
    """The door is asked all the time: by the old token until the new one has been shown, then by that."""
    address = f"http://127.0.0.1:{admin}/records?last=1"

    def ask(what):
        return call("GET", address, {"Authorization": f"Bearer {what}"})[0]

    came = [ask("old-token") for _ in range(50)]
    written(token, "new-token")
    end = time.monotonic() + WHILE
    while time.monotonic() < end:
        came.append(ask("old-token"))
    until("the new token opens the door", lambda: ask("new-token") == 200)
    came += [ask("new-token") for _ in range(200)]
    check(f"admin token: each of {len(came)} requests was answered", set(came) == {200}, {status: came.count(status) for status in set(came)})
    check.equal("admin token: the old one is gone", ask("old-token"), 401)


def handshake(port):
    """The certificate that a new connection is shown, after a request on it was answered."""
    made = context("http/1.1")
    import socket
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, made.wrap_socket(plain, server_hostname="localhost") as stream:
        stream.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := stream.recv(65536):
            answer += piece
        if not answer.startswith(b"HTTP/1.1 404"):
            raise RuntimeError(f"no answer: {answer[:100]}")
        return stream.getpeercert(binary_form=True)


def certificate(world, gateway, tls, rpt, check):
    """Connections that stand stay, and each new one gets the old certificate or the new one, whole."""
    # What the gateway's listener reads; World made it.
    chain, key = world._pair
    old, (new_chain, new_key) = ssl.PEM_cert_to_DER_cert(chain.read_text()), world.certificates.pair("renewed")
    new = ssl.PEM_cert_to_DER_cert(new_chain.read_text())
    shown, stop = [], threading.Event()

    def connect():
        while not stop.is_set():
            try:
                shown.append(handshake(tls))
            except (OSError, RuntimeError) as error:
                shown.append(repr(error))

    with Loads(world, "h2", tls, "/album/a", rpt) as loads, concurrent.futures.ThreadPoolExecutor() as pool:
        connecting = [pool.submit(connect) for _ in range(2)]
        try:
            until("a connection is shown the old one", lambda: old in shown)
            time.sleep(WHILE)
            # Certificate and key are two files, and between the two renames they do not fit together.
            os.replace(new_chain, chain)
            time.sleep(0.2)
            os.replace(new_key, key)
            until("a connection is shown the new one", lambda: new in shown)
            time.sleep(WHILE)
        finally:
            stop.set()
        for one in connecting:
            one.result()
        shown.append(handshake(tls))
    loads.whole(check, " while the certificate is replaced")
    others = [one for one in shown if one not in (old, new)]
    check(f"certificate: each of {len(shown)} new connections was served", shown and not others, others[:3])
    check("certificate: first by the old one, in the end by the new one", shown and shown[0] == old and shown[-1] == new and old in shown, "another order")
    check("certificate: the gateway counted one exchange", metric(gateway, "uma_gateway_tls_reloads_total") >= 1)


def checks(world, check):
    port, passwords = nginx(world)
    album, rpt = shared_album(world)
    admin = free_port()
    for name, text in (("client-secret", world.realm.secret), ("proxy-password", PASSWORD), ("admin-token", "old-token")):
        (world.folder / name).write_text(text)
        (world.folder / name).chmod(0o600)
    content = {"servers": [f"http://127.0.0.1:{port}"], "credentials": {"basic": {"username": USERNAME, "password": {"file": "proxy-password"}}}}
    plain, tls, keys = configuration(world, album, {"content": content}, admin={"address": f"127.0.0.1:{admin}", "token": {"file": "admin-token"}})
    keys = world.complete(keys)
    server = keys["authorization_servers"]["keycloak"]
    server["client"]["secret"] = {"file": "client-secret"}
    server["introspection"] = {"max_age": "200ms", "negative_max_age": "100ms"}
    gateway = world.gateway(keys)
    client_secret(world, gateway, plain, rpt, check)
    # Keycloak has the first secret again, and the gateway is to follow.
    written(world.folder / "client-secret", world.realm.secret)
    until("the first secret is in use again", lambda: call("GET", f"http://127.0.0.1:{plain}/album/a", {"Authorization": f"Bearer {rpt}"})[0] == 200)
    proxy_credential(world, gateway, plain, rpt, passwords, check)
    admin_token(gateway, admin, world.folder / "admin-token", check)
    certificate(world, gateway, tls, rpt, check)


main(checks)
