//! What every test here needs: Keycloak's own side, the gateway in front of a content server, and a door to Keycloak that counts and can be shut.

mod calls;
mod forwarder;
mod key;
mod people;
#[path = "../support/port.rs"]
mod port;
mod realm;
mod world;

use std::time::Duration;

pub use calls::{http, payload, run, send, unique, until};
pub use key::ClientKey;
pub use people::{CLIENT_APP, Rpt, SHORT_APP};
pub use port::free;
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

/// Seconds since 1970.
pub fn now() -> i64 {
    uma_gateway::uma::Timestamp::now().0
}
