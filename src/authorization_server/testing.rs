//! A server's section as tests need it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Audience, ClientCredentials, Config, Lenient, ProfileChoice, ServerIdentity, Uma10};
use crate::http_client::TlsFiles;

/// A section with the usual times; a test changes what it is about.
pub fn config() -> Config {
    Config {
        name: "keycloak".into(),
        identity: ServerIdentity([0; 16]),
        profile: ProfileChoice::Auto,
        issuer: "https://id.example.org/realms/photoz".into(),
        discovery: None,
        backchannel: None,
        allow_insecure: false,
        client: ClientCredentials::with_secret("content-gateway", "secret"),
        owners: BTreeMap::new(),
        tls: TlsFiles::default(),
        audience: Audience::Any,
        realm: "photoz".into(),
        as_uri: "https://id.example.org/realms/photoz".into(),
        uma_1_0: Uma10::default(),
        lenient: Lenient::default(),
        rpt_header: None,
        max_age: Duration::from_secs(30),
        negative_max_age: Duration::from_secs(5),
        refresh_window: 20,
        timeout: Duration::from_secs(2),
        live_decision: None,
        on_unreachable: None,
    }
}
