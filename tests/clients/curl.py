"""curl as the client, in each way that it can come: HTTP/1.1 and HTTP/2, plain and over TLS. The content server is Python's own.

Each way walks the same list: the challenge with its ticket, also to an upload that is under way, the content with the RPT for that ticket, a scope too
little, HEAD, Range, an upload that waits for `100 Continue`, and a gzip body that arrives octet for octet.
"""
import gzip
import hashlib
import http.server
import json
import random
import subprocess
import threading

from world import CREDENTIAL, PATIENCE, free_port, main, ticket_of

TEXT = b"".join(b"line %d of the beach\n" % number for number in range(4000))
PACKED = gzip.compress(TEXT, mtime=0)
UPLOAD = random.Random(1).randbytes(3_000_000)


class Content(http.server.BaseHTTPRequestHandler):
    """Knows only the gateway, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    seen = []

    def do_GET(self):
        self.seen.append((self.command, self.headers))
        if self.headers.get("Authorization") != CREDENTIAL:
            return self.say(401, b"it knows only the gateway\n")
        if self.path.endswith(".gz") and "gzip" in self.headers.get("Accept-Encoding", ""):
            return self.say(200, PACKED, {"Content-Encoding": "gzip"})
        if wanted := self.headers.get("Range"):
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            return self.say(206, TEXT[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(TEXT)}"})
        return self.say(200, TEXT, {"Accept-Ranges": "bytes"})

    do_HEAD = do_GET

    def do_PUT(self):
        self.seen.append((self.command, self.headers))
        if length := self.headers.get("Content-Length"):
            body = self.rfile.read(int(length))
        else:
            body = b"".join(self.chunks())
        self.say(201, hashlib.sha256(body).hexdigest().encode())

    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def say(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Curl:
    """curl with the switches of one way."""

    def __init__(self, world, base, switches):
        self.base, self.switches, self.out = base, switches, world.folder / "curl.out"

    def __call__(self, path, *arguments, rpt=None):
        self.out.write_bytes(b"")
        bearer = ["-H", f"Authorization: Bearer {rpt}"] if rpt else []
        command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(PATIENCE), *self.switches, *bearer, "-o", self.out,
                   "-w", "%{json}\n%{header_json}", *arguments, self.base + path]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        return Answer(done, self.out.read_bytes())


class Answer:
    def __init__(self, done, body):
        facts, _, headers = done.stdout.partition("\n")
        facts = json.loads(facts or "{}")
        self.exit, self.error, self.body = done.returncode, done.stderr.strip(), body
        self.status, self.version, self.sent = facts.get("http_code"), facts.get("http_version"), facts.get("size_upload")
        try:
            self.headers = {name.lower(): values[-1] for name, values in json.loads(headers).items()}
        except json.JSONDecodeError:
            self.headers = {}

    def __str__(self):
        return f"exit {self.exit} {self.error}, {self.status} over HTTP/{self.version}, {self.headers}, {len(self.body)} octets: {self.body[:200]!r}"


def checks(world, check):
    content = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Content)
    threading.Thread(target=content.serve_forever, daemon=True).start()
    album = world.realm.album()
    world.realm.share(album, "bob", ["view"])
    world.realm.share(album, "alice", ["view", "edit"])
    plain, tls = free_port(), free_port()
    world.gateway({
        "listeners": [world.listener(plain, h2c=True), world.listener(tls, tls=True)],
        "upstreams": {"content": world.upstream(f"http://127.0.0.1:{content.server_port}")},
        "routes": [world.album_route("/album/**", album)],
    })
    both = world.realm.rpt("alice", album, ["view", "edit"])
    trust = ["--cacert", world.certificates.ca]
    for name, base, switches, version in [
        ("h1", f"http://127.0.0.1:{plain}", ["--http1.1"], "1.1"),
        ("h2c", f"http://127.0.0.1:{plain}", ["--http2-prior-knowledge"], "2"),
        ("h1 over TLS", f"https://localhost:{tls}", ["--http1.1", *trust], "1.1"),
        ("h2 by ALPN", f"https://localhost:{tls}", ["--http2", *trust], "2"),
    ]:
        walk(world, lambda what, *rest, name=name: check(f"curl {name}: {what}", *rest), Curl(world, base, switches), version, both)


def walk(world, check, curl, version, both):
    Content.seen.clear()
    answer = curl("/album/beach.txt")
    ticket = ticket_of(answer.headers.get("www-authenticate"))
    check(f"401 with a ticket, over HTTP/{version}", answer.status == 401 and ticket and answer.version == version, answer)
    check("the refusal is a problem document", answer.headers.get("content-type") == "application/problem+json" and json.loads(answer.body)["status"] == 401, answer)
    file = world.folder / "upload"
    file.write_bytes(UPLOAD)
    if version == "1.1":
        answer = curl("/album/new.bin", "-T", file, "-H", "Expect: 100-continue", "--expect100-timeout", 2 * PATIENCE)
        check("an upload without a token is refused before it is sent", answer.status == 401 and answer.sent == 0, f"{answer.sent} sent, {answer}")
    # A stream that is reset behind the whole 401 (RFC 9113, 8.1) takes the answer from curl 7.88 (exit 92).
    answer = curl("/album/new.bin", "-T", file, "-H", "Expect:")
    refused = answer.exit == 0 and answer.status == 401 and ticket_of(answer.headers.get("www-authenticate")) and json.loads(answer.body)["status"] == 401
    check("an upload that is under way is refused with a ticket", refused, f"{answer.sent} sent, {answer}")
    check("nothing of that reached the content server", not Content.seen, Content.seen)

    rpt = world.realm.trade(ticket, "bob")
    answer = curl("/album/beach.txt", rpt=rpt)
    check("200 and the content with the RPT for that ticket", answer.status == 200 and answer.body == TEXT and answer.version == version, answer)
    held = [headers.get("Authorization") for _, headers in Content.seen]
    check("the content server saw the gateway's credential", held == [CREDENTIAL], "none or another" if rpt not in str(held) else "the RPT")

    answer = curl("/album/beach.txt", "-X", "PUT", "--data-binary", "new", rpt=rpt)
    line = answer.headers.get("www-authenticate", "")
    check("401 insufficient_scope with a ticket for a scope too little", answer.status == 401 and 'error="insufficient_scope"' in line and ticket_of(line), answer)

    answer = curl("/album/beach.txt", "-I", rpt=rpt)
    check("HEAD is 200 with the length of the content", answer.status == 200 and answer.headers.get("content-length") == str(len(TEXT)), answer)
    answer = curl("/album/beach.txt", "-r", "1000-1999", rpt=rpt)
    ranged = answer.status == 206 and answer.body == TEXT[1000:2000] and answer.headers.get("content-range") == f"bytes 1000-1999/{len(TEXT)}"
    check("a range is 206 with those octets", ranged, answer)
    answer = curl("/album/beach.gz", "-H", "Accept-Encoding: gzip", rpt=rpt)
    check("gzip passes octet for octet", answer.body == PACKED and answer.headers.get("content-encoding") == "gzip", answer)

    # curl gives up waiting for `100 Continue` after this long, and the whole request has no longer than that: without it the upload fails.
    answer = curl("/album/new.bin", "-T", file, "-H", "Expect: 100-continue", "--expect100-timeout", 2 * PATIENCE, rpt=both)
    stored = answer.status == 201 and answer.body.decode() == hashlib.sha256(UPLOAD).hexdigest()
    check("3 MB are uploaded after 100 Continue", stored and answer.sent == len(UPLOAD), f"{answer.sent} sent, {answer}")
    answer = curl("/album/new.bin", "-T", file, "-H", "Transfer-Encoding: chunked", "-H", "Expect:", rpt=both)
    check("the same without a length", answer.status == 201 and answer.body.decode() == hashlib.sha256(UPLOAD).hexdigest(), answer)


main(checks)
