//! What an upstream says of other origins (Fetch, 3.3), where the gateway says it instead.

use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap, HeaderName, HeaderValue};

/// Names that an upstream may expose, at most.
const MAX_NAMES: usize = 128;

/// Takes every `Access-Control-…` out, and gives the names that the upstream exposes. `*` is one of them.
pub(super) fn take(headers: &mut HeaderMap) -> Vec<HeaderName> {
    let names = headers.get_all(ACCESS_CONTROL_EXPOSE_HEADERS).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let exposed = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).take(MAX_NAMES).collect();
    let theirs: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    for name in theirs {
        headers.remove(name);
    }
    exposed
}

/// The gateway's own list with what the upstream exposes besides.
pub(super) fn expose(ours: HeaderValue, exposed: &[HeaderName]) -> HeaderValue {
    let Ok(list) = ours.to_str() else { return ours };
    let mut joined = list.to_owned();
    for (place, name) in exposed.iter().enumerate() {
        let is_there = exposed.iter().take(place).any(|other| other == name) || list.split(',').any(|own| own.trim().eq_ignore_ascii_case(name.as_str()));
        if !is_there {
            joined.push_str(", ");
            joined.push_str(name.as_str());
        }
    }
    HeaderValue::from_str(&joined).unwrap_or(ours)
}
