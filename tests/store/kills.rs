//! A gateway that registers what its configuration declares, renews the owner's token and registers and withdraws what is shared, all at once, is killed again
//! and again (SIGKILL), at any moment: what it had answered holds, what was half done is finished by the next one, no token is lost, and nothing is registered
//! twice. What the authorization server has seen and lists is what counts: it takes each refresh token once, and registers a name as often as it is told to.
//!
//! GATEWAY_KILLS says how often (6), GATEWAY_SEED where the draw begins.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use uma_gateway::demo::authorization_server::{Control, Endpoint, Fault};

use crate::ask::{Answer, ask};
use crate::killed::{Draw, setting};
use crate::owner::{BY_PASSWORD, Neighbourhood, OPERATOR, until};
use crate::port::free;

/// Kills over one set of records. The server cannot search, so that all that it has is read: it is not to have too much.
const LIFE: u64 = 5;
/// Patience with the server, which a busy machine needs; twice as much is less than what the API has for a request.
const TIMEOUT: &str = "10s";
/// Resources that a configuration declares anew.
const DECLARED: u64 = 2;
/// Who shares and withdraws at the same time, so that some of it is always in the middle.
const WORKERS: u64 = 4;
/// What one of them shares at most before the gateway is killed.
const MOST: u64 = 1000;

/// What is the same for everybody until the gateway is killed.
struct Round {
    api: SocketAddr,
    /// Shares that were taken.
    taken: AtomicU64,
    dead: AtomicBool,
}

impl Round {
    /// Asks until there is an answer; nothing once the gateway is dead.
    async fn ask(&self, method: &str, target: &str, body: &Value) -> Option<Answer> {
        while !self.dead.load(Ordering::Relaxed) {
            match ask(self.api, method, target, OPERATOR, body).await {
                // It is not there yet, or was killed in the middle of it; or the server took longer than it waits, on a busy machine: nothing was promised.
                None | Some(Answer { status: 503, .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => return answer,
            }
        }
        None
    }
}

/// What was answered.
#[derive(Default)]
struct Answered {
    /// The ids of shares that were taken, by their numbers.
    taken: BTreeMap<u64, String>,
    /// Those that may have been withdrawn.
    leaving: BTreeSet<u64>,
    /// Those whose withdrawal was answered.
    withdrawn: BTreeSet<u64>,
}

fn path(number: u64) -> String {
    format!("/users/alice/{number}")
}

/// Shares and withdraws until the gateway is dead.
async fn work(round: Arc<Round>, numbers: Range<u64>) -> Answered {
    let mut answered = Answered::default();
    for number in numbers {
        let wish = json!({ "path": path(number), "owner": "alice", "name": format!("share {number}") });
        let Some(Answer { status, body: share, .. }) = round.ask("POST", "/shares", &wish).await else { break };
        // 202: the server took its time, and the gateway goes on with it.
        assert!(matches!(status, 201 | 202), "{status} {share}");
        let id = share.get("id").and_then(Value::as_str).expect("an id").to_owned();
        answered.taken.insert(number, id.clone());
        round.taken.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(2) {
            answered.leaving.insert(number);
            let Some(Answer { status, .. }) = round.ask("DELETE", &format!("/shares/{id}"), &Value::Null).await else { break };
            assert!(matches!(status, 204 | 202), "{status}");
            answered.withdrawn.insert(number);
        }
    }
    answered
}

/// Every token is refused after a few calls, so that renewals follow each other, however fast the machine is; and some of what the server has done it says
/// late only, so that a gateway is killed between the two.
async fn revoke(round: Arc<Round>, control: Control, mut draw: Draw) {
    let mut last = 0;
    let mut enough = draw.below(16);
    while !round.dead.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let calls = control.calls(Endpoint::ResourceSet);
        if calls > last + enough && control.newest_pat_was_used() {
            control.revoke_pats();
            for endpoint in [Endpoint::Pat, Endpoint::ResourceSet, Endpoint::ResourceSet] {
                control.fail_next(endpoint, 1, Fault::late(Duration::from_millis(draw.below(60))));
            }
            (last, enough) = (calls, draw.below(16));
        }
    }
}

/// Gateways over one set of records, one after the other.
struct Life {
    around: Neighbourhood,
    api: SocketAddr,
    draw: Draw,
    all: Answered,
    /// Whether the token that was issued last had been used when the last gateway was killed.
    used: bool,
    /// Renewals: all, and those that a gateway began with a token that had been used by the one that was killed.
    renewed: usize,
    kept: usize,
}

impl Life {
    async fn new(draw: Draw) -> Self {
        let around = Neighbourhood::new(BY_PASSWORD).await;
        Self { around, api: free(), draw, all: Answered::default(), used: false, renewed: 0, kept: 0 }
    }

