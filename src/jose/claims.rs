//! The claims of an assertion, read strictly: a member that stands twice, or is of another kind, makes it malformed.

use serde::Deserialize;

use super::Invalid;
use crate::uma::Timestamp;

/// What a signed assertion says (RFC 7519, 4.1; RFC 9449, 4.2 for `htm` and `htu`). Nothing of it is checked yet but the signature around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `aud`, one or several.
    pub audience: Vec<String>,
    /// `iat`.
    pub issued: Timestamp,
    /// `exp`.
    pub expires: Timestamp,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
    /// `sub`.
    pub subject: Option<String>,
    /// `htm`: the method of the request that it was made for.
    pub method: Option<String>,
    /// `htu`: path and query of that request, as they are sent.
    pub target: Option<String>,
}

#[derive(Deserialize)]
struct Members {
    iss: String,
    aud: OneOrMany,
    iat: i64,
    exp: i64,
    nbf: Option<i64>,
    sub: Option<String>,
    htm: Option<String>,
    htu: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// Reads a payload whose signature was verified.
    ///
    /// # Errors
    /// [`Invalid::Claims`]: it is not JSON, or `iss`, `aud`, `iat` or `exp` is missing.
    pub fn read(payload: &[u8]) -> Result<Self, Invalid> {
        let members: Members = serde_json::from_slice(payload).map_err(|_| Invalid::Claims)?;
        let audience = match members.aud {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        Ok(Self {
            issuer: members.iss,
            audience,
            issued: Timestamp(members.iat),
            expires: Timestamp(members.exp),
            not_before: members.nbf.map(Timestamp),
            subject: members.sub,
            method: members.htm,
            target: members.htu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_strictly() {
        let read = |text: &str| Claims::read(text.as_bytes());
        let whole = read(r#"{"iss":"a","aud":["b","c"],"iat":1,"exp":2,"nbf":1,"sub":"bob","htm":"GET","htu":"/x?y","jti":"j"}"#).expect("well formed");
        assert_eq!((whole.audience.len(), whole.subject.as_deref(), whole.target.as_deref()), (2, Some("bob"), Some("/x?y")));
        assert_eq!(read(r#"{"iss":"a","aud":"b","iat":1,"exp":2}"#).expect("well formed").audience, ["b"]);
        for wrong in [
            "",
            "[]",
            r#"{"iss":"a","aud":"b","iat":1}"#,
            r#"{"iss":"a","aud":"b","exp":1}"#,
            r#"{"iss":"a","iat":1,"exp":2}"#,
            r#"{"aud":"b","iat":1,"exp":2}"#,
            r#"{"iss":"a","aud":"b","iat":1,"exp":"2"}"#,
            r#"{"iss":"a","aud":"b","iat":1,"exp":2.5}"#,
            r#"{"iss":"a","aud":"b","iat":1,"exp":2,"exp":9}"#,
            r#"{"iss":"a","aud":{"b":1},"iat":1,"exp":2}"#,
            r#"{"iss":"a","aud":"b","iat":1,"exp":2,"htm":1}"#,
            r#"{"iss":"a","aud":"b","iat":1,"exp":2} x"#,
        ] {
            assert_eq!(read(wrong), Err(Invalid::Claims), "{wrong}");
        }
    }
}
