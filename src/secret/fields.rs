//! Header fields that are secrets.

use http::HeaderMap;
use http::header::{Entry, HeaderName};

/// Marks the values of a field: they are not printed, and HTTP/2 never puts them into its tables, where others of the same connection could guess them
/// (RFC 7541, 7.1.3).
pub fn conceal(headers: &mut HeaderMap, name: HeaderName) {
    // Asking for an entry makes room for one.
    if headers.contains_key(&name)
        && let Entry::Occupied(mut values) = headers.entry(name)
    {
        values.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}
