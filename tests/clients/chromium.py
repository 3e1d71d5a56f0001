"""A browser: Chromium without a window loads pages of another origin, whose JavaScript asks the gateway by `fetch`, over HTTP/1.1 and over TLS with HTTP/2.

The page of an origin that the route names reads the challenge, has its ticket traded by its own server, and reads the content. The page of one that it does not
name reads nothing, whatever token it has. Each page sends what it saw to the server that it came from, which is this program.
"""
import contextlib
import json
import queue
import subprocess
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from browser import FLAGS, Local
from world import CREDENTIAL, PATIENCE, free_port, main, ticket_of, until

PAGE = """<!doctype html><title>album</title><script type="module">
const given = %s;
const look = async (path, options = {}) => {
  try {
    const answer = await fetch(given.gateway + path, options);
    const header = name => answer.headers.get(name);
    return {type: answer.type, status: answer.status, challenge: header("WWW-Authenticate"), kind: header("Content-Type"), text: await answer.text()};
  } catch (error) {
    return {error: String(error)};
  }
};
const bearer = rpt => ({headers: {Authorization: `Bearer ${rpt}`}});
const talk = path => new Promise(done => {
  const socket = new WebSocket(given.gateway.replace("http", "ws") + path, ["beach.v1"]), heard = [];
  socket.onopen = () => socket.send("hello");
  socket.onmessage = message => { heard.push(message.data); socket.close(4002, "enough"); };
  socket.onclose = end => done({heard, code: end.code, protocol: socket.protocol});
});
const walks = {
  named: async seen => {
    seen.refused = await look(given.path);
    const ticket = /\\bticket="([^"]+)"/.exec(seen.refused.challenge)[1];
    const rpt = await (await fetch("/trade", {method: "POST", body: ticket})).text();
    seen.opened = await look(given.path, bearer(rpt));
    seen.short = await look(given.path, {method: "PUT", body: "new", ...bearer(rpt)});
    seen.stored = await look(given.path, {method: "PUT", body: "new", ...bearer(given.rpt)});
    seen.open = await look(given.open);
    seen.cookies = await look(given.open, {credentials: "include"});
    seen.talk = await talk(given.talk);
    seen.silence = await talk(given.open);
  },
  other: async seen => {
    seen.refused = await look(given.path);
    seen.opened = await look(given.path, bearer(given.rpt));
    seen.stored = await look(given.path, {method: "PUT", body: "new", ...bearer(given.rpt)});
    seen.open = await look(given.open);
    seen.opaque = await look(given.open, {mode: "no-cors"});
    seen.opaquely_refused = await look(given.path, {mode: "no-cors", ...bearer(given.rpt)});
  },
};
const seen = {};
try { await walks[given.walk](seen); } catch (error) { seen.broke = String(error); }
await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
</script>"""


class Content(Local):
    """Knows only the gateway, notes what it was asked, and would let any page read it."""

    asked = []

    def do_GET(self):
        self.asked.append((self.command, self.path, str(self.headers)))
        self.body()
        known = self.headers.get("Authorization") == CREDENTIAL
        status = 401 if not known else 201 if self.command == "PUT" else 200
        self.say(status, f"content of {self.path}", Access_Control_Allow_Origin="*", Access_Control_Allow_Headers="*, Authorization")

    do_PUT = do_OPTIONS = do_GET


class Site(Local):
    """Where pages come from, and what they tell."""

    page, seen, trade = "", queue.Queue(), None

    def do_GET(self):
        found = self.path == "/page"
        self.say(200 if found else 404, Site.page if found else "", "text/html")

    def do_POST(self):
        told = self.body()
        if self.path == "/trade":
            return self.say(200, Site.trade(told))
        Site.seen.put(json.loads(told))
        self.say(200, "")


class Browser:
    """Loads a page in a new Chromium, and returns what it told."""

    def __init__(self, world):
        self.world, self.count = world, 0

    def __call__(self, origin, **given):
        self.count += 1
        Site.page = PAGE % json.dumps(given)
        profile = self.world.folder / f"profile-{self.count}"
        process = self.world.start("chromium", ["chromium", *FLAGS, f"--user-data-dir={profile}", f"{origin}/page"])
        try:
            return Site.seen.get(timeout=2 * PATIENCE)
        finally:
            self.world.stop(process)


def access(gateway, path):
    """The access log of a path: `(method, status, version)` of each request."""
    lines = [json.loads(line) for line in gateway.lines() if '"access"' in line]
    return [(line["http.request.method"], line["http.response.status_code"], line["network.protocol.version"]) for line in lines if line["url.path"] == path]


