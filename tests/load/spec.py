"""h2spec against both ways to HTTP/2, with the strict cases: over TLS (ALPN), and without TLS where HTTP/1.1 shares the port.

A case that fails is red unless it is listed here with its reason; one that is listed and passes is red as well. Where one fails that is not listed, all are asked once more
and what fails twice counts.
"""
import os
import pathlib
import shutil
import subprocess
import xml.etree.ElementTree

from support import configuration, figure, main, nginx, shared_album

# Too few cases mean that h2spec did not ask what it is known to ask.
AT_LEAST = 146
KNOWN = {
    "tls": {},
    "h2c": {
        "http2/3.5 Sends invalid connection preface":
            "HTTP/1.1 is spoken on the same port: what does not begin as HTTP/2 is read as HTTP/1.1, answered 400 and closed. h2spec takes those bytes for a frame.",
    },
}


def h2spec():
    """From PATH, or where `go install` puts it."""
    places = [shutil.which("h2spec"), os.environ.get("GOBIN") and os.environ["GOBIN"] + "/h2spec", pathlib.Path.home() / "go/bin/h2spec"]
    found = next((place for place in places if place and pathlib.Path(place).is_file()), None)
    if found is None:
        raise RuntimeError("h2spec is missing: go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible")
    return found


def cases(world, name, arguments):
    """Each case's name and what was wrong with it, or None."""
    report = world.folder / f"h2spec-{name}.xml"
    done = subprocess.run([h2spec(), "--strict", "-h", "127.0.0.1", "-P", "/public/a", "-o", "20", "-j", report, *arguments],
                          capture_output=True, text=True, check=False, timeout=600)
    if not report.is_file():
        raise RuntimeError(f"h2spec {name}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        faults = [child for child in case if child.tag in ("failure", "error", "skipped")]
        yield f"{case.get('package')} {case.get('classname')}", "; ".join("".join(fault.itertext()) or fault.tag for fault in faults) if faults else None


def checks(world, check):
    port, _ = nginx(world)
    album, _ = shared_album(world)
    plain, tls, keys = configuration(world, album, {"content": world.upstream(f"http://127.0.0.1:{port}")})
    world.gateway(keys)
    for name, arguments in (("tls", ["-t", "-k", "-p", str(tls)]), ("h2c", ["-p", str(plain)])):
        found = list(cases(world, name, arguments))
        failed = {case: why for case, why in found if why is not None}
        if failed.keys() - KNOWN[name].keys():
            figure(f"h2spec {name}", f"asked once more, since these failed: {failed}")
            again = {case for case, why in cases(world, name, arguments) if why is not None}
            failed = {case: why for case, why in failed.items() if case in again or case in KNOWN[name]}
        figure(f"h2spec {name}", f"{len(found)} cases, {len(found) - len(failed)} good" + "".join(f"; {case}: {KNOWN[name].get(case, 'NOT LISTED')}" for case in failed))
        check(f"{name}: h2spec asked all it has", len(found) >= AT_LEAST, f"{len(found)} cases")
        check(f"{name}: no case fails that is not listed", not failed.keys() - KNOWN[name].keys(), {case: failed[case] for case in failed.keys() - KNOWN[name].keys()})
        check(f"{name}: every listed case still fails", not KNOWN[name].keys() - failed.keys(), KNOWN[name].keys() - failed.keys())


main(checks)
