"""nginx as the content server, over HTTP/1.1, over TLS with an authority of its own, and over HTTP/2. It wants the gateway's credential (`auth_basic`).

What a client gets through the gateway is held against what nginx itself gives to the credential, or against the file: whole files, ranges, conditional
requests, gzip, HEAD, answers without a length, and 64 MiB both ways. What nginx saw of it is in its log: who came, on which connection, how.
"""
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal

from world import CREDENTIAL, PASSWORD, USERNAME, Certificates, call, free_port, listens, main, ticket_of, until, whole_lines

TEXT = b"".join(b"line %d of the beach\n" % number for number in range(4000))
PICTURE = random.Random(1).randbytes(1_000_003)
LARGE = 64 << 20
PIECE, PIECES = 100_000, 80
# No fewer: the one connection of the one worker, and one for a request that came before the connection of the last was back.
FEW = 2


class Nginx:
    """A content server with a folder of files below `/album`, `/tls`, … (the first segment is cut off), and its log."""

    def __init__(self, world):
        self.folder, self.plain, self.tls = world.folder / "nginx", free_port(), free_port()
        self.files = self.folder / "files"
        for folder in ("files/pages", "files/new", "temporary"):
            (self.folder / folder).mkdir(parents=True)
        (self.files / "beach.txt").write_bytes(TEXT)
        (self.files / "picture.bin").write_bytes(PICTURE)
        (self.files / "pages/page.shtml").write_bytes(b'<p><!--#echo var="remote_user" --></p>\n' + TEXT)
        (self.folder / "passwords").write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}\n")
        self.log = self.folder / "requests"
        self.process = world.start("nginx-server", [tool(), "-p", self.folder, "-c", self.configure(world), "-e", self.folder / "error.log"])
        until("nginx listens", lambda: listens(self.plain) and listens(self.tls))

    def configure(self, world):
        certificate, key = world.certificates.pair("nginx", "DNS:localhost")
        temporary = "\n".join(f"{kind}_temp_path {self.folder}/temporary/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        members = ("http_x_request_id", "pid", "connection", "request_method", "status", "remote_user", "http_authorization", "server_protocol",
                   "ssl_server_name")
        # Started by root, nginx's worker would be another user, who may not write here.
        user = "user root;" if os.geteuid() == 0 else ""
        file = self.folder / "nginx.conf"
        file.write_text(f"""
            {user} daemon off; worker_processes 1; pid {self.folder}/pid;
            events {{ worker_connections 1024; }}
            http {{
                {temporary}
                log_format facts escape=json '{{{", ".join(f'"{name}": "${name}"' for name in members)}}}';
                access_log {self.log} facts;
                default_type application/octet-stream; types {{ text/plain txt; text/html shtml; }}
                gzip on; gzip_min_length 256; gzip_types text/plain; gzip_proxied any; gzip_vary on;
                ssl_certificate {certificate}; ssl_certificate_key {key};
                server {{
                    listen 127.0.0.1:{self.plain}; listen 127.0.0.1:{self.tls} ssl http2;
                    root {self.files}; auth_basic content; auth_basic_user_file {self.folder}/passwords;
                    rewrite ^/[^/]+(/.*)$ $1;
                    location /pages/ {{ ssi on; gzip off; }}
                    location /new/ {{ dav_methods PUT DELETE; client_max_body_size 0; }}
                }}
            }}""")
        return file

    def seen(self):
        """What it has answered so far, the oldest first."""
        return [json.loads(line) for line in whole_lines(self.log)] if self.log.exists() else []

    def of(self, answer):
        """The request that led to this answer, by the id that the gateway gives both. nginx notes it when it is done, which may be after the client is."""
        request = answer.headers["X-Request-Id"]
        return until(f"{request} is in nginx's log", lambda: [entry for entry in self.seen() if entry["http_x_request_id"] == request])[-1]

    def unasked(self, answer):
        """Whether it never got the request that led to this answer. To be asked once a later request is in the log."""
        return answer.headers["X-Request-Id"] not in {entry["http_x_request_id"] for entry in self.seen()}


def tool():
    """nginx, also where Debian keeps it from the path of users."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError("nginx is missing (Debian: apt-get install nginx-light)")
    return found


class Client:
    """Sends the same request through the gateway, with an RPT, and to nginx itself, with the credential."""

    def __init__(self, port, nginx, rpt):
        self.gateway, self.nginx, self.rpt = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{nginx.plain}", rpt

    def __call__(self, path, method="GET", body=None, **headers):
        return self.send(self.gateway, f"Bearer {self.rpt}", path, method, body, headers)

    def direct(self, path, method="GET", body=None, **headers):
        return self.send(self.nginx, CREDENTIAL, path, method, body, headers)

    @staticmethod
    def send(base, authorization, path, method, body, headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(*call(method, base + path, {"Authorization": authorization} | headers, body))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def facts(self, *names):
        """Status, body and the named fields, to be held against another answer's."""
        return self.status, *(self.headers[name] for name in names), hashlib.sha256(self.body).hexdigest()

    def __str__(self):
        return f"{self.status} {dict(self.headers)}, {len(self.body)} octets: {self.body[:200]!r}"


