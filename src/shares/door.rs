//! The listener of the API.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;

use super::api::Api;
use super::config::{Config, Where};
use super::registrar::Registrar;
use crate::admin::DoorError;
use crate::admin::serve::{Answer, Door, serve};
use crate::admin::socket::{SocketFile, open_address, open_socket};
use crate::stack::Current;

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
}

impl SharesDoor {
    /// With this configuration.
    #[must_use]
    pub fn new(config: Arc<Config>, registrar: Rc<Registrar>, current: Current) -> Rc<Self> {
        registrar.prefer(config.server.identity);
        Rc::new(Self { config: RefCell::new(config), registrar, current })
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
        let api = Api { config, registrar: Rc::clone(&self.registrar), current: Arc::clone(&self.current) };
        api.answer(request).await
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
