"""Chromium without a window, as a person uses it: what is loaded, typed and pressed goes through its own debugging protocol. And small servers of this program."""
import http.server
import json
import threading
import urllib.request

from websockets.sync.client import connect

from world import PATIENCE, until

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-proxy-server", "--ignore-certificate-errors"]


class Local(http.server.BaseHTTPRequestHandler):
    """A server of this program."""

    protocol_version = "HTTP/1.1"

    def say(self, status, body, kind="text/plain", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body.encode())), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body.encode())

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()

    def log_message(self, *_):
        pass

    @classmethod
    def start(cls):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port


class Browser:
    """One Chromium with one page, and nothing remembered from another one."""

    def __init__(self, world, name):
        self.world, profile = world, world.folder / f"profile-{name}"
        self.process = world.start(f"chromium-{name}", ["chromium", *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"])
        # The file is there a moment before what it says.
        port = until("Chromium listens", lambda: ((profile / "DevToolsActivePort").read_text().split() or [""])[0])
        pages = until("Chromium has a page", lambda: [one for one in self._json(port) if one["type"] == "page"])
        self.socket, self.count = connect(pages[0]["webSocketDebuggerUrl"], max_size=None), 0

    @staticmethod
    def _json(port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
            return json.load(answer)

    def end(self):
        self.socket.close()
        self.world.stop(self.process)

    def _call(self, method, **parameters):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE))
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"Chromium: {method}: {answer['error']}")
                return answer["result"]

    def load(self, address):
        self._call("Page.navigate", url=address)

    def evaluate(self, expression):
        """The value of an expression in the page; nothing while a page is being left."""
        try:
            return self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)["result"].get("value")
        except RuntimeError:
            return None

    def until(self, what, expression):
        """Waits until an expression in the page is true, and returns it."""
        try:
            return until(what, lambda: self.evaluate(expression))
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the page says: {self.evaluate('location.origin + ` ` + document.body.innerText')!r}") from None

    def type(self, selector, text):
        self.until(f"there is {selector}", f"document.readyState === 'complete' && !!document.querySelector({json.dumps(selector)})")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus(); document.querySelector({json.dumps(selector)}).value = ''")
        self._call("Input.insertText", text=text)

    def press_enter(self):
        for kind in ("rawKeyDown", "char", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, **({"text": "\r"} if kind == "char" else {}))
