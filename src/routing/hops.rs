//! `Max-Forwards`: how many servers an OPTIONS may still pass (RFC 9110, 7.6.2).
//!
//! TRACE, the other method that it binds, goes nowhere. For all others it is a field like any, and goes on as it came.

use http::header::MAX_FORWARDS;
use http::{HeaderValue, Method, request};

use crate::body::is_length;
use crate::response::Rejection;

/// Counts down what is left; whether nothing was, so that the answer is the gateway's.
///
/// # Errors
/// Row D1, where it is no number or stands twice.
pub(super) fn is_last(head: &mut request::Parts) -> Result<bool, Rejection> {
    let mut values = head.headers.get_all(MAX_FORWARDS).iter();
    let Some(value) = values.next().filter(|_| head.method == Method::OPTIONS) else { return Ok(false) };
    let number = value.to_str().ok().filter(|_| is_length(value) && values.next().is_none()).and_then(|text| text.parse::<u64>().ok());
    let left = number.ok_or(Rejection::Malformed("Max-Forwards is not a number"))?.checked_sub(1);
    if let Some(left) = left {
        head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
    }
    Ok(left.is_none())
}
