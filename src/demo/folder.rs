//! The private folder of a running demo: its configuration, its secrets, its admin door, and where its servers are.
//!
//! It is how `demo --curl` and `explain` find a demo that runs in another terminal. Only its user may enter it; it is removed when the demo ends.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::secret::is_private;

/// The file that names the demo which was started last.
const CURRENT: &str = "current";
const ADDRESSES: &str = "addresses.json";
/// The configuration of the gateway that is shown.
pub(super) const CONFIGURATION: &str = "gateway.yaml";
/// The admin door, as the configuration names it.
pub(super) const ADMIN_SOCKET: &str = "admin.sock";

/// Why there is no private folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("the folder {} cannot be used", .0.display())]
    Unusable(PathBuf, #[source] io::Error),
    #[error("the folder {} is somebody else's or may be entered by others; remove it", .0.display())]
    NotPrivate(PathBuf),
    #[error("no demo is running: start one with `uma-gateway demo`")]
    NoDemo,
}

/// Where the servers of a demo are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Addresses {
    /// `http://…` of the gateway.
    pub gateway: String,
    /// The issuer of the authorization server.
    pub authorization_server: String,
    /// `http://…` of the content server.
    pub content_server: String,
}

/// The folder of one demo.
#[derive(Debug)]
pub(super) struct Folder {
    base: PathBuf,
    path: PathBuf,
}

impl Folder {
    /// Makes the folder of this process.
    ///
    /// # Errors
    /// When it cannot be made, or its parent belongs to somebody else.
    pub fn create() -> Result<Self, FolderError> {
        Self::create_in(base())
    }

    fn create_in(base: PathBuf) -> Result<Self, FolderError> {
        let unusable = |path: &Path, error| FolderError::Unusable(path.to_owned(), error);
        make_private(&base).map_err(|error| unusable(&base, error))?;
        let path = base.join(std::process::id().to_string());
        // One of a demo that had the same number and did not end well.
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| unusable(&path, error))?;
        let folder = Self { base, path };
        // Whoever owns the parent could put other files in the place of ours.
        let parent = metadata(&folder.base)?;
        if !parent.is_dir() || !is_private(&parent) {
            return Err(FolderError::NotPrivate(folder.base.clone()));
        }
        Ok(folder)
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that only this user may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<(), FolderError> {
        write(&self.file(name), content)
    }

    /// Tells other terminals that this demo runs, and where.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn announce(&self, addresses: &Addresses) -> Result<(), FolderError> {
        self.write(ADDRESSES, &serde_json::json!(addresses).to_string())?;
        write(&self.base.join(CURRENT), &std::process::id().to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let current = self.base.join(CURRENT);
        if fs::read_to_string(&current).is_ok_and(|id| id == std::process::id().to_string()) {
            let _ = fs::remove_file(current);
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The configuration of the demo that runs now, if one does: `explain` without a configuration of its own asks that one.
#[must_use]
pub fn running_configuration() -> Option<PathBuf> {
    let folder = current_in(&base())?;
    // Files stay behind when a demo is killed; its door does not answer then.
    UnixStream::connect(folder.join(ADMIN_SOCKET)).ok().map(|_| folder.join(CONFIGURATION))
}

/// Where the servers of the running demo are.
///
/// # Errors
/// When none runs.
pub(super) fn running() -> Result<Addresses, FolderError> {
    running_in(&base())
}

fn running_in(base: &Path) -> Result<Addresses, FolderError> {
    let text = current_in(base).and_then(|folder| fs::read_to_string(folder.join(ADDRESSES)).ok());
    text.and_then(|text| serde_json::from_str(&text).ok()).ok_or(FolderError::NoDemo)
}

fn current_in(base: &Path) -> Option<PathBuf> {
    // A folder that others may write to could name another configuration; so could one that somebody else has made where anybody may make folders.
    let private = fs::symlink_metadata(base).is_ok_and(|found| found.is_dir() && is_private(&found));
    let id: u32 = fs::read_to_string(base.join(CURRENT)).ok().filter(|_| private)?.trim().parse().ok()?;
    Some(base.join(id.to_string()))
}

fn base() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    match runtime {
        Some(path) => path.join("uma-gateway-demo"),
        None => {
            let user: String = std::env::var("USER").unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
            std::env::temp_dir().join(format!("uma-gateway-demo-{user}"))
        }
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, FolderError> {
    fs::symlink_metadata(path).map_err(|error| FolderError::Unusable(path.to_owned(), error))
}

fn write(path: &Path, content: &str) -> Result<(), FolderError> {
    let unusable = |error| FolderError::Unusable(path.to_owned(), error);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(unusable)?;
    io::Write::write_all(&mut file, content.as_bytes()).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn addresses() -> Addresses {
        Addresses { gateway: "http://127.0.0.1:1".into(), authorization_server: "http://127.0.0.1:2".into(), content_server: "http://127.0.0.1:3".into() }
    }

    #[test]
    fn a_running_demo_is_found_and_one_that_has_ended_is_not() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("demo");
        assert!(matches!(running_in(&base), Err(FolderError::NoDemo)));
        let folder = Folder::create_in(base.clone()).expect("private");
        folder.announce(&addresses()).expect("announced");
        assert_eq!(running_in(&base).ok(), Some(addresses()));
        assert_eq!(metadata(&folder.file(ADDRESSES)).map(|found| found.mode() & 0o777).ok(), Some(0o600));
        drop(folder);
        assert!(matches!(running_in(&base), Err(FolderError::NoDemo)));
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_used() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("demo");
        fs::create_dir(&base).expect("made");
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).expect("opened");
        assert!(matches!(Folder::create_in(base.clone()), Err(FolderError::NotPrivate(_))));
        fs::write(base.join(CURRENT), "1").expect("written");
        assert!(current_in(&base).is_none());
    }

    #[test]
    fn what_somebody_else_has_put_there_is_not_asked() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("demo");
        Folder::create_in(base.clone()).expect("private").announce(&addresses()).expect("announced");
        fs::write(base.join(CURRENT), "1").expect("written");
        assert!(current_in(&base).is_some());
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&base, Some(65_534), None).is_ok() {
            assert!(current_in(&base).is_none());
            assert!(matches!(Folder::create_in(base), Err(FolderError::NotPrivate(_))));
        }
    }
}
