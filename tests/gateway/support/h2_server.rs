//! A content server of HTTP/2 that is written frame by frame, so that it can turn requests away as real ones do: GOAWAY, RST_STREAM, silence.
//!
//! What it serves it answers 200 with the request's own body. Heads of requests are not read: what it does depends on the connection and on the request's
//! place on it, both counted from 1.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// What the server does with a request, when its head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Answers it.
    Serve,
    /// Answers it, says that it is the last one of this connection, and heeds no further one.
    ServeLast,
    /// Says that the one before was the last, and heeds neither it nor a further one.
    LeaveOut,
    /// Resets its stream with this code (RFC 9113, 7), now or when so many octets of its body have come.
    Reset(u32, usize),
    /// Does nothing, and gives no more room for its body either.
    Ignore,
}

/// The server, and what it remembers.
#[derive(Clone)]
pub struct H2Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    heads: usize,
    most: usize,
    served: Vec<Vec<u8>>,
}

impl H2Server {
    pub async fn start(script: impl Fn(usize, usize) -> Deed + Send + Sync + 'static) -> Self {
        Self::with_settings(&[], script).await
    }

    /// With these settings (RFC 9113, 6.5.1).
    pub async fn with_settings(settings: &[(u16, u32)], script: impl Fn(usize, usize) -> Deed + Send + Sync + 'static) -> Self {
        let settings =
            frame(SETTINGS, 0, 0, &settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect::<Vec<u8>>());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let server = Self { address: listener.local_addr().expect("it has one"), seen: Arc::default() };
        let (script, seen) = (Arc::new(script), Arc::clone(&server.seen));
        tokio::spawn(async move {
            for number in 1.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                seen.lock().unwrap().connections = number;
                let (script, seen, settings) = (Arc::clone(&script), Arc::clone(&seen), settings.clone());
                tokio::spawn(async move {
                    let talk = Talk { stream, seen, requests: 0, last: 0, left: false, open: BTreeMap::new() };
                    let _ = talk.run(&settings, |request| script(number, request)).await;
                });
            }
        });
        server
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Heads of requests so far, also of those that were not heeded.
    pub fn heads(&self) -> usize {
        self.seen.lock().unwrap().heads
    }

    /// Requests at a time on one connection, at most so far.
    pub fn most(&self) -> usize {
        self.seen.lock().unwrap().most
    }

    /// The bodies of all requests that were answered, in order of their octets.
    pub fn served(&self) -> Vec<Vec<u8>> {
        let mut served = self.seen.lock().unwrap().served.clone();
        served.sort();
        served
    }
}

/// One connection.
struct Talk {
    stream: TcpStream,
    seen: Arc<Mutex<Seen>>,
    requests: usize,
    last: u32,
    left: bool,
    open: BTreeMap<u32, (Deed, Vec<u8>)>,
}

impl Talk {
    async fn run(mut self, settings: &[u8], script: impl Fn(usize) -> Deed) -> std::io::Result<()> {
        self.stream.write_all(settings).await?;
        let mut preface = [0; 24];
        self.stream.read_exact(&mut preface).await?;
        assert_eq!(preface, PREFACE);
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).await?;
            let (kind, flags, stream) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            match kind {
                SETTINGS if flags & 1 == 0 => self.stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
                PING if flags & 1 == 0 => self.stream.write_all(&frame(PING, 1, 0, &payload)).await?,
                HEADERS => self.head(stream, &script).await?,
                DATA => self.data(stream, &payload).await?,
                RST_STREAM => drop(self.open.remove(&stream)),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & 1 == 1 {
                self.end(stream).await?;
            }
            if self.left && self.open.is_empty() {
                // As real servers do: nobody is told less because something was still on the way.
                self.stream.shutdown().await?;
                let mut rest = [0; 4096];
                while self.stream.read(&mut rest).await? > 0 {}
                return Ok(());
            }
        }
    }

    /// A request begins.
    async fn head(&mut self, stream: u32, script: impl Fn(usize) -> Deed) -> std::io::Result<()> {
        self.seen.lock().unwrap().heads += 1;
        if self.left {
            return Ok(());
        }
        self.requests += 1;
        let deed = script(self.requests);
        match deed {
            Deed::LeaveOut | Deed::ServeLast => {
                if deed == Deed::ServeLast {
                    self.last = stream;
                }
                self.left = true;
                self.stream.write_all(&frame(GOAWAY, 0, 0, &[self.last.to_be_bytes(), 0_u32.to_be_bytes()].concat())).await?;
            }
            _ => self.last = stream,
        }
        if deed != Deed::LeaveOut {
            self.open.insert(stream, (deed, Vec::new()));
            self.note();
            self.reset(stream).await?;
        }
        Ok(())
    }

    fn note(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.most = seen.most.max(self.open.len());
    }

    async fn data(&mut self, stream: u32, piece: &[u8]) -> std::io::Result<()> {
        let deed = self.open.get_mut(&stream).map(|(deed, body)| {
            body.extend(piece);
            *deed
        });
        if deed != Some(Deed::Ignore) && !piece.is_empty() {
            let more = u32::try_from(piece.len()).unwrap().to_be_bytes();
            let both = if deed.is_some() {
                [frame(WINDOW_UPDATE, 0, 0, &more), frame(WINDOW_UPDATE, 0, stream, &more)].concat()
            } else {
                frame(WINDOW_UPDATE, 0, 0, &more)
            };
            self.stream.write_all(&both).await?;
        }
        self.reset(stream).await
    }

    async fn reset(&mut self, stream: u32) -> std::io::Result<()> {
        if let Some((Deed::Reset(code, after), body)) = self.open.get(&stream)
            && body.len() >= *after
        {
            self.stream.write_all(&frame(RST_STREAM, 0, stream, &code.to_be_bytes())).await?;
            self.open.remove(&stream);
        }
        Ok(())
    }

    async fn end(&mut self, stream: u32) -> std::io::Result<()> {
        if matches!(self.open.get(&stream), Some((Deed::Serve | Deed::ServeLast, _)))
            && let Some((_, body)) = self.open.remove(&stream)
        {
            // 0x88: `:status 200` (RFC 7541, A).
            let mut answer = frame(HEADERS, 4, stream, &[0x88]);
            body.chunks(16 * 1024).for_each(|piece| answer.extend(frame(DATA, 0, stream, piece)));
            answer.extend(frame(DATA, 1, stream, &[]));
            self.seen.lock().unwrap().served.push(body);
            self.stream.write_all(&answer).await?;
        }
        Ok(())
    }
}

/// A frame as it is sent (RFC 9113, 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
