//! One request and its answer: over one connection, or over another one when the first turns out to be dead or turns the request away, or from another
//! server. What a server may have begun to act on is not sent again.

use std::rc::Rc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{HeaderMap, HeaderName, Response, StatusCode, request};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::attempt::{Fate, Lost, Sent, attempt};
use super::choose::{Dice, Group, Tried};
use super::connect::{Taken, chain};
use super::error::of_the_client;
use super::h2::as_h1;
use super::pool::{Busy, Connection, Slot};
use super::{Config, Protocol, UpstreamError};
use crate::body::{Body, BodyError, Pace, Watch, clean_trailers};

/// An answer's head, and what it came over.
pub(super) struct Answered {
    pub(super) answer: Response<Incoming>,
    pub(super) connection: Connection,
    pub(super) busy: Busy,
    /// The server's place.
    pub(super) place: usize,
    /// Where the bare stream arrives, if an upgrade was asked for and the answer is 101.
    pub(super) taken: Option<oneshot::Receiver<Taken>>,
}

/// What became of an attempt that gave no answer.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost an allocation")]
enum Failed {
    /// Nothing of it can have been acted on, so the request may be sent again.
    Unsent(UpstreamError, request::Parts, Body),
    /// That was it.
    For(UpstreamError),
}

/// Sends a request to one server after the other until one takes it. What a server may have begun to act on goes to no other.
///
/// `asking` hears of each server before it is asked, and may change the head for it.
pub(super) async fn send(
    group: &Group,
    config: &Config,
    dice: &Dice,
    mut head: request::Parts,
    mut body: Body,
    asking: impl Fn(&mut request::Parts, &Slot),
) -> Result<Answered, UpstreamError> {
    let wish = group.wish(config.sticky.as_ref(), &head.headers);
    group.earn(config);
    let (mut tried, mut last) = (Tried::default(), None);
    while let Some((place, slot)) = group.choose(config, dice, tried, wish) {
        if last.is_some() {
            if !group.spend() {
                break;
            }
            // The server before may have wanted another form.
            as_h1(&mut head);
        }
        asking(&mut head, slot);
        let busy = Busy::at(slot);
        match at(group, slot, config, head, body).await {
            Ok((answer, connection, taken)) => {
                judge(slot, config, answer.status());
                return Ok(Answered { answer, connection, busy, place, taken });
            }
            Err(Failed::For(error)) => {
                note(slot, config, &error);
                return Err(error);
            }
            Err(Failed::Unsent(error, unsent, whole)) => {
                note(slot, config, &error);
                (head, body) = (unsent, whole);
                tried.add(place);
                if error.is_of_connecting() {
                    group.retries.connect();
                } else {
                    group.retries.unprocessed();
                }
                last = Some(error);
            }
        }
    }
    let error = last.unwrap_or(UpstreamError::NoServer);
    if error.is_of_connecting() {
        group.dependency.failed(chain(&error));
    }
    Err(error)
}

/// Answers that say that a server is failing, for those who want them counted.
fn judge(slot: &Slot, config: &Config, status: StatusCode) {
    if config.ejection.server_errors && matches!(status.as_u16(), 500 | 502..=504) {
        slot.member.failed(&config.ejection);
    } else {
        slot.member.succeeded();
    }
}

fn note(slot: &Slot, config: &Config, error: &UpstreamError) {
    let counts = match error {
        UpstreamError::Connect(_) | UpstreamError::ConnectTimeout(_) | UpstreamError::Tls(_) | UpstreamError::Protocol => true,
        UpstreamError::Exchange(cause) => config.ejection.server_errors && of_the_client(cause).is_none(),
        UpstreamError::AnswerTimeout(_) => config.ejection.server_errors,
        _ => false,
    };
    if counts {
        slot.member.failed(&config.ejection);
    }
}

/// How often a request may be moved from connections that go away, which takes nothing from the budget.
const MOVES: u32 = 32;

