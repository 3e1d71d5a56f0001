//! The servers of a demo: where they listen, how they know each other. The content server answers everyone who reaches it; its guard, a gateway as well, sees
//! to it that this is the gateway alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::authorization_server::{self, AuthorizationServer, Control, RunningServer};
use super::content_server::{self, ContentServer, RunningContentServer};
use super::folder::{ADMIN_SOCKET, Addresses, CONFIGURATION, Folder, FolderError};
use crate::app::{self, Gateway};
use crate::config;

/// How long an introspection answer is used; short, so that the last step can be watched.
pub(super) const MAX_AGE: Duration = Duration::from_secs(1);
/// The application of the walk.
pub(super) const APPLICATION: (&str, &str) = ("client-app", "client-secret");

/// How long the gateway may take to reach its authorization server.
const PATIENCE: Duration = Duration::from_secs(5);
/// The key that only the gateway has, and its public part, which the guard has.
const KEYS: (&str, &str) = ("gateway.key", "gateway.jwks");
/// The guard's configuration, beside the gateway's.
const GUARD: &str = "guard.yaml";
/// The secret of the gateway's own client.
const CLIENT_SECRET: &str = "gateway-secret";

/// Where the servers shall listen; 0 takes any port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The gateway.
    pub gateway: u16,
    /// The authorization server.
    pub authorization_server: u16,
    /// The guard of the content server, which itself takes any.
    pub content_server: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { gateway: 8080, authorization_server: 8180, content_server: 9101 }
    }
}

/// Why the servers of a demo do not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("the {0} does not start")]
    Server(&'static str, #[source] io::Error),
    #[error("the demo's own configuration is wrong: {0}")]
    Configuration(String),
    #[error("the gateway does not start")]
    Gateway(#[from] app::StartError),
    #[error("the gateway does not reach the authorization server")]
    NotReady,
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// The servers of a demo.
pub(super) struct World {
    pub authorization_server: RunningServer,
    pub addresses: Addresses,
    /// A demo that was there before this one: what commands find that do not say which is meant.
    pub before: Option<Addresses>,
    wanted: Ports,
    gateway: Gateway,
    guard: Gateway,
    // Last, so that the gateways are gone before their files are.
    _content_server: RunningContentServer,
    folder: Folder,
}

impl World {
    /// Starts everything; a port that is taken is replaced by a free one. Alice's album is registered, nothing is shared.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(ports: Ports, folder: Folder) -> Result<Self, StartError> {
        let server = or_any_port(ports.authorization_server, async |address| {
            AuthorizationServer::start(authorization_server::Options { address, ..authorization_server::Options::default() }).await
        });
        let authorization_server = server.await.map_err(|error| StartError::Server("authorization server", error))?;
        let options = content_server::Options { credential: None, ..content_server::Options::default() };
        let content_server = ContentServer::start(options).await.map_err(|error| StartError::Server("content server", error))?;
        authorization_server.control().register("alice", "vacation", &["view", "edit"]);

        folder.write("client-secret", CLIENT_SECRET)?;
        write_keys(&folder)?;
        let guard = start_gateway(ports.content_server, &folder, GUARD, |port| guard_configuration(port, content_server.address()))?;
        let content = address(&guard)?;
        let gateway = start_gateway(ports.gateway, &folder, CONFIGURATION, |port| configuration(port, authorization_server.issuer(), content))?;
        let address = address(&gateway)?;
        wait_until_ready(&gateway).await?;
        let addresses = Addresses {
            gateway: format!("http://{address}"),
            authorization_server: authorization_server.issuer().to_owned(),
            content_server: format!("http://{content}"),
        };
        let before = folder.announce(&addresses)?;
        Ok(Self { authorization_server, addresses, before, wanted: ports, gateway, guard, _content_server: content_server, folder })
    }

    /// The owners' side.
    pub const fn owners(&self) -> &Control {
        self.authorization_server.control()
    }

    /// Alice's link.
    pub fn link(&self) -> String {
        format!("{}/albums/vacation/beach.jpg", self.addresses.gateway)
    }

    /// The configuration of the gateway that is shown.
    pub fn configuration(&self) -> PathBuf {
        self.folder.file(CONFIGURATION)
    }

    /// Alice shares again what she withdrew in the last step.
    pub fn share_again(&self) {
        self.owners().share("alice", "vacation", "bob", &["view"]);
    }

    /// Where everything is, and which ports are others than were wanted.
    pub fn banner(&self) -> String {
        let port = |gateway: &Gateway| gateway.address(0).map_or(0, |address| address.port());
        let (gateway, guard) = (port(&self.gateway), port(&self.guard));
        let ports = [
            ("gateway", self.wanted.gateway, gateway),
            ("authorization server", self.wanted.authorization_server, self.authorization_server.address().port()),
            ("content server", self.wanted.content_server, guard),
        ];
        let [_, (_, _, server), (_, _, content)] = ports;
        let mut text =
            format!("gateway {}   authorization server :{server}   content server :{content}, guarded   (embedded, for trying only)\n", self.addresses.gateway);
        for (name, wanted, got) in ports {
            if wanted != 0 && wanted != got {
                text.push_str(&format!("port {wanted} is taken, so the {name} is at {got}\n"));
            }
        }
        if let Some(health) = self.gateway.health_address() {
            text.push_str(&format!("what it counts http://{health}/metrics\n"));
        }
        if let Some(before) = &self.before {
            text.push_str(&format!(
                "another demo runs, with its gateway at {}: commands ask that one unless they say which, as those below do\n",
                before.gateway
            ));
        }
        text
    }

    /// Ends the gateway; requests under way get `drain`.
    pub fn stop(self, drain: Duration) {
        self.gateway.stop(drain);
    }
}

/// Starts a server on its port or, if that is taken, on any.
async fn or_any_port<T>(port: u16, start: impl AsyncFn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await,
        started => started,
    }
}

