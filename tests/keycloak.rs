//! A real Keycloak 26.4.0 behind a real gateway, and a content server that records what comes through.
//!
//! `tests/keycloak/start` brings the server up; `KEYCLOAK_PORT` says where it listens (8180). Every test registers resources of its own and makes
//! users of its own where it changes them, so tests need no order and no fresh server. Nothing waits for a fixed time: what has to happen is polled for.

#[cfg(test)]
mod keycloak {
    mod support;

    mod clients;
    mod linking;
    mod outages;
    mod resources;
    mod sequence;
    mod shares;
    mod sharing;
    mod tokens;
    mod uris;
    mod withdrawal;
}
