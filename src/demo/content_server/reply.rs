//! Answers that the content server can be told to give, the odd ones included.

use std::time::Duration;

use bytes::Bytes;

use crate::demo::Gate;

/// An answer. What is not set is as a plain server has it: the request's body is read first, then the answer goes out, and the connection stays.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) reading: Reading,
    pub(super) kind: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Answer(Answer),
    /// These bytes, then the connection ends.
    Raw(Bytes),
    /// The body comes back while it is being read.
    Echo,
    /// 101, then every byte comes back.
    Switch(String),
    Hang,
    Close,
    Reset,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub informational: Vec<u8>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub content: Content,
    pub framing: Framing,
    /// How many bytes of content are really sent.
    pub cut: Option<u64>,
    pub pause: Duration,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Bytes(Bytes),
    /// So many bytes, made while they are sent.
    Large(u64),
}

/// What happens to the body of the request.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    First,
    /// It is not read; the connection ends with the answer.
    Never,
    /// It is read once the gate is open; the answer comes after it.
    Behind(Gate),
}

/// How the end of an answer's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

impl Reply {
    const fn of(kind: What) -> Self {
        Self { delay: Duration::ZERO, gate: None, reading: Reading::First, kind }
    }

    fn answer(status: u16, content: Content, framing: Framing) -> Self {
        Self::of(What::Answer(Answer { informational: Vec::new(), status, headers: Vec::new(), content, framing, cut: None, pause: Duration::ZERO }))
    }

    /// 200 with a body.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::answer(200, Content::Bytes(body.into()), Framing::Length)
    }

    /// This status, with a short body where one may be.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let empty = matches!(status, 204 | 304);
        Self::answer(status, Content::Bytes(if empty { Bytes::new() } else { Bytes::from(format!("{status}\n")) }), Framing::Length)
    }

    /// 401 with a Basic challenge: the proxy credential is refused.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::status(401).header("WWW-Authenticate", "Basic realm=\"content\"")
    }

    /// 200 with so many bytes, which are made while they are sent.
    #[must_use]
    pub fn large(bytes: u64, framing: Framing) -> Self {
        Self::answer(200, Content::Large(bytes), framing)
    }

    /// 200 with `Transfer-Encoding: chunked`.
    #[must_use]
    pub fn chunked(body: impl Into<Bytes>) -> Self {
        Self::answer(200, Content::Bytes(body.into()), Framing::Chunked)
    }

    /// 200 without a length: the connection ends with the body.
    #[must_use]
    pub fn until_close(body: impl Into<Bytes>) -> Self {
        Self::answer(200, Content::Bytes(body.into()), Framing::UntilClose)
    }

    /// 200 that promises `promised` bytes and ends the connection after `sent`.
    #[must_use]
    pub fn truncated(promised: u64, sent: u64, framing: Framing) -> Self {
        let mut reply = Self::large(promised, framing);
        if let What::Answer(answer) = &mut reply.kind {
            answer.cut = Some(sent);
        }
        reply
    }

    /// 103 with a `Link`, then 200.
    #[must_use]
    pub fn early_hints() -> Self {
        Self::ok("hinted\n").informational("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n")
    }

    /// 101 to this protocol; from then on every byte comes back.
    #[must_use]
    pub fn switching(protocol: &str) -> Self {
        Self::of(What::Switch(protocol.to_owned()))
    }

    /// 200 whose body is that of the request, sent while it comes.
    #[must_use]
    pub const fn echo() -> Self {
        Self::of(What::Echo)
    }

    /// Exactly these bytes, HTTP or not; then the connection ends.
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::of(What::Raw(bytes.into()))
    }

    /// Something that is not HTTP.
    #[must_use]
    pub fn garbage() -> Self {
        Self::raw(&b"\x16\x03\x01 this is no HTTP\r\n\r\n"[..])
    }

    /// No answer, ever.
    #[must_use]
    pub const fn hang() -> Self {
        Self::of(What::Hang)
    }

    /// The connection ends without an answer.
    #[must_use]
    pub const fn close() -> Self {
        Self::of(What::Close)
    }

    /// The connection is reset without an answer.
    #[must_use]
    pub const fn reset() -> Self {
        Self::of(What::Reset)
    }

    /// A header field besides.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let What::Answer(answer) = &mut self.kind {
            answer.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// These bytes (a 1xx answer, say) before the answer.
    #[must_use]
    pub fn informational(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let What::Answer(answer) = &mut self.kind {
            answer.informational = bytes.into();
        }
        self
    }

    /// A pause after each piece of the body.
    #[must_use]
    pub fn slowly(mut self, pause: Duration) -> Self {
        if let What::Answer(answer) = &mut self.kind {
            answer.pause = pause;
        }
        self
    }

    /// The same, so much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, once the gate is open.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// The request's body is not read; the connection ends with the answer.
    #[must_use]
    pub fn without_reading(mut self) -> Self {
        self.reading = Reading::Never;
        self
    }

    /// The request's body is read once the gate is open; the answer comes after it.
    #[must_use]
    pub fn reading_behind(mut self, gate: &Gate) -> Self {
        self.reading = Reading::Behind(gate.clone());
        self
    }
}
