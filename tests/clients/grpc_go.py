"""gRPC with Google's own library for Go, as the client and as the content server (`grpc/`): HTTP/2 without TLS all the way, and with TLS all the way.

What the gateway refuses is a status with the ticket beside it. What it lets through is each kind of call, with metadata, trailers, errors and the client's
own ends; the program checks these itself, this file counts them. It is built here, from modules that `grpc/go.sum` names by their digest.
"""
import json
import os
import pathlib
import subprocess
import time

from world import CREDENTIAL, PATIENCE, free_port, listens, main, ticket_of, until

SOURCE = pathlib.Path(__file__).resolve().parent / "grpc"
# For a build whose modules have to be fetched first.
BUILD_PATIENCE = 600


class Peer:
    """The program of grpc/."""

    def __init__(self, world, check):
        self.world, self.binary = world, world.folder / "grpc-peer"
        fetched()
        go("build", "-o", self.binary, ".")
        check("go vet has nothing to say", not (said := go("vet", "./...", allowed=(0, 1))), said)
        check.equal("the sources are formatted", run(["gofmt", "-l", "."], BUILD_PATIENCE, cwd=SOURCE), "")

    def serve(self):
        """Starts the server: its ports without and with TLS."""
        plain, tls = free_port(), free_port()
        certificate, key = self.world.certificates.pair("grpc-server")
        command = [self.binary, "server", f"127.0.0.1:{plain}", f"127.0.0.1:{tls}", certificate, key]
        self.world.start("grpc-server", command, {"CREDENTIAL": CREDENTIAL})
        until("the gRPC server listens", lambda: listens(plain) and listens(tls))
        return plain, tls

    def call(self, port, ca, method, rpt=""):
        """One unary call: code, message, header and trailer as they came."""
        return Answer(**json.loads(self.client("call", port, ca, method, rpt)))

    def walk(self, check, port, ca, service, rpt):
        """All kinds of calls; what the program checks is counted."""
        for line in self.client("walk", port, ca, service, rpt).splitlines():
            check(**json.loads(line))

    def client(self, mode, port, ca, name, rpt):
        # A name, so that the certificate is held against it.
        return run([self.binary, mode, f"localhost:{port}", ca, name], 4 * PATIENCE, env=os.environ | {"RPT": rpt})


class Answer:
    def __init__(self, code, message, header, trailer):
        self.code, self.message = code, message
        # A refusal is one head: the library calls all of its fields trailers.
        self.fields = {name: values[-1] for name, values in ((header or {}) | (trailer or {})).items()}
        self.challenge = self.fields.get("www-authenticate", "")

    def __str__(self):
        return f"{self.code} {self.message!r} {self.fields}"


def go(*arguments, allowed=(0,)):
    return run(["go", *arguments], BUILD_PATIENCE, allowed, cwd=SOURCE)


def fetched():
    """Fetches the modules; what they come from may be out of reach for a moment."""
    for left in (2, 1, 0):
        try:
            return go("mod", "download")
        except RuntimeError:
            if not left:
                raise
            time.sleep(5)


