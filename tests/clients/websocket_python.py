"""WebSocket with a foreign client and a foreign server, both of the PyPI package `websockets` (websocket_python.txt), plain and over TLS.

The handshake is challenged like any request, and what it opens is between the two ends: messages, frames, pings, extension, subprotocol and close codes are
theirs. A tunnel ends with its RPT and with its share, and no other tunnel with it.
"""
import collections
import hashlib
import queue
import random
import secrets
import ssl
import threading
import time

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from world import CREDENTIAL, PATIENCE, claims, free_port, main, ticket_of

LARGE = 1 << 20
NOISE = random.Random(2).randbytes(LARGE)
TEXT = "what is said on the beach 🏖 " * 40_000
# Of the server, best first.
PROTOCOLS = ["beach.v2", "beach.v1"]


class Server:
    """Knows only the gateway. It says each message back frame by frame, and notes handshakes, messages and ends."""

    def __init__(self):
        self.handshakes, self.frames, self.ends = [], [], collections.defaultdict(queue.Queue)
        self.port = free_port()
        server = serve(self.talk, "127.0.0.1", self.port, process_request=self.know, subprotocols=PROTOCOLS, max_size=4 * LARGE, ping_interval=None,
                       select_subprotocol=lambda _, offered: next((name for name in PROTOCOLS if name in offered), None))
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def know(self, socket, request):
        self.handshakes.append(request.headers)
        return None if request.headers.get("Authorization") == CREDENTIAL else socket.respond(401, "it knows only the gateway\n")

    def talk(self, socket):
        while True:
            try:
                frames = list(socket.recv_streaming())
                self.frames.append(frames)
                if frames == ["ping me"]:
                    socket.send("came back" if socket.ping("to the client").wait(PATIENCE) else "was lost")
                elif frames == ["leave"]:
                    socket.close(4001, "the server leaves")
                elif frames == ["extensions"]:
                    socket.send(extensions(socket))
                else:
                    socket.send(frames[0] if len(frames) == 1 else frames)
            except ConnectionClosed as end:
                return self.ends[socket.request.path].put(of_close(end))

    def end(self, path):
        """How the tunnel of that path ended here; waits for it."""
        return self.ends[path].get(timeout=PATIENCE)


def of_close(end):
    """Code and reason of the close frame that came; None where the connection broke off."""
    return end.rcvd and (end.rcvd.code, end.rcvd.reason)


def extensions(socket):
    return ", ".join(extension.name for extension in socket.protocol.extensions)


class Client:
    """Opens tunnels to one listener."""

    def __init__(self, base, **options):
        self.base, self.options = base, options | {"legacy": True, "proxy": None, "ping_interval": None, "max_size": 4 * LARGE, "open_timeout": PATIENCE}

    def __call__(self, path, rpt=None, **more):
        headers = {"Authorization": f"Bearer {rpt}"} if rpt else {}
        return connect(self.base + path, additional_headers=headers, **self.options, **more)

    def refused(self, path, rpt=None):
        """The answer where there is no tunnel, or None."""
        try:
            self(path, rpt).close()
        except InvalidStatus as refusal:
            return refusal.response
        return None


def says_back(socket, message):
    """What comes back for a message, as one piece."""
    socket.send(message)
    return socket.recv(timeout=PATIENCE)


def ended(socket):
    """How a tunnel in which nobody speaks ends: `(code, reason)`, None where it broke off, or a text where it goes on."""
    try:
        return f"goes on, {socket.recv(timeout=PATIENCE)!r} came"
    except ConnectionClosed as end:
        return of_close(end)
    except TimeoutError:
        return "goes on"


def checks(world, check):
    server, album = Server(), world.realm.album()
    shares = {user: world.realm.share(album, user, scopes) for user, scopes in [("bob", ["view"]), ("carol", ["view"]), ("alice", ["view", "edit"])]}
    plain, tls = free_port(), free_port()
    live = world.album_route("/live/**", album, upgrade=["websocket"])
    world.gateway({
        "listeners": [world.listener(plain), world.listener(tls, tls=True)],
        "authorization_servers": {"keycloak": world.authorization_server(introspection={"max_age": "1s"})},
        "upstreams": {"content": world.upstream(f"http://127.0.0.1:{server.port}")},
        "routes": [
            live,
            live | {"path": "/edit/**", "protect": live["protect"] | {"scopes": {"GET": ["edit"]}}},
            world.album_route("/without/**", album),
        ],
    })
    trust = ssl.create_default_context(cafile=str(world.certificates.ca))
    for name, client in [("plain", Client(f"ws://127.0.0.1:{plain}")), ("over TLS", Client(f"wss://localhost:{tls}", ssl=trust))]:
        named = check.named(f"websocket {name}")
        rpt = handshakes(world, named, client, server, album)
        messages(named, client, server, rpt)
        closes(named, client, server, rpt)
        ends_with_token(world, named, client, server, album)
    withdrawn(world, check.named("websocket"), client, server, album, shares["bob"])


