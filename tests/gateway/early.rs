//! Answers over HTTP/2 that come before their request is whole (RFC 9113, 8.1): they arrive, and what the client still sends holds up nobody.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{LINK, PATIENCE, Setup, World};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// More than the gateway reads of a request that it has refused.
const TOO_MUCH: usize = 8 * MIB;

async fn client(world: &World) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(TcpStream::connect(world.address()).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// An upload that has begun.
struct Upload {
    answer: ResponseFuture,
    stream: SendStream<Bytes>,
}

async fn put(client: &SendRequest<Bytes>, path: &str, token: Option<&str>) -> Upload {
    let mut request = Request::put(format!("http://gateway.example.org{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut client = timeout(PATIENCE, client.clone().ready()).await.expect("room for a stream").expect("the connection stands");
    let (answer, stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    Upload { answer, stream }
}

async fn get(client: &SendRequest<Bytes>, path: &str) -> u16 {
    let mut client = client.clone().ready().await.expect("the connection stands");
    let (answer, _) = client.send_request(Request::get(format!("http://gateway.example.org{path}")).body(()).unwrap(), true).unwrap();
    whole(answer).await.0
}

/// An answer's status, and its body to the end.
async fn whole(answer: ResponseFuture) -> (u16, usize) {
    let read = async {
        let (head, mut body) = answer.await.expect("an answer").into_parts();
        (head.status.as_u16(), drain(&mut body).await.expect("a whole body"))
    };
    timeout(PATIENCE, read).await.expect("in time")
}

async fn drain(body: &mut RecvStream) -> Result<usize, h2::Error> {
    let mut bytes = 0;
    while let Some(piece) = body.data().await {
        let size = piece?.len();
        bytes += size;
        body.flow_control().release_capacity(size)?;
    }
    Ok(bytes)
}

/// Sends so many bytes, as there is room for them; the reason when the stream is reset first.
async fn pour(stream: &mut SendStream<Bytes>, bytes: usize) -> Result<(), Reason> {
    let pouring = async {
        let mut left = bytes;
        while left > 0 {
            stream.reserve_capacity(left.min(16 * KIB));
            let room = poll_fn(|context| {
                if let Poll::Ready(reason) = stream.poll_reset(context) {
                    return Poll::Ready(Err(reason.expect("the connection stands")));
                }
                Poll::Ready(Ok(ready!(stream.poll_capacity(context)).map_or(0, Result::unwrap_or_default)))
            });
            let piece = room.await?.min(left);
            stream.send_data(Bytes::from(vec![b'x'; piece]), false).map_err(|error| error.reason().unwrap_or(Reason::STREAM_CLOSED))?;
            left -= piece;
        }
        Ok(())
    };
    timeout(PATIENCE, pouring).await.expect("there is room")
}

/// Until the other side resets the stream.
async fn reset(stream: &mut SendStream<Bytes>) -> Reason {
    timeout(PATIENCE, poll_fn(|context| stream.poll_reset(context))).await.expect("it is reset").expect("the connection stands")
}

fn h2c() -> Setup {
    Setup::default().listener("h2c: true")
}

#[tokio::test]
async fn a_client_that_ends_its_upload_after_the_refusal_is_not_reset() {
    let world = h2c().limits("{ off_for: [127.0.0.1/32], body: 1MiB }").start().await;
    let client = client(&world).await;
    let rpt = world.rpt(&["view"]);
    for (path, token, first, status) in
        [(LINK, None, 32 * KIB, 401), (LINK, Some(rpt.as_str()), 32 * KIB, 401), ("/nowhere", None, 32 * KIB, 404), ("/public/a", None, 2 * MIB, 413)]
    {
        let (mut stream, mut rest);
        let mut rounds = 0;
        // The gateway reads on for two seconds only: on a slow machine they may be over.
        loop {
            let upload = put(&client, path, token).await;
            stream = upload.stream;
            pour(&mut stream, first).await.unwrap();
            assert_eq!(whole(upload.answer).await.0, status, "{path}");
            rest = pour(&mut stream, MIB).await;
            rounds += 1;
            if rest != Err(Reason::NO_ERROR) || rounds == 3 {
                break;
            }
        }
        assert_eq!(rest, Ok(()), "{path}: {status}");
        stream.send_data(Bytes::new(), true).unwrap();
        // What comes behind it on the connection shows that nothing came for it.
        assert_eq!(get(&client, "/public/welcome.txt").await, 200);
        let after = poll_fn(|context| Poll::Ready(stream.poll_reset(context).map(Result::ok))).await;
        assert!(matches!(after, Poll::Pending | Poll::Ready(None)), "{path}: {after:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_end_its_upload_after_the_refusal_is_reset_and_others_go_on() {
    let world = h2c().start().await;
    let client = client(&world).await;
    let Upload { answer, mut stream } = put(&client, LINK, None).await;
    assert_eq!(whole(answer).await.0, 401);
    assert_eq!(pour(&mut stream, TOO_MUCH).await, Err(Reason::NO_ERROR), "so much is not read");
    let Upload { answer, mut stream } = put(&client, LINK, None).await;
    assert_eq!(whole(answer).await.0, 401);
    assert_eq!(reset(&mut stream).await, Reason::NO_ERROR, "nor for so long");
    assert_eq!(get(&client, "/public/welcome.txt").await, 200);
    assert_eq!(world.upstream().hits(), 1);
}

#[tokio::test]
async fn refused_uploads_take_no_room_from_one_that_passes() {
    let world = h2c().start().await;
    let client = client(&world).await;
    let rpt = world.rpt(&["edit"]);
    let mut refused = Vec::new();
    for _ in 0..40 {
        let mut upload = put(&client, LINK, None).await;
        // As much as the stream has room for; of the connection's, all that there is several times over.
        pour(&mut upload.stream, 64 * KIB).await.unwrap();
        refused.push(upload);
    }
    let Upload { answer, mut stream } = put(&client, LINK, Some(&rpt)).await;
    pour(&mut stream, 2 * MIB).await.unwrap();
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(answer).await.0, 204);
    assert_eq!(world.upstream().last().expect("one request").body_len, 2 * MIB as u64);
    for upload in refused {
        assert_eq!(whole(upload.answer).await.0, 401);
    }
}

#[tokio::test]
async fn a_refused_upload_does_not_hold_up_the_end_of_the_gateway() {
    let long = Duration::from_secs(3600);
    let world = h2c().settings(|settings| settings.drain = long).start().await;
    let client = client(&world).await;
    let mut uploads = Vec::new();
    for _ in 0..10 {
        let upload = put(&client, LINK, None).await;
        assert_eq!(whole(upload.answer).await.0, 401);
        uploads.push(upload.stream);
    }
    let World { gateway, .. } = world;
    timeout(PATIENCE, tokio::task::spawn_blocking(move || gateway.stop(long))).await.expect("it ends").unwrap();
    drop(uploads);
}

/// What an upload to `/early` gets as an answer.
const ANSWER: usize = 300 * KIB;

/// A content server of HTTP/2. Below `/early` it gives its whole answer at once, and resets the stream (RFC 9113, 8.1) or, at `/early/held`, only holds it;
/// what it holds is in the list. It reads everything else. Beside its address, how many connections it has had.
async fn early_server() -> (SocketAddr, Arc<AtomicUsize>, Held) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, held) = (Arc::new(AtomicUsize::new(0)), Held::default());
    let (count, holds) = (Arc::clone(&connections), Arc::clone(&held));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let holds = Arc::clone(&holds);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let holds = Arc::clone(&holds);
                    tokio::spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let early = head.uri.path().starts_with("/early");
                        if !early && drain(&mut body).await.is_err() {
                            return;
                        }
                        let status = if early { 413 } else { 200 };
                        let mut answer = respond.send_response(Response::builder().status(status).body(()).unwrap(), false).unwrap();
                        answer.send_data(Bytes::from(vec![b'y'; ANSWER]), true).unwrap();
                        if head.uri.path() == "/early/held" {
                            holds.lock().unwrap().push(body);
                        }
                    });
                }
            });
        }
    });
    (address, connections, held)
}

