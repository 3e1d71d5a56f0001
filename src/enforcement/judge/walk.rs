//! The judge's stages in the order of the table, waiting where somebody must be asked.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::super::ask::{Failed, Introspected, NoTicket, Question, Refused};
use super::super::permit::Permit;
use super::{Case, Judge, Known, MIN_REFRESH, OpenWith, View, Wanted, closed, grants};
use crate::authorization_server::{AskError, PatSource, TicketError, UriKey};
use crate::cache::{CacheKey, Entry, Lookup};
use crate::holes::{Hole, open};
use crate::response::{Rejection, Row, UnreachableStatus};
use crate::secret::Secret;
use crate::telemetry::{CacheState, Step};
use crate::uma::{ResourceId, Rpt, TokenError, bearer_challenge, challenge_body, uma_challenge};

/// Why there is no ticket for a share that somebody has deleted at the server.
const LOST: &str = "the authorization server has deleted the resource of this share: it is closed until the share is deleted, and made anew";

impl Judge {
    /// All stages, waiting where somebody must be asked.
    ///
    /// # Errors
    /// The answer that the table has for this request.
    pub async fn judge(&self, case: &Case) -> Result<Permit, Rejection> {
        let started = Instant::now();
        let result = self.walk(case).await;
        case.recorder.with(|record| record.authorization_server = started.elapsed());
        match result {
            Err(Rejection::Unreachable { .. }) if open(Hole::FailOpen) => Ok(Permit::public()),
            // The owner may have withdrawn it while somebody was asked.
            Ok(_) if matches!(&case.resource, Wanted::Shared(share) if !self.records.holds(share)) => Err(Rejection::NoResource),
            // So may the owner's consent have ended.
            Ok(_) if self.resources.is_closed(case.owner_identity()) => Err(closed(&case.server, case.resource.owner(), &case.recorder)),
            result => result,
        }
    }

    async fn walk(&self, case: &Case) -> Result<Permit, Rejection> {
        let resource = self.resource(case).await?;
        let _ = case.found.set(resource.clone());
        let Some((token, key)) = &case.token else {
            case.recorder.pass(Row::D15);
            return Err(self.challenge(case, &resource, None).await);
        };
        let (mut entry, mut fresh) = self.entry(case, &resource, token, *key).await?;
        loop {
            match self.weigh(&case.view(&resource, token, *key, Instant::now()), &entry, || self.cache.live(*key, &resource)) {
                Known::Permit(permit) => {
                    case.recorder.pass(Row::E10);
                    self.count_live(&entry, true);
                    return Ok(permit);
                }
                Known::NeedsLive(entry) => {
                    self.count_live(&entry, false);
                    return self.live(case, &resource, &entry, token, *key).await;
                }
                Known::Challenge(reason, row) => {
                    case.recorder.pass(row);
                    match row {
                        Row::E1 => self.cache.drop_entry(key),
                        Row::E8a => self.count_live(&entry, true),
                        _ => {}
                    }
                    return Err(self.challenge(case, &resource, Some(reason)).await);
                }
                Known::Refuse(rejection) => return Err(rejection),
                Known::Insufficient(known) if !fresh && known.age(Instant::now()) > MIN_REFRESH => {
                    case.recorder.pass(Row::E7);
                    fresh = true;
                    entry = match self.introspect(case, token, *key, Some(known)).await {
                        Ok(entry) => entry,
                        Err(Unjudged::Refused) => return Err(self.challenge(case, &resource, Some(TokenError::InvalidToken)).await),
                        Err(other) => {
                            // This client may not ask now: what is known counts as if it were new.
                            if matches!(other, Unjudged::Limited(_)) {
                                case.recorder.pass(Row::E8);
                            }
                            return Err(self.challenge(case, &resource, Some(TokenError::InsufficientScope)).await);
                        }
                    };
                }
                Known::Insufficient(_) => {
                    case.recorder.pass(Row::E8);
                    return Err(self.challenge(case, &resource, Some(TokenError::InsufficientScope)).await);
                }
            }
        }
    }

