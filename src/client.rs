//! client (to come)
