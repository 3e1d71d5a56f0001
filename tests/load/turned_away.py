"""nginx ends each connection of HTTP/2 after 50 requests and heeds none that came later: no request fails for it, and none is carried out twice.

The gateway has many requests under way on a connection when GOAWAY comes, so a part of them is turned away again and again, POST as well as GET. Behind the
server of HTTP/2 stands one of HTTP/1.1 in the same nginx, whose log has a line for each request that was really carried out, with the length of its body.
"""
import collections

from support import DEEP, Load, configuration, figure, free_port, listens, main, metric, nginx_of, until

SECONDS = 20 if DEEP else 3
PER_CONNECTION = 50
BODY = 2000


def servers(world):
    """The port of nginx with HTTP/2, and its log of what was carried out."""
    front, back = free_port(), free_port()
    nginx_of(world, "nginx", f"""
        keepalive_requests {PER_CONNECTION}; log_format done '$request_method $content_length';
        upstream back {{ server 127.0.0.1:{back}; keepalive 64; keepalive_requests 1000000000; }}
        server {{
            listen 127.0.0.1:{front} http2;
            location / {{ proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ""; }}
        }}
        server {{
            listen 127.0.0.1:{back}; keepalive_requests 1000000000; access_log {world.folder}/done.log done;
            location / {{ return 200 "done"; }}
        }}""")
    until("nginx listens", lambda: listens(front) and listens(back))
    return front, world.folder / "done.log"


def checks(world, check):
    port, log = servers(world)
    # The album is not asked for: who decides has no part in this.
    plain, _, keys = configuration(world, {"id": "none"}, {"content": world.upstream(f"http://127.0.0.1:{port}", protocol="h2")})
    gateway = world.gateway(keys, ready=False)
    until("the gateway listens", lambda: listens(plain))
    body = world.folder / "body"
    body.write_bytes(b"x" * BODY)
    carried, asked = collections.Counter(), {}
    for method, data in (("GET", None), ("POST", body)):
        # As many as are asked, whatever the end of time would cut off.
        load = Load(world, "h2c", plain, "/public/a", seconds=0, requests=SECONDS * 4000, data=data)
        load.whole(check, f", {method}")
        asked[f"{method} {BODY if data else '-'}"] = load.done
    until("nginx has written its log", lambda: len(log.read_text().splitlines()) >= sum(asked.values()))
    carried.update(log.read_text().splitlines())
    check.equal("each request was carried out once", dict(carried), asked)
    connects = int(metric(gateway, "uma_gateway_upstream_connects_total", outcome="ok"))
    again = {reason: int(metric(gateway, "uma_gateway_upstream_retries_total", reason=reason)) for reason in ("unprocessed", "stale_connection", "budget_spent")}
    figure("connections to nginx, and what was sent once more", f"{connects}, {again}")
    check("connections ended all the time", connects >= sum(asked.values()) / PER_CONNECTION, connects)
    check.equal("no panic", metric(gateway, "uma_gateway_panics_total"), 0)


main(checks)
