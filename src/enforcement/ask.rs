//! What workers ask of the control thread, and how.
//!
//! A question goes through one bounded channel and its answer comes back by itself; a caller that goes away cancels nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::authorization_server::{AskError, Declared, PathResource, ResourceKey, ServerIdentity, TicketError, UriKey};
use crate::cache::{CacheKey, Entry, LiveEntry};
use crate::routing::LimitKey;
use crate::uma::{PermissionTicket, ResourceId, Rpt, Scope};

/// Questions that may wait for the control thread.
pub(super) const WAITING: usize = 16 * 1024;

/// Why an answer did not come.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The client's bucket is empty.
    Limited(Duration),
    /// The server gave no usable answer.
    Server(AskError),
}

/// What introspection came to.
#[derive(Clone, Debug)]
pub struct Introspected {
    /// The entry, or that the server refuses the token.
    pub outcome: Result<Arc<Entry>, Refused>,
    /// Our credential had to be renewed first (row I8).
    pub renewed: bool,
}

/// How the server refused a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `active: false`.
    Inactive,
    /// 400: the token as such.
    Malformed,
}

/// What a permission request came to.
#[derive(Debug)]
pub struct Ticketed {
    /// The ticket, or why there is none.
    pub outcome: Result<PermissionTicket, NoTicket>,
    /// The PAT had to be renewed first (row C6).
    pub renewed: bool,
}

/// Why there is no ticket.
#[derive(Clone, Debug)]
pub enum NoTicket {
    /// The client's bucket is empty.
    Limited(Duration),
    /// The server's word, or its silence.
    Server(TicketError),
}

/// What is looked up anew when the server does not know the resource any more.
#[derive(Clone, Debug)]
pub enum Forget {
    /// What a name means.
    Named(ResourceKey),
    /// What a path means.
    Path(UriKey),
}

/// One question.
pub(super) enum Question {
    Resource {
        server: ServerIdentity,
        key: ResourceKey,
        declared: Option<Arc<Declared>>,
        bucket: Option<LimitKey>,
        reply: oneshot::Sender<Result<Option<ResourceId>, Failed>>,
    },
    Path {
        key: UriKey,
        bucket: Option<LimitKey>,
        reply: oneshot::Sender<Result<PathResource, Failed>>,
    },
    Introspect {
        server: ServerIdentity,
        /// The owner of the route's resource, whose PAT may be needed.
        owner: Option<Arc<str>>,
        token: Rpt,
        key: CacheKey,
        /// The answer that the worker knows and that does not do; another one that has come in the meantime may.
        known: Option<Arc<Entry>>,
        bucket: Option<LimitKey>,
        reply: oneshot::Sender<Result<Introspected, Failed>>,
    },
    Live {
        server: ServerIdentity,
        token: Rpt,
        key: CacheKey,
        resource: ResourceId,
        /// As for introspection.
        known: Option<Arc<LiveEntry>>,
        bucket: Option<LimitKey>,
        reply: oneshot::Sender<Result<Arc<LiveEntry>, Failed>>,
    },
    Ticket {
        server: ServerIdentity,
        owner: Option<Arc<str>>,
        resource: ResourceId,
        scopes: Arc<[Scope]>,
        forget: Option<Forget>,
        bucket: Option<LimitKey>,
        deadline: Instant,
        reply: oneshot::Sender<Ticketed>,
    },
    /// Whether there is a token to ask for tickets with.
    Pat {
        server: ServerIdentity,
        owner: Option<Arc<str>>,
        deadline: Instant,
        reply: oneshot::Sender<Result<(), AskError>>,
    },
    RenewIntrospection {
        server: ServerIdentity,
        owner: Option<Arc<str>>,
        token: Rpt,
        key: CacheKey,
    },
    RenewLive {
        server: ServerIdentity,
        token: Rpt,
        key: CacheKey,
        resource: ResourceId,
    },
}

/// A worker's end of the channel.
#[derive(Clone)]
pub struct Control(pub(super) mpsc::Sender<Question>);

impl Control {
    /// Asks and waits until `deadline`, whatever becomes of the question afterwards.
    pub(super) async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question, deadline: Instant) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(question(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::ShuttingDown,
        })?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::ShuttingDown),
            Err(_) => Err(AskError::Timeout),
        }
    }

    /// Asks without waiting; under load the question may be dropped, and another request asks again.
    pub(super) fn tell(&self, question: Question) {
        let _ = self.0.try_send(question);
    }
}
