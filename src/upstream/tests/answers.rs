//! Tests of answers: what is passed over, what is refused, and when a connection survives its answer.

use super::*;

#[tokio::test]
async fn interim_answers_are_passed_over() {
    on_worker(async {
        let all = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let mut world = World::new(Timeouts::default(), move |connection| connection.always(all)).await;
        let answer = world.get().await.unwrap();
        assert!(!answer.headers().contains_key("link"));
        assert_eq!(read(answer).await.unwrap(), "ok");
        assert_eq!(world.text().await.unwrap(), "ok");
        assert_eq!(world.connections(), [1, 1]);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_refused_takes_its_connection_with_it() {
    on_worker(async {
        let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(2 << 20));
        let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: 1\r\n".repeat(300));
        for bad in [
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nBad Name: 1\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 999 Huh\r\nContent-Length: 0\r\n\r\n",
            "SSH-2.0-OpenSSH_9.6\r\n",
            &large,
            &many,
        ] {
            let text = bad.to_owned();
            let script = move |connection: Connection| {
                let text = if connection.number == 1 { text.clone() } else { OK.to_owned() };
                async move { connection.always(&text).await }
            };
            let mut world = World::new(Timeouts::default(), script).await;
            let start: String = bad.chars().take(90).collect();
            assert!(matches!(world.get().await, Err(Rejection::BadUpstream)), "{start}");
            assert_eq!(world.text().await.unwrap(), "ok", "{start}");
            assert_eq!(world.connections(), [1, 2], "{start}");
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_an_answer_never_answer_the_next_request() {
    on_worker(async {
        let script = |connection: Connection| async move {
            let more = if connection.number == 1 { "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" } else { "" };
            connection.always(&format!("{OK}{more}")).await;
        };
        let mut world = World::new(Timeouts::default(), script).await;
        assert_eq!(world.text().await.unwrap(), "ok");
        assert_eq!(world.text().await.unwrap(), "ok");
        assert_eq!(world.connections(), [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn the_upstreams_challenge_is_kept_back() {
    on_worker(async {
        let text = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"inner\"\r\nContent-Length: 0\r\n\r\n";
        let mut world = World::new(Timeouts::default(), move |connection| connection.always(text)).await;
        assert!(matches!(world.get().await, Err(Rejection::UpstreamCredentialRefused)));
    })
    .await;
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection() {
    on_worker(async {
        let script = |mut connection: Connection| async move {
            while let Some(head) = connection.head().await {
                let answer = match head.split(' ').next() {
                    Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
                    Some("DELETE") => "HTTP/1.1 204 No Content\r\n\r\n",
                    _ => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 100\r\n\r\n",
                };
                connection.say(answer).await;
            }
        };
        let mut world = World::new(Timeouts::default(), script).await;
        for (method, length) in [(Method::HEAD, Some("100")), (Method::DELETE, None), (Method::GET, None)] {
            let answer = world.send(method, Body::empty()).await.unwrap();
            assert_eq!(answer.headers().get("content-length").map(|value| value.to_str().unwrap()), length);
            assert_eq!(read(answer).await.unwrap(), "");
        }
        assert_eq!(world.connections(), [1, 1, 1]);
    })
    .await;
}

#[tokio::test]
async fn a_204_that_announces_a_body_leaves_its_connection_to_nobody() {
    on_worker(async {
        for (fields, connections) in [("Content-Length: 5", [1, 2]), ("Transfer-Encoding: chunked", [1, 2]), ("Content-Length: 0", [1, 1]), ("X: y", [1, 1])] {
            let script = move |connection: Connection| async move { connection.always(&format!("HTTP/1.1 204 No Content\r\n{fields}\r\n\r\n")).await };
            let mut world = World::new(Timeouts::default(), script).await;
            for _ in 0..2 {
                let answer = world.get().await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.headers().get("content-length")), (204, None), "{fields}");
                assert_eq!(read(answer).await.unwrap(), "", "{fields}");
            }
            assert_eq!(world.connections(), connections, "{fields}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cut_answer_is_an_error_and_one_that_ends_with_the_connection_is_not() {
    on_worker(async {
        for (text, whole) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\n\r\nabc", true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", true),
        ] {
            let script = move |mut connection: Connection| async move {
                connection.head().await;
                connection.say(text).await;
            };
            let mut world = World::new(Timeouts::default(), script).await;
            assert_eq!(world.text().await.ok().as_deref(), whole.then_some("abc"), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_malformed_from_its_first_chunk_on_is_none() {
    on_worker(async {
        for chunk in ["nonsense\r\n", "\r\n", "5\nhello\r\n", "0\r\nno field\r\n\r\n"] {
            let script = move |connection: Connection| async move {
                let text = if connection.number == 1 { format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}") } else { OK.to_owned() };
                connection.always(&text).await;
            };
            let mut world = World::new(Timeouts::default(), script).await;
            assert!(matches!(world.get().await, Err(Rejection::BadUpstream)), "{chunk:?}");
            assert_eq!(world.text().await.unwrap(), "ok", "{chunk:?}");
            assert_eq!(world.connections(), [1, 2], "{chunk:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn interim_answers_without_an_end_are_none() {
    on_worker(async {
        let script = |connection: Connection| async move {
            let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
            let text = if connection.number == 1 { interim.repeat(8_000) } else { format!("{}{OK}", interim.repeat(2_000)) };
            connection.always(&text).await;
        };
        let mut world = World::new(Timeouts::default(), script).await;
        assert!(matches!(world.get().await, Err(Rejection::BadUpstream)));
        assert_eq!(world.text().await.unwrap(), "ok");
        assert_eq!(world.text().await.unwrap(), "ok", "they are counted for each request");
        assert_eq!(world.connections(), [1, 2, 2]);
    })
    .await;
}

#[tokio::test]
async fn nothing_that_belongs_into_a_head_comes_in_trailers() {
    on_worker(async {
        let kept = "X-Sum: 1\r\nServer-Timing: db\r\nContent-Digest: sha-256=:x:\r\nETag: \"1\"\r\nGrpc-Status: 0\r\n";
        let dropped = "Set-Cookie: a=1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a\r\nConnection: x-sum\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
            Upgrade: h2c\r\nTrailer: X\r\nWWW-Authenticate: Basic\r\nAuthentication-Info: x\r\nX-Request-Id: theirs\r\nX-Forwarded-For: 10.0.0.1\r\n\
            Forwarded: for=x\r\nVia: 1.1 x\r\nTraceparent: 00\r\nCache-Control: public\r\nCDN-Cache-Control: public\r\nVary: *\r\nLocation: /x\r\n\
            Access-Control-Allow-Origin: *\r\nStrict-Transport-Security: max-age=0\r\nContent-Security-Policy: x\r\nContent-Encoding: gzip\r\n\
            Content-Type: text/html\r\nClear-Site-Data: *\r\nAlt-Svc: clear\r\nX-Accel-Redirect: /x\r\n";
        let text = format!("HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{dropped}{kept}\r\n");
        let mut world = World::new(Timeouts::default(), move |connection| {
            let text = text.clone();
            async move { connection.always(&text).await }
        })
        .await;
        for _ in 0..2 {
            let all = world.get().await.unwrap().into_body().collect().await.unwrap();
            let mut names: Vec<_> = all.trailers().unwrap().keys().map(http::HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, ["content-digest", "etag", "grpc-status", "server-timing", "x-sum"]);
        }
        assert_eq!(world.connections(), [1, 1]);
    })
    .await;
}
