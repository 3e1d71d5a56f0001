//! The whole way of one fetch, step after step, with the limits that keep it from going round in circles.

use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use super::kept::end_of;
use super::step::{excerpt, shortened};
use super::{Asked, AuthorizationServer, ClaimsToken, Client, FetchError, FetchRequest, Fetched, Granted, RequestingParty, Step, StepKind, Traded};
use crate::http_client::Streamed;
use crate::uma::{PermissionTicket, Rpt, UmaChallenge};

/// How often the server may want to know more before the client gives up.
const NEED_INFO_ROUNDS: u32 = 3;

/// An interval below this counts as not told.
const SHORTEST: Duration = Duration::from_millis(10);

/// One fetch on its way.
pub(super) struct Walk<'a> {
    client: &'a Client,
    request: &'a FetchRequest,
    steps: Vec<Step>,
}

/// What trading came to.
enum Obtained {
    Rpt(Rpt, Granted),
    /// When the resource was asked for another ticket it gave its answer instead.
    Answer(Response<Streamed>),
}

/// What is known while a ticket is traded, maybe several times.
struct Trading {
    server: AuthorizationServer,
    as_uri: String,
    claims: Option<ClaimsToken>,
    earlier: Option<Rpt>,
    need_info: u32,
    went_back: bool,
    /// Since when the server is polled.
    polled: Option<Instant>,
}

/// The next ticket, or the end.
enum Next {
    Ticket(PermissionTicket),
    Obtained(Obtained),
}

impl<'a> Walk<'a> {
    pub(super) const fn new(client: &'a Client, request: &'a FetchRequest) -> Self {
        Self { client, request, steps: Vec::new() }
    }

    pub(super) async fn fetch(mut self) -> Result<Fetched, FetchError> {
        let mut rpt = self.request.rpt.clone();
        let challenge = match self.ask(rpt.as_ref()).await? {
            Asked::Answer(response) => return Ok(Fetched { response, steps: self.steps, rpt, granted: None }),
            Asked::Challenge(_, challenge) => challenge,
        };
        let (response, granted) = match self.obtain(challenge).await? {
            Obtained::Answer(response) => (response, None),
            Obtained::Rpt(new, granted) => {
                let asked = self.ask(Some(&new)).await?;
                rpt = Some(new);
                match asked {
                    Asked::Answer(response) => (response, Some(granted)),
                    // Once more would most likely bring the same RPT: the server granted less than the resource asks for.
                    Asked::Challenge(_, challenge) => return Err(FetchError::StillRefused { error: challenge.error.as_deref().map(excerpt) }),
                }
            }
        };
        Ok(Fetched { response, steps: self.steps, rpt, granted })
    }

    async fn ask(&mut self, rpt: Option<&Rpt>) -> Result<Asked, FetchError> {
        let asked = self.client.ask(self.request, rpt).await?;
        self.note(Step::asked(self.request, rpt, &asked));
        Ok(asked)
    }

    async fn obtain(&mut self, challenge: UmaChallenge) -> Result<Obtained, FetchError> {
        let server = self.client.discover(&self.request.address, &challenge.as_uri).await?;
        self.note(Step::discovered(&server.issuer, &server.document));
        let claims = self.claims(&server).await?;
        // An RPT is upgraded by the server that gave it; no other is shown it.
        let known = self.request.rpt_issuer.as_ref().is_none_or(|issuer| *issuer == server.issuer);
        let earlier = self.request.rpt.clone().filter(|_| known);
        let mut trading = Trading { server, as_uri: challenge.as_uri, claims, earlier, need_info: 0, went_back: false, polled: None };
        let mut ticket = challenge.ticket;
        loop {
            match self.trade(&mut trading, ticket).await? {
                Next::Ticket(next) => ticket = next,
                Next::Obtained(obtained) => return Ok(obtained),
            }
        }
    }

    async fn trade(&mut self, trading: &mut Trading, ticket: PermissionTicket) -> Result<Next, FetchError> {
        // The user may have been waiting for the owner for longer than the claims token lives.
        if trading.claims.as_ref().is_some_and(ClaimsToken::is_over) {
            let format = trading.claims.take().and_then(|claims| claims.format().map(str::to_owned));
            trading.claims = self.claims(&trading.server).await?.map(|claims| claims.pushed_as(format));
        }
        let (status, traded) = self.client.trade(&trading.server, &ticket, trading.claims.as_ref(), trading.earlier.as_ref()).await?;
        let claims = if trading.claims.is_some() { " + claims token" } else { "" };
        let what = format!("trade ticket {}{claims}", shortened(&ticket.0));
        self.note(Step::new(StepKind::Trade, what, Some(status.as_u16()), describe(&traded)));
        match traded {
            Traded::Rpt { rpt, expires_in, .. } => {
                let granted = Granted { issuer: trading.server.issuer.clone(), expires: end_of(&rpt, expires_in) };
                Ok(Next::Obtained(Obtained::Rpt(rpt, granted)))
            }
            Traded::Denied => Err(FetchError::Denied),
            Traded::NeedInfo { ticket, wanted, format, .. } if trading.server.rpt_endpoint.is_some() => {
                push(trading, wanted, format)?;
                Ok(Next::Ticket(ticket))
            }
            Traded::NeedInfo { ticket, wanted, redirect, .. } => self.need_info(trading, ticket, wanted, redirect).await.map(Next::Ticket),
            Traded::Submitted { ticket, interval } => {
                self.pause(trading, interval).await?;
                match ticket {
                    Some(ticket) => Ok(Next::Ticket(ticket)),
                    None => self.go_back(trading).await,
                }
            }
            Traded::RptRefused if trading.earlier.is_some() => {
                trading.earlier = None;
                self.go_back(trading).await
            }
            Traded::TicketRefused if !trading.went_back => {
                trading.went_back = true;
                self.go_back(trading).await
            }
            Traded::TicketRefused | Traded::RptRefused => Err(FetchError::TicketRefused),
        }
    }

