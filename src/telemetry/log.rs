//! The log's own thread: access lines, audit lines, events and the ring of the last records.
//!
//! Whoever hands something over never waits: the channel is bounded, and what does not fit is dropped and counted. The thread looks every
//! few milliseconds while there is traffic, so that a worker need not wake it for each request, and sleeps when there is none.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::config::{Access, Audit, Format, LogConfig, To};
use super::line::{Kind, Line};
use super::sink::Sink;
use super::trace::{Trace, TraceParent};
use super::traces::{self, Sampling, Traces, TracesError};
use super::{Metrics, Record, Ring};

/// Records and events that may wait for the thread.
const WAITING: usize = 16_384;

/// How many bytes they may take together: ordinary ones are bounded by their number, long ones by this.
const WAITING_BYTES: usize = 32 << 20;

/// How often the thread looks while there is traffic.
const BATCH: Duration = Duration::from_millis(20);

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file of `log.to` or `log.audit`.
    #[error("the log {path} cannot be opened")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The thread.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
    /// The export of traces, which the environment asks for.
    #[error("traces cannot be exported: {0}")]
    Traces(#[from] TracesError),
}

/// The way to the log, the ring and the metrics. Clones share them; when the last one goes, the thread writes the rest and ends.
#[derive(Clone)]
pub struct Telemetry(Arc<Shared>);

struct Shared {
    sender: SyncSender<Message>,
    /// Bytes of what was handed over and has not been taken.
    waiting: Arc<AtomicUsize>,
    thread: Thread,
    metrics: Arc<Metrics>,
    ring: Ring,
    /// Files are to be opened anew; the thread looks before it writes.
    reopen: Arc<AtomicBool>,
    /// Whether it was said that lines are lost because the thread is behind.
    lossy: AtomicBool,
    sampling: Option<Sampling>,
}

/// What the thread is sent.
enum Message {
    Record(Box<Record>),
    /// One event, with its line end left off; whether it belongs into the audit log as well.
    Event(Vec<u8>, bool),
    /// To be called when everything before it has been written.
    Settled(Box<dyn FnOnce() + Send>),
    /// The same, and the last spans are sent before.
    Last(Box<dyn FnOnce() + Send>),
}

impl Message {
    /// The bytes that wait with it; the same for as long as it waits.
    fn weight(&self) -> usize {
        match self {
            Self::Record(record) => record.weight(),
            Self::Event(line, _) => line.len(),
            Self::Settled(_) | Self::Last(_) => 0,
        }
    }
}

impl Telemetry {
    /// Starts the thread; lines go where the configuration says.
    ///
    /// # Errors
    /// When a file cannot be opened, the thread not be started, or traces not be exported although the environment asks for them.
    pub fn start(config: &LogConfig, metrics: Arc<Metrics>) -> Result<Self, LogError> {
        let out = match &config.to {
            To::Stdout => Sink::new(Box::new(io::stdout())),
            To::File(path) => open(path)?,
        };
        Self::start_with(config, metrics, out, WAITING)
    }

    /// Starts the thread; lines go to `out`.
    ///
    /// # Errors
    /// As [`Telemetry::start`].
    pub fn start_into(config: &LogConfig, metrics: Arc<Metrics>, out: Box<dyn Write + Send>) -> Result<Self, LogError> {
        Self::start_with(config, metrics, Sink::new(out), WAITING)
    }

    fn start_with(config: &LogConfig, metrics: Arc<Metrics>, out: Sink, waiting: usize) -> Result<Self, LogError> {
        let audit = match &config.audit {
            Some(Audit::File(path)) => Some(open(path)?),
            Some(Audit::Stdout) | None => None,
        };
        let (traces, sampling) = traces::from_environment()?.unzip();
        let (ring, reopen, bytes) = (Ring::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (sender, receiver) = sync_channel(waiting);
        let writer = Writer {
            format: config.format,
            access: config.access,
            audit: config.audit.is_some(),
            out,
            audit_file: audit,
            traces,
            reopen: Arc::clone(&reopen),
            waiting: Arc::clone(&bytes),
            metrics: Arc::clone(&metrics),
            ring: ring.clone(),
            lossy: AtomicBool::new(false),
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&receiver)).map_err(LogError::Thread)?.thread().clone();
        Ok(Self(Arc::new(Shared { sender, waiting: bytes, thread, metrics, ring, reopen, lossy: AtomicBool::new(false), sampling })))
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

    /// The place in a trace of a request that comes with this parent; `None` where no traces are exported.
    #[must_use]
    pub fn trace(&self, parent: Option<&TraceParent>) -> Option<Box<Trace>> {
        self.0.sampling.map(|sampling| Box::new(sampling.begin(parent)))
    }

    /// Opens the files of `log.to` and `log.audit` anew before the next line is written, for whoever has moved them away (SIGHUP). Never waits.
    /// A file that cannot be opened any more is told in the log, and the old one is written to.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Release);
        // Where the channel is full the thread is busy, and will look by itself.
        self.ask(Message::Settled(Box::new(|| ())));
    }

    /// Hands a finished record over; never waits.
    pub fn send(&self, record: Box<Record>) {
        self.hand_over(Message::Record(record));
    }

