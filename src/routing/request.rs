//! The request as the listener hands it on.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use super::authority::ServedHosts;
use super::certificate::ClientCertificate;
use crate::body::Body;
use crate::response::Rejection;
use crate::telemetry::{Recorded, Recorder};

/// A request that nothing has looked at yet.
#[derive(Debug)]
pub struct Request {
    /// Method, raw target, version, headers.
    pub head: http::request::Parts,
    /// The body, unread.
    pub body: Body,
    /// The connection that it came by.
    pub peer: Peer,
    /// Why it must be refused although `head` does not show it: what the listener saw in the bytes and the HTTP library settled silently, or that there is
    /// no room for it.
    pub refusal: Option<Rejection>,
    /// Its record.
    pub recorder: Recorder,
}

impl Recorded for Request {
    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn head(&self) -> &http::request::Parts {
        &self.head
    }
}

/// The other end of a downstream connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The hosts that the listener serves; the default is all.
    pub hosts: ServedHosts,
    /// The certificate that the client has shown, where the listener asks for one.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// What the request counts as among those of its client.
    pub counted: Counted,
}

/// A place among those that are counted for a client, taken as long as somebody holds it. Clones are the same place; the default is none.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    _place: Option<Arc<dyn Any + Send + Sync>>,
}

impl Counted {
    /// This place.
    #[must_use]
    pub const fn new(place: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _place: Some(place) }
    }
}
