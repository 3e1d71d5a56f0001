//! What a row must prove: the answer, the calls at the authorization server, the upstream's hits, what the cache holds for the next request, and the row in
//! the audit line. [`Expect`] has a field for each, so a test cannot leave one out.

use std::collections::BTreeMap;

use serde_json::Value;
use uma_gateway::cache::Lookup;
use uma_gateway::demo::authorization_server::Endpoint;
use uma_gateway::response::Row;
use uma_gateway::uma::UmaChallenge;

use super::{Answer, Ask, Connection, World, until};

/// A request, its answer, and what else came of it.
pub struct Exchange<'w> {
    pub answer: Answer,
    /// The line of the audit log; null when the request left none.
    pub line: Value,
    pub connection: Connection,
    world: &'w World,
    head: bool,
    token: Option<String>,
    calls: BTreeMap<Endpoint, u64>,
    hits: usize,
}

/// The five things.
pub struct Expect<'a> {
    /// The answer.
    pub answer: Says<'a>,
    /// The calls at the authorization server; all others are none.
    pub calls: &'a [(Endpoint, u64)],
    /// The upstream's hits.
    pub hits: usize,
    /// What the next request with the same token finds in the cache.
    pub next: Next,
    /// The rows that were passed, and at the end, behind a colon, the one that decided.
    pub rows: &'a str,
}

/// What the answer says.
pub enum Says<'a> {
    /// The gateway's own word: status, kind of problem, headers.
    Problem(u16, &'a str, &'a [(&'a str, &'a str)]),
    /// The upstream's word, or that of the gateway without a body: status and headers.
    Passed(u16, &'a [(&'a str, &'a str)]),
}

/// What the cache holds for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There was no token to hold anything for.
    NoToken,
    Nothing,
    Active,
    Stale,
    Refused,
}

impl<'w> Exchange<'w> {
    pub(super) async fn new(ask: Ask<'w>, connection: Connection, answer: Answer, calls: BTreeMap<Endpoint, u64>, hits: usize) -> Self {
        let id = answer.header("x-request-id").to_owned();
        let line = if id.is_empty() { Value::Null } else { line(ask.world, &id).await };
        Self { answer, line, connection, world: ask.world, head: ask.method == "HEAD", token: ask.token, calls, hits }
    }

    /// The rows that were passed, and behind a colon the one that decided.
    pub fn rows(&self) -> String {
        let rows: Vec<&str> = self.line["uma.rows"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("{}: {}", rows.join(" "), self.line["uma.row"].as_str().unwrap_or_default())
    }

    /// Whether the request passed a row.
    pub fn passed(&self, row: &str) -> bool {
        self.line["uma.rows"].as_array().is_some_and(|rows| rows.iter().any(|passed| passed == row))
    }

    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// The UMA challenge; there is one.
    pub fn challenge(&self) -> UmaChallenge {
        UmaChallenge::of(&self.answer.headers).unwrap_or_else(|| panic!("no UMA challenge: {:?}", self.answer))
    }

    /// Calls of an endpoint since just before the request.
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.world.control().calls(endpoint) - self.calls[&endpoint]
    }

    /// Asserts the five things, and that the row is among those that were passed.
    pub fn proves(&self, row: Row, expect: &Expect<'_>) {
        assert_eq!(self.rows(), expect.rows, "rows of {}", self.answer.status);
        assert!(self.passed(row.label()), "{row} is the row of this test");
        self.answers(&expect.answer);
        let calls: BTreeMap<Endpoint, u64> = self.calls.keys().map(|endpoint| (*endpoint, self.calls(*endpoint))).filter(|(_, count)| *count > 0).collect();
        assert_eq!(calls, expect.calls.iter().copied().collect(), "calls at the authorization server");
        assert_eq!(self.world.upstream().hits() - self.hits, expect.hits, "hits at the upstream");
        assert_eq!(self.next(), expect.next, "what the next request finds in the cache");
        assert_eq!(self.line["http.response.status_code"], self.answer.status, "the status in the audit line");
    }

