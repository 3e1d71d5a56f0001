//! What is kept, dropped and looked up by several threads at once, in many orders: the control thread keeps answers, whoever revokes purges, workers
//! look, each through a memory of its own. The code is that of the binary; `shared.rs` lets the model choose who goes on.

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread::{JoinHandle, spawn};
use tokio::time::Instant;

use super::shared::{Count, Flag, run};
use super::tests::{of, server};
use super::*;

const TOKEN: &str = "token";
/// Orders that each model is run in.
const ORDERS: usize = 1_000;

/// The cache, and what the authorization server and the one who revokes have done.
struct Shared {
    cache: Introspections,
    revoked: Count,
    done: Count,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { cache: Introspections::new().expect("randomness"), revoked: Count::default(), done: Count::default() })
    }

    fn key(&self) -> CacheKey {
        self.cache.key(server(1).identity, TOKEN)
    }

    /// The control thread asks the server, and keeps what it says.
    fn ask(&self) {
        let asking = self.cache.asking();
        if self.revoked.now() == 0 {
            self.cache.keep_active(self.key(), of("bob", "session"), &server(1), true, asking);
        } else {
            self.cache.keep_inactive(self.key(), asking.at() + Duration::from_secs(5));
        }
    }

    /// What a worker is told, and whether all was `done` before it looked.
    fn look(&self, memo: &mut Memo) -> (bool, Lookup) {
        let done = self.done.now() > 0;
        (done, memo.look_up(&self.cache, server(1).identity, TOKEN, Instant::now()).1)
    }

    fn thread(self: &Arc<Self>, act: impl FnOnce(&Self) + Send + 'static) -> JoinHandle<()> {
        let shared = Arc::clone(self);
        spawn(move || act(&shared))
    }
}

fn all(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// A worker that looks again and again: once all is `done`, the token is not active any more.
fn looks_often(shared: &Shared) {
    let mut memo = Memo::default();
    for _ in 0..3 {
        let (done, known) = shared.look(&mut memo);
        assert!(!done || !matches!(known, Lookup::Active(_)), "it is active after it was revoked");
    }
}

/// The token is known; it is asked for again while it is being revoked and purged in this way.
fn purged(how: fn(CacheKey) -> Purge<'static>) {
    run(ORDERS, move || {
        let shared = Shared::new();
        shared.ask();
        all([
            shared.thread(Shared::ask),
            shared.thread(looks_often),
            shared.thread(move |shared| {
                shared.revoked.up();
                shared.cache.purge(&how(shared.key()));
                shared.done.up();
            }),
        ]);
        looks_often(&shared);
    });
}

#[test]
fn a_purge_of_one_token_is_final_whoever_keeps_or_looks_meanwhile() {
    purged(Purge::Token);
}

#[test]
fn a_purge_of_a_subject_is_final_whoever_keeps_or_looks_meanwhile() {
    purged(|_| Purge::Subject(server(1).identity, "bob"));
}

#[test]
fn a_purge_of_a_session_is_final_whoever_keeps_or_looks_meanwhile() {
    purged(|_| Purge::Session(server(1).identity, "session"));
}

#[test]
fn a_purge_of_everything_is_final_whoever_keeps_or_looks_meanwhile() {
    purged(|_| Purge::All);
}

#[test]
fn a_refusal_is_known_to_every_worker_once_it_is_kept() {
    run(ORDERS, || {
        let shared = Shared::new();
        shared.ask();
        shared.revoked.up();
        all([
            shared.thread(looks_often),
            shared.thread(looks_often),
            shared.thread(|shared| {
                shared.ask();
                shared.done.up();
            }),
        ]);
    });
}

#[test]
fn a_newer_answer_is_known_to_every_worker_once_it_is_kept() {
    run(ORDERS, || {
        let shared = Shared::new();
        shared.ask();
        let looks = |shared: &Shared| {
            let mut memo = Memo::default();
            for _ in 0..3 {
                let (done, known) = shared.look(&mut memo);
                let Lookup::Active(entry) = known else { panic!("it was active all the time") };
                assert!(!done || entry.introspection().subject.as_deref() == Some("alice"), "the older answer after the newer one");
            }
        };
        all([
            shared.thread(looks),
            shared.thread(looks),
            shared.thread(|shared| {
                shared.cache.keep_active(shared.key(), of("alice", "session"), &server(1), true, shared.cache.asking());
                shared.done.up();
            }),
        ]);
    });
}

#[test]
fn a_withdrawn_live_decision_is_known_to_every_worker_and_does_not_outlive_a_purge() {
    run(ORDERS, || {
        let (shared, resource) = (Shared::new(), ResourceId("album".into()));
        shared.ask();
        let decide = |shared: &Shared, resource: &ResourceId| {
            let asking = shared.cache.asking();
            let granted = (shared.revoked.now() == 0).then(|| vec![Scope("view".into())]);
            shared.cache.keep_live(shared.key(), resource, granted, asking);
        };
        decide(&shared, &resource);
        let (asked, looked) = (resource.clone(), resource);
        all([
            shared.thread(move |shared| decide(shared, &asked)),
            shared.thread(move |shared| {
                let mut memo = Memo::default();
                for _ in 0..3 {
                    let (done, _) = shared.look(&mut memo);
                    let live = memo.live(&shared.cache, server(1).identity, TOKEN, shared.key(), &looked);
                    assert!(!done || live.is_none_or(|live| live.granted().is_none()), "it is granted after it was withdrawn");
                }
            }),
            shared.thread(|shared| {
                shared.revoked.up();
                shared.cache.purge(&Purge::Token(shared.key()));
                shared.done.up();
            }),
        ]);
    });
}

#[test]
fn of_many_workers_one_alone_is_told_to_renew() {
    run(ORDERS, || {
        let (shared, told) = (Shared::new(), Arc::new(Count::default()));
        let asking = Asking { at: Instant::now().checked_sub(Duration::from_secs(25)).expect("the machine runs for longer"), ..shared.cache.asking() };
        let entry = shared.cache.keep_active(shared.key(), of("bob", "session"), &server(1), false, asking);
        let worker = || {
            let (entry, told) = (Arc::clone(&entry), Arc::clone(&told));
            shared.thread(move |_| {
                if entry.wants_renewal(Instant::now()) {
                    told.up();
                }
            })
        };
        all([worker(), worker(), worker()]);
        assert_eq!(told.now(), 1);
    });
}

#[test]
fn a_flag_is_raised_by_one_alone() {
    let flag = Flag::lowered();
    assert!(flag.raise());
    assert!(!flag.raise());
}