def checks(world, check):
    nginx = Nginx(world)
    album = world.realm.album()
    world.realm.share(album, "alice", ["view", "edit"])
    port, secure = free_port(), f"https://localhost:{nginx.tls}"
    stranger = world.folder / "stranger"
    stranger.mkdir()
    ca = {"ca": str(world.certificates.ca)}
    upstreams = {
        "content": world.upstream(f"http://127.0.0.1:{nginx.plain}"),
        "tls": world.upstream(secure, tls=ca),
        "h2": world.upstream(secure, tls=ca, protocol="auto"),
        "wrong-ca": world.upstream(secure, tls={"ca": str(Certificates(stranger).ca)}),
        "wrong-name": world.upstream(secure, tls=ca | {"name": "elsewhere.example"}),
        "wrong-password": {"servers": [f"http://127.0.0.1:{nginx.plain}"], "credentials": {"basic": {"username": USERNAME, "password": {"env": "OTHER"}}}},
    }
    os.environ["OTHER"] = "another-password"
    world.gateway({
        "listeners": [world.listener(port)],
        "workers": 1,
        "upstreams": upstreams,
        "routes": [world.album_route(f"/{'album' if name == 'content' else name}/**", album, name) for name in upstreams],
    })
    client = Client(port, nginx, world.realm.rpt("alice", album, ["view", "edit"]))
    credential(check, nginx, client)
    files(check, client)
    without_length(check, client)
    connections(check, nginx, client)
    for name, protocol in (("album", "HTTP/1.1"), ("tls", "HTTP/1.1"), ("h2", "HTTP/2.0")):
        large(check, nginx, client, name, protocol)
    trust(check, nginx, client)


def credential(check, nginx, client):
    answer = Answer(*call("GET", client.nginx + "/album/beach.txt"))
    check("nginx itself refuses who has no credential", answer.status == 401 and "Basic" in answer.headers["WWW-Authenticate"], answer)
    refused = Answer(*call("GET", client.gateway + "/album/beach.txt"))
    check("401 with a ticket", refused.status == 401 and ticket_of(refused.headers["WWW-Authenticate"]), refused)
    answer = client("/album/beach.txt")
    check("200 and the file", answer.status == 200 and answer.body == TEXT, answer)
    entry = nginx.of(answer)
    check("nginx was not asked without an RPT", nginx.unasked(refused), refused)
    check.equal("nginx let the gateway in", (entry["remote_user"], entry["http_authorization"]), (USERNAME, CREDENTIAL))
    answer = client("/wrong-password/beach.txt")
    check("a credential that nginx refuses is a 502 without its challenge", answer.status == 502 and not answer.headers["WWW-Authenticate"], answer)
    check.equal("and nginx was asked", nginx.of(answer)["status"], "401")


def files(check, client):
    path = "/album/picture.bin"
    described = ("Content-Type", "Content-Length", "ETag", "Last-Modified", "Accept-Ranges")
    direct, answer = client.direct(path), client(path)
    check("a megabyte is octet for octet what nginx has", direct.body == PICTURE and answer.facts(*described) == direct.facts(*described), answer)
    answer = client(path, "HEAD")
    check("HEAD says the same without the body", answer.facts(*described) == (*direct.facts(*described)[:-1], hashlib.sha256(b"").hexdigest()), answer)

    answer = client(path, Range="bytes=1000-1999")
    ranged = answer.status == 206 and answer.headers["Content-Range"] == f"bytes 1000-1999/{len(PICTURE)}"
    check("a range is 206 with those octets", ranged and answer.body == PICTURE[1000:2000], answer)
    answer = client(path, Range="bytes=-7")
    check("the last octets likewise", answer.status == 206 and answer.body == PICTURE[-7:], answer)
    answer = client(path, Range="bytes=0-9,500000-500099,-5")
    check("several ranges are one multipart body", answer.status == 206 and parts(answer) == [PICTURE[:10], PICTURE[500000:500100], PICTURE[-5:]], answer)
    answer = client(path, Range=f"bytes={len(PICTURE)}-")
    check("416 beyond the end, with the length", answer.status == 416 and answer.headers["Content-Range"] == f"bytes */{len(PICTURE)}", answer)
    answer = client(path, Range="bytes=0-9", If_Range='"another"')
    check("If-Range of another version is the whole file", answer.status == 200 and answer.body == PICTURE, answer)
    answer = client(path, Range="bytes=0-9", If_Range=direct.headers["ETag"])
    check("If-Range of this version is the range", answer.status == 206 and answer.body == PICTURE[:10], answer)

    for name, field in (("If_None_Match", "ETag"), ("If_Modified_Since", "Last-Modified")):
        answer = client(path, **{name: direct.headers[field]})
        unchanged = answer.status == 304 and not answer.body and answer.headers["ETag"] == direct.headers["ETag"]
        check(f"304 by {name.replace('_', '-')}", unchanged, answer)
    answer = client(path, If_None_Match='"another"')
    check("200 where the version is another", answer.status == 200 and answer.body == PICTURE, answer)
    answer = client(path, If_Match='"another"')
    check("412 by If-Match", answer.status == 412, answer)
    direct, answer = client.direct("/album/nothing.txt"), client("/album/nothing.txt")
    check("nginx's own 404 is the answer", answer.facts("Content-Type") == direct.facts("Content-Type") and answer.status == 404, answer)


