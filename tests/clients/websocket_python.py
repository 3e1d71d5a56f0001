"""WebSocket with a foreign client and a foreign server, both of the PyPI package `websockets` (websocket_python.txt), plain and over TLS.

The handshake is challenged like any request, and what it opens is between the two ends: messages, frames, pings, extension, subprotocol and close codes are
theirs. A tunnel ends with its RPT and with its share, and no other tunnel with it.
"""
import asyncio
import hashlib
import queue
import random
import secrets
import ssl
import threading
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
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
        self.handshakes, self.frames, self.ends = [], [], {}
        server = serve(self.talk, "127.0.0.1", 0, process_request=self.know, subprotocols=PROTOCOLS, max_size=4 * LARGE, ping_interval=None,
                       select_subprotocol=lambda _, offered: next((name for name in PROTOCOLS if name in offered), None))
        self.port = server.socket.getsockname()[1]
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
                return self.ended(socket.request.path).put(of_close(end))

    def ended(self, path):
        return self.ends.setdefault(path, queue.Queue())

    def end(self, path):
        """How the tunnel of that path ended here; waits for it."""
        try:
            return self.ended(path).get(timeout=PATIENCE)
        except queue.Empty:
            return "goes on"


def of_close(end):
    """Code and reason of the close frame that came; None where the connection broke off."""
    return end.rcvd and (end.rcvd.code, end.rcvd.reason)


def extensions(socket):
    return ", ".join(extension.name for extension in socket.protocol.extensions)


class Loop:
    """Carries the client's tunnels: one thread, since the package's client of threads loses data over TLS (Python 3.11 reads and writes one TLS socket at once)."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __call__(self, work):
        """Waits for a coroutine."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, PATIENCE), self.loop).result()


class Tunnel:
    """An open tunnel, the client's side."""

    def __init__(self, run, socket):
        self.run, self.socket, self.subprotocol = run, socket, socket.subprotocol

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self, *code_and_reason):
        self.run(self.socket.close(*code_and_reason))

    def break_off(self):
        """Ends the connection without a word."""
        self.run.loop.call_soon_threadsafe(self.socket.transport.abort)

    def send(self, message):
        self.run(self.socket.send(message))

    def says_back(self, message):
        """What comes back for a message, as one piece."""
        self.send(message)
        return self.run(self.socket.recv())

    def frames(self):
        """The frames of the next message."""
        async def all_of_them():
            return [frame async for frame in self.socket.recv_streaming()]

        return self.run(all_of_them())

    def ping(self, words):
        """Whether its answer comes."""
        async def answered():
            await (await self.socket.ping(words))
            return True

        return self.run(answered())

    def end(self):
        """How it ends when nobody speaks: `(code, reason)`, None where it breaks off, or a text where it goes on."""
        try:
            return f"goes on, {self.run(self.socket.recv())!r} came"
        except ConnectionClosed as end:
            return of_close(end)
        except TimeoutError:
            return "goes on"


class Client:
    """Opens tunnels to one listener."""

    def __init__(self, run, base, **options):
        self.run, self.base = run, base
        self.options = options | {"proxy": None, "ping_interval": None, "max_size": 4 * LARGE, "open_timeout": PATIENCE}

    def __call__(self, path, rpt=None, **more):
        async def opened():
            headers = {"Authorization": f"Bearer {rpt}"} if rpt else {}
            return await connect(self.base + path, additional_headers=headers, **self.options, **more)

        return Tunnel(self.run, self.run(opened()))

    def refused(self, path, rpt=None):
        """The answer where there is no tunnel, or None."""
        try:
            self(path, rpt).close()
        except InvalidStatus as refusal:
            return refusal.response
        return None


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
    run, trust = Loop(), ssl.create_default_context(cafile=str(world.certificates.ca))
    clients = {"plain": Client(run, f"ws://127.0.0.1:{plain}"), "over TLS": Client(run, f"wss://localhost:{tls}", ssl=trust)}
    for name, client in clients.items():
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
        check("the RPT for that ticket opens a tunnel", socket.says_back("hello") == "hello")
    seen = server.handshakes[-1]
    check("the server saw the gateway's credential", seen.get_all("Authorization") == [CREDENTIAL], sorted(seen))
    check("and nothing of the token", rpt not in str(seen) and rpt.split(".")[2] not in str(seen), sorted(seen))
    with client("/edit/chat", world.realm.rpt("alice", album, ["view", "edit"])) as socket:
        check("the wider RPT opens the other one", socket.says_back("hello") == "hello")

    server.handshakes.clear()
    refusal = client.refused("/without/chat", rpt)
    check("a route without `upgrade` gives no tunnel", refusal is not None and refusal.status_code != 401, refusal)
    offers = [name for seen in server.handshakes for name in ("Upgrade", "Sec-WebSocket-Key") if name in seen]
    check("the server gets an ordinary GET there", len(server.handshakes) == 1 and "Upgrade" not in offers, (len(server.handshakes), offers))
    return rpt


