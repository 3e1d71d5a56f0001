"""The page of deploy/demo/spa in Chromium: a person opens a link that somebody gave him, signs in at Keycloak, and sees what was shared; or is told why not."""
import base64
import json
import subprocess

from browser import Browser, Local
from world import CREDENTIAL, ROOT, free_port, main, until

SPA = ROOT / "deploy/demo/spa"
KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
# One red pixel.
PICTURE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
HOSTILE = "<script>document.title = 'run'</script><b>bold</b>"


class Content(Local):
    """Knows only the gateway."""

    asked = []

    def do_GET(self):
        self.asked.append(str(self.headers))
        if self.headers.get("Authorization") != CREDENTIAL:
            return self.say(401, "")
        if self.path.endswith(".png"):
            self.send_response(200)
            for name, value in {"Content-Type": "image/png", "Content-Length": str(len(PICTURE))}.items():
                self.send_header(name, value)
            self.end_headers()
            return self.wfile.write(PICTURE)
        self.say(200, HOSTILE if self.path.endswith(".html") else f"content of {self.path}", "text/html")


class Elsewhere(Local):
    """A resource server of somebody else, who waits for a requesting party token."""

    asked = []

    def do_GET(self):
        self.asked.append(self.path)
        self.say(200, "caught", Access_Control_Allow_Origin="*", Access_Control_Allow_Headers="authorization")

    do_OPTIONS = do_GET


class Forwarder(Elsewhere):
    """A resource server that the page knows, and that sends it on to somebody else's."""

    asked, to = [], ""

    def do_GET(self):
        self.send_response(302)
        for name, value in {"Location": self.to, "Content-Length": "0", "Access-Control-Allow-Origin": "*"}.items():
            self.send_header(name, value)
        self.end_headers()


class Site(Local):
    """Gives the page's files, as any server of static files does, with a config.json of this run."""

    servers, known = {}, []

    def do_GET(self):
        name = self.path.split("?")[0].removeprefix("/") or "index.html"
        if name == "config.json":
            return self.say(200, json.dumps({"authorization_servers": self.servers, "resource_servers": self.known}), "application/json")
        file = SPA / name
        if file.parent != SPA or not file.is_file():
            return self.say(404, "")
        self.say(200, file.read_text(), KINDS[file.suffix])


class Stranger(Site):
    """The same page, which trusts nobody."""


class Page:
    """The page in a browser of its own."""

    def __init__(self, world, name, origin):
        self.browser, self.origin = Browser(world, name), origin
        self.browser.load(origin + "/")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.end()

    def open(self, link):
        self.browser.type("#link", link)
        self.browser.press_enter()

    def sign_in(self, user):
        self.browser.type("#username", user)
        self.browser.type("#password", user)
        self.browser.press_enter()

    def word(self):
        return self.browser.until("the page says something", "document.getElementById('word')?.textContent")

    def shown(self):
        return self.browser.until("the page shows something", "!document.getElementById('content')?.hidden && document.getElementById('content')?.textContent")


def checks(world, check):
    check.equal("Chromium is there", subprocess.run(["chromium", "--version"], capture_output=True, check=False).returncode, 0)
    Site.servers, content, album = {world.realm.issuer: "photo-page"}, Content.start(), world.realm.album()
    origin, stranger = (f"http://127.0.0.1:{site.start()}" for site in (Site, Stranger))
    Stranger.servers = {}
    world.realm.share(album, "bob", ["view"])
    port = free_port()
    gateway = world.gateway({
        "listeners": [world.listener(port)],
        "upstreams": {"content": world.upstream(f"http://127.0.0.1:{content}")},
        "routes": [world.album_route("/album/**", album, cors={"origins": [origin, stranger]})],
    })
    elsewhere, forwarder = (f"http://127.0.0.1:{server.start()}" for server in (Elsewhere, Forwarder))
    Site.known, Forwarder.to = [f"http://127.0.0.1:{port}", forwarder], f"{elsewhere}/album"
    link = f"http://127.0.0.1:{port}/album"
    with Page(world, "bob", origin) as page:
        as_bob(check.named("spa: Bob"), page, link)
        page.open(f"{elsewhere}/album/beach.txt")
        check.equal("spa: a link to another server is refused", page.word(), f"This page opens links of {', '.join(Site.known)} only: {elsewhere} was not asked.")
    with Page(world, "forwarded", origin) as page:
        page.open(f"{forwarder}/beach.txt")
        check.equal("spa: nor is one followed there", page.word(), "The link leads on to another address, and this page follows none.")
    check.equal("spa: the other server has not been asked", Elsewhere.asked, [])
    with Page(world, "carol", origin) as page:
        page.open(f"{link}/beach.txt")
        page.sign_in("carol")
        # Keycloak asks the owner by itself where a ticket does not lead to a permission.
        wanted = "The owner has been asked to share this with you. Open the link again later."
        check.equal("spa: Carol is told that the owner has been asked", page.word(), wanted)
    with Page(world, "stranger", stranger) as page:
        page.open(f"{link}/beach.txt")
        check.equal("spa: no visitor is sent to a server that the page does not know", page.word(), "The link's authorization server is none that this page knows.")
        check.equal("spa: nor has he left", page.browser.evaluate("location.origin"), stranger)
    granted = [line for line in lines(gateway) if line["http.response.status_code"] == 200]
    check("spa: the gateway's record has the requests that passed", len(granted) == 3, granted)
    log, asked = gateway.log.read_text(), str(Content.asked)
    check("spa: neither its log nor the content server has a token", "eyJ" not in log and "eyJ" not in asked and len(Content.asked) == 3, len(Content.asked))


def as_bob(check, page, link):
    browser = page.browser
    page.open(f"{link}/beach.txt")
    browser.until("he is at Keycloak", "location.href.includes('/protocol/openid-connect/auth') && !!document.querySelector('#username')")
    check("he is asked by code with PKCE", browser.evaluate("/code_challenge_method=S256/.test(location.href) && /response_type=code/.test(location.href)"))
    page.sign_in("bob")
    check.equal("he sees what was shared", page.shown(), "content of /album/beach.txt")
    steps = browser.evaluate("[...document.querySelectorAll('#steps li')].map(one => one.textContent)")
    check("and by which steps", steps[0] == "Signed in" and steps[-1] == "Opened", steps)
    check.equal("nothing is left in the address", browser.evaluate("location.href"), page.origin + "/")
    check.equal("and nothing in the page's stores", browser.evaluate("sessionStorage.length + localStorage.length + document.cookie.length"), 0)
    page.open(f"{link}/red.png")
    size = browser.until("a picture is shown", "document.querySelector('#content img')?.naturalWidth")
    check.equal("a picture is shown as one", size, 1)
    page.open(f"{link}/evil.html")
    check.equal("markup is shown and not run", (page.shown(), browser.evaluate("document.title")), (HOSTILE, "Open a shared link"))
    browser.load(f"{page.origin}/?state=of-somebody-else&code=stolen")
    browser.until("the page is there", "document.readyState === 'complete' && location.search === ''")
    check.equal("a code that he did not ask for does nothing", browser.evaluate("document.querySelectorAll('#steps li').length"), 0)


def lines(gateway):
    """The access log, when all that is asked for here has come."""
    def read():
        found = [json.loads(line) for line in gateway.lines() if '"access"' in line]
        return found if sum(line["http.response.status_code"] == 200 for line in found) >= 3 else None
    return until("the log is written", read)


main(checks)
