//! Sends a case, reads what comes, sends an ordinary request behind it on the same connection, and collects what is wrong.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cases::{Case, Expected, Outcome, Wire, octets};
use crate::judge::{self, FOLLOW};
use crate::wire::{Answer, Door, Field, H1, H2, literals};
use crate::world::World;

/// Stands in what no client may see of a content server's answer.
const POISON: &str = "poison";

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Runs a case over all its protocols; what is wrong.
pub async fn run(world: &World, case: &Case) -> Vec<String> {
    let mut faults = Vec::new();
    for (over_h2, door) in [false, true].into_iter().flat_map(|over_h2| world.doors().into_iter().map(move |door| (over_h2, door))) {
        if (over_h2 && case.wire == Wire::H1) || (!over_h2 && matches!(case.wire, Wire::H2 | Wire::Frames)) {
            continue;
        }
        world.upstream.take();
        if let Some(fault) = &case.fault {
            world.err(fault);
        }
        let mut found = if over_h2 { over_two(world, case, &door).await } else { over_one(world, case, &door).await };
        world.heal();
        let allowed: Vec<String> = case.expect.iter().filter_map(|one| one.target.clone()).collect();
        let most = case.expect.iter().filter(|one| one.may_go_on()).count();
        found.extend(judge::faults(world, &world.upstream.take(), &allowed, most));
        let wire = format!("{}{}", if over_h2 { "h2" } else { "h1" }, if door.tls.is_some() { ", tls" } else { "" });
        faults.extend(found.into_iter().map(|fault| format!("{} ({wire}) {}\n    ({})\n    {fault}", case.class, case.line, case.reason)));
    }
    faults
}

async fn over_one(world: &World, case: &Case, door: &Door) -> Vec<String> {
    let mut connection = H1::open(door).await;
    let (mut faults, mut expected, mut last) = (Vec::new(), case.expect.iter(), None);
    let scripted = COUNT.fetch_add(1, Ordering::Relaxed);
    let text = if case.is_answer {
        let target = format!("/public/scripted/{scripted}");
        world.upstream.script(&target, octets(&case.line, &|name| world.fill(name)));
        case.template.replace("@@", &target)
    } else {
        case.template.replace("@@", &case.line)
    };
    let mut steps = text.split(" >>> ").peekable();
    while let Some(step) = steps.next() {
        if let Some(what) = step.strip_prefix('!') {
            world.happen(what).await;
            continue;
        }
        let bytes = octets(step, &|name| world.fill(name));
        let to_head = bytes.starts_with(b"HEAD ");
        connection.send(&bytes).await;
        let most = if steps.peek().is_some() { 1 } else { usize::MAX };
        for wanted in expected.by_ref().take(most) {
            let answer = connection.answer(to_head).await;
            faults.extend(differs(wanted, &answer, false));
            if case.is_answer && (answer.head.contains(POISON) || String::from_utf8_lossy(&answer.body).contains(POISON)) {
                faults.push(format!("the client sees {} {}", answer.head, String::from_utf8_lossy(&answer.body)));
            }
            last = Some(answer);
        }
    }
    let Some(last) = last.filter(|last| !matches!(last.outcome, Outcome::Closed | Outcome::Cut | Outcome::Silent | Outcome::Status(101))) else {
        return faults;
    };
    let target = format!("{FOLLOW}{scripted}");
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: gateway.example.org\r\n\r\n").as_bytes()).await;
    let answer = connection.answer(false).await;
    let served = answer.outcome == Outcome::Status(200) && answer.body == target.as_bytes() && !last.closes();
    if !served && answer.outcome != Outcome::Closed {
        faults.push(format!("DESYNC: behind it {} {}", answer.outcome, String::from_utf8_lossy(&answer.body)));
    }
    faults
}

async fn over_two(world: &World, case: &Case, door: &Door) -> Vec<String> {
    let mut connection = H2::open(door).await;
    let answer = if case.wire == Wire::Frames {
        let frames: Vec<_> = case.line.split(" && ").map(|text| frame(world, text)).collect();
        connection.frames(&frames).await
    } else {
        let (fields, body) = fields(world, case);
        connection.ask(&fields, body.as_deref()).await
    };
    let mut faults: Vec<String> = case.expect.iter().filter_map(|wanted| differs(wanted, &answer, true)).collect();
    let target = format!("{FOLLOW}{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let answer = connection.ask(&plain(target.as_bytes()), None).await;
    let served = answer.outcome == Outcome::Status(200) && answer.body == target.as_bytes();
    if !served && !matches!(answer.outcome, Outcome::Closed) {
        faults.push(format!("behind it {} {}", answer.outcome, String::from_utf8_lossy(&answer.body)));
    }
    faults
}

/// The fields of an ordinary request over HTTP/2.
pub fn plain(target: &[u8]) -> Vec<Field> {
    let field = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    vec![field(":method", b"GET"), field(":scheme", b"http"), field(":authority", b"gateway.example.org"), field(":path", target)]
}

fn fields(world: &World, case: &Case) -> (Vec<Field>, Option<Vec<u8>>) {
    let read = |text: &str| octets(text, &|name| world.fill(name));
    if case.wire == Wire::Both {
        return (plain(&read(&case.line)), None);
    }
    let mut lines: Vec<String> = case.line.split(" && ").map(str::to_owned).collect();
    if case.wire == Wire::Fields {
        lines =
            case.line.split("\\r\\n").filter_map(|line| line.split_once(':')).map(|(name, value)| format!("+{}:{value}", name.to_ascii_lowercase())).collect();
    }
    changed(&lines, &read)
}

fn changed(lines: &[String], read: &dyn Fn(&str) -> Vec<u8>) -> (Vec<Field>, Option<Vec<u8>>) {
    let (mut fields, mut body) = (plain(b"/public/x"), None);
    for change in lines {
        if let Some(text) = change.strip_prefix("body=") {
            body = Some(read(text));
        } else if let Some(name) = change.strip_prefix('-') {
            fields.retain(|(known, _)| known != name.as_bytes());
        } else {
            let (adds, change) = change.strip_prefix('+').map_or((false, change.as_str()), |change| (true, change));
            let (name, value) = change.split_once(": ").unwrap_or_else(|| (change.strip_suffix(':').unwrap_or(change), ""));
            let (name, value) = (read(name), read(value));
            match fields.iter_mut().find(|(known, _)| *known == name).filter(|_| !adds) {
                Some(field) => field.1 = value,
                None => fields.push((name, value)),
            }
        }
    }
    (fields, body)
}

fn frame(world: &World, text: &str) -> (u8, u8, u32, Vec<u8>) {
    let read = |text: &str| octets(text, &|name| world.fill(name));
    let mut words = text.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (kind, flags, stream, rest) = (word(), word(), word(), word());
    let (flags, stream) = (flags.parse().expect("flags"), stream.parse().expect("a stream"));
    if kind != "headers" {
        return (kind.parse().expect("a kind"), flags, stream, read(rest));
    }
    let changes: Vec<String> = rest.split("| ").map(str::trim_end).filter(|change| !change.is_empty()).map(str::to_owned).collect();
    (1, flags, stream, literals(&changed(&changes, &read).0))
}

fn differs(wanted: &Expected, answer: &Answer, over_h2: bool) -> Option<String> {
    let reset = over_h2 && answer.outcome == Outcome::Closed && wanted.outcomes.contains(&Outcome::Status(400));
    let names: Vec<String> = wanted.outcomes.iter().map(ToString::to_string).collect();
    (!reset && !wanted.outcomes.contains(&answer.outcome)).then(|| format!("{} instead of {}", answer.outcome, names.join(" or ")))
}