/// Requests that nobody reads.
type Held = Arc<Mutex<Vec<RecvStream>>>;

/// So long may the server take over an answer, and over what it does not read of a request that it has answered.
async fn early_world(address: SocketAddr, response: &str, setup: Setup) -> World {
    let upstream = format!("early: {{ servers: [ \"http://{address}\" ], protocol: h2, timeouts: {{ response: {response} }} }}");
    setup
        .another_upstream(&upstream)
        .route("{ path: /early/**, upstream: early, public: true }")
        .route("{ path: /late, upstream: early, public: true }")
        .start()
        .await
}

#[tokio::test]
async fn an_upstream_of_http2_that_answers_before_the_upload_ends_is_heard_whole_and_no_window_is_lost() {
    let (address, connections, _) = early_server().await;
    let world = early_world(address, "60s", h2c()).await;
    let client = client(&world).await;
    for _ in 0..40 {
        let Upload { answer, mut stream } = put(&client, "/early/reset", None).await;
        let (answer, poured) = tokio::join!(whole(answer), pour(&mut stream, 256 * KIB));
        assert_eq!((answer, poured), ((413, ANSWER), Ok(())));
    }
    // More than any window on the way.
    let Upload { answer, mut stream } = put(&client, "/late", None).await;
    pour(&mut stream, 4 * MIB).await.unwrap();
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(answer).await, (200, ANSWER));
    assert_eq!(connections.load(Ordering::Relaxed), 1, "all went over one connection");
}

#[tokio::test]
async fn an_upload_that_the_upstream_neither_reads_nor_resets_after_its_answer_is_let_go() {
    let (address, connections, held) = early_server().await;
    let world = early_world(address, "4s", h2c()).await;
    let client = client(&world).await;
    let mut uploads = Vec::new();
    for _ in 0..5 {
        uploads.push(put(&client, "/early/held", None).await);
    }
    let uploads = join_all(uploads.into_iter().map(async |Upload { answer, mut stream }| {
        // More than the upstream's stream has room for.
        let (answer, poured) = tokio::join!(whole(answer), pour(&mut stream, 96 * KIB));
        assert_eq!((answer, poured), ((413, ANSWER), Ok(())));
        stream
    }))
    .await;
    // The upstream's stream is cancelled, and the client's reset.
    let requests = std::mem::take(&mut *held.lock().unwrap());
    assert_eq!(requests.len(), 5);
    for mut request in requests {
        let end = timeout(PATIENCE, drain(&mut request)).await.expect("it ends");
        assert_eq!(end.expect_err("it was not whole").reason(), Some(Reason::CANCEL));
    }
    for mut stream in uploads {
        assert_eq!(reset(&mut stream).await, Reason::NO_ERROR);
    }
    let Upload { answer, mut stream } = put(&client, "/late", None).await;
    pour(&mut stream, 2 * MIB).await.unwrap();
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(answer).await, (200, ANSWER));
    assert_eq!(connections.load(Ordering::Relaxed), 1, "all went over one connection");
}
