//! Connections of the content server: one request after the other, each recorded before it is answered.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Shared;
use super::message::{Body, Piece, Recorded, read_head};
use super::reply::{Answer, Content, Framing, Reading, Reply, What};

/// Bytes of a large body that are written at once.
const BLOCK: usize = 64 << 10;

/// Serves a connection to its end.
pub(super) async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let number = shared.note(|state| {
        state.connections += 1;
        state.open += 1;
        state.connections
    });
    let open = Open(Arc::clone(&shared));
    let (reader, writer) = stream.into_split();
    let mut connection = Connection { reader: BufReader::new(reader), writer, shared, number, at: 0 };
    // How a connection ends is the other side's business.
    while connection.exchange().await.unwrap_or(false) {}
    drop(open);
}

/// Counts a connection as open until it is dropped, however it ends.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.note(|state| state.open -= 1);
    }
}

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    shared: Arc<Shared>,
    number: usize,
    /// The place of the current request among the records.
    at: usize,
}

impl Connection {
    /// One request and its answer; whether another may come.
    async fn exchange(&mut self) -> io::Result<bool> {
        let Some(mut request) = read_head(&mut self.reader).await? else { return Ok(false) };
        request.connection = self.number;
        let mut body = Body::of(&request);
        request.complete = matches!(body, Body::Ended);
        let reply = self.shared.note(|state| {
            self.at = state.requests.len();
            let reply = state.answer(&request);
            state.requests.push(request.clone());
            reply
        });
        let read = self.read_body(&request, &reply, &mut body).await?;
        if let Some(gate) = &reply.gate {
            gate.passed().await;
        }
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay).await;
        }
        let stays = self.answer(&request, reply.kind, body).await?;
        Ok(stays && read && request.version == "HTTP/1.1" && request.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")))
    }

    /// Whether the body was read, so that another request may follow.
    async fn read_body(&mut self, request: &Recorded, reply: &Reply, body: &mut Body) -> io::Result<bool> {
        match &reply.reading {
            Reading::Never => return Ok(false),
            Reading::Behind(gate) => gate.passed().await,
            Reading::First => {}
        }
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if matches!(reply.kind, What::Echo | What::Switch(_)) {
            return Ok(true);
        }
        while self.next_piece(body).await?.is_some() {}
        Ok(true)
    }

    /// The next piece of the request's body, recorded.
    async fn next_piece(&mut self, body: &mut Body) -> io::Result<Option<Vec<u8>>> {
        let piece = body.next(&mut self.reader).await?;
        let ended = matches!(body, Body::Ended);
        match piece {
            Piece::Data(data) => {
                self.record(|request| {
                    request.receive(&data);
                    request.complete = ended;
                });
                Ok(Some(data))
            }
            Piece::End(trailers) => {
                self.record(|request| {
                    request.complete = true;
                    request.trailers.extend(trailers);
                });
                Ok(None)
            }
        }
    }

    async fn answer(&mut self, request: &Recorded, what: What, body: Body) -> io::Result<bool> {
        match what {
            What::Hang => {
                // Until the other side gives up.
                while self.reader.read(&mut [0; 1024]).await? > 0 {}
                Ok(false)
            }
            What::Close => Ok(false),
            What::Reset => {
                socket2::SockRef::from(self.writer.as_ref()).set_linger(Some(std::time::Duration::ZERO))?;
                Ok(false)
            }
            What::Raw(bytes) => {
                self.write(&bytes).await?;
                self.writer.shutdown().await?;
                Ok(false)
            }
            What::Switch(protocol) => self.tunnel(&protocol).await,
            What::Echo => self.echo(body).await,
            What::Answer(answer) => self.plain(request, &answer).await,
        }
    }

    async fn plain(&mut self, request: &Recorded, answer: &Answer) -> io::Result<bool> {
        self.write(&answer.informational).await?;
        let length = answer.content.len();
        let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        match answer.framing {
            Framing::Length if matches!(answer.status, 204 | 304) => {}
            Framing::Length => head.push_str(&format!("Content-Length: {length}\r\n")),
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => head.push_str("Connection: close\r\n"),
        }
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(head.as_bytes()).await?;
        if request.method != "HEAD" {
            self.content(answer, answer.cut.unwrap_or(length).min(length)).await?;
        }
        let whole = answer.cut.is_none() && answer.framing != Framing::UntilClose;
        if !whole {
            self.writer.shutdown().await?;
        }
        Ok(whole)
    }

    async fn content(&mut self, answer: &Answer, length: u64) -> io::Result<()> {
        let block = vec![b'x'; BLOCK];
        let mut done = 0;
        while done < length {
            let size = usize::try_from(length - done).unwrap_or(usize::MAX).min(BLOCK);
            let piece = match &answer.content {
                Content::Bytes(bytes) => {
                    let from = usize::try_from(done).unwrap_or(usize::MAX);
                    bytes.get(from..from + size).unwrap_or_default()
                }
                Content::Large(_) => block.get(..size).unwrap_or_default(),
            };
            self.piece(piece, answer.framing).await?;
            done += u64::try_from(size).unwrap_or(u64::MAX);
            if !answer.pause.is_zero() {
                tokio::time::sleep(answer.pause).await;
            }
        }
        if answer.framing == Framing::Chunked && answer.cut.is_none() {
            self.write(b"0\r\n\r\n").await?;
        }
        Ok(())
    }

    async fn piece(&mut self, data: &[u8], framing: Framing) -> io::Result<()> {
        if framing != Framing::Chunked {
            return self.write(data).await;
        }
        self.write(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        self.write(data).await?;
        self.write(b"\r\n").await
    }

    async fn echo(&mut self, mut body: Body) -> io::Result<bool> {
        self.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/octet-stream\r\n\r\n").await?;
        while let Some(data) = self.next_piece(&mut body).await? {
            self.piece(&data, Framing::Chunked).await?;
        }
        self.write(b"0\r\n\r\n").await?;
        Ok(true)
    }

    async fn tunnel(&mut self, protocol: &str) -> io::Result<bool> {
        self.write(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n").as_bytes()).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let got = self.reader.read(&mut buffer).await?;
            if got == 0 {
                return Ok(false);
            }
            self.write(buffer.get(..got).unwrap_or_default()).await?;
        }
    }

    /// Writes, and records how much of the answer the connection has taken.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.writer.write_all(bytes).await?;
        self.record(|request| request.sent += u64::try_from(bytes.len()).unwrap_or(0));
        Ok(())
    }

    fn record(&self, change: impl FnOnce(&mut Recorded)) {
        self.shared.note(|state| {
            if let Some(request) = state.requests.get_mut(self.at) {
                change(request);
            }
        });
    }
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Large(length) => *length,
        }
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}
