//! Form bodies and client authentication, as token endpoints read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use http::HeaderValue;
use zeroize::Zeroizing;

/// The fields as `application/x-www-form-urlencoded`, in their order. The caller sets the content type.
#[must_use]
pub fn form(fields: &[(&str, &str)]) -> Bytes {
    Serializer::new(String::new()).extend_pairs(fields).finish().into()
}

/// `Authorization: Basic …` of a client: id and secret are form-encoded before they are joined (RFC 6749, 2.3.1). Marked as sensitive.
#[must_use]
pub fn basic_auth(id: &str, secret: &str) -> HeaderValue {
    let joined: Zeroizing<String> = Zeroizing::new(byte_serialize(id.as_bytes()).chain([":"]).chain(byte_serialize(secret.as_bytes())).collect());
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(joined.as_bytes())));
    // Base64 is visible ASCII, so the header always takes it.
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_form_encoded_before_base64() {
        let value = basic_auth("photo app", "a:%+é");
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap(), b"photo+app:a%3A%25%2B%C3%A9");
        assert!(value.is_sensitive());
    }

    #[test]
    fn a_form_keeps_its_order_and_encodes_what_it_must() {
        assert_eq!(form(&[("grant_type", "client_credentials"), ("scope", "a b"), ("scope", "&")]), "grant_type=client_credentials&scope=a+b&scope=%26");
    }
}
