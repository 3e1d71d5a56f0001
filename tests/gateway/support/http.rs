//! HTTP/1.1 as a client writes and reads it, byte for byte, since a library would mend what a test wants to send.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

/// One connection to the gateway.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The 1xx answers that came before.
    pub informational: Vec<u16>,
}

impl Connection {
    pub async fn open(to: SocketAddr, from: Option<IpAddr>) -> Self {
        let Some(from) = from else { return Self::try_open(to).await.expect("the gateway listens") };
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("every address of 127.0.0.0/8 is ours");
        let stream = socket.connect(to).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("an open socket");
        Self { stream: BufReader::new(stream) }
    }

    /// Ends with a reset, so that there is nobody left who could wait for an answer.
    pub fn reset(self) {
        let stream = self.stream.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("an open socket");
    }

    /// The same where nobody may listen.
    pub async fn try_open(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The same where the connection may have ended.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the gateway reads");
    }

    /// The final answer.
    pub async fn answer(&mut self, to_head: bool) -> Answer {
        timeout(PATIENCE, self.read(to_head)).await.expect("an answer in time").expect("a whole answer")
    }

    /// The final answer, or how the connection failed.
    pub async fn read(&mut self, to_head: bool) -> std::io::Result<Answer> {
        let mut informational = Vec::new();
        loop {
            let (status, headers) = self.head().await?;
            if (100..200).contains(&status) {
                informational.push(status);
                continue;
            }
            let body = if to_head || matches!(status, 204 | 304) { Vec::new() } else { self.body(&headers).await? };
            return Ok(Answer { status, headers, body, informational });
        }
    }

    /// The head of the next answer, 1xx included.
    pub async fn head(&mut self) -> std::io::Result<(u16, HeaderMap)> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').expect("a field");
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_str(value.trim()).expect("a value"));
        }
    }

    async fn body(&mut self, headers: &HeaderMap) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let size = usize::from_str_radix(self.line().await?.split(';').next().unwrap_or_default(), 16).expect("a chunk's size");
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk).await?;
                self.line().await?;
                if size == 0 {
                    return Ok(body);
                }
                body.extend(chunk);
            }
        }
        match headers.get("content-length") {
            Some(length) => {
                body.resize(length.to_str().ok().and_then(|length| length.parse().ok()).expect("a length"), 0);
                self.stream.read_exact(&mut body).await?;
            }
            None => {
                self.stream.read_to_end(&mut body).await?;
            }
        }
        Ok(body)
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        if line.pop() != Some(b'\n') {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8(line).expect("text"))
    }

    /// Whether the gateway ends the connection, without a further byte.
    pub async fn ends(&mut self) -> bool {
        let mut rest = [0; 1];
        match timeout(PATIENCE, self.stream.read(&mut rest)).await {
            Ok(Ok(count)) => count == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }
}

impl Answer {
    /// A header's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }
}
