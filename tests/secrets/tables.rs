//! HTTP/2 keeps fields that it has seen in tables, on both sides of a connection that many requests share. Secrets are sent as literals that no table takes
//! (RFC 7541, 6.2.3 and 7.1.3), which is looked for in the octets on the wire.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use uma_gateway::app::{Gateway, Options};
use uma_gateway::config;
use uma_gateway::demo::authorization_server::{self, AuthorizationServer};

use crate::world::until;

/// Places in the static table (RFC 7541, appendix A); 0: the name is written out.
const COOKIE_NAME: u64 = 32;
const SET_COOKIE_NAME: u64 = 55;
const WWW_AUTHENTICATE_NAME: u64 = 61;
const WRITTEN_OUT: u64 = 0;

/// A stream that keeps what is read.
struct Recorded {
    stream: TcpStream,
    read: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Recorded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.read.lock().expect("no panic").extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Reads integers and strings of HPACK (RFC 7541, 5).
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn integer(&mut self, bits: u32) -> u64 {
        let most = (1_u64 << bits) - 1;
        let mut value = u64::from(self.0[0]) & most;
        self.0 = &self.0[1..];
        let mut shift = 0;
        while value >= most {
            let octet = u64::from(self.0[0]);
            self.0 = &self.0[1..];
            value += (octet & 127) << shift;
            shift += 7;
            if octet & 128 == 0 {
                break;
            }
        }
        value
    }

    fn skip_text(&mut self) {
        let length = usize::try_from(self.integer(7)).expect("small");
        self.0 = &self.0[length..];
    }

    /// The name of a literal: its place in a table, or 0.
    fn literal(&mut self, bits: u32) -> u64 {
        let name = self.integer(bits);
        if name == 0 {
            self.skip_text();
        }
        self.skip_text();
        name
    }
}

/// The names of the fields of a head that are never to be put into a table.
fn never_indexed(block: &[u8]) -> Vec<u64> {
    let mut reader = Reader(block);
    let mut names = Vec::new();
    while let Some(first) = reader.0.first() {
        match first {
            128.. => drop(reader.integer(7)),
            64.. => drop(reader.literal(6)),
            32.. => drop(reader.integer(5)),
            16.. => names.push(reader.literal(4)),
            _ => drop(reader.literal(4)),
        }
    }
    names
}

/// The heads of all frames, after so many octets (RFC 9113, 4.1 and 6.2).
fn heads(octets: &[u8], after: usize) -> Vec<Vec<u64>> {
    let (mut rest, mut heads) = (octets.get(after..).unwrap_or_default(), Vec::new());
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let (kind, flags) = (rest[3], rest[4]);
        let Some(payload) = rest.get(9..9 + length) else { break };
        if kind == 1 {
            let padding = if flags & 8 > 0 { usize::from(payload[0]) } else { 0 };
            let begin = usize::from(flags & 8 > 0) + if flags & 32 > 0 { 5 } else { 0 };
            heads.push(never_indexed(&payload[begin..length - padding]));
        }
        rest = &rest[9 + length..];
    }
    heads
}

/// A content server that speaks HTTP/2 and gives everybody a cookie.
async fn content_server() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, read) = (listener.local_addr().expect("an address"), Arc::<Mutex<Vec<u8>>>::default());
    let kept = Arc::clone(&read);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::handshake(Recorded { stream, read: kept }).await.expect("HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let answer = Response::builder().header(SET_COOKIE, "session=secret-of-the-server").body(()).expect("an answer");
            respond.send_response(answer, true).expect("it can be sent");
        }
    });
    (address, read)
}

fn gateway(content: SocketAddr, issuer: &str) -> Gateway {
    let text = format!(
        r#"version: 1
listeners: [ {{ address: 127.0.0.1:0, h2c: true }} ]
authorization_servers:
  server: {{ issuer: "{issuer}", client: {{ id: content-gateway, secret: {{ env: CLIENT }} }} }}
upstreams:
  content: {{ servers: [ "http://{content}" ], protocol: h2, credentials: {{ headers: {{ X-Upstream-Key: {{ env: KEY }} }} }} }}
routes:
  - {{ path: /albums/**, protect: {{ resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view] }} }} }}
  - {{ path: /public/**, public: true }}
"#
    );
    let environment = |name: &str| Some(if name == "CLIENT" { "gateway-secret" } else { "secret-of-the-gateway" }.to_owned());
    let config = config::parse(&text, std::path::Path::new("gateway.yaml"), &environment).unwrap_or_else(|problems| panic!("{problems}"));
    Gateway::start(config, &Options { log: Some(|| Box::new(std::io::sink())), ..Options::default() }).expect("it starts")
}

#[tokio::test]
async fn no_table_of_http2_takes_a_secret() {
    let server = AuthorizationServer::start(authorization_server::Options::default()).await.expect("a port is free");
    server.control().register("alice", "vacation", &["view"]);
    let (content, upstream) = content_server().await;
    let gateway = gateway(content, server.issuer());
    until("the gateway is ready", async || gateway.is_ready().then_some(())).await;
    let read = Arc::<Mutex<Vec<u8>>>::default();
    let stream = TcpStream::connect(gateway.address(0).expect("a listener")).await.expect("it listens");
    let (mut client, connection) = h2::client::handshake(Recorded { stream, read: Arc::clone(&read) }).await.expect("HTTP/2");
    tokio::spawn(connection);
    for (path, status) in
        [("/public/a", StatusCode::OK), ("/public/b", StatusCode::OK), ("/albums/a", StatusCode::UNAUTHORIZED), ("/albums/b", StatusCode::UNAUTHORIZED)]
    {
        let request = Request::get(format!("http://gateway.example.org{path}")).header(COOKIE, "session=secret-of-the-client").body(()).expect("a request");
        client = client.ready().await.expect("an open connection");
        let (answer, _) = client.send_request(request, true).expect("it can be sent");
        assert_eq!(answer.await.expect("an answer").status(), status, "{path}");
    }
    // The client's preface comes before its frames.
    let asked = heads(&upstream.lock().expect("no panic"), 24);
    assert_eq!(asked.len(), 2);
    for mut head in asked {
        head.sort_unstable();
        assert_eq!(head, [WRITTEN_OUT, COOKIE_NAME], "the gateway's key and the client's cookie");
    }
    let answered = heads(&read.lock().expect("no panic"), 0);
    let names: Vec<u64> = answered.into_iter().flatten().collect();
    assert_eq!(names, [SET_COOKIE_NAME, SET_COOKIE_NAME, WWW_AUTHENTICATE_NAME, WWW_AUTHENTICATE_NAME], "cookies of the server, then tickets");
}