/// A key pair for this demo alone.
fn write_keys(folder: &Folder) -> Result<(), StartError> {
    let no_randomness = |_| StartError::Configuration("no randomness".into());
    let pair = Ed25519KeyPair::generate().map_err(no_randomness)?;
    let private = pair.to_pkcs8v1().map_err(no_randomness)?;
    folder.write(KEYS.0, &format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(private)))?;
    let public = URL_SAFE_NO_PAD.encode(pair.public_key());
    folder.write(KEYS.1, &serde_json::json!({ "keys": [ { "kty": "OKP", "crv": "Ed25519", "x": public } ] }).to_string())?;
    Ok(())
}

fn address(gateway: &Gateway) -> Result<SocketAddr, StartError> {
    gateway.address(0).ok_or_else(|| StartError::Configuration("no listener".into()))
}

/// Starts a gateway from a file of this name, on its port or, if that is taken, on any.
fn start_gateway(port: u16, folder: &Folder, name: &str, text: impl Fn(u16) -> String) -> Result<Gateway, StartError> {
    let start = |port: u16| {
        folder.write(name, &text(port))?;
        let config = config::load(&folder.file(name)).map_err(|problems| StartError::Configuration(problems.to_string()))?;
        // The steps are what is to be seen, not the log.
        let options = app::Options { log: Some(|| Box::new(io::sink())), ..app::Options::default() };
        Gateway::start(config, &options).map_err(StartError::Gateway)
    };
    match start(port) {
        Err(StartError::Gateway(app::StartError::Bind(_))) if port != 0 => start(0),
        started => started,
    }
}

async fn wait_until_ready(gateway: &Gateway) -> Result<(), StartError> {
    let until = Instant::now() + PATIENCE;
    while !gateway.is_ready() {
        if Instant::now() > until {
            return Err(StartError::NotReady);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// What `gateway.yaml` of the demo says.
fn configuration(port: u16, issuer: &str, content: SocketAddr) -> String {
    format!(
        "# Written by `uma-gateway demo`, for trying only.
version: 1
listeners:
  - address: 127.0.0.1:{port}
health: {{ address: 127.0.0.1:0 }}
admin: {{ socket: {ADMIN_SOCKET} }}
authorization_servers:
  demo:
    profile: uma2
    issuer: {issuer}
    client: {{ id: content-gateway, secret: {{ file: client-secret }} }}
    introspection: {{ max_age: {max_age}s, negative_max_age: {max_age}s }}
upstreams:
  albums:
    servers: [ http://{content} ]
    credentials:
      jwt: {{ key: {{ file: {key} }}, issuer: gateway, audience: albums, subject: true }}
routes:
  - path: /albums/vacation/**
    protect:
      resource: {{ name: vacation, owner: alice }}
      scopes: {{ GET: [view], \"PUT, DELETE\": [edit] }}
  - path: /public/**
    public: true
",
        max_age = MAX_AGE.as_secs(),
        key = KEYS.0,
    )
}

/// What `guard.yaml` of the demo says.
fn guard_configuration(port: u16, content: SocketAddr) -> String {
    format!(
        "# Written by `uma-gateway demo`, for trying only: a content server that answers everyone is closed to all but the gateway.
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
trusted_proxies: [ 127.0.0.1/32 ]
upstreams:
  albums:
    servers: [ http://{content} ]
routes:
  - path: /**
    protect:
      mode: guard
      accept: {{ bearer_jwt: {{ keys: {{ file: {keys} }}, issuer: gateway, audience: albums }} }}
    identity_headers: {{ X-Forwarded-User: sub }}
",
        keys = KEYS.1,
    )
}
