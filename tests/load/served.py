"""h2load over HTTP/1.1, HTTP/2 and HTTP/2 with TLS on a protected route: no request fails, also not while the configuration is read anew ten times a second.

Each reload brings or takes a route, so that there is a new table each time. Beside the load a client without an RPT and one whose RPT lacks the scope ask
on: what they get must not change either. Kept is the cache: while only known RPTs come, nobody asks the authorization server about one.
"""
import signal
import time

from support import DEEP, PATIENCE, Asks, Load, Reloads, call, configuration, figure, main, metric, nginx, shared_album, until

SECONDS = 20 if DEEP else 3
EVERY = 0.1
# Signals that come while one is being read are one reload.
WANTED = SECONDS / EVERY / 2


def questions(gateway):
    return metric(gateway, "uma_as_requests_total", endpoint="introspection")


def checks(world, check):
    port, _ = nginx(world)
    album, rpt = shared_album(world)
    plain, tls, keys = configuration(world, album, {"content": world.upstream(f"http://127.0.0.1:{port}")})
    # Longer than this takes, so that an answer is asked for again only if the cache was lost.
    keys = world.complete(keys)
    keys["authorization_servers"]["keycloak"]["introspection"] = {"max_age": "10m"}
    gateway = world.gateway(keys)
    ways = (("h1", plain), ("h2c", plain), ("h2", tls))
    link = f"http://127.0.0.1:{plain}/album/beach"
    check.equal("with the RPT", call("GET", link, {"Authorization": f"Bearer {rpt}"})[0], 200)

    for protocol, port in ways:
        Load(world, protocol, port, "/album/beach", rpt, seconds=SECONDS).whole(check)

    asked = questions(gateway)
    check("somebody did ask for the first time", asked >= 1, asked)
    for protocol, port in ways:
        with Reloads(gateway, EVERY) as reloads, Asks("GET", link) as without:
            Load(world, protocol, port, "/album/beach", rpt, seconds=SECONDS).whole(check, " while SIGHUP comes")
            # Reloads stand behind the load: a busy machine takes longer for as many.
            end = time.monotonic() + PATIENCE
            while reloads.count() - reloads.done < WANTED and time.monotonic() < end:
                Load(world, protocol, port, "/album/beach", rpt, seconds=1).whole(check, " while SIGHUP still comes")
        check(f"{protocol}: whoever has no RPT sees 401 only", set(without.statuses) == {401}, without.statuses)
        before = reloads.count()
        reloads.write([])
        gateway.process.send_signal(signal.SIGHUP)
        until("the last reload", lambda: reloads.count() > before)
        done = before - reloads.done
        figure(f"{protocol} while SIGHUP comes", f"{reloads.sent} signals, {done} reloads")
        check(f"{protocol}: the configuration was read anew all the time", done >= WANTED, f"{done} of {reloads.sent}")
    check.equal("the cache was kept: nobody asked again about the RPT", questions(gateway), asked)

    # Whoever lacks a scope is asked about again by design, so this one stands apart.
    with Reloads(gateway, EVERY), Asks("PUT", link, rpt) as small, Asks("GET", link) as without:
        Load(world, "h2", tls, "/album/beach", rpt, seconds=SECONDS).whole(check, " while SIGHUP comes and others are refused")
    check("whoever lacks the scope sees 401 or 403 only", small.statuses and set(small.statuses) <= {401, 403}, small.statuses)
    check("whoever has no RPT sees 401 only", set(without.statuses) == {401}, without.statuses)
    figure("refused meanwhile", f"{sum(small.statuses.values())} without the scope, {sum(without.statuses.values())} without an RPT")
    check.equal("no panic", metric(gateway, "uma_gateway_panics_total"), 0)


main(checks)
