//! The records, as far as no gateway has them open: whether they can be read, and which shares this configuration closes.

use std::sync::Arc;

use super::Report;
use crate::app::snapshot;
use crate::config;
use crate::shares;
use crate::store::{Lookup, Store, StoreError};
use crate::telemetry::Metrics;

/// Looks at them, without changing anything.
pub async fn survey(config: &config::Gateway, metrics: &Arc<Metrics>, report: &mut Report) {
    let Some(section) = &config.store else { return };
    let view = match Store::peek(section).await {
        Ok(Some(view)) => view,
        Ok(None) => return report.ok("the records are made, or brought up to date, at the start"),
        Err(StoreError::InUse { .. }) => {
            return report.ok("the records are in use: the gateway that runs says in its log, at the reload, which shares a configuration closes");
        }
        Err(error) => return report.fail(error.to_string(), ""),
    };
    // A configuration without mistakes can be built.
    let Ok(built) = snapshot::build(config, None, &Lookup::default(), metrics) else { return };
    let found = shares::survey(&view, &built.snapshot, config.shares.as_ref());
    match &found.example {
        None => report.ok(format!("the records can be read: {} shares, and none that this configuration closes", found.all)),
        Some(example) => {
            let (closed, all, path, owner) = (found.closed(), found.all, example.path.as_deref().unwrap_or_default(), &example.owner);
            let why = example.why.words();
            report.warn(
                format!("this configuration closes {closed} of {all} shares, such as {path} of {owner}, shared with upstream `{}`: {why}", example.upstream),
                "give route, owner and upstream the names that they had, or have the shares deleted and made anew",
            );
        }
    }
}
