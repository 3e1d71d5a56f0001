//! A listener with raw sockets on the other side.
