//! path (to come)
