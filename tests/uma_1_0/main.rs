//! Two real servers that speak UMA 1.0, behind a real gateway, and a content server that records what comes through.
//!
//! `tests/keycloak-2.5/start` and `tests/openam/start` bring the servers up; `KEYCLOAK25_PORT` (8380) and `OPENAM_PORT` (8280) say where they listen. Every
//! test registers resources of its own, so tests need no order and no fresh server. Nothing waits for a fixed time: what has to happen is polled for.

#[cfg(test)]
mod keycloak25;
#[cfg(test)]
mod openam;
#[cfg(test)]
mod support;

#[cfg(test)]
#[path = "../keycloak/support/forwarder.rs"]
mod forwarder;
