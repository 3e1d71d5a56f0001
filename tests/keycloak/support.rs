//! What every test here needs: Keycloak's own side, the gateway in front of a content server, and a door to Keycloak that counts and can be shut.

mod forwarder;
mod people;
mod realm;
mod world;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use uma_gateway::http_client::{HttpClient, TlsFiles};

pub use people::{CLIENT_APP, Rpt, SHORT_APP};
pub use realm::{Album, Realm};
pub use world::{Answer, Plan, World, as_user};

/// The photograph of the content server, and another file of the same album.
pub const BEACH: &str = "/albums/vacation/beach.jpg";
/// A file of the other album.
pub const PLAN: &str = "/albums/work/plan.txt";
/// Longest wait for anything that has to happen: far above what is measured, so that a busy machine does not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where Keycloak listens.
pub fn keycloak() -> String {
    format!("http://{}", keycloak_authority())
}

/// The same, without the scheme.
pub fn keycloak_authority() -> String {
    let port = std::env::var("KEYCLOAK_PORT").unwrap_or_else(|_| "8180".into());
    format!("127.0.0.1:{port}")
}

/// A client of one test's runtime.
pub fn http() -> HttpClient {
    HttpClient::new(&TlsFiles::default()).expect("a client without files")
}

/// One call, with patience.
pub async fn send(http: &HttpClient, request: Request<Bytes>) -> Response<Bytes> {
    let asked = format!("{} {}", request.method(), request.uri());
    match http.send(request, 1 << 20, Instant::now() + PATIENCE).await {
        Ok(answer) => answer,
        Err(error) => panic!("{asked}: {error} ({error:?})"),
    }
}

/// A name that nothing else has, in this run or an earlier one.
pub fn unique(what: &str) -> String {
    let mut random = [0; 6];
    aws_lc_rs::rand::fill(&mut random).expect("random numbers");
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{what} {digits}")
}

/// Asks again and again, with a short rest in between, until there is an answer that fits.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// The payload of a token or ticket, unverified.
pub fn payload(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).expect("a JWT");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Seconds since 1970.
pub fn now() -> i64 {
    uma_gateway::uma::Timestamp::now().0
}
