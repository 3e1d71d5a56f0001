//! Tests of the log's thread.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::response::Row;
use crate::telemetry::RequestId;

/// An output that keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("poisoned"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that says when it is written to, and then stands until it is let go.
struct Stands(Sender<()>, Receiver<()>);

impl Write for Stands {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Either end gone: nobody looks any more.
        let _ = self.0.send(());
        let _ = self.1.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().expect("definitions are valid"))
}

fn record(id: &str, rows: &[Row]) -> Box<Record> {
    let mut record = Box::new(Record::new(RequestId(id.into()), http::Method::GET, None, "http"));
    rows.iter().for_each(|row| record.rows.push(*row));
    record.status = 200;
    record
}

fn config(access: Access, audit: Option<Audit>) -> LogConfig {
    LogConfig { access, audit, ..LogConfig::default() }
}

fn counted(metrics: &Metrics, line: &str) -> bool {
    metrics.encode().expect("metrics").lines().any(|found| found == line)
}

/// One permitted, one challenged, and two that nobody judged: answered by an error, and without one.
async fn three(config: &LogConfig) -> Vec<String> {
    let kept = Kept::default();
    let telemetry = Telemetry::start_into(config, metrics(), Box::new(kept.clone())).expect("a thread");
    telemetry.send(record("permitted", &[Row::I1, Row::E10, Row::U1]));
    telemetry.send(record("challenged", &[Row::D15, Row::C3]));
    let mut refused = record("refused", &[]);
    refused.status = 404;
    telemetry.send(refused);
    telemetry.send(record("served", &[]));
    telemetry.settled().await;
    kept.lines()
}

