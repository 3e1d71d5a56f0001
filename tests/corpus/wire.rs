//! HTTP as a client writes and reads it, octet by octet, since a library would mend what a case wants to send: HTTP/1.1 in bytes, HTTP/2 in frames.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use crate::cases::Outcome;
use crate::tls::TlsClient;

/// Longer than any deadline that a case waits for.
const PATIENCE: Duration = Duration::from_secs(30);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A name and a value.
pub type Field = (Vec<u8>, Vec<u8>);

/// Kind, flags, stream and payload.
pub type Frame = (u8, u8, u32, Vec<u8>);

/// Where a connection goes, and whether by TLS.
#[derive(Clone)]
pub struct Door {
    pub address: SocketAddr,
    pub tls: Option<TlsClient>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Door {
    pub const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    async fn open(&self, protocol: &str) -> Box<dyn Stream> {
        if let Some(client) = &self.tls {
            return Box::new(client.clone().protocols(&[protocol]).connect(self.address, "gateway.example.org").await.expect("a handshake"));
        }
        let stream = TcpStream::connect(self.address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("an open socket");
        Box::new(stream)
    }
}

/// A connection of HTTP/1.1.
pub struct H1 {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// What came.
#[derive(Debug)]
pub struct Answer {
    pub outcome: Outcome,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn none(outcome: Outcome) -> Self {
        Self { outcome, head: String::new(), body: Vec::new() }
    }

    /// Whether it says that the connection ends.
    pub fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("connection: close")
    }
}

impl H1 {
    pub async fn open(door: &Door) -> Self {
        Self { stream: door.open("http/1.1").await, buffer: Vec::new() }
    }

    /// Sends what can be sent: the other side may have closed already.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let _ = tokio::time::timeout(PATIENCE, sent).await;
    }

    /// The next answer but for interim ones.
    pub async fn answer(&mut self, to_head: bool) -> Answer {
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.read(to_head)).await.unwrap_or_else(|_| Answer::none(Outcome::Silent));
            if !matches!(answer.outcome, Outcome::Status(100 | 102..200)) {
                return answer;
            }
        }
    }

    async fn read(&mut self, to_head: bool) -> Answer {
        let end = loop {
            match find(&self.buffer, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if self.more().await => {}
                None if self.buffer.is_empty() => return Answer::none(Outcome::Closed),
                None => return Answer::none(Outcome::Cut),
            }
        };
        let head = String::from_utf8_lossy(&self.buffer.drain(..end).collect::<Vec<u8>>()).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let field = |name: &str| {
            head.lines().filter_map(|line| line.split_once(':')).find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let body = if to_head || matches!(status, 100..200 | 204 | 304) {
            Some(Vec::new())
        } else if field("transfer-encoding").is_some() {
            self.chunks().await
        } else if let Some(length) = field("content-length").and_then(|length| length.parse().ok()) {
            self.exactly(length).await
        } else {
            while self.more().await {}
            Some(std::mem::take(&mut self.buffer))
        };
        let outcome = if body.is_some() { Outcome::Status(status) } else { Outcome::Cut };
        Answer { outcome, head, body: body.unwrap_or_default() }
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match find(&self.buffer, b"\r\n") {
                    Some(line) => break line,
                    None if self.more().await => {}
                    None => return None,
                }
            };
            let line: Vec<u8> = self.buffer.drain(..line + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            let chunk = self.exactly(size + 2).await?;
            if size == 0 {
                return Some(body);
            }
            body.extend(&chunk[..size]);
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(count) if count > 0)
    }
}

/// A connection of HTTP/2.
pub struct H2 {
    reader: Reader,
    writer: WriteHalf<Box<dyn Stream>>,
    next: u32,
}

impl H2 {
    pub async fn open(door: &Door) -> Self {
        let (reader, writer) = tokio::io::split(door.open("h2").await);
        let mut connection = Self { reader, writer, next: 1 };
        connection.send(&[PREFACE, &frame(4, 0, 0, &[]), &frame(4, 1, 0, &[])].concat()).await;
        connection
    }

    async fn send(&mut self, bytes: &[u8]) {
        write(&mut self.writer, bytes).await;
    }

    /// Sends these frames as they are, and waits for what comes of the first stream; the next request takes a later one.
    pub async fn frames(&mut self, frames: &[Frame]) -> Answer {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
        self.next = frames.iter().map(|frame| frame.2).max().unwrap_or(0).max(99) / 2 * 2 + 1 + 2;
        let Self { reader, writer, .. } = self;
        // Reading meanwhile, or both would wait for each other in the end.
        let both = async { tokio::join!(write(writer, &bytes), answer(reader, 1)).1 };
        tokio::time::timeout(PATIENCE, both).await.unwrap_or_else(|_| Answer::none(Outcome::Silent))
    }

