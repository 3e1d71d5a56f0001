//! An authorization server in this process, and gateways over one folder that come, go and are killed, with a token of Alice's.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, LOCATION, SET_COOKIE};
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;
use uma_gateway::demo::authorization_server::{AuthorizationServer, Control, Endpoint, Kind, Options, RunningServer};
use uma_gateway::http_client::{HttpClient, TlsFiles, form};

use crate::port::free;

#[path = "../gateway/support/until.rs"]
mod until;

pub use until::until;

/// Between two questions.
const REST: Duration = Duration::from_millis(25);
/// Longest wait for what has to happen, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What the operator bears at the API of shares.
pub const OPERATOR: &str = "the-operators-key-that-nobody-guesses";
/// What belongs to Alice.
const LINK: &str = "/albums/vacation/notes.txt";

pub const BY_PASSWORD: &str = "{ password: { file: alice-password } }";
pub const BY_CODE: &str = "{ authorization_code: true }";

pub struct Neighbourhood {
    pub server: RunningServer,
    pub folder: TempDir,
    listener: SocketAddr,
    health: SocketAddr,
    pub admin: SocketAddr,
    http: HttpClient,
}

/// A gateway in a process of its own.
pub struct Running(Child);

impl Running {
    pub fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("an end");
    }

    /// Ends it. The authorization server goes on meanwhile.
    pub async fn end(mut self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).expect("told to end");
        let status = until("the end", async || self.0.try_wait().expect("a process")).await;
        assert!(status.success());
    }

    /// From now on no file can be written beyond this, or any again.
    pub fn let_files_grow(&self, to: Option<u64>) {
        let limit = rustix::process::Rlimit { current: to, maximum: None };
        rustix::process::prlimit(Some(self.pid()), rustix::process::Resource::Fsize, limit).expect("a limit");
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Neighbourhood {
    pub async fn new(alice: &str) -> Self {
        Self::at(Kind::Uma2, alice).await
    }

    /// With an authorization server of this kind.
    pub async fn at(kind: Kind, alice: &str) -> Self {
        let server = AuthorizationServer::start(Options { kind, ..Options::default() }).await.expect("a port");
        server.control().register("alice", "vacation", &["view"]);
        let http = HttpClient::new(&TlsFiles::default()).expect("a client");
        let around = Self { server, folder: tempfile::tempdir().expect("a folder"), listener: free(), health: free(), admin: free(), http };
        for (name, text) in [("client-secret", "gateway-secret"), ("alice-password", "alice"), ("admin-token", "admin-token"), ("operator-key", OPERATOR)] {
            around.write(name, text);
        }
        around.write("store-key", &format!("1{}", "a".repeat(63)));
        around.configure(alice);
        around
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.file(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    /// Where Alice's token comes from.
    pub fn configure(&self, alice: &str) {
        self.configure_with(alice, "2s", "", "");
    }

    /// The same with this much patience with the authorization server, more sections, and more routes.
    pub fn configure_with(&self, alice: &str, timeout: &str, sections: &str, routes: &str) {
        let Self { listener, health, admin, server, .. } = self;
        let text = format!(
            "version: 1
workers: 1
listeners: [ {{ address: {listener} }} ]
health: {{ address: {health} }}
admin: {{ address: {admin}, token: {{ file: admin-token }}, public_url: \"http://{admin}/\" }}
log: {{ access: off, audit: audit.log }}
limits: {{ off_for: [127.0.0.1/32] }}
store: {{ file: records.db, key: {{ file: store-key }} }}
drain: {{ delay: 0s, timeout: 1s }}
authorization_servers:
  server:
    issuer: {issuer}
    client: {{ id: content-gateway, secret: {{ file: client-secret }} }}
    pat: {{ owners: {{ alice: {alice} }} }}
    timeout: {timeout}
upstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}
{sections}routes:
  - {{ path: /albums/vacation/**, protect: {{ resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view] }} }} }}
{routes}",
            issuer = server.issuer(),
        );
        self.write("gateway.yaml", &text);
    }

    pub fn control(&self) -> &Control {
        self.server.control()
    }

    /// Starts a gateway, without waiting for anything.
    pub fn start(&self) -> Running {
        // A file that cannot grow is an error for whoever writes it, and not the end of the process.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" run --config gateway.yaml", env!("CARGO_BIN_EXE_uma-gateway")]);
        Running(command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it runs"))
    }

    /// Starts a gateway and waits until the authorization server has been asked.
    pub async fn start_ready(&self) -> Running {
        let running = self.start();
        until("the gateway is ready", async || (self.try_get(self.health, "/readyz").await?.status() == StatusCode::OK).then_some(())).await;
        running
    }

    async fn try_get(&self, address: SocketAddr, path: &str) -> Option<Response<Bytes>> {
        let request = Request::get(format!("http://{address}{path}")).body(Bytes::new()).expect("a request");
        self.http.send(request, 1 << 20, Instant::now() + PATIENCE).await.ok()
    }

    /// The status that somebody without a token gets for what is Alice's: 401 with a ticket, or 403. None while nobody answers.
    pub async fn ask(&self) -> Option<u16> {
        self.ask_for(LINK).await
    }

    /// The same for another path.
    pub async fn ask_for(&self, path: &str) -> Option<u16> {
        self.try_get(self.listener, path).await.map(|answer| answer.status().as_u16())
    }

    /// The status that somebody with this token gets for what is Alice's: 502 once it suffices, since there is no content server.
    pub async fn ask_with(&self, token: &str) -> u16 {
        self.ask_for_with(LINK, token).await
    }

    /// The same for another path.
    pub async fn ask_for_with(&self, path: &str, token: &str) -> u16 {
        let request = Request::get(format!("http://{}{path}", self.listener)).header(AUTHORIZATION, format!("Bearer {token}"));
        let answer = self.http.send(request.body(Bytes::new()).expect("a request"), 1 << 20, Instant::now() + PATIENCE).await;
        answer.expect("an answer").status().as_u16()
    }

    /// Asks until there are tickets for what is Alice's.
    pub async fn open(&self) {
        until("there are tickets", async || (self.ask().await == Some(401)).then_some(())).await;
    }

    pub async fn health(&self, path: &str) -> String {
        let answer = until("the health door answers", async || self.try_get(self.health, path).await).await;
        String::from_utf8(answer.into_body().to_vec()).expect("text")
    }

    /// What the server's token endpoint was asked for, in order.
    pub fn grants(&self) -> Vec<String> {
        let asked = [Endpoint::Pat, Endpoint::Token].map(|endpoint| self.control().requests(endpoint));
        asked.into_iter().flatten().filter_map(|seen| seen.parameter("grant_type")).collect()
    }

    /// Every line of the audit log that is not about a request.
    pub fn audited(&self) -> Vec<Value> {
        self.audit().into_iter().filter(|line| line["target"] == "uma_gateway::audit").collect()
    }

    /// Every line of the audit log that is about a request.
    pub fn audited_requests(&self) -> Vec<Value> {
        self.audit().into_iter().filter(|line| line["target"] != "uma_gateway::audit").collect()
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("audit.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect()
    }

    pub fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// A browser's request, with a cookie if it has one.
    pub async fn browse(&self, method: Method, url: &str, cookie: Option<&str>, body: Bytes) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(url).header("content-type", "application/x-www-form-urlencoded");
        let request = cookie.into_iter().fold(request, |request, cookie| request.header(COOKIE, cookie));
        self.http.send(request.body(body).expect("a request"), 1 << 20, Instant::now() + PATIENCE).await.expect("an answer")
    }

    /// Begins to link the gateway: where the browser is sent, and the cookie that it is given.
    pub async fn begin(&self) -> (String, String) {
        let away = self.browse(Method::GET, &self.admin("/owners/server/link"), None, Bytes::new()).await;
        assert_eq!(away.status(), StatusCode::SEE_OTHER, "{:?}", away.body());
        let cookie = header(&away, SET_COOKIE.as_str());
        (header(&away, LOCATION.as_str()), cookie.split(';').next().expect("a pair").to_owned())
    }

    /// Signs in at the authorization server; where it sends the browser back to.
    pub async fn sign_in(&self, location: &str, user: &str) -> String {
        let url = url::Url::parse(location).expect("an address");
        let mut fields: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        fields.extend([("username".into(), user.into()), ("password".into(), user.into())]);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let action = location.split('?').next().expect("an address");
        let back = self.browse(Method::POST, action, None, form(&fields)).await;
        assert!(back.status().is_redirection(), "{} {:?}", back.status(), back.body());
        header(&back, LOCATION.as_str())
    }

    /// Comes back.
    pub async fn come_back(&self, location: &str, cookie: Option<&str>) -> Response<Bytes> {
        self.browse(Method::GET, location, cookie, Bytes::new()).await
    }

    /// The whole way.
    pub async fn link_as(&self, user: &str) -> Response<Bytes> {
        let (location, cookie) = self.begin().await;
        let back = self.sign_in(&location, user).await;
        self.come_back(&back, Some(&cookie)).await
    }
}

pub fn header(answer: &Response<Bytes>, name: &str) -> String {
    answer.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("text").to_owned()
}

pub fn text(answer: &Response<Bytes>) -> String {
    String::from_utf8(answer.body().to_vec()).expect("text")
}

/// Whether any file of the folder holds the text as it is.
pub fn on_disk(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.filter(|file| file.is_file()).any(|file| crate::holds(&std::fs::read(file).unwrap_or_default(), text.as_bytes()))
}