fn ids(lines: &[String], target: &str) -> Vec<String> {
    let lines = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    lines.filter(|line| line["target"] == target).filter_map(|line| line["request_id"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn access_lines_are_written_as_the_configuration_says() {
    assert_eq!(ids(&three(&config(Access::On, None)).await, "access"), ["permitted", "challenged", "refused", "served"]);
    assert_eq!(ids(&three(&config(Access::Denied, None)).await, "access"), ["challenged", "refused"]);
    assert!(three(&config(Access::Off, None)).await.is_empty());
}

#[tokio::test]
async fn audit_lines_are_decisions_only_and_go_where_they_should() {
    let among = three(&config(Access::On, Some(Audit::Stdout))).await;
    assert_eq!(ids(&among, "audit"), ["permitted", "challenged"]);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let others = three(&config(Access::On, Some(Audit::File(path.clone())))).await;
    assert!(ids(&others, "audit").is_empty());
    let lines: Vec<_> = std::fs::read_to_string(&path).expect("the audit log").lines().map(str::to_owned).collect();
    assert_eq!(ids(&lines, "audit"), ["permitted", "challenged"]);
}

#[test]
fn an_audit_file_that_cannot_be_opened_stops_the_start() {
    let started = Telemetry::start_into(&config(Access::On, Some(Audit::File("/nowhere/audit.log".into()))), metrics(), Box::new(io::sink()));
    assert!(matches!(started, Err(LogError::Open { .. })));
}

#[tokio::test]
async fn a_sent_record_is_found_by_its_id() {
    let telemetry = Telemetry::start_into(&config(Access::Off, None), metrics(), Box::new(io::sink())).expect("a thread");
    telemetry.send(record("4q7zk2", &[Row::D6, Row::U1]));
    telemetry.settled().await;
    assert_eq!(telemetry.ring().find("4q7zk2").expect("kept").row(), Some(Row::D6));
    assert!(telemetry.ring().find("another").is_none());
}

#[test]
fn a_full_channel_drops_and_counts_and_never_waits() {
    let (writing, written) = channel();
    let (let_go, going) = channel();
    let metrics = metrics();
    let telemetry = Telemetry::start_with(&config(Access::On, None), Arc::clone(&metrics), Sink::new(Box::new(Stands(writing, going))), 4).expect("a thread");
    telemetry.send(record("first", &[]));
    written.recv().expect("the thread writes");
    // The thread stands in its first write now: four more fit, the rest does not.
    for number in 0..10 {
        telemetry.send(record(&number.to_string(), &[]));
    }
    assert!(counted(&metrics, "uma_gateway_log_lines_dropped_total{reason=\"full\"} 6"));
    drop(let_go);
    telemetry.flush(Duration::from_secs(10));
    assert_eq!(telemetry.ring().len(), 5);
}

#[test]
fn long_records_fill_the_channel_by_their_bytes() {
    let (writing, written) = channel();
    let (let_go, going) = channel();
    let metrics = metrics();
    let telemetry = Telemetry::start_into(&config(Access::On, None), Arc::clone(&metrics), Box::new(Stands(writing, going))).expect("a thread");
    telemetry.send(record("first", &[]));
    written.recv().expect("the thread writes");
    let long = |id: &str| {
        let mut record = record(id, &[]);
        record.path = Some("a".repeat(WAITING_BYTES / 4).into());
        record
    };
    for number in 0..10 {
        telemetry.send(long(&number.to_string()));
    }
    telemetry.send(record("short", &[]));
    assert!(counted(&metrics, "uma_gateway_log_lines_dropped_total{reason=\"full\"} 7"), "three of a quarter fit, and a short one");
    drop(let_go);
    telemetry.flush(Duration::from_secs(10));
    assert_eq!(telemetry.ring().len(), 5);
    // What was written makes room.
    telemetry.send(long("later"));
    telemetry.flush(Duration::from_secs(10));
    assert!(telemetry.ring().find("later").is_some());
    assert_eq!(telemetry.0.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn a_full_disk_is_counted_and_the_thread_goes_on() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let metrics = metrics();
    let telemetry = Telemetry::start_into(&config(Access::On, None), Arc::clone(&metrics), Box::new(full)).expect("a thread");
    for round in 1..=2 {
        telemetry.send(record("lost", &[Row::D7]));
        telemetry.flush(Duration::from_secs(10));
        assert!(counted(&metrics, &format!("uma_gateway_log_lines_dropped_total{{reason=\"write\"}} {round}")));
    }
    assert_eq!(telemetry.ring().len(), 2);
}

#[test]
fn when_the_last_handle_goes_the_rest_is_written_and_the_thread_ends() {
    /// Tells its end by being dropped with the thread.
    struct Ends {
        kept: Kept,
        _lives: Sender<()>,
    }

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.kept.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (kept, (lives, ends)) = (Kept::default(), channel());
    let telemetry = Telemetry::start_into(&config(Access::On, None), metrics(), Box::new(Ends { kept: kept.clone(), _lives: lives })).expect("a thread");
    for id in ["one", "two"] {
        telemetry.send(record(id, &[Row::D7]));
    }
    drop(telemetry);
    assert!(ends.recv().is_err());
    assert_eq!(ids(&kept.lines(), "access"), ["one", "two"]);
}

#[tokio::test]
async fn files_are_opened_anew_when_they_were_moved_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let config = LogConfig { to: To::File(path("log")), audit: Some(Audit::File(path("audit"))), ..LogConfig::default() };
    let telemetry = Telemetry::start(&config, metrics()).expect("a thread");
    telemetry.send(record("before", &[Row::D7]));
    telemetry.settled().await;
    for name in ["log", "audit"] {
        std::fs::rename(path(name), path(&format!("{name}.1"))).expect("moved");
    }
    telemetry.send(record("between", &[Row::D7]));
    telemetry.settled().await;
    assert!(!path("log").exists(), "nobody has said so yet");
    telemetry.reopen();
    telemetry.send(record("after", &[Row::D7]));
    telemetry.settled().await;
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("a file").lines().map(str::to_owned).collect::<Vec<_>>();
    for (name, target) in [("log", "access"), ("audit", "audit")] {
        assert_eq!(ids(&read(&format!("{name}.1")), target), ["before", "between"]);
        assert_eq!(ids(&read(name), target), ["after"]);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_anew_goes_on_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).expect("a folder");
    let config = LogConfig { to: To::File(inner.join("log")), ..LogConfig::default() };
    let telemetry = Telemetry::start(&config, metrics()).expect("a thread");
    let moved = folder.path().join("moved");
    std::fs::rename(&inner, &moved).expect("moved");
    telemetry.reopen();
    telemetry.send(record("still", &[Row::D7]));
    telemetry.settled().await;
    let lines: Vec<_> = std::fs::read_to_string(moved.join("log")).expect("a file").lines().map(str::to_owned).collect();
    assert_eq!(ids(&lines, "access"), ["still"]);
}

#[test]
fn a_pipe_that_nobody_reads_loses_lines_and_holds_up_nobody() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let metrics = metrics();
    let telemetry = Telemetry::start_with(&config(Access::On, None), Arc::clone(&metrics), Sink::new(Box::new(writer)), 8).expect("a thread");
    let patience = Duration::from_millis(200);
    // Until the thread stands in its write: what the pipe and the buffer hold is there for it.
    let stands = (0..1000).any(|_| {
        (0..8).for_each(|_| telemetry.send(record(&"x".repeat(4096), &[])));
        let began = Instant::now();
        telemetry.flush(patience);
        began.elapsed() >= patience
    });
    assert!(stands, "something still reads");
    (0..20).for_each(|_| telemetry.send(record("lost", &[])));
    assert!(!counted(&metrics, "uma_gateway_log_lines_dropped_total{reason=\"full\"} 0"));
    // Whoever reads again finds whole lines.
    let read = thread::spawn(move || {
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).expect("UTF-8");
        text
    });
    drop(telemetry);
    let text = read.join().expect("no panic");
    assert!(text.lines().count() > 16 && text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}
