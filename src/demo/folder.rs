//! The private folder of a running demo: its configuration, its secrets, its admin door, and where its servers are.
//!
//! It is how `demo --curl` and `explain` find a demo that runs in another terminal. Only its user may enter it; it is removed when the demo ends.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::world::Ports;
use crate::secret::is_private;

/// Where a demo's servers are. It is written when they serve.
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
    #[error("no demo is running at these ports")]
    NoSuchDemo,
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
        remove_killed(&base);
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

    /// Tells other terminals that this demo runs, and where. Gives the demo that they find before it, if one was there first.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn announce(&self, addresses: &Addresses) -> Result<Option<Addresses>, FolderError> {
        self.write(ADDRESSES, &serde_json::json!(addresses).to_string())?;
        Ok(running_in(&self.base).first().filter(|path| **path != self.path).and_then(|path| addresses_in(path)))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Addresses {
    /// Whether these are its ports; 0 is any.
    fn have(&self, ports: Ports) -> bool {
        let Ports { gateway, authorization_server, content_server } = ports;
        let all = [(&self.gateway, gateway), (&self.authorization_server, authorization_server), (&self.content_server, content_server)];
        all.into_iter().all(|(address, port)| port == 0 || address.ends_with(&format!(":{port}")))
    }

    /// Its ports, as `--ports` takes them.
    pub fn ports(&self) -> String {
        [&self.gateway, &self.authorization_server, &self.content_server].map(|address| address.rsplit(':').next().unwrap_or_default()).join(",")
    }
}

/// The configuration of the demo that runs, and was started first, if one does: `explain` without a configuration of its own asks that one.
#[must_use]
pub fn running_configuration() -> Option<PathBuf> {
    running_in(&base()).first().map(|folder| folder.join(CONFIGURATION))
}

/// Where the servers of the running demo are: of the one with these ports, or else of the one that was started first.
///
/// # Errors
/// When none runs.
pub(super) fn running(ports: Option<Ports>) -> Result<Addresses, FolderError> {
    find(&running_in(&base()), ports)
}

fn find(running: &[PathBuf], ports: Option<Ports>) -> Result<Addresses, FolderError> {
    let found = running.iter().filter_map(|folder| addresses_in(folder)).find(|addresses| ports.is_none_or(|ports| addresses.have(ports)));
    found.ok_or(if running.is_empty() { FolderError::NoDemo } else { FolderError::NoSuchDemo })
}

/// The folders of the demos that run, in the order in which they were started.
fn running_in(base: &Path) -> Vec<PathBuf> {
    let since = |folder: &PathBuf| fs::metadata(folder.join(ADDRESSES)).and_then(|file| file.modified()).ok();
    let mut running: Vec<_> = announced(base).into_iter().filter(|folder| knock(folder).is_ok()).collect();
    running.sort_by_key(since);
    running
}

/// What demos have left that were killed: their doors do not answer.
fn remove_killed(base: &Path) {
    let is_left = |folder: &&PathBuf| knock(folder).is_err_and(|error| matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound));
    for folder in announced(base).iter().filter(is_left) {
        let _ = fs::remove_dir_all(folder);
    }
}

/// The folders of all demos whose servers have served.
fn announced(base: &Path) -> Vec<PathBuf> {
    // A folder that others may write to could name another configuration; so could one that somebody else has made where anybody may make folders.
    if !fs::symlink_metadata(base).is_ok_and(|found| found.is_dir() && is_private(&found)) {
        return Vec::new();
    }
    let folders = fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path());
    folders.filter(|folder| folder.join(ADDRESSES).is_file()).collect()
}

fn knock(folder: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(folder.join(ADMIN_SOCKET))
}

fn addresses_in(folder: &Path) -> Option<Addresses> {
    serde_json::from_str(&fs::read_to_string(folder.join(ADDRESSES)).ok()?).ok()
}

