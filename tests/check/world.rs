//! What `check --online` is run against: an authorization server, a content server, a configuration that fits both, and doors that spoil something.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use uma_gateway::demo::authorization_server::{AuthorizationServer, Control, Kind, Options, RunningServer};
use uma_gateway::demo::content_server::{self, ContentServer, Records, RunningContentServer};

/// None of these may stand in anything that a check prints.
const SECRETS: [&str; 8] =
    ["gateway-secret", "mistyped-secret", "research-secret", "without-role-secret", "without-services-secret", "proxy-secret", "Bearer ", "-----BEGIN"];

/// A route of the configuration that fits.
pub const VACATION: &str = "
  - path: /albums/vacation/**
    protect:
      resource: { name: Alice vacation, owner: alice }
      scopes: { GET: [view], \"PUT, DELETE\": [edit] }";

/// Records.
pub const STORE: &str = "store: { file: records.db, key: { env: STORE_KEY } }\n";

/// What a check is told.
pub struct Setup {
    pub issuer: String,
    pub client: String,
    pub secret: String,
    /// What of the client reads it.
    pub proof: String,
    /// Further lines of the server's section.
    pub server: String,
    pub upstream: String,
    pub credentials: String,
    pub routes: String,
    /// Further sections.
    pub top: String,
}

/// What a check printed, and how it ended.
pub struct Checked {
    pub code: Option<i32>,
    pub text: String,
}

impl Checked {
    pub fn lines(&self, verdict: &str) -> Vec<&str> {
        self.text.lines().filter(|line| line.starts_with(verdict)).collect()
    }

    /// That this is the only line that is not well, and how the check ended.
    #[track_caller]
    pub fn only(&self, expected: &str) {
        let bad: Vec<&str> = self.text.lines().filter(|line| !line.starts_with("ok   ")).collect();
        assert_eq!(bad, [expected], "{}", self.text);
        assert_eq!(self.code, Some(i32::from(expected.starts_with("FAIL"))), "{}", self.text);
    }
}

impl Setup {
    /// The configuration for a server, in front of a content server.
    pub fn new(issuer: impl Into<String>, upstream: SocketAddr) -> Self {
        Self {
            issuer: issuer.into(),
            client: "content-gateway".into(),
            secret: "gateway-secret".into(),
            proof: "secret: { env: GATEWAY_CLIENT_SECRET }".into(),
            server: String::new(),
            upstream: format!("http://{upstream}"),
            credentials: "credentials: { basic: { username: gateway, password: { env: PROXY_PASSWORD } } }".into(),
            routes: VACATION.into(),
            top: String::new(),
        }
    }

    /// Runs the command.
    pub async fn check(&self) -> Checked {
        self.check_as("text").await
    }

    pub async fn check_as(&self, format: &'static str) -> Checked {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("gateway.yaml");
        let Self { issuer, client, proof, server, upstream, credentials, routes, top, .. } = self;
        let text = format!(
            "version: 1\nlisteners: [ {{ address: 127.0.0.1:8080 }} ]\nauthorization_servers:\n  keycloak:\n    issuer: {issuer}\n    \
             client: {{ id: {client}, {proof} }}\n    {server}\nupstreams:\n  albums:\n    servers: [ {upstream} ]\n    {credentials}\nroutes:{routes}\n{top}"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command
            .args(["check", "--online", "--format", format, "--config"])
            .arg(&file)
            .env("GATEWAY_CLIENT_SECRET", &self.secret)
            .env("ALICE_PASSWORD", "alice")
            .env("STORE_KEY", "0123456789abcdef".repeat(4))
            .env("PROXY_PASSWORD", "proxy-secret");
        // The servers run on this thread, so it must not wait.
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(errors, "");
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        Checked { code: output.status.code(), text }
    }
}

/// Embedded servers, and the configuration that fits them.
pub struct World {
    pub server: RunningServer,
    pub content: RunningContentServer,
    pub setup: Setup,
}

impl World {
    /// A server of UMA 2.0 as written.
    pub async fn new() -> Self {
        Self::of(Kind::Uma2).await
    }

    /// A server that speaks like a realm `photoz` of Keycloak.
    pub async fn keycloak() -> Self {
        Self::of(Kind::Keycloak { realm: "photoz".into() }).await
    }

    /// A server that speaks like AM 7; Alice's PAT is had with her password.
    pub async fn am() -> Self {
        let mut world = Self::of(Kind::Am).await;
        world.setup.server = "pat: { owners: { alice: { password: { env: ALICE_PASSWORD } } } }".into();
        world
    }

    /// The same, where Alice links the gateway.
    pub async fn linked() -> Self {
        let mut world = Self::am().await;
        world.setup.server = "pat: { owners: { alice: { authorization_code: true } } }".into();
        world.setup.top = format!("{STORE}admin: {{ socket: admin.sock, public_url: \"https://gateway-admin.example.org/gw\" }}\n");
        world
    }

    /// A plain OAuth server.
    pub async fn oauth() -> Self {
        let mut world = Self::of(Kind::Keycloak { realm: "photoz".into() }).await;
        world.setup.server = "profile: oauth".into();
        world.setup.routes = "\n  - path: /albums/**\n    protect: { scopes: { GET: [view] } }".into();
        world
    }

    async fn of(kind: Kind) -> Self {
        let server = AuthorizationServer::start(Options { kind, ..Options::default() }).await.unwrap();
        server.control().register("alice", "Alice vacation", &["view", "edit"]);
        let content = content().await;
        let setup = Setup::new(server.issuer(), content.address());
        Self { server, content, setup }
    }

    pub const fn control(&self) -> &Control {
        self.server.control()
    }

    pub const fn records(&self) -> &Records {
        self.content.records()
    }

    pub async fn check(&self) -> Checked {
        self.setup.check().await
    }
}

/// A content server that wants the gateway's credential.
pub async fn content() -> RunningContentServer {
    ContentServer::start(content_server::Options::default()).await.unwrap()
}

/// A door in front of a server; it closes when this is dropped.
pub struct Front {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A door that speaks TLS, with the certificate in `directory/ca.pem`, which nobody knows.
pub async fn tls_front(to: SocketAddr, directory: &TempDir) -> (Front, PathBuf) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, cert.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(KeyPair::serialize_der(&signing_key)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let front = front(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                pump(stream, to, |bytes| bytes).await;
            }
        }
    });
    (front.await, file)
}

/// A door behind which no answer carries a `Date`, as Keycloak's carry none.
pub async fn dateless_front(to: SocketAddr) -> Front {
    front(move |stream| pump(stream, to, |bytes| String::from_utf8_lossy(&bytes).replace("\r\ndate: ", "\r\netag: ").into_bytes())).await
}

async fn front<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Front {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Front { address, task }
}

/// Passes bytes both ways; the answers through `edit`.
async fn pump(outer: impl AsyncRead + AsyncWrite, to: SocketAddr, edit: impl Fn(Vec<u8>) -> Vec<u8>) {
    let inner = TcpStream::connect(to).await.unwrap();
    let (mut asks, mut answers) = tokio::io::split(outer);
    let (mut from, mut into) = inner.into_split();
    let there = async {
        let _ = tokio::io::copy(&mut asks, &mut into).await;
        let _ = into.shutdown().await;
    };
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if answers.write_all(&edit(buffer[..count].to_vec())).await.is_err() || answers.flush().await.is_err() {
                break;
            }
        }
        let _ = answers.shutdown().await;
    };
    futures_util::future::join(there, back).await;
}