def handshakes(world, check, client, server, album):
    """All that is decided at the handshake; returns Bob's RPT."""
    server.handshakes.clear()
    refusal = client.refused("/live/chat")
    line = refusal and refusal.headers.get("WWW-Authenticate", "")
    check("a handshake without a token is 401 with a ticket", refusal and refusal.status_code == 401 and ticket_of(line), refusal)
    rpt = world.realm.trade(ticket_of(line), "bob")
    refusal = client.refused("/edit/chat", rpt)
    line = refusal and refusal.headers.get("WWW-Authenticate", "")
    short = refusal and refusal.status_code == 401 and 'error="insufficient_scope"' in line and ticket_of(line)
    check("with a scope too little it is 401 insufficient_scope with a ticket", short, refusal)
    check("the server heard of neither", not server.handshakes, server.handshakes)

    with client("/live/chat", rpt) as socket:
        check("the RPT for that ticket opens a tunnel", says_back(socket, "hello") == "hello")
    seen = server.handshakes[-1]
    check("the server saw the gateway's credential", seen.get_all("Authorization") == [CREDENTIAL], sorted(seen))
    check("and nothing of the token", rpt not in str(seen) and rpt.split(".")[2] not in str(seen), sorted(seen))
    with client("/edit/chat", world.realm.rpt("alice", album, ["view", "edit"])) as socket:
        check("the wider RPT opens the other one", says_back(socket, "hello") == "hello")

    server.handshakes.clear()
    refusal = client.refused("/without/chat", rpt)
    check("a route without `upgrade` gives no tunnel", refusal is not None and refusal.status_code != 401, refusal)
    offers = [name for seen in server.handshakes for name in ("Upgrade", "Sec-WebSocket-Key") if name in seen]
    check("the server gets an ordinary GET there", len(server.handshakes) == 1 and "Upgrade" not in offers, (len(server.handshakes), offers))
    return rpt


def messages(check, client, server, rpt):
    with client("/live/chat", rpt) as socket:
        check("text comes back", says_back(socket, TEXT) == TEXT)
        check("octets come back", says_back(socket, bytes(range(256))) == bytes(range(256)))
        came = says_back(socket, NOISE)
        check("a message of 1 MiB comes back", came == NOISE, f"{len(came)} octets, {hashlib.sha256(came).hexdigest()}")
        # The library ends a message in pieces by an empty frame, and so does its server, which saw the first one.
        socket.send(iter(["one ", "two ", "three"]))
        came = list(socket.recv_streaming())
        check("frames arrive as they were sent", server.frames[-1] == ["one ", "two ", "three", ""], server.frames[-1])
        check("and come back so", came == ["one ", "two ", "three", "", ""], came)
        socket.send(iter([b"\0" * 70_000, b"\xff" * 10]))
        check("octets in frames arrive so, too", b"".join(socket.recv_streaming()) == b"\0" * 70_000 + b"\xff" * 10)
        check("the client's ping is answered", socket.ping("to the server").wait(PATIENCE))
        check.equal("the server's ping is answered", says_back(socket, "ping me"), "came back")
        check.equal("both ends agreed on permessage-deflate", (extensions(socket), says_back(socket, "extensions")), ("permessage-deflate",) * 2)
        check.equal("no subprotocol where none is offered", socket.subprotocol, None)
    with client("/live/chat", rpt, compression=None, subprotocols=["beach.v1", "beach.v2", "beach.v3"]) as socket:
        check.equal("no extension where none is offered", (extensions(socket), says_back(socket, "extensions")), ("", ""))
        check.equal("of several subprotocols the server's best", socket.subprotocol, "beach.v2")


def closes(check, client, server, rpt):
    path = own_path()
    client(path, rpt).close(4002, "the client leaves")
    check.equal("the client's close code reaches the server", server.end(path), (4002, "the client leaves"))
    socket = client("/live/chat", rpt)
    socket.send("leave")
    check.equal("the server's close code reaches the client", ended(socket), (4001, "the server leaves"))
    path = own_path()
    client(path, rpt).close_socket()
    check.equal("a client that breaks off ends the server's side", server.end(path), None)


def ends_with_token(world, check, client, server, album):
    rpt, path = world.realm.rpt("bob", album, ["view"], "short-app"), own_path()
    with client(path, rpt) as socket:
        check("an RPT of four seconds opens a tunnel", says_back(socket, "hello") == "hello")
        came, now, end = ended(socket), time.time(), claims(rpt)["exp"]
        check("it is cut when the RPT ends, and not before", came is None and now >= end, f"{came}, {now - end:.2f} s after its end")
        check.equal("on the server's side, too", server.end(path), None)


def withdrawn(world, check, client, server, album, share):
    rpts, path = {user: world.realm.rpt(user, album, ["view"]) for user in ("bob", "carol")}, own_path()
    with client(path, rpts["bob"]) as bobs, client("/live/chat", rpts["carol"]) as carols:
        check("two tunnels are open", says_back(bobs, "hello") == says_back(carols, "hello") == "hello")
        world.realm.withdraw(share)
        check.equal("Bob's is cut when his share is withdrawn", ended(bobs), None)
        check.equal("on the server's side, too", server.end(path), None)
        check.equal("Carol's goes on", says_back(carols, "still here"), "still here")
    refusal = client.refused("/live/chat", rpts["bob"])
    check("Bob's RPT opens no other one", refusal and refusal.status_code in (401, 403), refusal)


def own_path():
    """A path that no other tunnel has, so that its end is known from others'."""
    return "/live/" + secrets.token_hex(6)


main(checks)
