//! cache (to come)