def checks(world, check):
    check.equal("Chromium is there", subprocess.run(["chromium", "--version"], capture_output=True, check=False).returncode, 0)
    content, talks, album = Content.start(), talker(), world.realm.album()
    named, other = (f"http://127.0.0.1:{Site.start()}" for _ in range(2))
    world.realm.share(album, "bob", ["view"])
    world.realm.share(album, "alice", ["view", "edit"])
    plain, tls = free_port(), free_port()
    cors = {"cors": {"origins": [named]}}
    gateway = world.gateway({
        "listeners": [world.listener(plain), world.listener(tls, tls=True)],
        "upstreams": {"content": world.upstream(f"http://127.0.0.1:{content}"), "talks": world.upstream(f"http://127.0.0.1:{talks}")},
        "routes": [
            world.album_route("/album/**", album, **cors),
            {"path": "/open/**", "upstream": "content", "public": True, **cors},
            {"path": "/talk/**", "upstream": "talks", "public": True, "upgrade": ["websocket"]},
        ],
    })
    rpts, both = [], world.realm.rpt("alice", album, ["view", "edit"])

    def trade(ticket):
        rpts.append(world.realm.trade(ticket, "bob"))
        return rpts[-1]

    Site.trade, browser = trade, Browser(world)
    for name, base, version in [("h1", f"http://127.0.0.1:{plain}", "1.1"), ("h2 over TLS", f"https://localhost:{tls}", "2")]:
        path, open_path, talk = f"/album/named-{version}.txt", f"/open/{version}.txt", f"/talk/{version}"
        seen = browser(named, walk="named", gateway=base, path=path, open=open_path, talk=talk, rpt=both)
        of_named(check.named(f"chromium {name}, page of the named origin"), seen, gateway, path, open_path, version, world.realm.issuer)
        of_talk(check.named(f"chromium {name}"), seen, gateway, talk, version)
        path = f"/album/other-{version}.txt"
        seen = browser(other, walk="other", gateway=base, path=path, open=open_path, rpt=both)
        of_other(check.named(f"chromium {name}, page of another origin"), seen, gateway, path, version)
    log, asked = gateway.log.read_text(), str(Content.asked)
    parts = [part for rpt in [*rpts, both] for part in rpt.split(".")[1:]]
    check("chromium: nothing of an RPT is in the log", len(rpts) == 2 and not [part for part in parts if part in log], f"{len(rpts)} RPTs")
    check("chromium: nor at the content server", len(rpts) == 2 and not [part for part in parts if part in asked], f"{len(rpts)} RPTs")


def of_named(check, seen, gateway, path, open_path, version, issuer):
    refused = seen.get("refused", {})
    line = refused.get("challenge") or ""
    check("it reads 401 and the challenge with as_uri and ticket", refused.get("status") == 401 and f'as_uri="{issuer}"' in line and ticket_of(line), seen)
    check("and the problem document", refused.get("kind") == "application/problem+json" and json.loads(refused["text"])["status"] == 401, refused)
    opened = seen.get("opened", {})
    check("with the RPT for that ticket it reads the content", (opened.get("status"), opened.get("text")) == (200, f"content of {path}"), seen)
    line = seen.get("short", {}).get("challenge") or ""
    short = seen.get("short", {}).get("status") == 401 and 'error="insufficient_scope"' in line and ticket_of(line)
    check("PUT with a scope too little: it reads insufficient_scope and a ticket", short, seen.get("short"))
    check.equal("PUT with the scope arrives", seen.get("stored", {}).get("status"), 201)
    check.equal("it reads a public route", seen.get("open", {}).get("text"), f"content of {open_path}")
    check.equal("but not with cookies, which the route does not name", seen.get("cookies"), {"error": "TypeError: Failed to fetch"})
    wanted = [(method, status, version) for method, status in [("GET", 401), ("OPTIONS", 204), ("GET", 200), ("PUT", 401), ("PUT", 201)]]
    came = until("the log is written", lambda: len(lines := access(gateway, path)) >= len(wanted) and lines)
    check.equal("a preflight came before Authorization, and it was kept for what followed", came, wanted)
    asked = [(method, CREDENTIAL in headers) for method, where, headers in Content.asked if where == path]
    check.equal("the content server got GET and PUT, from the gateway", asked, [("GET", True), ("PUT", True)])


def of_other(check, seen, gateway, path, version):
    nothing = {"error": "TypeError: Failed to fetch"}
    check.equal("of a challenge it reads nothing, not even the status", seen.get("refused"), nothing)
    check.equal("of the content it reads nothing, even with an RPT", seen.get("opened"), nothing)
    check.equal("and nothing of PUT", seen.get("stored"), nothing)
    check.equal("of a public route with `cors` it reads nothing, although the content server would let it", seen.get("open"), nothing)
    opaque = {"type": "opaque", "status": 0, "challenge": None, "kind": None, "text": ""}
    check.equal("an opaque answer tells nothing", seen.get("opaque"), opaque)
    check.equal("nor does an opaque refusal, to which no token goes", seen.get("opaquely_refused"), opaque)
    # What came: the first GET, preflights that allow nothing, and the opaque GET, which leaves Authorization out.
    came = until("the log is written", lambda: len(lines := access(gateway, path)) >= 4 and lines)
    check.equal("neither token nor PUT were sent", came, [("GET", 401, version), ("OPTIONS", 204, version), ("OPTIONS", 204, version), ("GET", 401, version)])
    check.equal("the content server got nothing", [method for method, where, _ in Content.asked if where == path], [])


def of_talk(check, seen, gateway, path, version):
    # Over HTTP/2 it comes by extended CONNECT (RFC 8441), on the connection that the fetches used: Chromium does so where one is open and the server allows it.
    check.equal("WebSocket goes through", seen.get("talk"), {"heard": ["you said hello"], "code": 4002, "protocol": "beach.v1"})
    check.equal("but not on a route without `upgrade`", seen.get("silence"), {"heard": [], "code": 1006, "protocol": ""})
    came = until("the log is written", lambda: access(gateway, path))
    check.equal(f"it came over HTTP/{version}", [version for _, _, version in came], [version])


def talker():
    """A WebSocket server that says back what it hears; its port."""
    def talk(socket):
        with contextlib.suppress(ConnectionClosed):
            while True:
                socket.send(f"you said {socket.recv()}")

    server = serve(talk, "127.0.0.1", 0, subprotocols=["beach.v1"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.socket.getsockname()[1]


main(checks)