fn base() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    match runtime {
        Some(path) => path.join("uma-gateway-demo"),
        // By number: in a container nobody may have a name.
        None => std::env::temp_dir().join(format!("uma-gateway-demo-{}", rustix::process::geteuid().as_raw())),
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
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    fn addresses(gateway: u16) -> Addresses {
        Addresses {
            gateway: format!("http://127.0.0.1:{gateway}"),
            authorization_server: "http://127.0.0.1:2".into(),
            content_server: "http://127.0.0.1:3".into(),
        }
    }

    /// The folder of a demo whose gateway is at this port, with a door that answers.
    fn demo(base: &Path, name: &str, port: u16) -> (Folder, UnixListener) {
        let folder = Folder { base: base.to_owned(), path: base.join(name) };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder.path).expect("made");
        fs::set_permissions(base, fs::Permissions::from_mode(0o700)).expect("closed");
        let door = UnixListener::bind(folder.file(ADMIN_SOCKET)).expect("a socket");
        folder.announce(&addresses(port)).expect("announced");
        (folder, door)
    }

    fn found(base: &Path, gateway: Option<u16>) -> Result<Addresses, FolderError> {
        find(&running_in(base), gateway.map(|gateway| Ports { gateway, authorization_server: 0, content_server: 3 }))
    }

    #[test]
    fn a_running_demo_is_found_and_one_that_has_ended_is_not() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("demo");
        assert!(matches!(found(&base, None), Err(FolderError::NoDemo)));
        let (folder, _door) = demo(&base, "1", 1);
        assert_eq!(found(&base, None).ok(), Some(addresses(1)));
        assert_eq!(metadata(&folder.file(ADDRESSES)).map(|found| found.mode() & 0o777).ok(), Some(0o600));
        drop(folder);
        assert!(matches!(found(&base, None), Err(FolderError::NoDemo)));
    }

    #[test]
    fn of_two_demos_the_first_is_found_unless_ports_say_which() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path();
        // The one that was started first has the greater number.
        let (first, _door) = demo(base, "9", 1);
        let (second, _other) = demo(base, "8", 2);
        let later = fs::metadata(first.file(ADDRESSES)).and_then(|file| file.modified()).expect("a time") + Duration::from_secs(1);
        fs::File::options().write(true).open(second.file(ADDRESSES)).and_then(|file| file.set_modified(later)).expect("set");
        assert_eq!(found(base, None).ok(), Some(addresses(1)));
        assert_eq!([1, 2].map(|port| found(base, Some(port)).ok()), [1, 2].map(|port| Some(addresses(port))));
        assert!(matches!(found(base, Some(4)), Err(FolderError::NoSuchDemo)));
        assert_eq!(addresses(1).ports(), "1,2,3");
        drop(first);
        assert_eq!(found(base, None).ok(), Some(addresses(2)));
    }

    #[test]
    fn what_a_killed_demo_has_left_is_not_found_and_goes_when_another_one_starts() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("demo");
        let (killed, door) = demo(&base, "1", 1);
        let (runs, _door) = demo(&base, "2", 2);
        drop(door);
        assert_eq!(found(&base, None).ok(), Some(addresses(2)));
        let next = Folder::create_in(base).expect("private");
        assert_eq!([&killed, &runs, &next].map(|folder| folder.path.exists()), [false, true, true]);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_used() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("demo");
        let (_folder, _door) = demo(&base, "1", 1);
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).expect("opened");
        assert!(matches!(found(&base, None), Err(FolderError::NoDemo)));
        assert!(matches!(Folder::create_in(base), Err(FolderError::NotPrivate(_))));
    }

    #[test]
    fn what_somebody_else_has_put_there_is_not_asked() {
        let place = tempfile::tempdir().expect("a folder");
        let base = place.path().join("demo");
        let (_folder, _door) = demo(&base, "1", 1);
        assert!(found(&base, None).is_ok());
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&base, Some(65_534), None).is_ok() {
            assert!(matches!(found(&base, None), Err(FolderError::NoDemo)));
            assert!(matches!(Folder::create_in(base), Err(FolderError::NotPrivate(_))));
        }
    }
}
