//! A process that writes is killed again and again (SIGKILL): what it had said to be done is there, whole, and nothing is registered twice.
//!
//! The process is this test program itself. Its authorization server is a file that lines are added to, so what it has answered outlives the kill.
//! STORE_KILLS says how often (50), STORE_SEED where the draw begins.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use uma_gateway::store::{Resource, State, Store, StoreError};

use crate::{SERVER, World, album, config, credential, same};

/// What the process that writes is told by: the file of the records.
const FILE: &str = "STORE_TEST_FILE";
const SERVERS: &str = "server";

/// An authorization server: a line for each resource that was registered or deleted.
struct Server {
    file: PathBuf,
}

impl Server {
    fn beside(records: &Path) -> Self {
        Self { file: records.with_file_name(SERVERS) }
    }

    fn say(&self, line: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.file).expect("a file");
        file.write_all(format!("{line}\n").as_bytes()).expect("a line");
    }

    /// The server chooses the id; to register the same name again makes another resource.
    fn register(&self, number: usize) -> String {
        let id = format!("id-{}", self.lines().len());
        self.say(&format!("+ {number} {id}"));
        id
    }

    fn delete(&self, id: &str) {
        self.say(&format!("- {id}"));
    }

    fn lines(&self) -> Vec<String> {
        let Ok(file) = File::open(&self.file) else { return Vec::new() };
        BufReader::new(file).lines().map(|line| line.expect("a line")).collect()
    }

    /// The resources by their ids, each with its number.
    fn list(&self) -> BTreeMap<String, usize> {
        let mut list = BTreeMap::new();
        for line in self.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["+", number, id] => assert_eq!(list.insert(id.to_owned(), number.parse().expect("a number")), None),
                ["-", id] => assert!(list.remove(id).is_some(), "{id} is deleted twice"),
                _ => panic!("{line}"),
            }
        }
        list
    }

    /// By name and owner, both of which say the number.
    fn find(&self, number: usize) -> Option<String> {
        self.list().into_iter().find(|(_, other)| *other == number).map(|(id, _)| id)
    }
}

fn number(name: &str) -> usize {
    name.strip_prefix("album ").and_then(|number| number.parse().ok()).expect("a name of ours")
}

/// What a start has to settle.
async fn settle(store: &Store, server: &Server) -> Result<(), StoreError> {
    for record in store.unsettled(None, 1000).await? {
        let number = number(&record.resource.name);
        match record.state {
            State::Wanted => {
                let id = server.find(number).unwrap_or_else(|| server.register(number));
                store.registered(record.key, &id, None).await?;
            }
            State::Unwanted { .. } => {
                if let Some(id) = server.find(number) {
                    server.delete(&id);
                }
                store.remove(record.key).await?;
            }
            State::Registered { .. } => panic!("settled"),
        }
    }
    Ok(())
}

fn acknowledge(line: &str) {
    // In one call: a line is whole or not there. What is said by `print!` would be kept back by the test harness.
    std::io::stdout().write_all(format!("done {line}\n").as_bytes()).expect("a reader");
}

/// Writes until it is killed.
async fn write(file: &Path) -> Result<(), StoreError> {
    let server = Server::beside(file);
    // The one that was killed may not be gone altogether.
    let store = Store::open(&config(file)).await?;
    settle(&store, &server).await?;
    let mut next = server.lines().iter().filter(|line| line.starts_with('+')).count();
    loop {
        let key = store.want(&album(next)).await?;
        store.registered(key, &server.register(next), None).await?;
        acknowledge(&format!("registered {next}"));
        store.put_credential(&credential(next)).await?;
        acknowledge(&format!("credential {next}"));
        if next.is_multiple_of(3) {
            store.unwant(key).await?;
            acknowledge(&format!("unwanted {next}"));
            server.delete(&server.find(next).expect("registered"));
            store.remove(key).await?;
            store.forget_credential(SERVER, &format!("owner-{next}")).await?;
            acknowledge(&format!("forgotten {next}"));
        }
        next += 1;
    }
}

#[tokio::test]
#[ignore = "the process that is killed: what_a_killed_process_had_done_is_there starts it"]
async fn the_process_that_writes() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let error = write(Path::new(&file)).await.expect_err("an end");
    panic!("{error}");
}

struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writer {
    fn start(file: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "killed::the_process_that_writes", "--ignored", "--nocapture"]).env(FILE, file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    /// The next thing that it says to be done; none at its end.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("text");
            if line.is_empty() {
                return None;
            }
            // The harness writes its own words in front of the first one.
            if let Some((_, done)) = line.split_once("done ").filter(|_| line.ends_with('\n')) {
                return Some(done.trim_end().to_owned());
            }
        }
    }

    /// Kills it; what it had said besides.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("killed");
        let rest = std::iter::from_fn(|| self.next()).collect();
        let status = self.child.wait().expect("an end");
        assert_eq!(status.code(), None, "it was killed and did not end by itself");
        rest
    }
}

