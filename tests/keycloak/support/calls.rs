//! What tests against real servers share: calls past the gateway, names of one run, waiting. With as much patience as whoever takes this in has.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use uma_gateway::http_client::{HttpClient, TlsFiles};

use super::PATIENCE;

#[path = "../../gateway/support/until.rs"]
mod until;

pub use until::until;

/// Between two questions: real servers have more to do for one.
const REST: Duration = Duration::from_millis(25);

/// A client of one test's runtime.
pub fn http() -> HttpClient {
    HttpClient::new(&TlsFiles::default()).expect("a client without files")
}

/// One call, with patience.
pub async fn send(http: &HttpClient, request: Request<Bytes>) -> Response<Bytes> {
    let asked = format!("{} {}", request.method(), request.uri());
    http.send(request, 1 << 20, Instant::now() + PATIENCE).await.unwrap_or_else(|error| panic!("{asked}: {error} ({error:?})"))
}

/// A name that nothing else has, in this run or an earlier one.
pub fn unique(what: &str) -> String {
    let mut random = [0; 6];
    aws_lc_rs::rand::fill(&mut random).expect("random numbers");
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{what} {digits}")
}

/// The payload of a token or ticket, unverified.
pub fn payload(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).expect("a JWT");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Runs a program of the repository, such as one that ends a server, to its end.
pub async fn run(program: &str) {
    let mut command = std::process::Command::new(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(program));
    command.stdin(std::process::Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await.expect("no panic").expect("it runs");
    assert!(status.success(), "{program}: {status}");
}