    /// The answer to judge by, and whether it was asked for just now (rows I1 to I10).
    async fn entry(&self, case: &Case, resource: &ResourceId, token: &Rpt, key: CacheKey) -> Result<(Arc<Entry>, bool), Rejection> {
        let now = Instant::now();
        match self.cache.look_up(&key, now) {
            Lookup::Active(entry) => {
                case.recorder.with(|record| record.cache = CacheState::Hit(entry.age(now)));
                case.recorder.pass(self.renew_ahead(&case.view(resource, token, key, now), &entry));
                Ok((entry, false))
            }
            Lookup::Inactive => {
                case.recorder.with(|record| record.cache = CacheState::NegativeHit);
                case.recorder.pass(Row::I3);
                Err(self.challenge(case, resource, Some(TokenError::InvalidToken)).await)
            }
            known @ (Lookup::Stale | Lookup::Unknown) => {
                case.recorder.with(|record| record.cache = CacheState::Miss);
                let row = if matches!(known, Lookup::Stale) { Row::I7a } else { Row::I6 };
                match self.introspect(case, token, key, None).await {
                    Ok(entry) => Ok((entry, true)),
                    Err(Unjudged::Limited(after)) => Err(Rejection::TooManyIntrospections(after)),
                    Err(Unjudged::Refused) => Err(self.challenge(case, resource, Some(TokenError::InvalidToken)).await),
                    Err(Unjudged::Failed(error)) => Err(unjudged(case, row, &error)),
                }
            }
        }
    }

    /// Rows D10 and D11: the resource that the route leads to.
    async fn resource(&self, case: &Case) -> Result<ResourceId, Rejection> {
        if let Some(known) = self.known_resource(&case.resource, &case.on()) {
            return known;
        }
        let (key, declared) = match &case.resource {
            Wanted::Named { key, declared } => (key, declared),
            Wanted::AtPath(key) => return self.at_path(case, key).await,
            Wanted::Token | Wanted::Id { .. } | Wanted::Shared(_) => return Err(Rejection::Internal),
        };
        let question = |reply| Question::Resource {
            server: case.server.identity,
            key: key.clone(),
            declared: declared.clone().filter(|_| !self.dry),
            bucket: case.bucket,
            reply,
        };
        match asked(case, Step::Resource, self.control.ask(question, case.deadline)).await {
            Ok(Ok(Some(id))) => {
                case.recorder.with(|record| record.resource = Some(id.clone()));
                Ok(id)
            }
            Ok(Ok(None)) => Err(Rejection::NoResource),
            Ok(Err(Failed::Limited(after))) => Err(Rejection::TooManyIntrospections(after)),
            Ok(Err(Failed::Server(error))) | Err(error) => {
                case.note(&error);
                Err(match declared {
                    Some(_) => no_ticket(case, Row::D11),
                    None => not_looked_up(case, &error),
                })
            }
        }
    }

    /// The same for a resource that is found by the path.
    async fn at_path(&self, case: &Case, key: &UriKey) -> Result<ResourceId, Rejection> {
        let question = |reply| Question::Path { key: key.clone(), bucket: case.bucket, reply };
        match asked(case, Step::Resource, self.control.ask(question, case.deadline)).await {
            Ok(Ok(place)) => case.on().reaches(&place),
            Ok(Err(Failed::Limited(after))) => Err(Rejection::TooManyIntrospections(after)),
            Ok(Err(Failed::Server(error))) | Err(error) => {
                case.note(&error);
                Err(not_looked_up(case, &error))
            }
        }
    }