/// What was said to be done.
#[derive(Default)]
struct Done {
    registered: BTreeSet<usize>,
    unwanted: BTreeSet<usize>,
    credentials: BTreeSet<usize>,
    forgotten: BTreeSet<usize>,
}

impl Done {
    fn add(&mut self, line: &str) {
        let (what, number) = line.split_once(' ').expect("two words");
        let set = match what {
            "registered" => &mut self.registered,
            "unwanted" => &mut self.unwanted,
            "credential" => &mut self.credentials,
            "forgotten" => &mut self.forgotten,
            _ => panic!("{line}"),
        };
        assert!(set.insert(number.parse().expect("a number")), "{line} twice");
    }

    /// Holds the records against it, before anything was settled.
    async fn check(&mut self, store: &Store) {
        for number in &self.registered {
            let record = store.resource_of_link(&format!("link-{number}")).await.expect("readable");
            if self.forgotten.contains(number) {
                assert_eq!(record, None, "{number} was removed");
                continue;
            }
            // What was under way when it was killed may have been done.
            let begun_to_end = number.is_multiple_of(3);
            let Some(record) = record else {
                assert!(begun_to_end && self.unwanted.contains(number), "{number} is lost");
                continue;
            };
            let registered = matches!(record.state, State::Registered { .. });
            let unwanted = matches!(record.state, State::Unwanted { .. });
            // A withdrawn one has left its path to others; the owner's credential may have come and gone.
            let expected = album(*number);
            let path = expected.path.clone().filter(|_| !unwanted);
            assert_eq!(record.resource, Resource { path, credential: record.resource.credential, ..expected });
            assert!(registered != self.unwanted.contains(number) || begun_to_end && !self.unwanted.contains(number), "{number} is {:?}", record.state);
            if !registered {
                // It was killed before it could say so; the next one removes the record.
                self.unwanted.insert(*number);
            }
            assert_eq!(store.view().by_path(SERVER, &format!("/albums/{number}")).is_some(), registered);
        }
        for number in &self.credentials {
            let kept = store.credential(SERVER, &format!("owner-{number}")).await.expect("readable");
            match kept {
                Some(kept) => assert!(!self.forgotten.contains(number) && same(&kept, &credential(*number)), "{number}"),
                None => assert!(self.unwanted.contains(number), "the credential {number} is lost"),
            }
        }
    }
}

/// Numbers that look drawn (xorshift).
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn what_a_killed_process_had_done_is_there() {
    let seed = setting("STORE_SEED", u64::from(std::process::id()) + 1);
    println!("STORE_SEED={seed}");
    let mut draw = Draw(seed);
    let world = World::new();
    let mut done = Done::default();
    for _ in 0..setting("STORE_KILLS", 50) {
        let mut writer = Writer::start(&world.file());
        if draw.below(3) == 0 {
            // Perhaps while it opens the file. What it has done by then does not matter, so nothing is waited for.
            std::thread::sleep(Duration::from_micros(draw.below(60_000)));
        } else {
            for _ in 0..=draw.below(12) {
                done.add(&writer.next().expect("it goes on until it is killed"));
            }
        }
        for line in writer.kill() {
            done.add(&line);
        }
        let store = world.store().await;
        done.check(&store).await;
        store.close().await.expect("closed");
    }

    let (store, server) = (world.store().await, Server::beside(&world.file()));
    settle(&store, &server).await.expect("settled");

    let mut listed = BTreeSet::new();
    for (id, number) in server.list() {
        assert!(listed.insert(number), "{number} was registered twice");
        let known = store.view().by_link(&format!("link-{number}")).unwrap_or_else(|| panic!("{number} is at the server and has no record"));
        assert_eq!(*known.resource_id, *id);
    }
    let mut records = BTreeSet::new();
    for owner in server.lines().iter().filter_map(|line| line.split(' ').nth(1)?.parse::<usize>().ok()) {
        for record in store.resources_of(SERVER, &format!("owner-{owner}"), None, 10).await.expect("readable") {
            records.insert(number(&record.resource.name));
        }
    }
    assert_eq!(records, listed, "what has a record is at the server");
    println!("{} registered, {} withdrawn, {} credentials acknowledged", done.registered.len(), done.unwanted.len(), done.credentials.len());
    assert!(done.registered.len() >= 20, "the process got to writing");
}

#[tokio::test]
async fn a_second_process_does_not_open_the_file() {
    let world = World::new();
    let mut writer = Writer::start(&world.file());
    writer.next().expect("it has the file");
    let error = world.refused().await;
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    writer.kill();
    world.store().await;
}
