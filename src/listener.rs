//! Sockets, HTTP/1.1, deadlines of our own.

mod config;

pub use config::Config;