    /// What the cache holds for the token now.
    pub fn next(&self) -> Next {
        self.token.as_deref().map_or(Next::NoToken, |token| self.world.holds(token))
    }

    fn answers(&self, says: &Says<'_>) {
        let headers = match says {
            Says::Problem(status, kind, headers) => {
                assert_eq!(self.answer.status, *status);
                self.is_problem(kind);
                headers
            }
            Says::Passed(status, headers) => {
                assert_eq!(self.answer.status, *status);
                assert_eq!(self.answer.header("x-request-id"), self.line["request_id"]);
                headers
            }
        };
        for (name, value) in *headers {
            assert_eq!(self.answer.header(name), *value, "{name}");
        }
    }

    /// What holds for every answer of the gateway's own.
    pub fn is_problem(&self, kind: &str) {
        let answer = &self.answer;
        assert_eq!(answer.header("cache-control"), "no-store");
        let id = answer.header("x-request-id");
        assert!(!id.is_empty() && self.line["request_id"] == id, "the answer and the audit line name the same request");
        if self.head {
            assert!(answer.body.is_empty());
        } else {
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let problem = answer.json();
            let names: Vec<&str> = problem.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(names.len(), 5, "{names:?}");
            assert_eq!(problem["type"], format!("urn:uma-gateway:{kind}"));
            assert_eq!(problem["status"], answer.status);
            assert_eq!(problem["instance"], format!("urn:uma-gateway:request:{id}"));
            assert!(["title", "detail"].iter().all(|name| problem[name].as_str().is_some_and(|text| text.len() > 3)));
        }
        let schemes: Vec<String> = answer.headers.get_all("www-authenticate").iter().map(|value| value.to_str().expect("text").to_owned()).collect();
        assert_eq!(schemes.is_empty(), !matches!(answer.status, 400 | 401) || kind == "malformed-request" || kind == "unsafe-path", "{schemes:?}");
        match kind {
            "permission-required" => self.is_challenge(),
            "as-unreachable" | "unknown-resource" => assert_eq!(answer.header("warning"), "199 - \"UMA Authorization Server Unreachable\""),
            _ => {}
        }
        assert_eq!(answer.headers.contains_key("warning"), matches!(kind, "as-unreachable" | "unknown-resource"));
        assert_eq!(answer.headers.contains_key("retry-after"), matches!(answer.status, 429 | 503));
        assert_eq!(answer.headers.contains_key("allow"), answer.status == 405);
    }

    /// UMA 2.0 Grant, 3.2.1: one line, a ticket that was issued just now and stands last, an error only where a token was shown.
    fn is_challenge(&self) {
        let (challenge, control) = (self.challenge(), self.world.control());
        assert_eq!(challenge.realm.as_deref(), Some("photoz"));
        assert_eq!(challenge.as_uri, self.world.server.issuer());
        assert_eq!(challenge.error.is_some(), self.token.is_some(), "an error only where a token was shown");
        let ticket = challenge.ticket.0.expose();
        assert!(control.tickets().iter().any(|issued| issued == ticket));
        assert!(self.answer.header("www-authenticate").ends_with(&format!(", ticket=\"{ticket}\"")));
        assert!(!self.answer.text().contains(ticket));
    }
}

impl World {
    /// What the cache holds for a token.
    pub fn holds(&self, token: &str) -> Next {
        match self.gateway.cache().look_up(&self.key(token), tokio::time::Instant::now()) {
            Lookup::Active(_) => Next::Active,
            Lookup::Stale => Next::Stale,
            Lookup::Inactive => Next::Refused,
            Lookup::Unknown => Next::Nothing,
        }
    }
}

/// The line of a request. It is written when the answer has ended, which its reader may know a moment earlier.
async fn line(world: &World, id: &str) -> Value {
    until("the audit line", async || world.audit().await.into_iter().find(|line| line["request_id"] == id)).await
}