    /// Declares what the configurations of these rounds do.
    fn configure(&self, rounds: Range<u64>) {
        let sections = format!(
            "shares: {{ address: {}, scope: share, owner: username, admin_key: {{ file: operator-key }}, public_url: \"https://photos.example.org\", per_owner: 100000 }}\n",
            self.api
        );
        let declared = declared(rounds).map(|name| {
            let path = name.replace(' ', "/");
            format!("  - {{ path: /{path}/**, protect: {{ resource: {{ register: {{ name: {name}, owner: alice, scopes: [view] }} }}, scopes: {{ GET: [view] }} }} }}\n")
        });
        let routes = declared.chain(["  - { path: /users/alice/**, protect: { resource: { shared: true }, scopes: { GET: [view] } } }\n".to_owned()]);
        self.around.configure_with(BY_PASSWORD, TIMEOUT, &sections, &routes.collect::<String>());
    }

    /// One gateway, from its start to its death.
    async fn round(&mut self, number: u64) {
        // The one before may have been killed while it registered what its own declared.
        self.configure(number.saturating_sub(1)..number + 1);
        let running = self.around.start();
        let round = Arc::new(Round { api: self.api, taken: AtomicU64::new(0), dead: AtomicBool::new(false) });
        let numbers = (0..WORKERS).map(|worker| (number * WORKERS + worker) * MOST).map(|first| first..first + MOST);
        let workers: Vec<_> = numbers.map(|numbers| tokio::spawn(work(Arc::clone(&round), numbers))).collect();
        let revoking = tokio::spawn(revoke(Arc::clone(&round), self.around.control().clone(), Draw(self.draw.below(1 << 32) + 1)));

        let wait = if number > 0 && self.draw.below(3) == 0 {
            // Perhaps before it is there. What it has done by then does not matter, so nothing is waited for.
            Duration::from_millis(self.draw.below(600))
        } else {
            let enough = 1 + self.draw.below(10);
            until("it gets to work", async || (round.taken.load(Ordering::Relaxed) >= enough).then_some(())).await;
            Duration::from_millis(self.draw.below(50))
        };
        tokio::time::sleep(wait).await;
        // Nothing is awaited between these two, so the server, which is of this thread, answers nothing.
        running.kill();
        self.hold_the_token_against_the_server();
        round.dead.store(true, Ordering::Relaxed);
        self.around.control().heal_all();
        for worker in workers {
            let answered = worker.await.expect("what it was answered fits");
            self.all.taken.extend(answered.taken);
            self.all.leaving.extend(answered.leaving);
            self.all.withdrawn.extend(answered.withdrawn);
        }
        revoking.await.expect("it ends");
    }

    /// A token that was used was written before, and with it what renews it: the next gateway needs no password.
    fn hold_the_token_against_the_server(&mut self) {
        let control = self.around.control();
        let grants: Vec<String> = control.requests(Endpoint::Pat).into_iter().filter_map(|seen| seen.parameter("grant_type")).collect();
        let before = grants.iter().take_while(|grant| *grant == "refresh_token").count();
        // Two, and the password then: what the killed one had sent last was answered to nobody.
        let needs_password = before < grants.len();
        assert!(!self.used || !needs_password || before > 1, "a token that was used was lost: {grants:?}");
        self.renewed += grants.len();
        self.kept += usize::from(self.used && !grants.is_empty() && !needs_password);
        // What was used stays so while nothing else is issued.
        self.used = self.renewed > 0 && control.newest_pat_was_used() || self.used && grants.is_empty();
        control.reset_calls();
    }

    /// What the server has of this kind, by name.
    fn listed(&self, kind: &str) -> Vec<String> {
        let all = self.around.control().resources().into_iter();
        let names = all.map(|(_, description)| description.get("name").and_then(Value::as_str).expect("a name").to_owned());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(kind)).collect();
        names.sort();
        names
    }

