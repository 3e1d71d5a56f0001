//! A door to Keycloak: forwards connections byte for byte, notes each request that goes through, and refuses connections while it is shut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Runs until it is dropped.
pub struct Forwarder {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<String>>>,
    wanted: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forwarder {
    /// Forwards to `target` from a port of its own.
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::default();
        let (wanted, wish) = watch::channel(true);
        let (status, listening) = watch::channel(true);
        let task = tokio::spawn(run(listener, address, target, Arc::clone(&calls), wish, status));
        Self { address, calls, wanted, listening, task }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests that went through, as `POST /path`, in their order.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("no panic").clone()
    }

    /// How many requests went to an address that ends like this.
    pub fn calls_to(&self, end: &str) -> usize {
        self.calls().iter().filter(|call| call.ends_with(end)).count()
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.calls.lock().expect("no panic").clear();
    }

    /// Refuses from now on and breaks every connection.
    pub async fn shut(&self) {
        self.wanted.send_replace(false);
        self.listening.clone().wait_for(|listening| !*listening).await.expect("it runs");
    }

    /// Forwards again, from the same port.
    pub async fn open(&self) {
        self.wanted.send_replace(true);
        self.listening.clone().wait_for(|listening| *listening).await.expect("it runs");
    }
}

async fn run(
    listener: TcpListener,
    address: SocketAddr,
    target: String,
    calls: Arc<Mutex<Vec<String>>>,
    mut wish: watch::Receiver<bool>,
    status: watch::Sender<bool>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if !*wish.borrow_and_update() {
            drop(listener.take());
            // It refuses, and nobody else gets the port meanwhile.
            let held = TcpSocket::new_v4().expect("a socket");
            held.set_reuseaddr(true).and_then(|()| held.bind(address)).expect("the same port again");
            connections.shutdown().await;
            status.send_replace(false);
            if wish.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            listener = Some(held.listen(1024).expect("nobody else listens"));
        }
        let Some(open) = listener.take() else { return };
        status.send_replace(true);
        tokio::select! {
            Ok((stream, _)) = open.accept() => {
                connections.spawn(forward(stream, target.clone(), Arc::clone(&calls)));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            changed = wish.changed() => if changed.is_err() {
                return;
            },
        }
        listener = Some(open);
    }
}

async fn forward(mut stream: TcpStream, target: String, calls: Arc<Mutex<Vec<String>>>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = stream.split();
    let (mut from_server, mut to_server) = server.split();
    let there = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_client.read(&mut piece).await {
            // The gateway sends one request at a time on a connection, so each head begins a piece; no form or JSON begins like one.
            if let Some(call) = request_line(&piece[..length]) {
                calls.lock().expect("no panic").push(call);
            }
            if to_server.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    };
    let back = async { drop(tokio::io::copy(&mut from_server, &mut to_client).await) };
    tokio::select! { () = there => {}, () = back => {} }
}

fn request_line(piece: &[u8]) -> Option<String> {
    let line = piece.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_suffix(" HTTP/1.1")?;
    Some(line.split('?').next().unwrap_or(line).to_owned())
}