    /// The server wants more: it asks the user by itself, or gets claims that are fresh.
    async fn need_info(
        &mut self,
        trading: &mut Trading,
        ticket: PermissionTicket,
        wanted: Vec<String>,
        redirect: Option<String>,
    ) -> Result<PermissionTicket, FetchError> {
        trading.need_info += 1;
        if trading.need_info >= NEED_INFO_ROUNDS || (redirect.is_none() && trading.claims.is_none()) {
            return Err(FetchError::NeedInfo { wanted });
        }
        if let Some(redirect) = redirect {
            let gathered = self.client.gather(&trading.server, &redirect, &ticket).await?;
            let same = gathered.0.matches(ticket.0.expose());
            let detail = if same { "warning: the server gave the same ticket again" } else { "a new ticket" };
            self.note(Step::new(StepKind::Gather, "the server asked the user", None, detail));
            return Ok(gathered);
        }
        trading.claims = self.claims(&trading.server).await?;
        Ok(ticket)
    }

    /// Waits before the next poll, no shorter than the server says; ends the fetch when the user does not want to wait so long.
    async fn pause(&mut self, trading: &mut Trading, interval: Option<Duration>) -> Result<(), FetchError> {
        let options = &self.client.options;
        let interval = interval.filter(|told| *told >= SHORTEST).unwrap_or(options.poll);
        let begun = *trading.polled.get_or_insert_with(Instant::now);
        let waited = begun.elapsed();
        if options.wait.is_zero() || waited.saturating_add(interval) > options.wait {
            return Err(FetchError::Submitted { waited: (!options.wait.is_zero()).then_some(waited) });
        }
        self.note(Step::new(StepKind::Wait, "the owner is asked: wait", None, format!("{} s", interval.as_secs_f32())));
        tokio::time::sleep(interval).await;
        // Polling may take longer than a ticket lives, so after a pause one more is no sign of two servers that do not know each other.
        trading.went_back = false;
        Ok(())
    }

    /// Back to the resource, for another ticket of the same server.
    async fn go_back(&mut self, trading: &Trading) -> Result<Next, FetchError> {
        match self.ask(trading.earlier.as_ref()).await? {
            Asked::Answer(response) => Ok(Next::Obtained(Obtained::Answer(response))),
            Asked::Challenge(_, challenge) if challenge.as_uri == trading.as_uri => Ok(Next::Ticket(challenge.ticket)),
            Asked::Challenge(..) => Err(FetchError::ServerChanged),
        }
    }

    async fn claims(&mut self, server: &AuthorizationServer) -> Result<Option<ClaimsToken>, FetchError> {
        let claims = self.client.claims_token(server).await?;
        if let Some(token) = &claims {
            let asked = !matches!(self.client.options.requesting_party, RequestingParty::Token(_));
            self.note(Step::new(StepKind::SignIn, self.client.how(server), asked.then_some(200), format!("claims token {}", shortened(token.identity()))));
        }
        Ok(claims)
    }

    fn note(&mut self, step: Step) {
        if let Some(observer) = &self.client.options.observer {
            observer(&step);
        }
        self.steps.push(step);
    }
}

/// UMA 1.0: the ID token goes along once it is asked for. What it does not tell, the client does not know.
fn push(trading: &mut Trading, wanted: Vec<String>, format: Option<String>) -> Result<(), FetchError> {
    match (trading.claims.take(), format) {
        (Some(claims), Some(format)) if claims.format().is_none() => trading.claims = Some(claims.pushed_as(Some(format))),
        _ => return Err(FetchError::NeedInfo { wanted }),
    }
    Ok(())
}

fn describe(traded: &Traded) -> String {
    let word = traded.word();
    match traded {
        Traded::Rpt { rpt, expires_in, .. } => {
            let life = expires_in.map_or_else(String::new, |life| format!(", {} s", life.as_secs()));
            format!("{word} {}{life}", shortened(&rpt.0))
        }
        Traded::NeedInfo { wanted, .. } if !wanted.is_empty() => format!("{word}: {}", wanted.join(", ")),
        Traded::Submitted { interval: Some(interval), .. } => format!("{word}, ask again in {} s", interval.as_secs_f32()),
        _ => word.to_owned(),
    }
}
