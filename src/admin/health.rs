//! `/livez /readyz /startupz /metrics`: for probes and for Prometheus. Names servers of the configuration in `?verbose`; never a client, path or secret.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::Status;
use super::serve::{Answer, Door, only, plain, serve, text};
use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};

/// A probe or scrape has this long.
const DEADLINE: Duration = Duration::from_secs(10);

/// Serves probes and metrics until dropped; has to run in a `LocalSet`.
///
/// # Errors
/// When the socket cannot be watched.
pub async fn serve_health(listener: std::net::TcpListener, status: Arc<Status>, metrics: Arc<Metrics>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    match serve(listener, Rc::new(Probes { status, metrics }), DEADLINE).await {}
}

struct Probes {
    status: Arc<Status>,
    metrics: Arc<Metrics>,
}

impl Door for Probes {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return only("GET, HEAD");
        }
        let verbose = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
        match request.uri().path() {
            "/livez" => probe(true),
            "/startupz" => probe(self.status.is_started()),
            "/readyz" if verbose => text(code(self.status.is_ready()), "text/plain; charset=utf-8", self.status.verbose()),
            "/readyz" if self.status.is_draining() => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/readyz" => probe(self.status.is_ready()),
            "/metrics" => match self.metrics.encode() {
                Ok(body) => text(StatusCode::OK, METRICS_CONTENT_TYPE, body),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be written");
                    plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n")
                }
            },
            _ => plain(StatusCode::NOT_FOUND, "/livez /readyz /startupz /metrics\n"),
        }
    }
}

const fn code(holds: bool) -> StatusCode {
    if holds { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn probe(holds: bool) -> Answer {
    plain(code(holds), if holds { "ok\n" } else { "not yet\n" })
}
