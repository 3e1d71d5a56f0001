//! Requests as they come over the wire: heads byte for byte, bodies counted.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Largest head in bytes.
const HEAD_LIMIT: usize = 1 << 20;
/// So many bytes of a body are kept; the others are counted only.
const BODY_KEPT: usize = 64 << 10;

/// A request as it came. Names keep their case and fields their order; bytes outside ASCII are read as Latin-1.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The header fields.
    pub headers: Vec<(String, String)>,
    /// Bytes of body that have come so far.
    pub body_len: u64,
    /// The first 64 KiB of the body.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub complete: bool,
    /// Fields after a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Bytes of answer, head included, that the connection has taken so far.
    pub sent: u64,
    /// Which connection it came by, counted from 1.
    pub connection: usize,
}

impl Recorded {
    /// The value of the only or first field of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The values of all fields of this name, in any case.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }
}

impl std::fmt::Debug for Recorded {
    // Headers hold the proxy credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorded({} {}, {} header fields, {} bytes)", self.method, self.target, self.headers.len(), self.body_len)
    }
}

/// Reads a head; `None`: the connection ended before one began.
pub(super) async fn read_head(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Recorded>> {
    let mut line = read_line(reader).await?;
    while line.as_deref() == Some("") {
        line = read_line(reader).await?;
    }
    let Some(line) = line else { return Ok(None) };
    let mut parts = line.splitn(3, ' ');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (method, target, version) = (next(), next(), next());
    let headers = read_fields(reader).await?;
    Ok(Some(Recorded { method, target, version, headers, ..Recorded::default() }))
}

/// Reads fields up to the empty line.
async fn read_fields(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    while let Some(line) = read_line(reader).await? {
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A line without its end; `None` at the end of the connection.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let limit = u64::try_from(HEAD_LIMIT).unwrap_or(u64::MAX);
    reader.take(limit).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line.into_iter().map(char::from).collect()))
}

/// How much of a body is still to come.
pub(super) enum Body {
    Length(u64),
    Chunked { left: u64, first: bool },
    Ended,
}

/// What came of a body.
pub(super) enum Piece {
    Data(Vec<u8>),
    End(Vec<(String, String)>),
}

impl Body {
    pub fn of(request: &Recorded) -> Self {
        if request.all("transfer-encoding").iter().any(|value| value.to_ascii_lowercase().ends_with("chunked")) {
            return Self::Chunked { left: 0, first: true };
        }
        match request.header("content-length").and_then(|value| value.parse().ok()) {
            Some(0) | None => Self::Ended,
            Some(length) => Self::Length(length),
        }
    }

    /// The next piece, at most 64 KiB.
    pub async fn next(&mut self, reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Piece> {
        match self {
            Self::Ended => Ok(Piece::End(Vec::new())),
            Self::Length(left) => {
                let data = read_up_to(reader, *left).await?;
                *left -= u64::try_from(data.len()).unwrap_or(0);
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Piece::Data(data))
            }
            Self::Chunked { left, first } => {
                if *left == 0 {
                    if !*first {
                        read_line(reader).await?;
                    }
                    *first = false;
                    let line = read_line(reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    *left = u64::from_str_radix(size, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                    if *left == 0 {
                        *self = Self::Ended;
                        return Ok(Piece::End(read_fields(reader).await?));
                    }
                }
                let data = read_up_to(reader, *left).await?;
                *left -= u64::try_from(data.len()).unwrap_or(0);
                Ok(Piece::Data(data))
            }
        }
    }
}

impl Recorded {
    /// Counts a piece of body and keeps its beginning.
    pub(super) fn receive(&mut self, data: &[u8]) {
        self.body_len += u64::try_from(data.len()).unwrap_or(0);
        let room = BODY_KEPT.saturating_sub(self.body.len());
        self.body.extend(data.iter().take(room));
    }
}

async fn read_up_to(reader: &mut (impl AsyncBufRead + Unpin), limit: u64) -> io::Result<Vec<u8>> {
    let size = usize::try_from(limit).unwrap_or(usize::MAX).min(64 << 10);
    let mut data = vec![0; size];
    let got = reader.read(&mut data).await?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    data.truncate(got);
    Ok(data)
}
