//! Notices that the configuration, or a file that it names, has changed.
//!
//! Directories are watched, never files: an editor replaces a file, and Kubernetes swaps the `..data` link beside it. What counts is the content, held
//! against what was read last; every half minute it is looked at unasked, where no event comes (a network file system, too few watches).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// Without an event for so long, a change is taken to be whole; but for so long at most.
const QUIET: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Looked at unasked.
const POLL: Duration = Duration::from_secs(30);

/// A digest of what stands in files.
pub type Content = [u8; 32];

/// The files that count, and their content when they were read last.
pub struct Watched {
    files: RefCell<Vec<PathBuf>>,
    read: Cell<Option<Content>>,
    others: Notify,
}

impl Watched {
    /// Nothing has been read yet.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files: RefCell::new(files), read: Cell::new(None), others: Notify::new() }
    }

    /// The files that count.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.borrow().clone()
    }

    /// These files were read, and had this content just before.
    pub fn was_read(&self, files: &[PathBuf], content: Content) {
        if self.files.replace(files.to_vec()) != files {
            self.others.notify_one();
        }
        self.read.set(Some(content));
    }
}

/// What stands in these files, or that it cannot be read. Blocks.
pub fn content(files: &[PathBuf]) -> Content {
    let mut context = digest::Context::new(&digest::SHA256);
    for file in files {
        let bytes = std::fs::read(file);
        let read = bytes.as_ref().map_or_else(|error| format!("{:?}", error.kind()).into_bytes(), Clone::clone);
        for part in [file.as_os_str().as_encoded_bytes(), &[u8::from(bytes.is_ok())], &read] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    let mut content = Content::default();
    for (to, from) in content.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    content
}

/// Calls `changed` when the content of the files is not what was read last. Runs until it is dropped.
pub async fn watch(watched: Rc<Watched>, changed: impl Fn()) {
    let (sender, mut events) = mpsc::channel(1);
    let names = Arc::new(Mutex::new(HashSet::new()));
    let mut watcher = watcher(sender, Arc::clone(&names));
    let mut directories = BTreeSet::new();
    loop {
        let files = watched.files();
        *names.lock().unwrap_or_else(PoisonError::into_inner) = files.iter().filter_map(|file| file.file_name().map(ToOwned::to_owned)).collect();
        if let Some(watcher) = &mut watcher {
            follow(watcher, &mut directories, &files);
        }
        tokio::select! {
            Some(()) = events.recv() => settled(&mut events).await,
            // Something may have happened before the new directories were followed.
            () = watched.others.notified() => {}
            () = sleep(POLL) => {}
        }
        let files = watched.files();
        let Ok(now) = tokio::task::spawn_blocking(move || content(&files)).await else { continue };
        if watched.read.get().is_some_and(|read| read != now) {
            // Told once for each content, whatever comes of it.
            watched.read.set(Some(now));
            changed();
        }
    }
}

/// Waits until no event has come for a while.
async fn settled(events: &mut mpsc::Receiver<()>) {
    let until = Instant::now() + QUIET.1;
    while Instant::now() < until && matches!(timeout(QUIET.0, events.recv()).await, Ok(Some(()))) {}
}

fn watcher(sender: mpsc::Sender<()>, names: Arc<Mutex<HashSet<OsString>>>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        let counts = match event {
            // Also when events were lost.
            Err(_) => true,
            Ok(event) => counts(&event, &names.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        if counts {
            // One that waits says it all.
            let _ = sender.try_send(());
        }
    };
    notify::recommended_watcher(told)
        .inspect_err(|error| tracing::warn!(%error, "changes of files are noticed by looking every {} s only", POLL.as_secs()))
        .ok()
}

/// Whether an event may be about our files: reading them is none, and a log in the same directory is written all the time.
fn counts(event: &notify::Event, names: &HashSet<OsString>) -> bool {
    match event.kind {
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_) | ModifyKind::Any | ModifyKind::Other) => {
            event.paths.iter().any(|path| path.file_name().is_some_and(|name| names.contains(name)))
        }
        _ => true,
    }
}

/// Watches the directories in which the files, and what their links lead to, stand.
fn follow(watcher: &mut RecommendedWatcher, directories: &mut BTreeSet<PathBuf>, files: &[PathBuf]) {
    let parent = |file: &Path| match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let wanted: BTreeSet<PathBuf> =
        files.iter().flat_map(|file| [Some(parent(file)), std::fs::canonicalize(file).ok().map(|file| parent(&file))]).flatten().collect();
    for gone in directories.difference(&wanted) {
        // The directory itself may be gone.
        let _ = watcher.unwatch(gone);
    }
    // All of them again: one that was removed and made anew has lost its watch.
    for directory in &wanted {
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, directory = %directory.display(), "cannot be watched");
        }
    }
    *directories = wanted;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_what_stands_in_the_files_and_that_one_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [folder.path().join("a"), folder.path().join("b")];
        let missing = content(&files);
        std::fs::write(&files[0], "").expect("written");
        let empty = content(&files);
        assert_ne!(missing, empty);
        std::fs::write(&files[0], "x").expect("written");
        assert_ne!(content(&files), empty);
        std::fs::write(&files[0], "").expect("written");
        assert_eq!(content(&files), empty);
    }

    #[test]
    fn neither_reading_nor_a_log_beside_counts() {
        let names = HashSet::from([OsString::from("gateway.yaml")]);
        let event = |kind, path: &str| counts(&notify::Event::new(kind).add_path(path.into()), &names);
        let written = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
        assert!(!event(EventKind::Access(notify::event::AccessKind::Any), "/etc/gateway.yaml"));
        assert!(!event(written, "/etc/audit.log"));
        assert!(event(written, "/etc/gateway.yaml"));
        assert!(event(EventKind::Create(notify::event::CreateKind::Any), "/etc/..data"));
    }
}
