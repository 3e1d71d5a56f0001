//! `check --online`: whether the servers answer as the configuration expects, one line for each thing that was asked.
//!
//! Reads only: nothing is registered, no ticket is asked for, and content servers get GET. A line says who, what, and how to mend it; secrets and tokens
//! are in none. A server whose first answers are wrong is asked no further, so that one mistake is one line.

#[cfg(feature = "store")]
mod records;
mod resources;
mod server;
mod trouble;
mod upstream;

use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::authorization_server::{PatStore, Resources, Server};
use crate::config;
use crate::http_client::{HttpClient, TlsFiles};
use crate::telemetry::{Health, Metrics};

/// Longest line that a server's own words may make.
const LONGEST: usize = 600;

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    verdict: Verdict,
    who: Arc<str>,
    what: String,
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Probe {
    /// Whether the gateway will not work as configured.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.verdict == Verdict::Fail
    }

    /// The same for programs: `verdict` (`ok`, `warn`, `fail`), `who`, `what` and, where something is to be done, `mend`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        json!({ "verdict": verdict, "who": &*self.who, "what": self.what, "mend": self.mend })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict} {}: {}", self.who, self.what)?;
        self.mend.as_ref().map_or(Ok(()), |mend| write!(f, " → {mend}"))
    }
}

/// The lines about one server.
struct Report {
    who: Arc<str>,
    probes: Vec<Probe>,
}

impl Report {
    const fn new(who: Arc<str>) -> Self {
        Self { who, probes: Vec::new() }
    }

    fn ok(&mut self, what: impl Into<String>) {
        self.add(Verdict::Ok, &what.into(), None);
    }

    fn warn(&mut self, what: impl Into<String>, mend: impl Into<String>) {
        self.add(Verdict::Warn, &what.into(), Some(mend.into()));
    }

    fn fail(&mut self, what: impl Into<String>, mend: impl Into<String>) {
        self.add(Verdict::Fail, &what.into(), Some(mend.into()));
    }

    fn add(&mut self, verdict: Verdict, what: &str, mend: Option<String>) {
        let mend = mend.filter(|mend| !mend.is_empty()).map(|mend| plain(&mend));
        self.probes.push(Probe { verdict, who: Arc::clone(&self.who), what: plain(what), mend });
    }
}

/// What a server says ends up on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(LONGEST).collect()
}

/// Asks every authorization server and every upstream. Runs in a `LocalSet`.
pub async fn probe(config: &config::Gateway) -> Vec<Probe> {
    let metrics = match Metrics::new() {
        Ok(metrics) => Arc::new(metrics),
        Err(error) => {
            let mut report = Report::new("uma-gateway".into());
            report.fail(error.to_string(), "");
            return report.probes;
        }
    };
    let health = Health::new(Arc::clone(&metrics));
    let servers = join_all(config.authorization_servers.iter().map(|server| {
        let (health, metrics) = (&health, &metrics);
        async move {
            let mut report = Report::new(Arc::clone(&server.name));
            match HttpClient::new(&server.tls) {
                Ok(http) => {
                    let targets = resources::targets(config, server.identity);
                    let server = Server::new(Arc::clone(server), http.clone(), health, Arc::clone(metrics), PatStore::default(), Resources::default());
                    let scope = config.shares.as_ref().filter(|shares| shares.server.identity == server.config().identity).map(|shares| &shares.scope);
                    let wants = server::Wants { targets: &targets, scope, public_url: config.public_url.as_deref() };
                    server::survey(&server, &http, &wants, &mut report).await;
                }
                Err(error) => report.fail(error.to_string(), format!("correct `authorization_servers.{}.tls`", server.name)),
            }
            report.probes
        }
    }));
    let upstreams = join_all(config.upstreams.iter().enumerate().map(|(place, section)| async move {
        let mut report = Report::new(Arc::clone(&section.name));
        match HttpClient::new(&TlsFiles::default()) {
            Ok(http) => upstream::survey(config, place, &http, &mut report).await,
            Err(error) => report.fail(error.to_string(), ""),
        }
        report.probes
    }));
    let (servers, upstreams) = futures_util::future::join(servers, upstreams).await;
    servers.into_iter().chain(upstreams).flatten().chain(kept(config, &metrics).await).collect()
}

/// The lines about the records.
#[cfg(feature = "store")]
async fn kept(config: &config::Gateway, metrics: &Arc<Metrics>) -> Vec<Probe> {
    let mut report = Report::new("store".into());
    records::survey(config, metrics, &mut report).await;
    report.probes
}

/// A build without records refuses the section.
#[cfg(not(feature = "store"))]
async fn kept(_: &config::Gateway, _: &Arc<Metrics>) -> Vec<Probe> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_and_how_to_mend_it() {
        let mut report = Report::new("keycloak".into());
        report.ok("clock agrees");
        report.fail("client \"content-gateway\" lacks role uma_protection", "Service account roles → assign it");
        let lines: Vec<String> = report.probes.iter().map(Probe::to_string).collect();
        assert_eq!(
            lines,
            ["ok   keycloak: clock agrees", "FAIL keycloak: client \"content-gateway\" lacks role uma_protection → Service account roles → assign it"]
        );
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        let mut report = Report::new("keycloak".into());
        report.warn("owner \u{1b}[2Jalice\n", "");
        assert_eq!(report.probes[0].to_string(), "warn keycloak: owner  [2Jalice ");
    }
}
