//! A content server that believes everything and remembers every byte: it takes each message apart strictly, with `Transfer-Encoding` first and with
//! `Content-Length` first, and notes where the three differ.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One message, or what came through a tunnel.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub method: String,
    pub target: Vec<u8>,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// The lines behind the last chunk.
    pub trailers: Vec<u8>,
    /// As it came.
    pub raw: Vec<u8>,
    /// Why it is not a message that everybody reads alike.
    pub problems: Vec<String>,
    /// It came when the connection had changed its protocol.
    pub tunnel: bool,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Message>>,
    /// What is answered by path; `None`: nothing, ever.
    scripts: Mutex<HashMap<String, Option<Vec<u8>>>>,
}

/// The server; it ends when this is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { drop(serve(stream, &shared).await) });
            }
        });
        Self { address, shared, task }
    }

    /// What has come since this was asked last.
    pub fn take(&self) -> Vec<Message> {
        self.taker()()
    }

    /// The same for whoever is on another thread.
    pub fn taker(&self) -> Box<dyn Fn() -> Vec<Message> + Send + Sync> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || std::mem::take(&mut *shared.seen.lock().expect("no panic")))
    }

    /// Answers this path with these bytes, and then ends the connection unless it must be asked for another message on it.
    pub fn script(&self, path: &str, answer: Vec<u8>) {
        self.shared.scripts.lock().expect("no panic").insert(path.to_owned(), Some(answer));
    }

    /// Never answers this path.
    pub fn hold(&self, path: &str) {
        self.shared.scripts.lock().expect("no panic").insert(path.to_owned(), None);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let (message, length) = loop {
            match message(&buffer) {
                Read::Whole(message, length) => break (message, length),
                Read::Broken(problem) => {
                    note(shared, Message { raw: buffer, problems: vec![problem], ..Message::default() });
                    return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                }
                Read::More if stream.read_buf(&mut buffer).await? == 0 => return Ok(()),
                Read::More => {}
            }
        };
        buffer.drain(..length);
        let target = String::from_utf8_lossy(&message.target).into_owned();
        let switches = message.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        let head = message.method == "HEAD";
        note(shared, message.clone());
        let script = shared.scripts.lock().expect("no panic").get(&target).cloned();
        if let Some(script) = script {
            let Some(script) = script else { return std::future::pending().await };
            stream.write_all(&script).await?;
            if script.starts_with(b"HTTP/1.1 101") {
                return tunnel(stream, buffer, shared).await;
            }
            // What such an answer means for the connection is the gateway's to find out.
            let text = String::from_utf8_lossy(&script).to_lowercase();
            if text.contains("connection: close") || !(text.contains("content-length") || text.contains("chunked")) {
                return Ok(());
            }
            continue;
        }
        if switches {
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await?;
            return tunnel(stream, buffer, shared).await;
        }
        let body = if message.method == "GET" { target } else { format!("{} {target} {} bytes", message.method, message.body.len()) };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{}", body.len(), if head { "" } else { &body });
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn tunnel(mut stream: TcpStream, mut buffer: Vec<u8>, shared: &Shared) -> std::io::Result<()> {
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(b"echo").await?;
    }
    if !buffer.is_empty() {
        note(shared, Message { raw: buffer, tunnel: true, ..Message::default() });
    }
    Ok(())
}

fn note(shared: &Shared, message: Message) {
    shared.seen.lock().expect("no panic").push(message);
}

enum Read {
    More,
    Whole(Message, usize),
    Broken(String),
}

#[derive(Clone, Copy, PartialEq)]
enum First {
    Neither,
    Coding,
    Length,
}

/// A body, the lines behind its last chunk, and where both end.
type Body = (Vec<u8>, Vec<u8>, usize);

/// The message at the beginning of these bytes.
fn message(bytes: &[u8]) -> Read {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        // Somebody would take two bare line feeds for the end of a head.
        return if find(bytes, b"\n\n").is_some() { Read::Broken("a head ends with bare line feeds".into()) } else { Read::More };
    };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let parts: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let mut message = Message::default();
    let [method, target, version] = parts[..] else { return Read::Broken(format!("a request line: {}", String::from_utf8_lossy(first))) };
    message.method = String::from_utf8_lossy(method).into_owned();
    message.target = target.to_vec();
    if version != b"HTTP/1.1" {
        message.problems.push("another version than HTTP/1.1".into());
    }
    if bytes[..end].windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r') || bytes[..end].contains(&0) {
        message.problems.push("a bare line feed or a NUL in the head".into());
    }
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            message.problems.push(format!("a line without a colon: {}", String::from_utf8_lossy(line)));
            continue;
        };
        let name = &line[..colon];
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)) {
            message.problems.push(format!("a name that is none: {}", String::from_utf8_lossy(name)));
        }
        let value = line[colon + 1..].trim_ascii();
        if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            message.problems.push(format!("a control in a value of {}", String::from_utf8_lossy(name)));
        }
        message.fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
    framed(message, bytes, end + 4)
}

