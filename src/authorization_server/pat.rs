//! The protection API access token: one for each server (a service account), renewed early, never lost to a passing failure.
//!
//! A server may copy the token's end into the tickets that it issues, so a token near its end is renewed before it is used.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::discovery::Metadata;
use super::error::AskError;
use super::json;
use super::server::{Server, status};
use crate::http_client::form;
use crate::telemetry::AsEndpoint;
use crate::uma::{Pat, Timestamp};

/// A token is renewed when less than this is left of it, or less than a fifth of its life where that is shorter.
const EARLY: Duration = Duration::from_secs(60);
/// What a token without `expires_in` is trusted for.
const UNTOLD_LIFE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// The token of one server.
#[derive(Default)]
pub(super) struct Pats {
    current: RefCell<Option<Rc<Held>>>,
    flight: tokio::sync::Mutex<()>,
    /// When a renewal failed last: while the old token is good, one try a second is enough.
    failed: Cell<Option<Instant>>,
}

/// A token and its times.
pub struct Held {
    header: HeaderValue,
    until: Instant,
    renew_at: Instant,
}

impl Held {
    /// `Bearer …`, marked sensitive.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// When it ends, counted from when it came.
    #[must_use]
    pub const fn until(&self) -> Instant {
        self.until
    }

    /// When it is renewed.
    #[must_use]
    pub const fn renew_at(&self) -> Instant {
        self.renew_at
    }
}

impl Server {
    /// A token with enough life left; one flight for all who ask. A failed renewal keeps what is still valid.
    ///
    /// # Errors
    /// There is none, and none can be had before `deadline`.
    pub async fn pat(&self, deadline: Instant) -> Result<Rc<Held>, AskError> {
        let now = Instant::now();
        let held = self.pats.current.borrow().clone();
        match held {
            Some(held) if now < held.renew_at => Ok(held),
            Some(held) if now < held.until && self.pats.failed.get().is_some_and(|failed| now < failed + RETRY) => Ok(held),
            Some(held) => match self.renew_pat(&held, deadline).await {
                Err(_) if Instant::now() < held.until => {
                    self.pats.failed.set(Some(Instant::now()));
                    Ok(held)
                }
                renewed => renewed,
            },
            None => self.fetch_pat(None, deadline).await,
        }
    }

    /// A token other than `old`, which was refused or is near its end.
    ///
    /// # Errors
    /// None can be had before `deadline`; the old one is kept.
    pub async fn renew_pat(&self, old: &Rc<Held>, deadline: Instant) -> Result<Rc<Held>, AskError> {
        self.fetch_pat(Some(old), deadline).await
    }

    async fn fetch_pat(&self, old: Option<&Rc<Held>>, deadline: Instant) -> Result<Rc<Held>, AskError> {
        let metadata = self.metadata(deadline).await?;
        let _flight = timeout_at(deadline, self.pats.flight.lock()).await.map_err(|_| AskError::Timeout)?;
        // Somebody else may have renewed it while this one waited.
        let current = self.pats.current.borrow().clone();
        if let Some(current) = current
            && old.is_none_or(|old| !Rc::ptr_eq(old, &current))
        {
            return Ok(current);
        }
        let response = self.ask_for_pat(&metadata, deadline).await?;
        if response.status() != StatusCode::OK {
            let error = status(AsEndpoint::Token, &response);
            self.complain(&format!("no protection API access token: {error}"));
            return Err(error);
        }
        self.keep_pat(&response)
    }

    /// Takes the token out of an answer and keeps it.
    pub(super) fn keep_pat(&self, response: &Response<Bytes>) -> Result<Rc<Held>, AskError> {
        let held = Rc::new(read(response.body())?);
        let left = held.until.saturating_duration_since(Instant::now());
        self.metrics().pat_expires(&self.config.name, Timestamp::now().0.saturating_add(i64::try_from(left.as_secs()).unwrap_or(0)));
        self.pats.current.replace(Some(Rc::clone(&held)));
        self.content();
        Ok(held)
    }

    pub(super) async fn ask_for_pat(&self, metadata: &Metadata, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        self.as_client(AsEndpoint::Token, &metadata.token, Self::pat_form(metadata), deadline).await
    }

    pub(super) fn pat_form(metadata: &Metadata) -> Bytes {
        let mut fields = vec![("grant_type", "client_credentials")];
        fields.extend(metadata.profile.pat_scope.map(|scope| ("scope", scope)));
        form(&fields)
    }
}

fn read(body: &[u8]) -> Result<Held, AskError> {
    let unusable = |why: &'static str| AskError::unusable("token", why);
    let document = json::parse(body).map_err(|_| unusable("it is not JSON"))?;
    let token = document.get("access_token").and_then(Value::as_str).ok_or_else(|| unusable("it has no access token"))?;
    if !document.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(unusable("its token is not a Bearer token"));
    }
    let pat = Pat(token.into());
    let mut header = HeaderValue::try_from(format!("Bearer {}", pat.0.expose())).map_err(|_| unusable("its token cannot be sent"))?;
    header.set_sensitive(true);
    let life = document.get("expires_in").and_then(Value::as_u64).map_or(UNTOLD_LIFE, |seconds| Duration::from_secs(seconds.min(10 * 365 * 86_400)));
    let now = Instant::now();
    let until = now + life;
    Ok(Held { header, until, renew_at: until - EARLY.min(life / 5) })
}