def messages(check, client, server, rpt):
    with client("/live/chat", rpt) as socket:
        check("text comes back", socket.says_back(TEXT) == TEXT)
        check("octets come back", socket.says_back(bytes(range(256))) == bytes(range(256)))
        came = socket.says_back(NOISE)
        check("a message of 1 MiB comes back", came == NOISE, f"{len(came)} octets, {hashlib.sha256(came).hexdigest()}")
        # The library ends a message in pieces by an empty frame, and so does its server, which saw the first one.
        socket.send(iter(["one ", "two ", "three"]))
        came = socket.frames()
        check("frames arrive as they were sent", server.frames[-1] == ["one ", "two ", "three", ""], server.frames[-1])
        check("and come back so", came == ["one ", "two ", "three", "", ""], came)
        socket.send(iter([b"\0" * 70_000, b"\xff" * 10]))
        check("octets in frames arrive so, too", b"".join(socket.frames()) == b"\0" * 70_000 + b"\xff" * 10)
        check("the client's ping is answered", socket.ping("to the server"))
        check.equal("the server's ping is answered", socket.says_back("ping me"), "came back")
        check.equal("both ends agreed on permessage-deflate", (extensions(socket.socket), socket.says_back("extensions")), ("permessage-deflate",) * 2)
        check.equal("no subprotocol where none is offered", socket.subprotocol, None)
    with client("/live/chat", rpt, compression=None, subprotocols=["beach.v1", "beach.v2", "beach.v3"]) as socket:
        check.equal("no extension where none is offered", (extensions(socket.socket), socket.says_back("extensions")), ("", ""))
        check.equal("of several subprotocols the server's best", socket.subprotocol, "beach.v2")


def closes(check, client, server, rpt):
    path = own_path()
    client(path, rpt).close(4002, "the client leaves")
    check.equal("the client's close code reaches the server", server.end(path), (4002, "the client leaves"))
    socket = client("/live/chat", rpt)
    socket.send("leave")
    check.equal("the server's close code reaches the client", socket.end(), (4001, "the server leaves"))
    path = own_path()
    client(path, rpt).break_off()
    check.equal("a client that breaks off ends the server's side", server.end(path), None)


def ends_with_token(world, check, client, server, album):
    rpt, path, socket, said = opened(world, client, album)
    with socket:
        check("an RPT of four seconds opens a tunnel", said == "hello", said)
        came, now, end = socket.end(), time.time(), claims(rpt)["exp"]
        check("it is cut when the RPT ends, and not before", came is None and now >= end, f"{came}, {now - end:.2f} s after its end")
        check.equal("on the server's side, too", server.end(path), None)


def opened(world, client, album):
    """A tunnel by an RPT of four seconds, and what it said back. With a new RPT where the machine took so long that the first was over by then."""
    for _ in range(5):
        rpt, path = world.realm.rpt("bob", album, ["view"], "short-app"), own_path()
        try:
            socket = client(path, rpt)
            return rpt, path, socket, socket.says_back("hello")
        except (ConnectionClosed, InvalidStatus):
            if time.time() < claims(rpt)["exp"]:
                raise
    raise RuntimeError("five RPTs of four seconds were over before their tunnels were open")


def withdrawn(world, check, client, server, album, share):
    rpts, path = {user: world.realm.rpt(user, album, ["view"]) for user in ("bob", "carol")}, own_path()
    with client(path, rpts["bob"]) as bobs, client("/live/chat", rpts["carol"]) as carols:
        check("two tunnels are open", bobs.says_back("hello") == carols.says_back("hello") == "hello")
        world.realm.withdraw(share)
        check.equal("Bob's is cut when his share is withdrawn", bobs.end(), None)
        check.equal("on the server's side, too", server.end(path), None)
        check.equal("Carol's goes on", carols.says_back("still here"), "still here")
    refusal = client.refused("/live/chat", rpts["bob"])
    check("Bob's RPT opens no other one", refusal and refusal.status_code in (401, 403), refusal)


def own_path():
    """A path that no other tunnel has, so that its end is known from others'."""
    return "/live/" + secrets.token_hex(6)


main(checks)