/// Reads the body in three ways.
fn framed(mut message: Message, bytes: &[u8], start: usize) -> Read {
    let all = |wanted: &str| message.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone()).collect::<Vec<_>>();
    let (hosts, lengths, codings) = (all("host"), all("content-length"), all("transfer-encoding"));
    let mut problems = Vec::new();
    if hosts.len() != 1 {
        problems.push(format!("{} Hosts", hosts.len()));
    }
    if lengths.len() + codings.len() > 1 {
        problems.push("framed twice".to_owned());
    }
    if codings.iter().any(|coding| coding != b"chunked") {
        problems.push("a transfer coding other than chunked".into());
    }
    let number =
        |value: &Vec<u8>| std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).and_then(|text| text.parse().ok());
    if lengths.iter().any(|length| number(length).is_none_or(|_: usize| false)) {
        return Read::Broken("a length that is none".into());
    }
    let read = |first: First| -> Option<Result<Body, String>> {
        let chunked = codings.iter().any(|coding| coding.to_ascii_lowercase().ends_with(b"chunked"));
        match (first, chunked, lengths.first().and_then(number)) {
            (First::Length, _, Some(length)) | (_, false, Some(length)) => {
                bytes.get(start..start + length).map(|body| Ok((body.to_vec(), Vec::new(), start + length)))
            }
            (_, true, _) => dechunked(bytes, start),
            (_, false, None) => Some(Ok((Vec::new(), Vec::new(), start))),
        }
    };
    let Some(strict) = read(First::Neither) else { return Read::More };
    let (body, trailers, length) = match strict {
        Ok(read) => read,
        Err(problem) => return Read::Broken(problem),
    };
    for first in [First::Coding, First::Length] {
        if read(first) != Some(Ok((body.clone(), trailers.clone(), length))) {
            problems.push("a length and a coding that differ".into());
        }
    }
    message.problems.append(&mut problems);
    message.body = body;
    message.trailers = trailers;
    message.raw = bytes[..length].to_vec();
    Read::Whole(message, length)
}

/// The body of chunks and where it ends; `None`: there is more to come.
fn dechunked(bytes: &[u8], start: usize) -> Option<Result<Body, String>> {
    let (mut at, mut body) = (start, Vec::new());
    loop {
        let line = at + find(&bytes[at..], b"\r\n")?;
        let Some(size) = std::str::from_utf8(&bytes[at..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return Some(Err(format!("a chunk's size: {}", String::from_utf8_lossy(&bytes[at..line]))));
        };
        at = line + 2;
        if size == 0 {
            let end = if bytes.get(at..at + 2)? == b"\r\n" { at } else { at + find(&bytes[at..], b"\r\n\r\n")? + 2 };
            return Some(Ok((body, bytes[at..end].to_vec(), end + 2)));
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        match bytes.get(at + size..at + size + 2)? {
            b"\r\n" => at += size + 2,
            _ => return Some(Err("a chunk without its end".into())),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[test]
fn messages_that_can_be_read_in_two_ways_are_seen() {
    let problems = |text: &str| match message(text.as_bytes()) {
        Read::Whole(message, _) => message.problems.len(),
        Read::Broken(_) => 1,
        Read::More => 0,
    };
    let head = "POST / HTTP/1.1\r\nHost: h\r\n";
    for text in [
        format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Content-Length: +1\r\n\r\nx"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n1;x\r\nx\r\n0\r\n\r\n"),
        format!("{head}Host: h\r\n\r\n"),
        format!("{head}X : y\r\n\r\n"),
        format!("{head}X: y\nZ: z\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\nHost: h\r\n\r\n".to_owned(),
    ] {
        assert!(problems(&text) > 0, "{text}");
    }
    for text in [format!("{head}\r\n"), format!("{head}Content-Length: 1\r\n\r\nx"), format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")] {
        assert_eq!(problems(&text), 0, "{text}");
    }
}
