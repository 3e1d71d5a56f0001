//! The log's own thread: access lines, audit lines, events and the ring of the last records.
//!
//! Whoever hands something over never waits: the channel is bounded, and what does not fit is dropped and counted. The thread looks every
//! few milliseconds while there is traffic, so that a worker need not wake it for each request, and sleeps when there is none.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::config::{Access, Audit, Format, LogConfig};
use super::line::{Kind, Line};
use super::sink::Sink;
use super::{Metrics, Record, Ring};

/// Records and events that may wait for the thread.
const WAITING: usize = 16_384;

/// How often the thread looks while there is traffic.
const BATCH: Duration = Duration::from_millis(20);

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file of `log.audit`.
    #[error("the audit log {path} cannot be opened")]
    Audit {
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The thread.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The way to the log, the ring and the metrics. Clones share them; when the last one goes, the thread writes the rest and ends.
#[derive(Clone)]
pub struct Telemetry(Arc<Shared>);

struct Shared {
    sender: SyncSender<Message>,
    thread: Thread,
    metrics: Arc<Metrics>,
    ring: Ring,
}

/// What the thread is sent.
enum Message {
    Record(Box<Record>),
    /// One event, with its line end left off.
    Event(Vec<u8>),
    /// To be called when everything before it has been written.
    Settled(Box<dyn FnOnce() + Send>),
}

impl Telemetry {
    /// Starts the thread; lines go to standard output.
    ///
    /// # Errors
    /// When the audit file cannot be opened or the thread not be started.
    pub fn start(config: &LogConfig, metrics: Arc<Metrics>) -> Result<Self, LogError> {
        Self::start_into(config, metrics, Box::new(io::stdout()))
    }

    /// Starts the thread; lines go to `out`.
    ///
    /// # Errors
    /// As [`Telemetry::start`].
    pub fn start_into(config: &LogConfig, metrics: Arc<Metrics>, out: Box<dyn Write + Send>) -> Result<Self, LogError> {
        Self::start_with(config, metrics, out, WAITING)
    }

    fn start_with(config: &LogConfig, metrics: Arc<Metrics>, out: Box<dyn Write + Send>, waiting: usize) -> Result<Self, LogError> {
        let audit = match &config.audit {
            Some(Audit::File(path)) => Some(open_audit(path).map_err(|source| LogError::Audit { path: path.clone(), source })?),
            Some(Audit::Stdout) | None => None,
        };
        let ring = Ring::default();
        let (sender, receiver) = sync_channel(waiting);
        let writer = Writer {
            format: config.format,
            access: config.access,
            audit: config.audit.is_some(),
            out: Sink::new(out),
            audit_file: audit.map(|file| Sink::new(Box::new(file))),
            metrics: Arc::clone(&metrics),
            ring: ring.clone(),
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&receiver)).map_err(LogError::Thread)?.thread().clone();
        Ok(Self(Arc::new(Shared { sender, thread, metrics, ring })))
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The last records. A record that has just been sent is there once [`Telemetry::settled`] has returned.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// Hands a finished record over; never waits.
    pub fn send(&self, record: Box<Record>) {
        self.hand_over(Message::Record(record));
    }

    /// Hands an event over; never waits.
    pub(super) fn send_event(&self, line: Vec<u8>) {
        self.hand_over(Message::Event(line));
    }

    /// Returns when everything that was sent before has been written (or at once, when the thread is far behind).
    pub async fn settled(&self) {
        let (told, hears) = tokio::sync::oneshot::channel();
        // Whoever no longer waits need not hear.
        if self.ask(move || _ = told.send(())) {
            // An error means that the thread has gone, and then nothing is left to wait for.
            let _ = hears.await;
        }
    }

    /// Waits at most this long until everything has been written: for the end of the process, never in a request.
    pub fn flush(&self, at_most: Duration) {
        let until = Instant::now().checked_add(at_most);
        let (told, hears) = sync_channel::<()>(1);
        while !self.ask({
            let told = told.clone();
            move || _ = told.try_send(())
        }) {
            if until.is_none_or(|until| Instant::now() >= until) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let left = until.map_or(at_most, |until| until.saturating_duration_since(Instant::now()));
        // Whether it was in time or not: the process ends now.
        let _: Result<(), RecvTimeoutError> = hears.recv_timeout(left);
    }

    /// Whether the thread will call `then`.
    fn ask(&self, then: impl FnOnce() + Send + 'static) -> bool {
        let asked = self.0.sender.try_send(Message::Settled(Box::new(then))).is_ok();
        self.0.thread.unpark();
        asked
    }

    fn hand_over(&self, message: Message) {
        if self.0.sender.try_send(message).is_err() {
            self.0.metrics.line_dropped();
        }
    }
}

/// Appends; others may not read it, since it names people.
fn open_audit(path: &PathBuf) -> io::Result<std::fs::File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// What the thread owns.
struct Writer {
    format: Format,
    access: Access,
    audit: bool,
    out: Sink,
    /// `None`: audit lines go among the others.
    audit_file: Option<Sink>,
    metrics: Arc<Metrics>,
    ring: Ring,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        while let Ok(first) = receiver.recv() {
            self.take(first);
            self.flush();
            loop {
                // Senders do not wake the thread from this; only somebody who waits for it does.
                thread::park_timeout(BATCH);
                if !self.take_waiting(receiver) {
                    break;
                }
                self.flush();
            }
        }
        self.flush();
    }

    /// Takes what is there; `false`: nothing was.
    fn take_waiting(&mut self, receiver: &Receiver<Message>) -> bool {
        let mut any = false;
        loop {
            match receiver.try_recv() {
                Ok(message) => {
                    any = true;
                    self.take(message);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return any,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Record(record) => {
                self.record(&record);
                self.ring.push(record);
            }
            Message::Event(line) => {
                let lost = self.out.line(|out| out.extend_from_slice(&line));
                self.metrics.lines_unwritten(lost);
            }
            Message::Settled(then) => {
                self.flush();
                then();
            }
        }
    }

    fn record(&mut self, record: &Record) {
        let denied = record.outcome().is_none_or(|outcome| !outcome.passes());
        let format = self.format;
        let write = |sink: &mut Sink, kind| {
            sink.line(|out| match format {
                Format::Json => Line(record, kind).write_json(out),
                Format::Text => Line(record, kind).write_text(out),
            })
        };
        let mut lost = 0;
        if self.access == Access::On || (self.access == Access::Denied && denied) {
            lost += write(&mut self.out, Kind::Access);
        }
        // A request that was never judged is no decision.
        if self.audit && record.row().is_some() {
            lost += write(self.audit_file.as_mut().unwrap_or(&mut self.out), Kind::Audit);
        }
        self.metrics.lines_unwritten(lost);
    }

    fn flush(&mut self) {
        let lost = self.out.flush() + self.audit_file.as_mut().map_or(0, Sink::flush);
        self.metrics.lines_unwritten(lost);
    }
}

#[cfg(test)]
mod tests;
