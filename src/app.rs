//! app (to come)
