//! layer (to come)