    /// Rows I4 to I10.
    pub(super) async fn introspect(&self, case: &Case, token: &Rpt, key: CacheKey, known: Option<Arc<Entry>>) -> Result<Arc<Entry>, Unjudged> {
        let question = |reply| Question::Introspect {
            server: case.server.identity,
            owner: case.resource.owner().cloned(),
            token: token.clone(),
            key,
            known,
            bucket: case.bucket,
            reply,
        };
        match asked(case, Step::Introspect, self.control.ask(question, case.deadline)).await {
            Ok(Ok(Introspected { outcome, renewed })) => {
                if renewed {
                    case.recorder.pass(Row::I8);
                }
                case.recorder.pass(match &outcome {
                    Ok(_) => Row::I4,
                    Err(Refused::Inactive) => Row::I5,
                    Err(Refused::Malformed) => Row::I9,
                });
                outcome.map_err(|_| Unjudged::Refused)
            }
            Ok(Err(Failed::Limited(after))) => Err(Unjudged::Limited(after)),
            Ok(Err(Failed::Server(error))) | Err(error) => {
                case.note(&error);
                match &error {
                    AskError::CredentialRefused { .. } => case.recorder.pass(Row::I8),
                    AskError::NoPat(_) => case.recorder.pass(Row::I10),
                    _ => {}
                }
                Err(Unjudged::Failed(error))
            }
        }
    }

    /// Rows E8a to E8c.
    async fn live(&self, case: &Case, resource: &ResourceId, entry: &Arc<Entry>, token: &Rpt, key: CacheKey) -> Result<Permit, Rejection> {
        let (server, known, bucket) = (case.server.identity, self.cache.live(key, resource), case.bucket);
        let question = |reply| Question::Live { server, token: token.clone(), key, resource: resource.clone(), known, bucket, reply };
        match asked(case, Step::Decision, self.control.ask(question, case.deadline)).await {
            Ok(Ok(live)) if grants(&case.scopes, case.scopes_match, &live) => {
                case.recorder.pass(Row::E8b);
                case.recorder.pass(Row::E10);
                Ok(Permit::of(Arc::clone(entry)))
            }
            Ok(Ok(live)) => {
                case.recorder.pass(Row::E8a);
                case.recorder.with(|record| record.granted = live.granted().unwrap_or_default().to_vec());
                Err(self.challenge(case, resource, Some(TokenError::InsufficientScope)).await)
            }
            Ok(Err(Failed::Limited(after))) => Err(Rejection::TooManyIntrospections(after)),
            Ok(Err(Failed::Server(error))) | Err(error) => {
                case.note(&error);
                Err(unjudged(case, Row::E8c, &error))
            }
        }
    }

    /// Rows C1 to C7: a ticket for exactly this resource and these scopes; row O1 where there are none.
    async fn challenge(&self, case: &Case, resource: &ResourceId, reason: Option<TokenError>) -> Rejection {
        if !case.server.speaks_uma() {
            return match bearer_challenge(&case.server.realm, reason, &case.scopes) {
                Ok(challenge) => Rejection::TokenRequired { challenge, insufficient: reason == Some(TokenError::InsufficientScope) },
                Err(_) => Rejection::Internal,
            };
        }
        if self.dry {
            return match self.may_ask(case).await {
                Ok(()) => permission_required(case, reason, HeaderValue::from_static("UMA"), None),
                Err(error) => {
                    case.note(&error);
                    no_ticket(case, Row::C2)
                }
            };
        }
        let question = |reply| Question::Ticket {
            server: case.server.identity,
            owner: case.resource.owner().cloned(),
            resource: resource.clone(),
            scopes: Arc::clone(case.offered.as_ref().unwrap_or(&case.scopes)),
            forget: case.resource.forgotten(),
            bucket: case.bucket,
            deadline: case.deadline,
            reply,
        };
        let step = case.recorder.step(Step::Permission);
        let answer = match self.control.ask(question, case.deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                case.note(&error);
                return no_ticket(case, Row::C7);
            }
        };
        if answer.renewed {
            case.recorder.pass(Row::C6);
        }
        if answer.outcome.is_ok() {
            step.answered();
        }
        let ticket = match answer.outcome {
            Ok(ticket) => ticket,
            Err(NoTicket::Limited(after)) => return Rejection::TooManyTickets(after),
            Err(NoTicket::Server(error)) => {
                match &error {
                    TicketError::NoPat(error) | TicketError::Refused(error) | TicketError::Failed(error) => case.note(error),
                    TicketError::InvalidResource => self.lost(case),
                }
                return no_ticket(case, ticketless(&error));
            }
        };
        match uma_challenge(&case.server.realm, &case.server.as_uri, reason, &ticket) {
            Ok(challenge) => {
                case.recorder.with(|record| record.ticket_issued = true);
                let body = case.server.uma_1_0.ticket_in_body.then(|| Box::new(challenge_body(&case.server.as_uri, &ticket)));
                permission_required(case, reason, challenge, body)
            }
            Err(_) => no_ticket(case, Row::C7),
        }
    }
}

