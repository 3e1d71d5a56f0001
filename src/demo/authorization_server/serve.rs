//! HTTP on a connection, and the faults that strike there.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::DATE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answer::Answer;
use super::asked::Asked;
use super::faults::{Fault, What, truncated};
use super::state::State;

/// Largest request body in bytes.
const BODY_LIMIT: usize = 1 << 20;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The state, and a signal for those who wait for calls.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Changes with every call.
    pub called: watch::Sender<u64>,
}

impl Shared {
    pub fn new(state: Mutex<State>) -> Self {
        Self { state, called: watch::Sender::new(0) }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one request leaves a state that is good enough for trying.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers, and those who measure us wait for each.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    // A broken connection is the other side's business, or one of our faults.
    let _ = http1::Builder::new().timer(TokioTimer::new()).auto_date_header(false).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Ok(respond(Answer::empty(StatusCode::PAYLOAD_TOO_LARGE), 0, None));
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let (answer, fault, now) = {
        let mut state = shared.lock();
        let asked = Asked::new(&state.kind, head.method, target, head.headers, body.to_bytes().to_vec());
        state.note(&asked);
        let fault = state.faults.take(asked.endpoint());
        let answer = match &fault {
            Some(Fault { kind: What::Instead(answer), .. }) => answer.clone(),
            Some(Fault { kind: What::Hang | What::Close, .. }) => Answer::empty(StatusCode::NO_CONTENT),
            _ => state.answer(&asked),
        };
        (answer, fault, state.now())
    };
    shared.called.send_modify(|calls| *calls += 1);
    match fault {
        Some(fault) => strike(fault, answer, now).await,
        None => Ok(respond(answer, now, None)),
    }
}

async fn strike(fault: Fault, mut answer: Answer, now: i64) -> Result<Response<Body>, io::Error> {
    if let Some(gate) = &fault.gate {
        gate.passed().await;
    }
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay).await;
    }
    match fault.kind {
        What::Hang => std::future::pending().await,
        What::Close => return Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
        What::Truncate => {
            truncated(&mut answer);
            let part = Bytes::from(std::mem::take(&mut answer.body));
            let frames = [Ok(Frame::data(part)), Err(io::Error::from(io::ErrorKind::ConnectionAborted))];
            return Ok(respond(answer, now, Some(StreamBody::new(stream::iter(frames)).boxed_unsync())));
        }
        What::Edited(edit) => edit(&mut answer),
        What::Usual | What::Instead(_) => {}
    }
    let dripping = fault.drip.map(|between| dripping(std::mem::take(&mut answer.body), between));
    Ok(respond(answer, now, dripping))
}

/// One byte at a time.
fn dripping(body: Vec<u8>, between: Duration) -> Body {
    let bytes = stream::unfold(body.into_iter(), move |mut rest| async move {
        let byte = rest.next()?;
        tokio::time::sleep(between).await;
        Some((Ok(Frame::data(Bytes::copy_from_slice(&[byte]))), rest))
    });
    StreamBody::new(bytes).boxed_unsync()
}

fn respond(answer: Answer, now: i64, body: Option<Body>) -> Response<Body> {
    let never = |infallible: Infallible| match infallible {};
    let body = body.unwrap_or_else(|| {
        if answer.body.is_empty() { Empty::new().map_err(never).boxed_unsync() } else { Full::from(answer.body).map_err(never).boxed_unsync() }
    });
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        response.headers_mut().append(name, value);
    }
    if let Ok(date) = HeaderValue::from_str(&http_date(now)) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// A time as HTTP writes it (RFC 9110, 5.6.7), by this server's own clock, which can be set wrong.
fn http_date(now: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (day, second) = (now.div_euclid(86_400), now.rem_euclid(86_400));
    // Days since 0000-03-01, so that a leap day is the last of its year.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * of_year + 2) / 153;
    let date = of_year - (153 * march_based + 2) / 5 + 1;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let name = |names: &[&'static str], at: i64| usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default();
    format!(
        "{}, {date:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, day.rem_euclid(7)),
        name(&MONTHS, month - 1),
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_writes_it() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }
}
