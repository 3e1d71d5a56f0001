//! The rest that a server is given which gives no answer, so that a dead one costs no request its whole time.
//!
//! One client's tokens must not close it to others. Each endpoint rests by itself; an answer of the server's own, even a bad one, is no reason; and meanwhile a
//! call now and then goes through all the same, whose answer ends the rest at once.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::time::Instant;

use super::error::AskError;
use crate::telemetry::AsEndpoint;

/// Calls without an answer in a row, after which there is a rest, and how long after the last one.
const FAILURES: u32 = 8;
const REST: Duration = Duration::from_millis(500);
/// How far apart calls are that go through meanwhile.
const TRIAL: Duration = Duration::from_millis(50);

/// How the endpoints of one server stand.
#[derive(Default)]
pub(super) struct Rests([RefCell<Rest>; AsEndpoint::ALL.len()]);

#[derive(Clone, Copy, Default)]
struct Rest {
    failures: u32,
    /// Until when, and when the next call goes through.
    times: Option<(Instant, Instant)>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// An answer as any.
    Answer,
    /// An answer that says that the server itself failed; it may be this question only.
    Failure,
    /// Nothing, or what stands in front of the server says that there is nothing.
    Silence,
}

impl Sign {
    /// What came. Proxies in front of a server that does not live say so with 502, 503 and 504. `had_time`: a fair part of what a request may take.
    pub fn of(result: &Result<Response<Bytes>, AskError>, had_time: bool) -> Self {
        match result {
            Ok(response) => match response.status().as_u16() {
                502..=504 => Self::Silence,
                500.. => Self::Failure,
                _ => Self::Answer,
            },
            Err(AskError::Unreachable(error)) if error.has_answered() => Self::Failure,
            Err(AskError::Timeout) if !had_time => Self::Failure,
            Err(_) => Self::Silence,
        }
    }
}

impl Rests {
    /// Whether a call to this endpoint is spared.
    pub fn spares(&self, endpoint: AsEndpoint) -> bool {
        let now = Instant::now();
        let mut rest = self.of(endpoint).borrow_mut();
        match rest.times {
            Some((until, trial)) if now < until => {
                if now >= trial {
                    rest.times = Some((until, now + TRIAL));
                }
                now < trial
            }
            _ => false,
        }
    }

    /// Takes notice of what came of a call.
    pub fn saw(&self, endpoint: AsEndpoint, sign: Sign) {
        let mut rest = self.of(endpoint).borrow_mut();
        match sign {
            Sign::Answer => *rest = Rest::default(),
            Sign::Failure => {}
            Sign::Silence => {
                rest.failures = rest.failures.saturating_add(1);
                if rest.failures >= FAILURES {
                    let now = Instant::now();
                    let trial = rest.times.filter(|(until, _)| now < *until).map_or(now + TRIAL, |(_, trial)| trial);
                    rest.times = Some((now + REST, trial));
                }
            }
        }
    }

    fn of(&self, endpoint: AsEndpoint) -> &RefCell<Rest> {
        let [discovery, token, permission, introspection, decision, resource] = &self.0;
        match endpoint {
            AsEndpoint::Discovery => discovery,
            AsEndpoint::Token => token,
            AsEndpoint::Permission => permission,
            AsEndpoint::Introspection => introspection,
            AsEndpoint::Decision => decision,
            AsEndpoint::Resource => resource,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::http_client::HttpError;

    const HERE: AsEndpoint = AsEndpoint::Introspection;

    fn silent() -> Rests {
        let rests = Rests::default();
        for _ in 0..FAILURES {
            assert!(!rests.spares(HERE));
            rests.saw(HERE, Sign::Silence);
        }
        rests
    }

    #[tokio::test(start_paused = true)]
    async fn after_eight_silences_in_a_row_calls_are_spared_but_for_one_now_and_then() {
        let rests = silent();
        let mut through = 0;
        for _ in 0..490 {
            through += u32::from(!rests.spares(HERE));
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(through, 9);
        advance(Duration::from_millis(10)).await;
        assert!(!rests.spares(HERE), "it is over");
        rests.saw(HERE, Sign::Silence);
        assert!(rests.spares(HERE), "one more begins the next");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_rest_and_the_count() {
        let rests = silent();
        assert!(rests.spares(HERE));
        rests.saw(HERE, Sign::Answer);
        for _ in 1..FAILURES {
            rests.saw(HERE, Sign::Silence);
            assert!(!rests.spares(HERE));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_the_server_fails_at_spares_nobody_the_next_one() {
        let rests = Rests::default();
        for _ in 0..100 {
            rests.saw(HERE, Sign::Failure);
            assert!(!rests.spares(HERE));
        }
    }

    #[test]
    fn what_the_server_has_answered_is_no_silence_however_bad_it_is() {
        let status = |status: u16| Ok(Response::builder().status(status).body(Bytes::new()).expect("an answer"));
        let error = |error: HttpError| Err(AskError::from(error));
        for (result, had_time, expected) in [
            (status(200), true, Sign::Answer),
            (status(400), true, Sign::Answer),
            (status(500), true, Sign::Failure),
            (status(503), true, Sign::Silence),
            (error(HttpError::TooLarge), true, Sign::Failure),
            (error(HttpError::Framing), true, Sign::Failure),
            (error(HttpError::Timeout), true, Sign::Silence),
            (error(HttpError::Timeout), false, Sign::Failure),
        ] {
            assert_eq!(Sign::of(&result, had_time), expected, "{result:?} {had_time}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_rests_closes_no_other() {
        let rests = silent();
        let spared: Vec<_> = AsEndpoint::ALL.into_iter().filter(|endpoint| rests.spares(*endpoint)).collect();
        assert_eq!(spared, [HERE]);
    }
}
