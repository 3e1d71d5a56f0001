//! Where the file names what the gateway opens, for mistakes that show only when it is opened: an address that somebody else has, for instance.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::problem::Span;
use crate::routing::Place;

/// Addresses and the operator's socket, with the places where they stand.
#[derive(Clone, Debug, Default)]
pub struct Places {
    file: PathBuf,
    addresses: Vec<(SocketAddr, Place)>,
    socket: Option<Place>,
}

impl Places {
    /// Those of a file.
    pub(super) fn new(file: &Path, addresses: &[(SocketAddr, Span)], socket: Option<Span>) -> Self {
        let addresses = addresses.iter().map(|(address, span)| (*address, span.place)).collect();
        Self { file: file.to_owned(), addresses, socket: socket.map(|span| span.place) }
    }

    /// `gateway.yaml:3:14` for an address of `listeners`, `health` or `admin`.
    #[must_use]
    pub fn of(&self, address: SocketAddr) -> Option<String> {
        self.addresses.iter().find(|(known, _)| *known == address).map(|(_, place)| self.at(*place))
    }

    /// The same for `admin.socket`.
    #[must_use]
    pub fn socket(&self) -> Option<String> {
        self.socket.map(|place| self.at(place))
    }

    fn at(&self, place: Place) -> String {
        format!("{}:{}:{}", self.file.display(), place.line, place.column)
    }
}
