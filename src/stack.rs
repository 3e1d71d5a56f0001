//! stack (to come)
