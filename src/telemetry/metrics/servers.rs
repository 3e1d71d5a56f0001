//! What is counted of content servers: how each is doing, its connections, and what was sent once more.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Define, Metrics, MetricsError};

/// The families.
pub(super) struct Families {
    fit: IntGaugeVec,
    ejections: IntCounterVec,
    requests: IntGaugeVec,
    connections: IntGaugeVec,
    connects: IntCounterVec,
    waiting: IntGaugeVec,
    full: IntCounterVec,
    checks: IntCounterVec,
    retries: IntCounterVec,
}

/// Handles of one server, to be kept.
#[derive(Clone)]
pub struct ServerCounters {
    fit: Option<IntGauge>,
    ejections: Option<IntCounter>,
    requests: Option<IntGauge>,
    connections: Option<IntGauge>,
    connects: [Option<IntCounter>; 2],
    waiting: Option<IntGauge>,
    full: Option<IntCounter>,
    checks: [Option<IntCounter>; 2],
}

/// Handles of one upstream, to be kept.
#[derive(Clone)]
pub struct RetryCounters {
    stale: Option<IntCounter>,
    unprocessed: Option<IntCounter>,
    connect: Option<IntCounter>,
    refused: Option<IntCounter>,
}

impl Families {
    pub(super) fn define(define: &Define) -> Result<Self, MetricsError> {
        let server = ["upstream", "server"];
        let with_outcome = ["upstream", "server", "outcome"];
        Ok(Self {
            fit: define.gauges("uma_gateway_upstream_server_up", "1 while requests may go to this content server.", &server)?,
            ejections: define.counters("uma_gateway_upstream_ejections_total", "Times that a content server was left alone because it failed.", &server)?,
            requests: define.gauges("uma_gateway_upstream_requests", "Requests under way at a content server.", &server)?,
            connections: define.gauges("uma_gateway_upstream_connections", "Open connections to a content server.", &server)?,
            connects: define.counters("uma_gateway_upstream_connects_total", "Attempts to connect to a content server.", &with_outcome)?,
            waiting: define.gauges("uma_gateway_upstream_queue", "Requests that wait for a connection to a content server.", &server)?,
            full: define.counters("uma_gateway_upstream_queue_refused_total", "Requests for which there was no connection, nor room to wait.", &server)?,
            checks: define.counters("uma_gateway_upstream_health_checks_total", "Health checks of a content server.", &with_outcome)?,
            retries: define.counters(
                "uma_gateway_upstream_retries_total",
                "Requests that were sent once more, or not for want of budget.",
                &["upstream", "reason"],
            )?,
        })
    }
}

impl Metrics {
    /// The handles of one server.
    #[must_use]
    pub fn server(&self, upstream: &str, server: &str) -> ServerCounters {
        let families = &self.servers;
        let counter = |family: &IntCounterVec, outcome| family.get_metric_with_label_values(&[upstream, server, outcome]).ok();
        let both = [upstream, server];
        ServerCounters {
            fit: families.fit.get_metric_with_label_values(&both).ok(),
            ejections: families.ejections.get_metric_with_label_values(&both).ok(),
            requests: families.requests.get_metric_with_label_values(&both).ok(),
            connections: families.connections.get_metric_with_label_values(&both).ok(),
            connects: [counter(&families.connects, "ok"), counter(&families.connects, "failed")],
            waiting: families.waiting.get_metric_with_label_values(&both).ok(),
            full: families.full.get_metric_with_label_values(&both).ok(),
            checks: [counter(&families.checks, "ok"), counter(&families.checks, "failed")],
        }
    }

    /// A server is configured no more: it is shown no more. Handles that are left count for nobody.
    pub fn server_gone(&self, upstream: &str, server: &str) {
        let families = &self.servers;
        // What never happened has no series.
        for family in [&families.fit, &families.requests, &families.connections, &families.waiting] {
            let _ = family.remove_label_values(&[upstream, server]);
        }
        for family in [&families.ejections, &families.full] {
            let _ = family.remove_label_values(&[upstream, server]);
        }
        for family in [&families.connects, &families.checks] {
            for outcome in ["ok", "failed"] {
                let _ = family.remove_label_values(&[upstream, server, outcome]);
            }
        }
    }

    /// The handles of one upstream.
    #[must_use]
    pub fn retries(&self, upstream: &str) -> RetryCounters {
        let counter = |reason| self.servers.retries.get_metric_with_label_values(&[upstream, reason]).ok();
        RetryCounters { stale: counter("stale_connection"), unprocessed: counter("unprocessed"), connect: counter("connect"), refused: counter("budget_spent") }
    }
}

impl ServerCounters {
    /// Whether requests may go there.
    pub fn fit(&self, fit: bool) {
        if let Some(gauge) = &self.fit {
            gauge.set(i64::from(fit));
        }
    }

    /// It failed and is left alone.
    pub fn ejected(&self) {
        increment(self.ejections.as_ref());
    }

    /// An attempt to connect.
    pub fn connected(&self, successful: bool) {
        let [ok, failed] = &self.connects;
        increment(if successful { ok } else { failed }.as_ref());
    }

    /// A request is under way there, until the value is dropped.
    #[must_use]
    pub fn request(&self) -> Counting {
        Counting::one(self.requests.as_ref())
    }

    /// A connection begins; it ends when the value is dropped.
    #[must_use]
    pub fn connection(&self) -> Counting {
        Counting::one(self.connections.as_ref())
    }

    /// A request waits for a connection, until the value is dropped.
    #[must_use]
    pub fn waits(&self) -> Counting {
        Counting::one(self.waiting.as_ref())
    }

    /// A request found no connection, and no room to wait.
    pub fn full(&self) {
        increment(self.full.as_ref());
    }

    /// A health check.
    pub fn checked(&self, successful: bool) {
        let [ok, failed] = &self.checks;
        increment(if successful { ok } else { failed }.as_ref());
    }
}

impl RetryCounters {
    /// An unused connection turned out to be dead.
    pub fn stale(&self) {
        increment(self.stale.as_ref());
    }

    /// A server of HTTP/2 said that it has not processed a request.
    pub fn unprocessed(&self) {
        increment(self.unprocessed.as_ref());
    }

    /// A server took no connection.
    pub fn connect(&self) {
        increment(self.connect.as_ref());
    }

    /// There was no budget for another attempt.
    pub fn refused(&self) {
        increment(self.refused.as_ref());
    }
}

/// One of what a gauge counts, while it lives.
pub struct Counting(Option<IntGauge>);

impl Counting {
    fn one(gauge: Option<&IntGauge>) -> Self {
        if let Some(gauge) = gauge {
            gauge.inc();
        }
        Self(gauge.cloned())
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

fn increment(counter: Option<&IntCounter>) {
    if let Some(counter) = counter {
        counter.inc();
    }
}
