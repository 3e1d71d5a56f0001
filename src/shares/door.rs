//! The listener of the API: every request has an id and leaves a line, as those of other listeners do.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::{Body as _, Incoming};

use super::ID;
use super::api::Api;
use super::config::{Config, Where};
use super::registrar::Registrar;
use crate::admin::DoorError;
use crate::admin::serve::{Answer, Door, serve};
use crate::admin::socket::{SocketFile, open_address, open_socket};
use crate::listener::next_id;
use crate::response::X_REQUEST_ID;
use crate::routing::{Client, Counted, Peer, ServedHosts};
use crate::stack::Current;
use crate::telemetry::{Recorder, Telemetry};

/// A registration may take several calls to the authorization server.
const DEADLINE: Duration = Duration::from_secs(30);

/// A door that listens already.
#[derive(Debug)]
pub struct OpenShares(Listening);

#[derive(Debug)]
enum Listening {
    Socket(UnixListener, SocketFile),
    Address(std::net::TcpListener),
}

impl OpenShares {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be opened there.
    pub fn open(at: &Where) -> Result<Self, DoorError> {
        Ok(Self(match at {
            Where::Socket(path) => {
                let (listener, file) = open_socket(path)?;
                Listening::Socket(listener, file)
            }
            Where::Address(address) => Listening::Address(open_address(*address)?),
        }))
    }

    /// The address, where it has one: port 0 took any.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Listening::Socket(..) => None,
            Listening::Address(listener) => listener.local_addr().ok(),
        }
    }
}

/// What stands behind the listener. A reload replaces its configuration.
pub struct SharesDoor {
    config: RefCell<Arc<Config>>,
    registrar: Rc<Registrar>,
    current: Current,
    telemetry: Telemetry,
}

impl SharesDoor {
    /// With this configuration.
    #[must_use]
    pub fn new(config: Arc<Config>, registrar: Rc<Registrar>, current: Current, telemetry: Telemetry) -> Rc<Self> {
        registrar.prefer(config.server.identity);
        Rc::new(Self { config: RefCell::new(config), registrar, current, telemetry })
    }

    /// From now on requests are answered by this configuration.
    pub fn configure(&self, config: Arc<Config>) {
        self.registrar.prefer(config.server.identity);
        self.config.replace(config);
    }
}

impl Door for SharesDoor {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let config = Arc::clone(&self.config.borrow());
        // Whoever comes by a socket is on this machine.
        let address = request.extensions().get::<SocketAddr>().copied().unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let peer = Peer { address, local: address, scheme: "http", hosts: ServedHosts::default(), certificate: None, counted: Counted::default() };
        let client = Client::effective(&peer, request.headers(), &self.current.load().trusted_proxies);
        let recorder = Recorder::new(next_id(), request.method().clone(), Some(address.ip().to_canonical()), "http");
        recorder.with(|record| {
            record.client = Some(client.address());
            record.path = told(request.uri().path()).map(Box::from);
        });
        let line = Line { recorder: recorder.clone(), telemetry: self.telemetry.clone() };
        let api = Api { config, registrar: Rc::clone(&self.registrar), current: Arc::clone(&self.current), recorder, client };
        let mut answer = api.answer(request).await;
        answer.headers_mut().extend(line.recorder.id_value().map(|id| (X_REQUEST_ID, id)));
        line.answered(&answer);
        answer
    }
}

/// A path of the API. Whatever else somebody asks for may hold anything.
fn told(path: &str) -> Option<&str> {
    let is_id = |id: &str| id.len() == (ID * 4).div_ceil(3) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let known = matches!(path, "/shares" | "/shares/openapi.json") || path.strip_prefix("/shares/").is_some_and(is_id);
    known.then_some(path)
}

/// The line of a request: written when it has been answered, or when whoever asked has gone before.
struct Line {
    recorder: Recorder,
    telemetry: Telemetry,
}

impl Line {
    fn answered(&self, answer: &Answer) {
        self.recorder.with(|record| {
            record.status = answer.status().as_u16();
            record.bytes_out = answer.body().size_hint().lower();
            record.complete = true;
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut record = self.recorder.take();
        record.duration = record.started.elapsed();
        self.telemetry.send(record);
    }
}

/// Serves the API until dropped; has to run in a `LocalSet`.
///
/// # Errors
/// When the socket cannot be watched.
pub async fn serve_shares(open: OpenShares, door: Rc<SharesDoor>) -> io::Result<()> {
    match open.0 {
        Listening::Socket(listener, file) => {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            // The file is removed when this future is dropped.
            let _file = file;
            match serve(listener, door, DEADLINE).await {}
        }
        Listening::Address(listener) => match serve(tokio::net::TcpListener::from_std(listener)?, door, DEADLINE).await {},
    }
}
