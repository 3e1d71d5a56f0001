//! The embedded server by real HTTP, against the specifications.

mod client;
mod faults;
mod grant;
mod keycloak;
mod protection;
mod share;
