//! What is left half done is finished in the background, owner after owner.
//!
//! A round ends when nothing is due, or when a whole turn has brought nothing: a server that fails is asked once a second for each owner, and no more. What
//! fails rests (`turns`), so whoever waits behind it waits for one call of it at most.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::registrar::{Registrar, Trouble};
use super::turns::{self, About, Line};
use crate::authorization_server::AskError;
use crate::store::{ResourceRecord, StoreError};

/// Between rounds that left something to do, at least.
const PAUSE: Duration = Duration::from_millis(250);
/// So old may be what is known of what is left to do, before the records are asked again.
const OLD: Duration = Duration::from_secs(1);
/// Records of one look into the database.
const PAGE: u32 = 100;

/// Why a record is half done still.
pub(super) struct Stuck {
    pub trouble: Trouble,
    /// Whether the server had just answered a question about the record.
    answered: bool,
}

impl<T: Into<Trouble>> From<T> for Stuck {
    fn from(trouble: T) -> Self {
        Self { trouble: trouble.into(), answered: false }
    }
}

impl Stuck {
    /// What the server failed at, and not at what it was asked of it before.
    pub fn at(error: AskError) -> Self {
        Self { trouble: error.into(), answered: true }
    }

    fn about(&self) -> About {
        match &self.trouble {
            Trouble::NoPat => About::Owner,
            Trouble::NameTaken | Trouble::Ambiguous => About::Record,
            Trouble::Refused(_) | Trouble::Unreachable(_) if self.answered => About::Record,
            Trouble::Unreachable(error) if silences(error) => About::Server,
            _ => About::Either,
        }
    }
}

/// Whether the next call to the same server would fare no better. What it answers, with whatever status, is about one resource.
pub(super) fn silences(error: &AskError) -> bool {
    match error {
        AskError::Timeout | AskError::Unreachable(_) | AskError::Resting | AskError::Busy => true,
        AskError::NoPat(cause) => silences(cause),
        _ => false,
    }
}

impl Registrar {
    /// Finishes what is half done, at the start and whenever something was left, until dropped.
    pub async fn finish(self: Rc<Self>) {
        loop {
            match self.round().await {
                None => self.left.notified().await,
                Some(next) => {
                    // Something else that was left may be what is waited for.
                    let _ = timeout_at(next, self.left.notified()).await;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Settles what is due, owner after owner, until a whole turn has brought nothing. When to go on; `None`: nothing is left, but what others have in hand.
    async fn round(self: &Rc<Self>) -> Option<Instant> {
        loop {
            let read = Instant::now();
            let mut line = match self.line().await {
                Ok(line) => line,
                Err(error) => {
                    tracing::warn!(%error, "what is left to register or delete cannot be read");
                    return Some(Instant::now() + turns::FIRST);
                }
            };
            let mut turn = self.turns.take(&mut line);
            if turn.is_empty() {
                return line.next;
            }
            while !turn.is_empty() {
                let mut settled = false;
                for record in turn {
                    settled |= self.take_turn(&record).await;
                }
                if !settled {
                    return Some(Instant::now() + turns::FIRST);
                }
                // Somebody may have come, or what rested may be due.
                turn = if read.elapsed() < OLD { self.turns.take(&mut line) } else { Vec::new() };
            }
        }
    }

    /// What is half done and due.
    async fn line(&self) -> Result<Line, StoreError> {
        let (mut line, mut after) = (Line::default(), None);
        loop {
            let page = self.store().unsettled(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key);
            page.into_iter().for_each(|record| self.turns.join(&mut line, record));
        }
        self.turns.forget_others(&line);
        Ok(line)
    }

    /// Whether this record is settled. If it is not, it rests, or whatever would fare no better.
    async fn take_turn(self: &Rc<Self>, record: &ResourceRecord) -> bool {
        if self.turns.until(record).is_some() {
            return false;
        }
        self.turns.begins(record);
        match self.settle_again(record).await {
            Ok(Some(true)) => {
                self.turns.settled(record);
                return true;
            }
            Ok(Some(false)) => self.turns.failed(record, About::Server),
            Ok(None) => {}
            Err(stuck) => {
                tracing::debug!(error = %stuck.trouble, owner = record.resource.owner, "a share is still half done");
                self.turns.failed(record, stuck.about());
            }
        }
        false
    }

    /// What somebody has in hand is left to them: they say when they leave it. `None`: that, or it is gone.
    async fn settle_again(self: &Rc<Self>, listed: &ResourceRecord) -> Result<Option<bool>, Stuck> {
        let Some(_hold) = self.hold_link(&listed.resource) else { return Ok(None) };
        match self.store().resource(listed.key).await? {
            Some(record) => self.settle(&record).await.map(Some),
            None => Ok(None),
        }
    }
}
