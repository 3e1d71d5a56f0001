"""One upstream answers after five seconds and hundreds of requests wait for it: what another route's requests take must not change by more than a tenth.

Side by side: each round has four slices of the fast route beside the slow one, and four alone, two before and two after. The figure is the p99 beside it over
the p99 alone, within the round; the control is the p99 of every second slice alone over that of the others, which shows what the machine does by itself. Red is
what three rounds of four show: a first quartile above 1.10 and above the third quartile of the control, taken upwards. What the gateway does wrong it does in every
round; what the machine does besides comes and goes. While the median is above the limit there are more rounds, up to MOST. Of the slices beside it those count at whose
end all still wait; a round with fewer than three of them, because the machine stood still, is taken again, also up to MOST.
"""
import statistics

from content import __file__ as CONTENT, read
from support import DEEP, Load, configuration, figure, free_port, listens, main, milliseconds, nginx, percentile, shared_album, until

ROUNDS, MOST = (12, 15) if DEEP else (3, 9)
# Four of them fit into the wait for the slow upstream.
SLICE, SLICES = 1, 4
ENOUGH = 3
ANSWERS_AFTER = 5
WAITING = 200
LIMIT = 1.10


def fast(world, plain, rpt):
    """What the requests of one slice took; the rate is far below what the machine can do, so that nobody waits for a processor. Where h2load itself stood still and
    asked too little, the slice is taken again."""
    for _ in range(5):
        load = Load(world, "h1", plain, "/album/a", rpt, seconds=SLICE, clients=16, rate=150).end()
        if load.failed or load.refused:
            break
        if load.done >= SLICE * 16 * 150 / 2:
            return [row.took for row in load.rows]
    raise RuntimeError(load.text)


def beside(world, plain, rpt, counts):
    """Slices while hundreds wait for the slow upstream, up to the first at whose end one does not any more; also how many were answered."""
    slow = Load(world, "h1", plain, "/slow/a", rpt, seconds=0, clients=WAITING, requests=WAITING)
    until("all of them wait", lambda: read(counts.read_bytes())[0] >= WAITING)
    slices = []
    for _ in range(SLICES):
        slice = fast(world, plain, rpt)
        if read(counts.read_bytes())[0] != WAITING:
            break
        slices.append(slice)
    slow.end()
    return slices, slow.done - slow.failed


def p99(slices):
    return percentile([took for slice in slices for took in slice], 0.99)


def checks(world, check):
    port, _ = nginx(world)
    slow, counts = free_port(), world.folder / "slow.counts"
    world.start("slow", ["python3", CONTENT, slow, ANSWERS_AFTER, counts])
    until("the slow server listens", lambda: listens(slow))
    album, rpt = shared_album(world)
    plain, _, keys = configuration(world, album, {"content": world.upstream(f"http://127.0.0.1:{port}"), "slow": world.upstream(f"http://127.0.0.1:{slow}")})
    keys["routes"].append(world.album_route("/slow/**", album, "slow"))
    world.gateway(keys)
    fast(world, plain, rpt)
    ratios, control, counted, answered = [], [], [], 0
    while len(counted) < MOST and (len(ratios) < ROUNDS or statistics.median(ratios) > LIMIT):
        alone = [fast(world, plain, rpt) for _ in range(SLICES // 2)]
        slices, done = beside(world, plain, rpt, counts)
        alone += [fast(world, plain, rpt) for _ in range(SLICES // 2)]
        counted.append(len(slices))
        answered += done
        if len(slices) < ENOUGH:
            figure("a round that is taken again", f"all waited to the end of {len(slices)} slices")
            continue
        ratios.append(p99(slices) / p99(alone))
        control.append(p99(alone[::2]) / p99(alone[1::2]))
        figure(f"round {len(ratios)}", f"p99 alone {milliseconds(p99(alone))}, beside it {milliseconds(p99(slices))}: {ratios[-1]:.3f}, control {control[-1]:.3f}")
    check.equal("each of the hundreds that waited was answered in the end", answered, WAITING * len(counted))
    if not check(f"hundreds waited for the slow upstream meanwhile, in {ROUNDS} rounds", len(ratios) >= ROUNDS, f"slices with all of them: {counted}"):
        return
    median, first = statistics.median(ratios), statistics.quantiles(ratios, n=4, method="inclusive")[0]
    noise = statistics.quantiles([max(one, 1 / one) for one in control], n=4, method="inclusive")[2]
    figure("p99 beside the slow upstream over p99 alone", f"{median:.3f} (median of {len(ratios)} rounds, {min(ratios):.3f} - {max(ratios):.3f}, first quartile {first:.3f})")
    figure("control, alone over alone", f"third quartile {noise:.3f}; {'this machine can tell a tenth' if noise <= LIMIT else 'too noisy to tell a tenth'}")
    check("the other route's p99 is within a tenth, as far as this machine can tell", first <= max(LIMIT, noise), f"{first:.3f}, control {noise:.3f}")


main(checks)