impl Judge {
    /// The server knows the resource no more. Of a share that is told.
    fn lost(&self, case: &Case) {
        if let Wanted::Shared(share) = &case.resource {
            case.recorder.with(|record| record.reason = Some(LOST.into()));
            self.follower.lost(share.key);
        }
    }

    /// Whether there is a token to ask for a ticket with. Only an owner who links the gateway may have none while all is well.
    async fn may_ask(&self, case: &Case) -> Result<(), AskError> {
        let Some(PatSource::Code { .. }) = case.source() else { return Ok(()) };
        let question = |reply| Question::Pat { server: case.server.identity, owner: case.resource.owner().cloned(), deadline: case.deadline, reply };
        self.control.ask(question, case.deadline).await?
    }
}

fn permission_required(case: &Case, reason: Option<TokenError>, challenge: HeaderValue, body: Option<Box<Secret>>) -> Rejection {
    let forbidden = case.server.uma_1_0.insufficient_is_forbidden && reason == Some(TokenError::InsufficientScope);
    Rejection::PermissionRequired { challenge, open_with: case.open_with.as_ref().map(open_with), body, forbidden }
}

fn open_with(open_with: &OpenWith) -> String {
    let address = percent_encoding::utf8_percent_encode(&open_with.address, percent_encoding::NON_ALPHANUMERIC).to_string();
    open_with.template.replace("{url}", &address)
}

impl Case {
    fn view<'a>(&'a self, resource: &'a ResourceId, token: &'a Rpt, key: CacheKey, now: Instant) -> View<'a> {
        let Self { server, scopes, scopes_match, recorder, .. } = self;
        View { server, scopes, scopes_match: *scopes_match, resource, owner: self.resource.owner(), token: token.0.expose(), key, recorder, now }
    }
}

/// Waits for an answer as a step of the request.
async fn asked<T, E>(case: &Case, step: Step, answer: impl Future<Output = Result<Result<T, E>, AskError>>) -> Result<Result<T, E>, AskError> {
    let step = case.recorder.step(step);
    let answer = answer.await;
    if matches!(answer, Ok(Ok(_))) {
        step.answered();
    }
    answer
}

pub(super) enum Unjudged {
    Limited(Duration),
    Refused,
    Failed(AskError),
}

/// The row of a permission request that gave no ticket.
const fn ticketless(error: &TicketError) -> Row {
    match error {
        TicketError::InvalidResource => Row::C4,
        TicketError::Refused(_) => Row::C5,
        TicketError::NoPat(_) | TicketError::Failed(AskError::Resting) => Row::C2,
        TicketError::Failed(AskError::CredentialRefused { .. }) => Row::C6,
        TicketError::Failed(_) => Row::C7,
    }
}

/// UNR where no ticket could be had: 403, as the specification's example.
fn no_ticket(case: &Case, row: Row) -> Rejection {
    Rejection::Unreachable { row, status: case.server.on_unreachable.unwrap_or(UnreachableStatus::Forbidden) }
}

/// UNR where it could not be told which resource it is.
fn not_looked_up(case: &Case, error: &AskError) -> Rejection {
    match &case.token {
        Some(_) => unjudged(case, Row::I6, error),
        None => no_ticket(case, if matches!(error, AskError::Resting | AskError::NoPat(_)) { Row::C2 } else { Row::C7 }),
    }
}

/// UNR where a token could not be judged: 503, an outage looks like one. A gateway that is itself too busy says so.
fn unjudged(case: &Case, row: Row, error: &AskError) -> Rejection {
    match error {
        AskError::Busy => Rejection::Overloaded,
        _ => Rejection::Unreachable { row, status: case.server.on_unreachable.unwrap_or(UnreachableStatus::Unavailable) },
    }
}
