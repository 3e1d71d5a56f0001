//! The only place where a [`Rejection`] becomes a response.
//!
//! Every answer that passes gets its request's id, and the headers that any answer to this request must carry (CORS), whoever gave it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{ACCEPT, ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap, HeaderName, VARY};
use http::{Method, Response};
use tower::{Layer, Service};

use super::{Asked, Rejection, X_REQUEST_ID, grpc, origins};
use crate::body::Body;
use crate::telemetry::{Recorded, Recorder};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Makes [`Rejecting`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RejectionLayer;

impl<Inner> Layer<Inner> for RejectionLayer {
    type Service = Rejecting<Inner>;

    fn layer(&self, inner: Inner) -> Rejecting<Inner> {
        Rejecting { inner }
    }
}

/// Answers for the rooms inside, which only say what they reject.
#[derive(Clone, Copy, Debug)]
pub struct Rejecting<Inner> {
    inner: Inner,
}

impl<Request, Inner> Service<Request> for Rejecting<Inner>
where
    Request: Recorded,
    Inner: Service<Request, Response = Response<Body>, Error = Rejection>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RejectingFuture<Inner::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A service that is not ready for this request says so when it is called; nothing inside may stop the next one.
        match self.inner.poll_ready(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let head = request.head();
        let asker = Asker { head: head.method == Method::HEAD, navigates: navigates(&head.method, &head.headers), grpc: grpc::is_grpc(head) };
        let recorder = request.recorder().clone();
        RejectingFuture { inner: self.inner.call(request), recorder, asker }
    }
}

/// What is kept of the request's head while the request walks on.
#[derive(Clone, Copy)]
struct Asker {
    head: bool,
    navigates: bool,
    grpc: bool,
}

pin_project_lite::pin_project! {
    /// The answer to come.
    pub struct RejectingFuture<F> {
        #[pin]
        inner: F,
        recorder: Recorder,
        asker: Asker,
    }
}

impl<F> Future for RejectingFuture<F>
where
    F: Future<Output = Result<Response<Body>, Rejection>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match ready!(this.inner.poll(context)) {
            Ok(response) => response,
            Err(rejection) => reject(rejection, this.recorder, *this.asker),
        };
        finish_head(response.headers_mut(), this.recorder);
        Poll::Ready(Ok(response))
    }
}

/// Writes the rejection, and notes its row and reason.
fn reject(rejection: Rejection, recorder: &Recorder, asker: Asker) -> Response<Body> {
    recorder.with(|record| {
        if record.rows.iter().last() != Some(rejection.row()) {
            record.rows.push(rejection.row());
        }
        // That the permission suffices is not why.
        if record.rows.iter().any(|row| row == super::Row::E10) {
            record.reason = None;
        }
        record.reason.get_or_insert_with(|| rejection.reason().into());
        record.ticket_issued |= matches!(rejection, Rejection::PermissionRequired { .. });
    });
    let id = recorder.id();
    let asked = Asked { id: &id.0, head: asker.head, navigates: asker.navigates };
    if asker.grpc {
        return grpc::translate(&rejection, rejection.clone().into_response(asked));
    }
    rejection.into_response(asked)
}

fn finish_head(headers: &mut HeaderMap, recorder: &Recorder) {
    if let Some(id) = recorder.id_value() {
        headers.insert(X_REQUEST_ID, id);
    }
    let exposed = if recorder.speaks_of_origins() { origins::take(headers) } else { Vec::new() };
    for (name, value) in recorder.take_answer_headers() {
        if name == ACCESS_CONTROL_EXPOSE_HEADERS {
            headers.insert(name, origins::expose(value, &exposed));
        } else if name != VARY {
            headers.insert(name, value);
        } else if !headers.get_all(VARY).iter().any(|already| already == value || already == "*") {
            headers.append(name, value);
        }
    }
}

/// Whether a browser asks for a page to show. `Sec-Fetch-Mode` decides where it is sent; older browsers put `text/html` first.
fn navigates(method: &Method, headers: &HeaderMap) -> bool {
    if method != Method::GET && method != Method::HEAD {
        return false;
    }
    let Some(accept) = headers.get(ACCEPT).and_then(|value| value.to_str().ok()) else { return false };
    let mut ranges = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    match headers.get(SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate" && ranges.any(|range| range.eq_ignore_ascii_case("text/html")),
        None => ranges.next().is_some_and(|range| range.eq_ignore_ascii_case("text/html")),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::telemetry::RequestId;

    fn navigating(method: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        navigates(&method.parse().expect("a method"), &headers)
    }

    #[test]
    fn a_browser_that_navigates_is_told_from_a_program() {
        assert!(navigating("GET", &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8"), ("sec-fetch-mode", "navigate")]));
        assert!(navigating("HEAD", &[("accept", "Text/HTML;q=1")]));
        assert!(!navigating("GET", &[("accept", "text/html,*/*"), ("sec-fetch-mode", "cors")]));
        assert!(!navigating("POST", &[("accept", "text/html"), ("sec-fetch-mode", "navigate")]));
        assert!(!navigating("GET", &[("accept", "application/json, text/html")]));
        assert!(!navigating("GET", &[("accept", "*/*")]));
        assert!(!navigating("GET", &[]));
    }

    #[test]
    fn headers_for_any_answer_replace_those_of_the_upstream_but_vary_adds_up() {
        let recorder = Recorder::new(RequestId("4q7zk2".into()), Method::GET, None, "http");
        let origin = HeaderName::from_static("access-control-allow-origin");
        recorder.on_answer(origin.clone(), HeaderValue::from_static("https://app.example.org"));
        recorder.on_answer(VARY, HeaderValue::from_static("Origin"));
        let mut headers = HeaderMap::new();
        headers.insert(origin.clone(), HeaderValue::from_static("*"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("the upstream's"));
        finish_head(&mut headers, &recorder);
        assert_eq!(headers[origin], "https://app.example.org");
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["Accept", "Origin"]);
        assert_eq!(headers[X_REQUEST_ID], "4q7zk2");
    }
}
