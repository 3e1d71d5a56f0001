//! An authorization server of UMA 2.0 in one process, for trying and for tests.
//!
//! It speaks the UMA 2.0 Grant and Federated Authorization as written, or like a Keycloak realm ([`Kind`]). Everything is in memory and gone when it stops; it
//! listens on loopback only. [`Control`] is the owners' side: it registers, shares and withdraws, counts what was asked, and makes the server fail as told.
//! It is no part of the gateway: the gateway meets it over HTTP like any other server.

mod answer;
mod asked;
mod assertion;
mod authorize;
mod control;
mod discovery;
mod faults;
mod introspection;
mod live;
mod mint;
mod protection;
mod resource_set;
mod serve;
mod share;
mod state;
mod token;
mod uma_grant;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use asked::{Endpoint, Seen};
pub use control::Control;
pub use faults::{Alias, Fault};

use super::door::Door;
use state::State;

/// How the server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens: a loopback address; port 0 takes any.
    pub address: SocketAddr,
    /// What it speaks.
    pub kind: Kind,
    /// What an RPT looks like. A [`Kind::Keycloak`] always issues [`RptForm::Jwt`].
    pub rpt: RptForm,
    /// Whether a client may introspect with its id and secret as well as with a PAT. A [`Kind::Keycloak`] always and only takes those.
    pub client_may_introspect: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), kind: Kind::Uma2, rpt: RptForm::Opaque, client_may_introspect: false }
    }
}

/// Which dialect the server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UMA 2.0 as written. A withdrawn share disappears from introspection.
    Uma2,
    /// Like a realm of Keycloak 26: its paths, its names of members, its errors. A withdrawn share stays in introspection; the live decision knows.
    Keycloak {
        /// The realm's name, as in `/realms/NAME`.
        realm: String,
    },
    /// Like ForgeRock AM 7, of which there is no open server: its paths, and PATs that are for one owner's resources. Introspection of an RPT wants the PAT of the
    /// owner whose resources the RPT is for.
    Am,
    /// Like OpenAM, as far as a resource server meets it: the paths of AM, the words of UMA 1.0.1, introspection by the client's own credentials.
    OpenAm,
}

/// What an RPT looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RptForm {
    /// 256 random bits.
    Opaque,
    /// About 1,200 characters in the form of a signed JWT. The signature is random: only introspection can judge the token.
    Jwt,
}

/// The embedded authorization server.
#[derive(Debug)]
pub struct AuthorizationServer;

impl AuthorizationServer {
    /// Starts a server on the caller's runtime; it ends when the returned value is dropped.
    ///
    /// It knows the users alice, bob and carol (each one's password is the name), the resource server `content-gateway` with secret `gateway-secret`,
    /// and the application `client-app` with secret `client-secret`.
    ///
    /// # Errors
    /// When the address is not a loopback address or is taken.
    pub async fn start(options: Options) -> io::Result<RunningServer> {
        if !options.address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the embedded authorization server is for trying: it listens on loopback only"));
        }
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let state = State::new(&options, address);
        let (issuer, discovery) = (state.issuer.clone(), state.discovery_address());
        let shared = Arc::new(serve::Shared::new(Mutex::new(state)));
        let served = Arc::clone(&shared);
        let (door, task) = Door::open(listener, move |stream| serve::serve(stream, Arc::clone(&served)))?;
        Ok(RunningServer { address, issuer, discovery, control: Control::new(shared, door), task })
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    issuer: String,
    discovery: String,
    control: Control,
    task: JoinHandle<()>,
}

impl RunningServer {
    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its issuer, as discovery tells it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The address of its discovery document.
    #[must_use]
    pub fn discovery(&self) -> String {
        self.discovery.clone()
    }

    /// The owners' side of it. Clones may go to other threads.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
