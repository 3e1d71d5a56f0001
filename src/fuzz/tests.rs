//! The stored corpora through the bodies, and the bodies against defences that are down.
