//! What ordinary clients send: addresses as they are seen in the wild, and messages of browsers, tools and applications. All of it passes, and goes on byte
//! for byte but for what is documented as normalised; what needs an opt-in is refused without and passes with it.

use std::path::Path;

use crate::cases::{Outcome, octets};
use crate::runner::plain;
use crate::upstream::Message;
use crate::wire::{H1, H2};
use crate::world::World;

/// Concern one connection, or are the gateway's to say.
const NOT_COMPARED: [&str; 13] = [
    "connection",
    "keep-alive",
    "te",
    "upgrade",
    "proxy-connection",
    "expect",
    "transfer-encoding",
    "content-length",
    "authorization",
    "host",
    "forwarded",
    "http2-settings",
    "x-request-id",
];

fn lines(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/benign").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("## ")).map(str::to_owned).collect()
}

/// How many there are.
pub fn count() -> usize {
    lines("urls.txt").len() + lines("messages.txt").len()
}

/// What is wrong with addresses: `[OPT-IN] TARGET => AS FORWARDED`.
pub async fn urls(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    for line in lines("urls.txt") {
        let (opt_in, rest) = line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or((None, line.as_str()), |(mark, rest)| (Some(mark), rest));
        let (target, forwarded) = rest.split_once(" => ").unwrap_or((rest, rest));
        for over_h2 in [false, true] {
            if opt_in.is_some() {
                let status = ask(world, "benign.example.net", target, over_h2).await.0;
                if status != Outcome::Status(400) {
                    faults.push(format!("{line}: {status} without its opt-in"));
                }
            }
            let host = if opt_in.is_some() { "loose.example.net" } else { "benign.example.net" };
            let (status, seen) = ask(world, host, target, over_h2).await;
            match &seen[..] {
                [message] if status == Outcome::Status(200) && message.target == forwarded.as_bytes() && message.problems.is_empty() => {}
                _ => faults.push(format!(
                    "{line} (h2: {over_h2}): {status}, {:?}",
                    seen.iter().map(|message| String::from_utf8_lossy(&message.target)).collect::<Vec<_>>()
                )),
            }
        }
    }
    faults
}

async fn ask(world: &World, host: &str, target: &str, over_h2: bool) -> (Outcome, Vec<Message>) {
    world.upstream.take();
    let answer = if over_h2 {
        let mut fields = plain(target.as_bytes());
        host.as_bytes().clone_into(&mut fields[2].1);
        H2::open(&world.doors()[0]).await.ask(&fields, None).await
    } else {
        let mut connection = H1::open(&world.doors()[0]).await;
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
        connection.answer(false).await
    };
    (answer.outcome, world.upstream.take())
}

/// What is wrong with messages: `METHOD TARGET && NAME: VALUE && … && body=…`, or `chunks=…`.
pub async fn messages(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    for line in lines("messages.txt") {
        world.upstream.take();
        let mut parts = line.split(" && ");
        let (method, target) = parts.next().and_then(|first| first.split_once(' ')).unwrap_or_else(|| panic!("{line}"));
        let (mut head, mut body, mut fields) = (format!("{method} {target} HTTP/1.1\r\nHost: benign.example.net\r\n").into_bytes(), Vec::new(), Vec::new());
        let mut chunked = false;
        for part in parts {
            if let Some(text) = part.strip_prefix("body=") {
                body = octets(text, &|name| world.fill(name));
                head.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
            } else if let Some(text) = part.strip_prefix("chunks=") {
                body = octets(text, &|name| world.fill(name));
                chunked = true;
                head.extend(b"Transfer-Encoding: chunked\r\n");
            } else {
                let (name, value) = part.split_once(": ").unwrap_or_else(|| panic!("{line}"));
                let value = octets(value, &|name| world.fill(name));
                head.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
                fields.push((name.to_owned(), value));
            }
        }
        head.extend(b"\r\n");
        if chunked {
            head.extend([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
        } else {
            head.extend(&body);
        }
        let mut connection = H1::open(&world.doors()[0]).await;
        connection.send(&head).await;
        let answer = connection.answer(method == "HEAD").await;
        let seen = world.upstream.take();
        match &seen[..] {
            [message] if answer.outcome == Outcome::Status(200) => {
                faults.extend(unlike(message, target, &fields, &body).map(|fault| format!("{line}: {fault}")));
            }
            _ => faults.push(format!("{line}: {} and {} messages", answer.outcome, seen.len())),
        }
    }
    faults
}

fn unlike(message: &Message, target: &str, fields: &[(String, Vec<u8>)], body: &[u8]) -> Option<String> {
    if message.target != target.as_bytes() || message.body != body || !message.problems.is_empty() {
        return Some(format!("{} with {} bytes, {:?}", String::from_utf8_lossy(&message.target), message.body.len(), message.problems));
    }
    let missing = fields.iter().filter(|(name, _)| !NOT_COMPARED.iter().any(|other| name.eq_ignore_ascii_case(other)));
    let missing: Vec<&str> = missing
        .filter(|(name, value)| !message.fields.iter().any(|(other, same)| name.eq_ignore_ascii_case(other) && value == same))
        .map(|(name, _)| name.as_str())
        .collect();
    (!missing.is_empty()).then(|| format!("without {missing:?}"))
}
