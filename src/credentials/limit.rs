//! The bound of a request body, kept while it streams.

use crate::body::{Body, BodyError, Watch};
use crate::response::Rejection;

use http_body::Body as _;

/// The same body, which ends with an error once it is larger than `limit` bytes.
///
/// # Errors
/// At once when the body announces more.
pub(super) fn limited(body: Body, limit: Option<u64>) -> Result<Body, Rejection> {
    match limit {
        Some(limit) if body.size_hint().lower() > limit => Err(Rejection::BodyTooLarge),
        // What is announced is not exceeded: the framing sees to it.
        Some(limit) if body.size_hint().upper().is_none_or(|upper| upper > limit) => Ok(body.watched(Box::new(Limit { left: limit }))),
        _ => Ok(body),
    }
}

struct Limit {
    left: u64,
}

impl Watch for Limit {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(BodyError::TooLarge)?;
        Ok(())
    }

    fn end(&mut self, _complete: bool) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_announced_length_over_the_limit_is_refused_at_once() {
        let body = || Body::full(Bytes::from_static(b"12345"));
        assert!(matches!(limited(body(), Some(4)), Err(Rejection::BodyTooLarge)));
        assert!(limited(body(), Some(5)).is_ok());
        assert!(limited(body(), None).is_ok());
        assert!(limited(Body::empty(), Some(0)).is_ok());
    }

    #[test]
    fn a_streamed_body_ends_where_it_passes_the_limit() {
        let mut limit = Limit { left: 5 };
        assert!(limit.data(3).is_ok());
        assert!(limit.data(2).is_ok());
        assert!(matches!(limit.data(1), Err(BodyError::TooLarge)));
    }
}