def run(command, patience, allowed=(0,), **options):
    """What it printed; where it fails, that and its errors are the reason."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=patience, **options)
    if done.returncode not in allowed:
        raise RuntimeError(f"{command[0]} {command[1]} ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout + (done.stderr if done.returncode else "")


def checks(world, check):
    peer = Peer(world, check)
    plain_server, tls_server = peer.serve()
    album = world.realm.album()
    world.realm.share(album, "bob", ["view"])
    world.realm.share(album, "alice", ["view", "edit"])
    plain, tls = free_port(), free_port()

    # Every gRPC call is a POST: what a method needs is told by its path.
    def needs(path, upstream, scope, method="POST"):
        return {"path": path, "upstream": upstream, "protect": {"resource": {"id": album["id"]}, "scopes": {method: [scope]}}}

    world.gateway({
        "listeners": [world.listener(plain, h2c=True), world.listener(tls, tls=True)],
        "upstreams": {
            "plain": world.upstream(f"http://127.0.0.1:{plain_server}", protocol="h2"),
            "secure": world.upstream(f"https://localhost:{tls_server}", protocol="h2", tls={"ca": str(world.certificates.ca)}),
            "dead": world.upstream(f"http://127.0.0.1:{free_port()}", protocol="h2"),
        },
        "routes": [
            *(needs(f"/photoz.{name}/{path}", name.lower(), scope) for name in ("Plain", "Secure") for path, scope in (("**", "view"), ("Store", "edit"))),
            needs("/photoz.Dead/**", "dead", "view"),
            needs("/photoz.Get/**", "plain", "view", "GET"),
        ],
    })
    answer = peer.call(plain_server, "-", "photoz.Plain/Echo")
    check("the server itself refuses who has no credential", answer.code == "Unauthenticated" and answer.message == "it knows only the gateway", answer)
    for way, port, ca, service in (("h2c", plain, "-", "photoz.Plain"), ("TLS", tls, world.certificates.ca, "photoz.Secure")):
        def named(what, good, came="", way=way):
            return check(f"gRPC {way}: {what}", good, came)
        rpt = refusals(world, named, peer, (port, ca), service)
        peer.walk(named, port, ca, service, rpt)
    others(check, peer, plain, rpt)
    server = world.complete({})["authorization_servers"]["keycloak"] | {"issuer": f"http://127.0.0.1:{free_port()}/realms/gone", "on_unreachable": 403}
    lonely = free_port()
    # It is never ready.
    world.gateway({
        "listeners": [world.listener(lonely, h2c=True)],
        "authorization_servers": {"gone": server},
        "upstreams": {"plain": world.upstream(f"http://127.0.0.1:{plain_server}", protocol="h2")},
        "routes": [needs("/photoz.Plain/**", "plain", "view")],
    }, "lonely", ready=False)
    until("the gateway listens", lambda: listens(lonely))
    refused(check, peer, lonely, rpt, "photoz.Plain", "PermissionDenied", "the authorization server is not there and `on_unreachable` is 403")


def refusals(world, check, peer, way, service):
    """From no token to Bob's RPT, which is returned."""
    answer = peer.call(*way, f"{service}/Echo")
    ticket = ticket_of(answer.challenge)
    check("UNAUTHENTICATED with a ticket, without an RPT", answer.code == "Unauthenticated" and ticket and "error=" not in answer.challenge, answer)
    check("the refusal is the gateway's", answer.message != "it knows only the gateway" and answer.fields["content-type"] == "application/grpc", answer)
    rpt = world.realm.trade(ticket, "bob")
    answer = peer.call(*way, f"{service}/Echo", rpt)
    check("OK with the RPT for that ticket", answer.code == "OK", answer)
    answer = peer.call(*way, f"{service}/Echo", rpt + "x")
    check("UNAUTHENTICATED invalid_token for a token that is none", answer.code == "Unauthenticated" and 'error="invalid_token"' in answer.challenge, answer)
    answer = peer.call(*way, f"{service}/Store", rpt)
    ticket = ticket_of(answer.challenge)
    insufficient = answer.code == "Unauthenticated" and 'error="insufficient_scope"' in answer.challenge and ticket
    check("UNAUTHENTICATED insufficient_scope with a ticket, for a scope too little", insufficient, answer)
    answer = peer.call(*way, f"{service}/Store", world.realm.trade(ticket, "alice"))
    check("OK with the RPT for that ticket, of who may", answer.code == "OK", answer)
    return rpt


def others(check, peer, port, rpt):
    """The gateway's other refusals, as src/response/grpc.rs has them."""
    for service, code, why in (
        ("photoz.Nobody", "Unimplemented", "there is no route"),
        ("photoz.Get", "Unimplemented", "the route has no POST"),
        ("photoz.Dead", "Unavailable", "the content server is not there"),
    ):
        refused(check, peer, port, rpt, service, code, why)


def refused(check, peer, port, rpt, service, code, why):
    answer = peer.call(port, "-", f"{service}/Echo", rpt)
    # Google's library makes such codes of HTTP statuses as well, and for services that its server does not know; it says so.
    own = answer.message and "HTTP status" not in answer.message and "unknown" not in answer.message
    check(f"gRPC: {code} where {why}", answer.code == code and own, answer)


main(checks)