    /// Sends these fields as they are, each as a literal that nobody indexes, and waits for what comes of it.
    pub async fn ask(&mut self, fields: &[Field], body: Option<&[u8]>) -> Answer {
        let stream = self.next;
        self.next += 2;
        let block = literals(fields);
        let mut frames = Vec::new();
        let mut pieces = block.chunks(16_384).peekable();
        let (mut kind, end_of_stream) = (1, u8::from(body.is_none()));
        while let Some(piece) = pieces.next() {
            let flags = if kind == 1 { end_of_stream } else { 0 } | if pieces.peek().is_none() { 4 } else { 0 };
            frames.extend(frame(kind, flags, stream, piece));
            kind = 9;
        }
        if let Some(body) = body {
            // All of it fits into the window that every stream begins with.
            let mut pieces = body.chunks(16_384).peekable();
            if body.is_empty() {
                frames.extend(frame(0, 1, stream, &[]));
            }
            while let Some(piece) = pieces.next() {
                frames.extend(frame(0, u8::from(pieces.peek().is_none()), stream, piece));
            }
        }
        self.send(&frames).await;
        tokio::time::timeout(PATIENCE, answer(&mut self.reader, stream)).await.unwrap_or_else(|_| Answer::none(Outcome::Silent))
    }
}

type Reader = ReadHalf<Box<dyn Stream>>;

async fn write(writer: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) {
    // The other side may have closed already.
    let _ = writer.write_all(bytes).await;
    let _ = writer.flush().await;
}

async fn answer(reader: &mut Reader, stream: u32) -> Answer {
    let mut answer = Answer::none(Outcome::Closed);
    loop {
        let Some((kind, flags, of, payload)) = next(reader).await else {
            return if matches!(answer.outcome, Outcome::Status(_)) { Answer::none(Outcome::Cut) } else { answer };
        };
        match kind {
            0 if of == stream => answer.body.extend(payload),
            1 if of == stream && matches!(answer.outcome, Outcome::Closed) => answer.outcome = Outcome::Status(status(&payload)),
            3 if of == stream => {
                return if matches!(answer.outcome, Outcome::Status(_)) && !answer.body.is_empty() { Answer::none(Outcome::Cut) } else { answer };
            }
            _ => {}
        }
        if of == stream && matches!(kind, 0 | 1) && flags & 1 == 1 {
            return answer;
        }
    }
}

async fn next(reader: &mut Reader) -> Option<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).expect("24 bits")];
    reader.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// Fields that nobody indexes (RFC 7541, 6.2.2).
pub fn literals(fields: &[Field]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A string literal of HPACK without Huffman's code (RFC 7541, 5.1 and 5.2).
fn text(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if octets.len() < 127 {
        out.push(u8::try_from(octets.len()).expect("below 127"));
    } else {
        out.push(127);
        let mut left = octets.len() - 127;
        while left >= 128 {
            out.push(u8::try_from(left % 128).expect("seven bits") | 128);
            left /= 128;
        }
        out.push(u8::try_from(left).expect("seven bits"));
    }
    out.extend(octets);
    out
}

/// `:status`, which stands first (RFC 7541, 6 and the static table); its digits may be in Huffman's code.
fn status(block: &[u8]) -> u16 {
    let block = &block[block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0)..];
    match block {
        [indexed, ..] if indexed & 0x80 != 0 => [200, 204, 206, 304, 400, 404, 500].get(usize::from(indexed & 0x7f).wrapping_sub(8)).copied().unwrap_or(0),
        [_, length, digits @ ..] if length & 0x80 == 0 => {
            std::str::from_utf8(&digits[..usize::from(*length)]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
        }
        [_, length, coded @ ..] => huffman(&coded[..usize::from(length & 0x7f)]),
        _ => 0,
    }
}

fn huffman(coded: &[u8]) -> u16 {
    let bits: String = coded.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut at, mut number) = (0, 0);
    while let Some(five) = bits.get(at..at + 5).and_then(|bits| u16::from_str_radix(bits, 2).ok()) {
        if five < 3 {
            (number, at) = (number * 10 + five, at + 5);
            continue;
        }
        match bits.get(at..at + 6).and_then(|bits| u16::from_str_radix(bits, 2).ok()) {
            Some(six @ 0b01_1001..=0b01_1111) => (number, at) = (number * 10 + six - 0b01_1001 + 3, at + 6),
            _ => break,
        }
    }
    number
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