def parts(answer):
    """The bodies of multipart/byteranges, or None."""
    found = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", answer.headers["Content-Type"] or "")
    if not found:
        return None
    pieces = answer.body.split(b"\r\n--" + found.group(1).encode())
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]]


def without_length(check, client):
    described = ("Content-Encoding", "Content-Length", "ETag", "Vary", "Content-Type")
    direct, answer = client.direct("/album/beach.txt", Accept_Encoding="gzip"), client("/album/beach.txt", Accept_Encoding="gzip")
    same = direct.headers["Content-Encoding"] == "gzip" and answer.facts(*described) == direct.facts(*described)
    check("gzip made by nginx is octet for octet nginx's", same, answer)
    check("it unpacks to the file, and is chunked", chunked(answer) and gzip.decompress(answer.body) == TEXT, answer)
    answer = client("/album/beach.txt")
    check("who does not want gzip gets none", answer.headers["Content-Encoding"] is None and answer.body == TEXT, answer)
    answer = client("/album/pages/page.shtml")
    check("a page that nginx puts together is chunked and whole", chunked(answer) and answer.body == f"<p>{USERNAME}</p>\n".encode() + TEXT, answer)


def chunked(answer):
    return answer.status == 200 and answer.headers["Transfer-Encoding"] == "chunked" and answer.headers["Content-Length"] is None


def connections(check, nginx, client):
    """The client's own connections end with each request."""
    paths = ["/album/beach.txt", "/album/picture.bin", "/album/pages/page.shtml"]
    answers = [client(paths[number % 3]) for number in range(30)]
    statuses, entries = [answer.status for answer in answers], [nginx.of(answer) for answer in answers]
    used = {entry["connection"] for entry in entries}
    check(f"{len(answers)} requests share a connection to nginx", set(statuses) == {200} and len(used) <= FEW, f"{statuses}, connections {used}")

    old, statuses = entries[-1]["pid"], []
    nginx.process.send_signal(signal.SIGHUP)

    def reloaded():
        statuses.append((answer := client("/album/beach.txt")).status)
        return nginx.of(answer)["pid"] != old

    until("another worker of nginx answers", reloaded)
    check("no request fails while nginx reloads and leaves its connections", set(statuses) == {200}, statuses)


def large(check, nginx, client, name, protocol):
    data = random.Random(name).randbytes(LARGE)
    wanted, uri = hashlib.sha256(data).hexdigest(), f"/new/{name}.bin"
    answer = client(f"/{name}{uri}", "PUT", data)
    file = nginx.files / uri[1:]
    stored = hashlib.sha256(file.read_bytes()).hexdigest() if answer.status == 201 else None
    check(f"{name}: 64 MiB are uploaded as they are", stored == wanted, f"{answer}, {stored} instead of {wanted}")
    entry = nginx.of(answer)
    check.equal(f"{name}: nginx took them over {protocol} from the gateway", (entry["request_method"], entry["server_protocol"], entry["remote_user"]),
                ("PUT", protocol, USERNAME))
    answer = client(f"/{name}{uri}", "PUT", (data[at * PIECE : (at + 1) * PIECE] for at in range(PIECES)), Transfer_Encoding="chunked")
    stored = file.read_bytes() if answer.status == 204 else b""
    check(f"{name}: an upload without a length is whole", stored == data[:PIECE * PIECES], f"{answer}, {len(stored)} stored")
    file.write_bytes(data)
    answer = client(f"/{name}{uri}")
    good = answer.status == 200 and answer.headers["Content-Length"] == str(LARGE) and hashlib.sha256(answer.body).hexdigest() == wanted
    check(f"{name}: 64 MiB are downloaded as they are", good, answer)
    answer = client(f"/{name}{uri}", "DELETE")
    check(f"{name}: DELETE deletes", answer.status == 204 and not file.exists(), answer)


def trust(check, nginx, client):
    answer = client("/tls/beach.txt")
    entry = nginx.of(answer)
    named = answer.body == TEXT and entry["ssl_server_name"] == "localhost"
    check("a server of an authority that is trusted is asked by its name", named, f"{answer}, {entry}")
    refused = []
    for name, what in (("wrong-ca", "another authority's"), ("wrong-name", "another name's")):
        answer = client(f"/{name}/beach.txt")
        check(f"502 where the certificate is {what}", answer.status == 502 and answer.headers["Content-Type"] == "application/problem+json", answer)
        refused.append(answer)
    nginx.of(client("/tls/beach.txt"))
    check("and neither sent nginx a request", all(map(nginx.unasked, refused)), refused)


main(checks)