/// One server: a connection that stands, and another one when that turns out to be dead or turns the request away.
async fn at(group: &Group, slot: &Rc<Slot>, config: &Config, mut head: request::Parts, mut body: Body) -> Result<Sent, Failed> {
    // Over HTTP/2 no connection changes its protocol; a stream may, where the server must speak it (RFC 8441).
    let exclusive = head.headers.contains_key(UPGRADE) && config.protocol != Protocol::H2;
    let mut again = Again { group, config, moves: 0, turned_away: false, until: Instant::now() + config.timeouts.response };
    let mut standing = slot.take(config.timeouts.unused(), exclusive);
    loop {
        let reused = standing.is_some();
        let connection = match standing.take() {
            Some(connection) => connection,
            // A new connection, not the next idle one: when a server was restarted, all idle ones are dead.
            // A box: most requests find a connection, and all that wait for an answer would hold the room for making one.
            None => match Box::pin(slot.connect(config, exclusive)).await {
                Ok(connection) => {
                    group.dependency.recovered();
                    if !config.ejection.server_errors {
                        slot.member.succeeded();
                    }
                    connection
                }
                Err(error) => return Err(Failed::Unsent(error, head, body)),
            },
        };
        let lost = match attempt(connection, config, slot, head, body, reused).await {
            Ok(sent) => return Ok(sent),
            Err(lost) => lost,
        };
        (head, body) = match (again.may(&lost, reused), lost.again) {
            (Next::Here, Some(request)) => request,
            (Next::Elsewhere, Some((head, body))) => return Err(Failed::Unsent(lost.error, head, body)),
            _ => return Err(Failed::For(lost.error)),
        };
    }
}

/// Whether a request is sent to the same server once more.
struct Again<'a> {
    group: &'a Group,
    config: &'a Config,
    moves: u32,
    /// A connection has turned it away that serves nobody, or a server that may serve nobody.
    turned_away: bool,
    until: Instant,
}

enum Next {
    /// Over another connection.
    Here,
    /// To another server, if there is one.
    Elsewhere,
    No,
}

impl Again<'_> {
    fn may(&mut self, lost: &Lost, reused: bool) -> Next {
        let retries = &self.group.retries;
        let count = || if lost.fate == Fate::Unsent { retries.stale() } else { retries.unprocessed() };
        // A connection that ends after so many requests, or since its server does, says nothing against the server. What was never sent is sent once.
        let moves = match lost.fate {
            Fate::Unsent => lost.served,
            Fate::LeftOut => lost.served && self.config.retry_budget > 0,
            Fate::Refused | Fate::Silent | Fate::Over => false,
        };
        match lost.fate {
            Fate::Over => return Next::No,
            Fate::Silent if reused && self.group.spend() => retries.stale(),
            Fate::Silent => return Next::No,
            _ if lost.again.is_none() => return Next::No,
            _ if moves && self.moves < MOVES && Instant::now() < self.until => {
                self.moves += 1;
                count();
            }
            _ if self.turned_away => return Next::Elsewhere,
            _ if self.group.spend() => {
                self.turned_away = true;
                count();
            }
            _ => return Next::No,
        }
        Next::Here
    }
}

/// Holds the connection while an answer's body streams; keeps it for the next request when the body has ended, drops it when the body broke off.
pub(super) struct Lease {
    /// None: silence ends nothing.
    pace: Option<Pace>,
    unused: Duration,
    connection: Option<Connection>,
    busy: Option<Busy>,
    /// By the head's `Connection`.
    named: Vec<HeaderName>,
}

impl Lease {
    /// Without a `connection` nothing is kept.
    pub(super) fn new(connection: Option<Connection>, busy: Busy, config: &Config, named: Vec<HeaderName>) -> Self {
        let idle = config.timeouts.idle;
        Self { pace: (!idle.is_zero()).then(|| Pace::new(idle)), unused: config.timeouts.unused(), connection, busy: Some(busy), named }
    }
}

impl Watch for Lease {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.pace.as_mut().map_or(Ok(()), |pace| pace.data(bytes))
    }

    fn waiting(&mut self, context: &mut std::task::Context<'_>) -> Result<(), BodyError> {
        self.pace.as_mut().map_or(Ok(()), |pace| pace.waiting(context))
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        clean_trailers(trailers, |name| !self.named.contains(name));
    }

    fn end(&mut self, complete: bool) {
        if let (Some(connection), Some(busy), true) = (self.connection.take(), self.busy.take(), complete) {
            busy.slot.keep(connection, self.unused);
        }
    }
}
