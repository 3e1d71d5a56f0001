//! Upstreams on real sockets.
