//! Whether a server's answers can be used, endpoint by endpoint. What is wrong with them is said when it begins, with its reason, and when it has ended; not
//! once per request. No text says more of an answer than its [`AskError`] does, so none holds a token.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::time::Instant;

use super::error::AskError;
use super::server::Server;
use crate::telemetry::{AsEndpoint, AsOutcome, Health};

/// A fault that has come back within this has ended only when nothing of it was seen for as long: one answer in two may be a bad one, and nobody reads a log
/// of that.
const QUIET: Duration = Duration::from_secs(60);

/// What is wrong at each endpoint.
pub(super) struct Answers {
    health: Health,
    server: Arc<str>,
    faults: RefCell<BTreeMap<&'static str, Fault>>,
}

#[derive(Default)]
struct Fault {
    /// When it was last seen, until it ends.
    seen: Option<Instant>,
    ended: Option<Instant>,
    /// It had ended just before it began.
    again: bool,
}

impl Answers {
    /// Of the server with this name.
    pub fn new(health: &Health, server: &Arc<str>) -> Self {
        Self { health: health.clone(), server: Arc::clone(server), faults: RefCell::default() }
    }

    /// An answer of this endpoint cannot be used.
    pub fn bad(&self, endpoint: AsEndpoint, reason: impl std::fmt::Display) {
        let mut faults = self.faults.borrow_mut();
        let fault = faults.entry(endpoint.label()).or_default();
        if fault.seen.replace(Instant::now()).is_none() {
            fault.again = fault.ended.is_some_and(|ended| ended.elapsed() < QUIET);
        }
        self.health.dependency(endpoint.dependency(), &self.server).failed(reason);
    }

    /// An answer of this endpoint can be used.
    pub fn good(&self, endpoint: AsEndpoint) {
        if let Some(fault) = self.faults.borrow_mut().get_mut(endpoint.label()) {
            if fault.again && fault.seen.is_some_and(|seen| seen.elapsed() < QUIET) {
                return;
            }
            if fault.seen.take().is_some() {
                fault.ended = Some(Instant::now());
            }
        }
        if let Some(dependency) = self.health.known(endpoint.dependency(), &self.server) {
            dependency.recovered();
        }
    }
}

impl Server {
    /// What was read from an answer: counted, and told where that is news.
    pub(super) fn judged<T>(&self, endpoint: AsEndpoint, response: &Response<Bytes>, read: Result<T, AskError>) -> Result<T, AskError> {
        self.counted(endpoint, response, read.is_ok());
        match &read {
            // What a resource was asked for is known when all of its calls have gone well.
            Ok(_) if endpoint == AsEndpoint::Resource => {}
            Ok(_) => self.answers.good(endpoint),
            // An error of the server's own is told as the server's.
            Err(_) if response.status().is_server_error() => {}
            Err(error) => self.answers.bad(endpoint, error),
        }
        read
    }

    /// Counts an answer that says that all is well, by whether that can be used; what says something else was counted when it came.
    pub(super) fn counted(&self, endpoint: AsEndpoint, response: &Response<Bytes>, used: bool) {
        if response.status().is_success() {
            self.metrics().authorization_server_answered(endpoint, if used { AsOutcome::Ok } else { AsOutcome::Failed });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, Standing};

    fn answers() -> (Answers, Health) {
        let health = Health::new(Arc::new(Metrics::new().unwrap()));
        (Answers::new(&health, &"family".into()), health)
    }

    fn standing(health: &Health) -> Option<Standing> {
        health.known("introspection_endpoint", "family").map(|dependency| dependency.standing())
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_ends_with_the_first_good_answer_and_one_that_comes_back_when_it_has_been_quiet() {
        let (answers, health) = answers();
        let endpoint = AsEndpoint::Introspection;
        answers.good(endpoint);
        assert_eq!(standing(&health), None, "nothing is said of what was never wrong");
        answers.bad(endpoint, "it is not JSON");
        assert_eq!(health.known("introspection_endpoint", "family").unwrap().reason().as_deref(), Some("it is not JSON"));
        answers.good(endpoint);
        assert_eq!(standing(&health), Some(Standing::Up));
        answers.bad(endpoint, "it is not JSON");
        tokio::time::advance(QUIET / 2).await;
        answers.good(endpoint);
        assert_eq!(standing(&health), Some(Standing::Down), "one in two is bad, and that is said once");
        answers.bad(endpoint, "it is not JSON");
        tokio::time::advance(QUIET).await;
        answers.good(endpoint);
        assert_eq!(standing(&health), Some(Standing::Up));
    }

    #[test]
    fn endpoints_fail_each_for_itself() {
        let (answers, health) = answers();
        answers.bad(AsEndpoint::Introspection, "it is not JSON");
        answers.bad(AsEndpoint::Permission, "it has no ticket");
        answers.good(AsEndpoint::Permission);
        assert_eq!(standing(&health), Some(Standing::Down));
        assert_eq!(health.known("permission_endpoint", "family").unwrap().standing(), Standing::Up);
    }
}
