//! The operator's door as a listening socket: a Unix socket that only its owner may use, or an address.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::AdminDoor;
use crate::secret::Rotating;

/// Only the owner.
const MODE: u32 = 0o600;

/// Connections that may wait.
const QUEUE: i32 = 64;

/// The operator's door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Another gateway listens there.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A file that is no socket is in the way.
    #[error("{0} exists and is not a socket")]
    InTheWay(PathBuf),
    /// The folder has to exist: whoever makes it decides who may enter it.
    #[error("the folder {0} does not exist")]
    NoFolder(PathBuf),
    /// The socket.
    #[error("the socket {0} cannot be opened")]
    Socket(PathBuf, #[source] io::Error),
    /// The address.
    #[error("the address {0} cannot be opened")]
    Address(SocketAddr, #[source] io::Error),
}

/// A door that listens already, so that whoever starts a gateway hears of a mistake before it serves.
#[derive(Debug)]
pub struct OpenDoor(pub(super) Listening);

/// Where.
#[derive(Debug)]
pub(super) enum Listening {
    /// On a socket, whose file goes with the door.
    Socket(std::os::unix::net::UnixListener, SocketFile),
    /// On an address, for whoever bears the token.
    Address(std::net::TcpListener, Arc<Rotating>),
}

impl OpenDoor {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be opened there; see [`DoorError`].
    pub fn open(door: &AdminDoor) -> Result<Self, DoorError> {
        match door {
            AdminDoor::Socket(path) => {
                let (listener, file) = open_socket(path)?;
                Ok(Self(Listening::Socket(listener, file)))
            }
            AdminDoor::Address { address, token } => {
                let listener = open_address(*address)?;
                Ok(Self(Listening::Address(listener, Arc::new(Rotating::new(token.clone())))))
            }
        }
    }

    /// The token, where one is needed; another one may be offered while the door is open.
    #[must_use]
    pub fn token(&self) -> Option<Arc<Rotating>> {
        match &self.0 {
            Listening::Socket(..) => None,
            Listening::Address(_, token) => Some(Arc::clone(token)),
        }
    }

    /// The address, where it has one: port 0 took any.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Listening::Socket(..) => None,
            Listening::Address(listener, _) => listener.local_addr().ok(),
        }
    }
}

/// Listens at a Unix socket that only its owner may use.
///
/// # Errors
/// See [`DoorError`].
pub fn open_socket(path: &Path) -> Result<(std::os::unix::net::UnixListener, SocketFile), DoorError> {
    make_way(path)?;
    listen(path).map_err(|error| DoorError::Socket(path.to_owned(), error))
}

/// Listens at an address.
///
/// # Errors
/// See [`DoorError`].
pub fn open_address(address: SocketAddr) -> Result<std::net::TcpListener, DoorError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error| DoorError::Address(address, error))
}

/// The file of a socket, removed at the end if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if same {
            // Whoever starts next removes a dead socket anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes what a gateway that died has left behind, and nothing else.
fn make_way(path: &Path) -> Result<(), DoorError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(DoorError::NoFolder(folder.to_owned()));
    }
    let Ok(file) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !file.file_type().is_socket() {
        return Err(DoorError::InTheWay(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(|error| DoorError::Socket(path.to_owned(), error)),
        Ok(_) => Err(DoorError::InUse(path.to_owned())),
        Err(error) => Err(DoorError::Socket(path.to_owned(), error)),
    }
}

/// The mode is set before the socket listens, so at no time can anybody else connect.
fn listen(path: &Path) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (file.dev(), file.ino()) };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    socket.listen(QUEUE)?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<OpenDoor, DoorError> {
        OpenDoor::open(&AdminDoor::Socket(path.to_owned()))
    }

    #[test]
    fn only_the_owner_may_use_the_socket_and_it_goes_with_the_door() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.sock");
        let door = open(&path).expect("a door");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, MODE);
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_in_use_is_left_alone_and_a_dead_one_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.sock");
        let door = open(&path).expect("a door");
        assert!(matches!(open(&path), Err(DoorError::InUse(_))));
        drop(door);
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists());
        assert!(open(&path).is_ok());
    }

    #[test]
    fn a_file_in_the_way_and_a_missing_folder_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.sock");
        std::fs::write(&path, "precious").expect("a file");
        assert!(matches!(open(&path), Err(DoorError::InTheWay(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
        assert!(matches!(open(&folder.path().join("missing/admin.sock")), Err(DoorError::NoFolder(_))));
    }
}
