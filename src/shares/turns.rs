//! Whose turn it is among what is half done: owners take turns, and what failed rests before it is tried again.
//!
//! A record that the server fails at, though it has just answered a question about it, rests longer each time, so that it takes nobody else's time. What may be
//! the server's state, or is the owner's to mend, can be over at any moment: it rests for two seconds at most. Nothing here asks a server or reads records.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{ResourceKey, ResourceRecord};

/// The first rest. It doubles.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// The longest rest of what may be over at any moment, and of what a server fails at.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(300);
/// How many of one owner are put into a line at once.
const MOST: usize = 32;

/// What a failure was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The server: another record would fare no better.
    Server,
    /// The owner: another one of the same owner would not.
    Owner,
    /// The record, or the server's state.
    Either,
    /// The record.
    Record,
}

/// An issuer and an owner.
type Owner = (String, String);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Server(String),
    Owner(Owner),
    Record(String, ResourceKey),
}

struct Rest {
    failures: u32,
    until: Instant,
}

/// Who rests, and whose turn was last.
#[derive(Default)]
pub(super) struct Turns {
    rests: RefCell<BTreeMap<Who, Rest>>,
    last: RefCell<Option<Owner>>,
}

/// Records that are due.
#[derive(Default)]
pub(super) struct Line {
    owners: BTreeMap<Owner, VecDeque<ResourceRecord>>,
    seen: HashSet<ResourceKey>,
    /// When the first of those that rest is due.
    pub next: Option<Instant>,
}

fn owner_of(record: &ResourceRecord) -> Owner {
    (record.resource.authorization_server.clone(), record.resource.owner.clone())
}

fn all_of(record: &ResourceRecord) -> [Who; 3] {
    let (server, owner) = owner_of(record);
    [Who::Server(server.clone()), Who::Owner((server.clone(), owner)), Who::Record(server, record.key)]
}

impl Turns {
    /// Until when this record rests, if it does.
    pub fn until(&self, record: &ResourceRecord) -> Option<Instant> {
        let (rests, now) = (self.rests.borrow(), Instant::now());
        all_of(record).iter().filter_map(|who| rests.get(who)).map(|rest| rest.until).filter(|until| now < *until).max()
    }

    /// Puts a record into the line, if it is due.
    pub fn join(&self, line: &mut Line, record: ResourceRecord) {
        line.seen.insert(record.key);
        if let Some(until) = self.until(&record) {
            line.next = Some(line.next.map_or(until, |next| next.min(until)));
            return;
        }
        let of_owner = line.owners.entry(owner_of(&record)).or_default();
        if of_owner.len() < MOST {
            of_owner.push_back(record);
        }
    }

    /// Forgets what rests and is half done no more: this line has all that is.
    pub fn forget_others(&self, line: &Line) {
        let now = Instant::now();
        self.rests.borrow_mut().retain(|who, rest| match who {
            Who::Record(_, key) => line.seen.contains(key),
            Who::Server(_) | Who::Owner(_) => now < rest.until + LONG,
        });
    }

    /// One record of each owner who has some in the line, beginning behind the one whose turn was last.
    pub fn take(&self, line: &mut Line) -> Vec<ResourceRecord> {
        let last = self.last.borrow().clone();
        let is_behind = |owner: &Owner| last.as_ref().is_some_and(|last| owner > last);
        let mut all: Vec<(bool, ResourceRecord)> =
            line.owners.iter_mut().filter_map(|(owner, records)| Some((!is_behind(owner), records.pop_front()?))).collect();
        line.owners.retain(|_, records| !records.is_empty());
        // Stable: among those behind, and the others, the order stays.
        all.sort_by_key(|(later, _)| *later);
        all.into_iter().map(|(_, record)| record).collect()
    }

    /// Its turn has come.
    pub fn begins(&self, record: &ResourceRecord) {
        self.last.replace(Some(owner_of(record)));
    }

    /// It failed: until then it, or everything that would fail as well, rests.
    pub fn failed(&self, record: &ResourceRecord, about: About) {
        let [server, owner, itself] = all_of(record);
        let (who, longest) = match about {
            About::Server => (server, SHORT),
            About::Owner => (owner, SHORT),
            About::Either => (itself, SHORT),
            About::Record => (itself, LONG),
        };
        let mut rests = self.rests.borrow_mut();
        let rest = rests.entry(who).or_insert(Rest { failures: 0, until: Instant::now() });
        let pause = FIRST.saturating_mul(1 << rest.failures.min(16)).min(longest);
        *rest = Rest { failures: rest.failures.saturating_add(1), until: Instant::now() + pause };
    }