    /// All shares of Alice's, page by page; none before there is an answer.
    async fn shares(&self) -> Option<Vec<Value>> {
        let (mut shares, mut after) = (Vec::new(), String::new());
        loop {
            let Answer { status, body: page, .. } = ask(self.api, "GET", &format!("/shares?owner=alice{after}"), OPERATOR, &Value::Null).await?;
            assert_eq!(status, 200, "{page}");
            shares.extend(page.get("shares").and_then(Value::as_array).expect("a list").iter().cloned());
            let Some(next) = page.get("after").and_then(Value::as_str) else { return Some(shares) };
            after = format!("&after={next}");
        }
    }

    /// A last gateway, which nobody kills, finishes what was left; then what was answered, what it says and what the server lists are the same.
    async fn end(mut self, rounds: u64) -> Self {
        self.configure(0..rounds);
        let running = self.around.start();
        let wanted: BTreeSet<String> = declared(0..rounds).collect();
        let shares = until("what was half done is finished", async || {
            let (shares, listed, declared) = (self.shares().await?, self.listed("share"), self.listed("declared"));
            for names in [&listed, &declared] {
                assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "something is registered twice: {names:?}");
            }
            let settled = shares.iter().all(|share| share["state"] == "registered") && listed.len() == shares.len();
            (settled && wanted.iter().all(|name| declared.contains(name))).then_some(shares)
        })
        .await;
        self.around.open().await;

        let mut kept: Vec<String> = shares.iter().map(|share| share["name"].as_str().expect("a name").to_owned()).collect();
        kept.sort();
        assert_eq!(self.listed("share"), kept, "what the server lists is what is shared");
        assert_eq!(self.listed("declared"), wanted.into_iter().collect::<Vec<_>>(), "what is declared is registered once");
        for share in &shares {
            assert_eq!(self.around.control().resource_id(share["name"].as_str().expect("a name")).as_deref(), share["resource_id"].as_str());
        }
        for (number, id) in &self.all.taken {
            let there = shares.iter().any(|share| share["id"] == **id);
            assert!(there || self.all.leaving.contains(number), "{number} was answered and is lost");
            assert!(!there || !self.all.withdrawn.contains(number), "{number} was withdrawn and is there");
        }
        for (number, _) in self.all.taken.iter().rev().take(12) {
            let there = shares.iter().any(|share| share["path"] == *path(*number));
            assert_eq!(self.around.ask_for(&path(*number)).await, Some(if there { 401 } else { 404 }), "{number}");
        }
        running.kill();
        self.hold_the_token_against_the_server();
        self
    }
}

/// The names that configurations of these rounds declare, in order.
fn declared(rounds: Range<u64>) -> impl Iterator<Item = String> {
    rounds.flat_map(|round| (0..DECLARED).map(move |number| format!("declared {round}-{number}")))
}

#[tokio::test]
async fn a_gateway_that_is_killed_loses_no_resource_and_no_token_and_registers_nothing_twice() {
    let (kills, seed) = (setting("GATEWAY_KILLS", 6), setting("GATEWAY_SEED", u64::from(std::process::id()) + 1));
    println!("GATEWAY_SEED={seed}");
    let began = tokio::time::Instant::now();
    let mut draw = Draw(seed);
    let (mut taken, mut withdrawn, mut renewed, mut kept) = (0, 0, 0, 0);
    let mut left = kills;
    while left > 0 {
        let rounds = left.min(LIFE);
        let mut life = Life::new(Draw(draw.below(1 << 32) + 1)).await;
        for number in 0..rounds {
            life.round(number).await;
        }
        let life = life.end(rounds).await;
        left -= rounds;
        taken += life.all.taken.len();
        withdrawn += life.all.withdrawn.len();
        renewed += life.renewed;
        kept += life.kept;
        println!(
            "{} of {kills} kills after {:?}: {taken} shares, {withdrawn} withdrawn, {renewed} grants, {kept} times with a kept token",
            kills - left,
            began.elapsed()
        );
    }
    assert!(taken > 0, "the gateway got to work");
    assert!(kills < 100 || withdrawn > 0 && kept > 0, "and some of it came to its end");
}
