//! Sockets, TLS, HTTP/1.1 and HTTP/2, deadlines of our own.
//!
//! A worker calls [`serve`] with its own socket; every connection is a task of that worker, and every request becomes a `routing::Request` with a
//! fresh id and record. hyper reads and writes HTTP, rustls TLS; how long a silent, slow or idle peer is borne is decided here.
//! Nothing here looks at what is asked for.

mod bind;
mod config;
mod connection;
mod drain;
mod first_head;
#[cfg(test)]
mod floods_tests;
mod frames;
mod h2;
mod held;
mod id;
#[cfg(test)]
mod parked_tests;
mod raw_head;
mod seats;
mod serve;
#[cfg(test)]
mod stalls_tests;
#[cfg(test)]
mod streaming_tests;
mod terms;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod unread;
mod uploads;
mod watchdog;

pub use bind::{BindError, Bound, Socket, adopt, bind, bind_again};
pub use config::{Config, Event, Limits, Settings};
pub use drain::{Cut, Drain};
pub use id::next as next_id;
pub use serve::serve;
pub use terms::Terms;
pub use tls::{Certificate, CertificateFiles, ClientAuth, Refresh, Tls, TlsConfig, TlsError, TlsVersion};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {
    frames::{Frames, Heads, calm},
    raw_head::RawHeads,
};
