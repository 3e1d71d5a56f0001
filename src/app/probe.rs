//! `check --online`. (being written)
use crate::config;
/// A probe.
pub struct Probe;
impl std::fmt::Display for Probe {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
impl Probe {
    /// Failed.
    #[must_use]
    pub const fn failed(&self) -> bool {
        false
    }
    /// JSON.
    #[must_use]
    pub const fn to_json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
/// Probes.
pub async fn probe(_: &config::Gateway) -> Vec<Probe> {
    Vec::new()
}