    /// Hands an event over; never waits.
    pub(super) fn send_event(&self, line: Vec<u8>, audited: bool) {
        self.hand_over(Message::Event(line, audited));
    }

    /// Returns when everything that was sent before has been written (or at once, when the thread is far behind).
    pub async fn settled(&self) {
        let (told, hears) = tokio::sync::oneshot::channel();
        // Whoever no longer waits need not hear.
        if self.ask(Message::Settled(Box::new(move || _ = told.send(())))) {
            // An error means that the thread has gone, and then nothing is left to wait for.
            let _ = hears.await;
        }
    }

    /// Waits at most this long until everything has been written: for the end of the process, never in a request.
    pub fn flush(&self, at_most: Duration) {
        let until = Instant::now().checked_add(at_most);
        let (told, hears) = sync_channel::<()>(1);
        while !self.ask(Message::Last({
            let told = told.clone();
            Box::new(move || _ = told.try_send(()))
        })) {
            if until.is_none_or(|until| Instant::now() >= until) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let left = until.map_or(at_most, |until| until.saturating_duration_since(Instant::now()));
        // Whether it was in time or not: the process ends now.
        let _: Result<(), RecvTimeoutError> = hears.recv_timeout(left);
    }

    /// Whether the thread will take it; it looks at once.
    fn ask(&self, message: Message) -> bool {
        let asked = self.0.sender.try_send(message).is_ok();
        self.0.thread.unpark();
        asked
    }

    fn hand_over(&self, message: Message) {
        let bytes = message.weight();
        let before = self.0.waiting.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > WAITING_BYTES || self.0.sender.try_send(message).is_err() {
            self.0.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.0.metrics.line_dropped();
            lost(&self.0.lossy, || "whoever reads the log is slower than it is written".to_owned());
        }
    }
}

/// Says on standard error that lines are lost, once for each cause: the log itself cannot.
fn lost(said: &AtomicBool, why: impl FnOnce() -> String) {
    if said.load(Ordering::Relaxed) || said.swap(true, Ordering::Relaxed) {
        return;
    }
    let line = format!("uma-gateway: log lines are lost, {}; uma_gateway_log_lines_dropped_total counts them, and this is said once\n", why());
    // On a thread of its own: standard error may have the same slow reader, and a request must not wait for it.
    let _ = thread::Builder::new().name("log-lost".to_owned()).spawn(move || io::stderr().write_all(line.as_bytes()));
}

fn open(path: &Path) -> Result<Sink, LogError> {
    Ok(Sink::file(path, append(path).map_err(|source| LogError::Open { path: path.to_owned(), source })?))
}

/// Appends; others may not read it, since it names people.
pub(super) fn append(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    Ok(Box::new(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?))
}

/// What the thread owns.
struct Writer {
    format: Format,
    access: Access,
    audit: bool,
    out: Sink,
    /// `None`: audit lines go among the others.
    audit_file: Option<Sink>,
    traces: Option<Traces>,
    reopen: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    ring: Ring,
    /// Whether it was said that lines are lost because they cannot be written.
    lossy: AtomicBool,
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
        self.traces.iter().for_each(Traces::flush);
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
        if self.reopen.swap(false, Ordering::Acquire) {
            self.open_anew();
        }
        self.waiting.fetch_sub(message.weight(), Ordering::Relaxed);
        match message {
            Message::Record(record) => {
                self.record(&record);
                self.traces.iter().for_each(|traces| traces.export(&record));
                self.ring.push(record);
            }
            Message::Event(line, audited) => {
                let audit = self.audit_file.as_mut().filter(|_| audited);
                let lost: u64 = std::iter::once(&mut self.out).chain(audit).map(|sink| sink.line(|out| out.extend_from_slice(&line))).sum();
                self.unwritten(lost);
            }
            Message::Settled(then) => {
                self.flush();
                then();
            }
            Message::Last(then) => {
                self.flush();
                self.traces.iter().for_each(Traces::flush);
                then();
            }
        }
    }

    fn record(&mut self, record: &Record) {
        // Where nothing was decided, as at the shares API, the status says whether it was refused.
        let denied = record.outcome().map_or(!(100..400).contains(&record.status), |outcome| !outcome.passes());
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
        self.unwritten(lost);
    }

    /// So many lines could not be written.
    fn unwritten(&self, lines: u64) {
        if lines == 0 {
            return;
        }
        self.metrics.lines_unwritten(lines);
        let trouble = || std::iter::once(&self.out).chain(&self.audit_file).find_map(Sink::trouble);
        lost(&self.lossy, || trouble().unwrap_or_else(|| "they cannot be written".to_owned()));
    }

    /// What has come together still goes to the old files.
    fn open_anew(&mut self) {
        self.flush();
        for sink in std::iter::once(&mut self.out).chain(&mut self.audit_file) {
            if let Err((path, error)) = sink.reopen() {
                tracing::error!(path = %path.display(), %error, "the log cannot be opened anew, the old file is written to");
            }
        }
    }

    fn flush(&mut self) {
        let lost = self.out.flush() + self.audit_file.as_mut().map_or(0, Sink::flush);
        self.unwritten(lost);
    }
}

#[cfg(test)]
mod tests;
