//! Tells that something changed in the folders of some files.
//!
//! Folders are watched, not files: an editor, `certbot` or a Kubernetes volume puts a new file or link in the place of the old one, and a watch on the
//! old file would never hear of the new one. What changed is for the caller to find out. Where the system cannot tell (network file systems, no
//! watches left), the caller's own look every [`Watcher::AT_LEAST`] is all there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Watches folders; the watch ends when it is dropped.
pub struct Watcher {
    system: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

impl Watcher {
    /// How long a change may go unseen where the system cannot tell.
    pub const AT_LEAST: Duration = Duration::from_secs(30);
    /// Files are often written one after the other; after the first change this long is waited for the others.
    const SETTLE: Duration = Duration::from_millis(100);

    /// Watches nothing yet.
    pub fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let tell = Arc::clone(&changed);
        let system = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, is_change) {
                tell.notify_one();
            }
        });
        let system = system.inspect_err(|error| tracing::warn!(%error, "files cannot be watched; they are looked at every 30 s")).ok();
        Self { system, folders: BTreeSet::new(), changed }
    }

    /// Watches the folders of these files, and no others.
    pub fn set<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>) {
        let here = || PathBuf::from(".");
        let folder = |file: &Path| file.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(here, Path::to_owned);
        let wanted: BTreeSet<PathBuf> = files.into_iter().map(folder).collect();
        let Some(system) = &mut self.system else { return };
        for gone in self.folders.difference(&wanted) {
            let _ = system.unwatch(gone);
        }
        for new in wanted.difference(&self.folders) {
            if let Err(error) = system.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %new.display(), "a folder cannot be watched; its files are looked at every 30 s");
            }
        }
        self.folders = wanted;
    }

    /// Waits until it is worth to look: something changed, or [`Watcher::AT_LEAST`] has passed.
    pub async fn changed(&self) {
        if timeout(Self::AT_LEAST, self.changed.notified()).await.is_ok() {
            sleep(Self::SETTLE).await;
        }
    }
}

/// Reading a file is no change of it: whoever looks would otherwise call himself.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far less than the look that happens anyway.
    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_file_that_takes_the_place_of_another_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        std::fs::write(&file, "old").unwrap();
        let mut watcher = Watcher::new();
        watcher.set([file.as_path()]);
        std::fs::write(folder.path().join("next"), "new").unwrap();
        std::fs::rename(folder.path().join("next"), &file).unwrap();
        timeout(SOON, watcher.changed()).await.expect("it is seen");
    }

    #[tokio::test]
    async fn the_exchange_of_a_link_is_seen_and_reading_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["one", "two"] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("tls.crt"), version).unwrap();
        }
        std::os::unix::fs::symlink("one", folder.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/tls.crt", folder.path().join("tls.crt")).unwrap();
        let file = folder.path().join("tls.crt");
        let mut watcher = Watcher::new();
        watcher.set([file.as_path()]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        assert!(timeout(Duration::from_millis(300), watcher.changed.notified()).await.is_err(), "reading is no change");
        std::os::unix::fs::symlink("two", folder.path().join("..next")).unwrap();
        std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
        timeout(SOON, watcher.changed()).await.expect("it is seen");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
    }
}