    /// It is settled. If it, or its server, had failed before, whatever else failed there may go well now.
    pub fn settled(&self, record: &ResourceRecord) {
        let [server, owner, itself] = all_of(record);
        let mut rests = self.rests.borrow_mut();
        let failed = rests.remove(&itself).is_some() | rests.remove(&server).is_some();
        rests.remove(&owner);
        if failed {
            rests.retain(|who, _| !matches!(who, Who::Record(at, _) if *at == record.resource.authorization_server));
        }
    }

    /// Its owner wants something else of it: it is due at once.
    pub fn forgive(&self, record: &ResourceRecord) {
        let [_, _, itself] = all_of(record);
        self.rests.borrow_mut().remove(&itself);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::store::{Resource, State};

    fn record(number: i64, owner: &str) -> ResourceRecord {
        let resource = Resource {
            authorization_server: "https://id.example.org".into(),
            path: Some(format!("/{number}")),
            link: None,
            owner: owner.into(),
            name: number.to_string(),
            kind: None,
            icon_uri: None,
            scopes: Vec::new(),
            upstream: "content".into(),
            credential: None,
        };
        ResourceRecord { key: ResourceKey::of(number), resource, state: State::Wanted }
    }

    fn line(turns: &Turns, records: &[ResourceRecord]) -> Line {
        let mut line = Line::default();
        records.iter().for_each(|record| turns.join(&mut line, record.clone()));
        turns.forget_others(&line);
        line
    }

    fn names(records: Vec<ResourceRecord>) -> Vec<String> {
        records.into_iter().map(|record| record.resource.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn owners_take_turns_however_much_one_of_them_has() {
        let turns = Turns::default();
        let mut all: Vec<ResourceRecord> = (0..100).map(|number| record(number, "mallory")).collect();
        all.extend([record(100, "alice"), record(101, "bob"), record(102, "bob")]);
        let mut line = line(&turns, &all);
        assert_eq!(names(turns.take(&mut line)), ["100", "101", "0"]);
        assert_eq!(names(turns.take(&mut line)), ["102", "1"]);
        turns.begins(&all[100]);
        assert_eq!(names(turns.take(&mut line)), ["2"]);
        let mut anew = self::line(&turns, &all);
        assert_eq!(names(turns.take(&mut anew)), ["101", "0", "100"], "whoever had the last turn comes last");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_fails_at_rests_longer_each_time() {
        let (turns, stuck, other) = (Turns::default(), record(1, "mallory"), record(2, "mallory"));
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            turns.failed(&stuck, About::Record);
            let line = line(&turns, &[stuck.clone(), other.clone()]);
            assert_eq!(line.next, Some(Instant::now() + Duration::from_secs(pause)));
            assert_eq!(line.owners.values().flatten().map(|record| record.key).collect::<Vec<_>>(), [other.key]);
            advance(Duration::from_secs(pause)).await;
            assert_eq!(turns.until(&stuck), None);
        }
        turns.failed(&stuck, About::Record);
        turns.forgive(&stuck);
        assert_eq!(turns.until(&stuck), None, "its owner wants something else");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_over_at_any_moment_rests_for_two_seconds_at_most() {
        let (one, other, bobs) = (record(1, "alice"), record(2, "alice"), record(3, "bob"));
        for (about, rest) in [(About::Server, [true, true, true]), (About::Owner, [true, true, false]), (About::Either, [true, false, false])] {
            let turns = Turns::default();
            for _ in 0..9 {
                turns.failed(&one, about);
            }
            assert_eq!([&one, &other, &bobs].map(|record| turns.until(record).is_some()), rest, "{about:?}");
            advance(SHORT).await;
            assert_eq!([&one, &other, &bobs].map(|record| turns.until(record)), [None; 3], "{about:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_something_that_failed_goes_well_all_that_failed_there_is_due() {
        let (turns, one, other, bobs) = (Turns::default(), record(1, "alice"), record(2, "alice"), record(3, "bob"));
        for _ in 0..9 {
            turns.failed(&one, About::Record);
            turns.failed(&bobs, About::Record);
        }
        turns.settled(&other);
        assert!(turns.until(&one).is_some() && turns.until(&bobs).is_some(), "what never failed says nothing");
        turns.settled(&one);
        assert_eq!(turns.until(&bobs), None);
        turns.failed(&bobs, About::Record);
        assert_eq!(turns.until(&bobs), Some(Instant::now() + FIRST), "and it is as if it had not failed before");
    }
}
