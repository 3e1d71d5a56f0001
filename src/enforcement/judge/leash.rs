//! The permission of an upgraded connection, watched while the connection lives (row U6).
//!
//! It was judged at the handshake. From then on the authorization server is asked again before each answer is too old, whoever else asks or not; the
//! connection is cut when token or permission end, when the server refuses, when it could not be asked until the last answer was too old, and when the
//! configuration in force has no route any more that would let it be opened.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::super::ask::Question;
use super::super::decision::{Decision, Need, decide};
use super::super::permit::Permit;
use super::super::service::Snapshot;
use super::walk::Unjudged;
use super::{Asked, Case, Judge, Standing, Wanted, grants};
use crate::cache::{CacheKey, Entry};
use crate::response::{Rejection, Row};
use crate::telemetry::Recorder;
use crate::uma::{ResourceId, Rpt, Timestamp};

/// Between questions when there was no answer.
const RETRY: Duration = Duration::from_millis(500);

/// What the server says when it is asked again.
enum Word {
    /// As before; this is its answer.
    Yes(Arc<Entry>),
    No,
    /// It gave none.
    None,
}

/// What is asked, again and again.
struct Leash<S> {
    judge: Judge,
    case: Case,
    resource: ResourceId,
    token: Rpt,
    key: CacheKey,
    standing: Standing<S>,
}

impl Judge {
    /// The question that a handshake asks, whatever the caches know. It is kept as long as the connection lives.
    ///
    /// # Errors
    /// Rows D9, D10, D12 to D14.
    pub fn handshake(&self, asked: &Asked<'_>) -> Result<Box<Case>, Rejection> {
        let wish = self.wish(asked)?;
        let token = wish.token.map(|token| {
            let key = self.cache.key(asked.protect.server.identity_for(wish.resource.owner().map(|owner| &**owner)), token);
            asked.recorder.with(|record| record.token = Some(key.short()));
            (Rpt(token.into()), key)
        });
        Ok(Box::new(Case::new(asked, wish.resource, wish.scopes, token, Instant::now())))
    }

    /// Ends when the permission that `case` was given has ended, and `grace` is over.
    pub async fn leash<S: Snapshot>(self, mut case: Case, permit: Permit, standing: Standing<S>, grace: Duration) {
        let recorder = case.recorder.clone();
        // What is asked from now on is no part of the handshake's record.
        case.recorder = recorder.with(|record| Recorder::new(record.id.clone(), record.method.clone(), record.peer, record.scheme));
        // Nor does it count against the client, whose connections are counted.
        case.bucket = None;
        let known = (case.token.take(), case.found.get().cloned(), permit.into_entry());
        if let (Some((token, key)), Some(resource), Some(entry)) = known {
            Leash { judge: self, case, resource, token, key, standing }.holds(entry).await;
        }
        recorder.pass(Row::U6);
        tracing::debug!(id = &*recorder.id().0, "the permission of an upgraded connection has ended");
        sleep(grace).await;
    }
}

impl<S: Snapshot> Leash<S> {
    /// Returns when the permission has ended.
    async fn holds(&mut self, mut entry: Arc<Entry>) {
        loop {
            let now = Instant::now();
            let Some(until) = self.permits(&entry) else { return };
            let fresh_until = self.fresh_until(&entry, now);
            // An end beyond what the clock can count is none.
            let ends = until.and_then(|until| now.checked_add(until.after(Timestamp::now())));
            let asks = fresh_until.checked_sub(self.margin()).unwrap_or(now);
            sleep_until(ends.map_or(asks, |ends| ends.min(asks))).await;
            if ends.is_some_and(|ends| ends <= Instant::now()) {
                continue;
            }
            if !self.standing.stands(&self.judge, &mut self.case) {
                return;
            }
            entry = loop {
                match self.ask(&entry).await {
                    Word::Yes(entry) => break entry,
                    Word::No => return,
                    Word::None if Instant::now() >= fresh_until => return,
                    Word::None => sleep_until(fresh_until.min(Instant::now() + RETRY)).await,
                }
            };
        }
    }

    /// Whether an answer permits, and until when.
    fn permits(&self, entry: &Entry) -> Option<Option<Timestamp>> {
        let Case { server, scopes, scopes_match, .. } = &self.case;
        if let Wanted::Shared(share) = &self.case.resource
            && !self.judge.records.holds(share)
        {
            return None;
        }
        if self.judge.resources.is_closed(self.case.owner_identity()) {
            return None;
        }
        let need = Need { server, resource: &self.resource, scopes, scopes_match: *scopes_match };
        match decide(&need, entry.introspection(), Timestamp::now()) {
            Decision::Permit { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Until when what was said last may be used.
    fn fresh_until(&self, entry: &Entry, now: Instant) -> Instant {
        let mut age = entry.age(now);
        if entry.asks_live() {
            // Without an answer (it had to make room) it is asked at once.
            let live = self.judge.cache.live(self.key, &self.resource);
            age = live.map_or(self.case.server.max_age, |live| live.age(now).max(age));
        }
        now + self.case.server.max_age.saturating_sub(age)
    }

    /// How long before that it is asked again.
    fn margin(&self) -> Duration {
        self.case.server.timeout.min(self.case.server.max_age / 5)
    }

    /// Asks anew; an answer that came in the meantime will do.
    async fn ask(&mut self, known: &Arc<Entry>) -> Word {
        self.case.deadline = Instant::now() + self.case.server.timeout;
        let entry = match self.judge.introspect(&self.case, &self.token, self.key, Some(Arc::clone(known))).await {
            Ok(entry) => entry,
            Err(Unjudged::Refused) => return Word::No,
            Err(Unjudged::Limited(_) | Unjudged::Failed(_)) => return Word::None,
        };
        if self.permits(&entry).is_none() {
            return Word::No;
        }
        if !entry.asks_live() {
            return Word::Yes(entry);
        }
        let known = self.judge.cache.live(self.key, &self.resource);
        let (server, token, key, resource) = (self.case.server.identity, self.token.clone(), self.key, self.resource.clone());
        let question = |reply| Question::Live { server, token, key, resource, known, bucket: None, reply };
        match self.judge.control.ask(question, self.case.deadline).await {
            Ok(Ok(live)) if grants(&self.case.scopes, self.case.scopes_match, &live) => Word::Yes(entry),
            Ok(Ok(_)) => Word::No,
            Ok(Err(_)) | Err(_) => Word::None,
        }
    }
}
