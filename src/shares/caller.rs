//! Who asks: an owner, by a token of the authorization server, or the operator, by a key.
//!
//! A token is introspected each time, so that one that was revoked is refused at once; only that it is wrong is believed for a while, and one address has so
//! many asked about. It is judged by the function that judges requests; a token that is bound
//! to a key or certificate is refused, since that is not checked here.

use std::sync::Arc;

use http::HeaderMap;

use super::answers::{insufficient, limited, unauthorized, unreachable};
use super::config::{Config, OwnerClaim};
use super::registrar::Registrar;
use crate::admin::serve::{self, Answer};
use crate::authorization_server::{self, Introspected};
use crate::enforcement::{Decision, Failed, Need, decide};
use crate::routing::{Client, ScopesMatch};
use crate::secret::Secret;
use crate::uma::{Introspection, Permission, ResourceId, Rpt, Timestamp};

/// Octets of a token.
const LONGEST: usize = 8 << 10;

/// Whoever may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An owner.
    Owner(Arc<str>),
    /// The operator, for any owner.
    Operator,
}

impl Caller {
    /// Which of them, in a word.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Owner(_) => "owner",
            Self::Operator => "operator",
        }
    }
}

/// Who shows this; the answer to whoever may not ask.
pub async fn caller(config: &Config, registrar: &Registrar, headers: &HeaderMap, client: &Client) -> Result<Caller, Answer> {
    let token = bearer(headers).map_err(|refused| *refused)?;
    if config.admin_key.as_ref().is_some_and(|key| key.matches(token.0.expose())) {
        return Ok(Caller::Operator);
    }
    let Some(server) = registrar.server(&config.server.issuer) else { return Err(unreachable()) };
    match registrar.desk().introspect_bearer(&server, &token, client).await {
        Ok(Introspected::Answer(authorization_server::Answer::Active(introspection))) => owner(config, *introspection).map_err(|refused| *refused),
        Ok(Introspected::Answer(authorization_server::Answer::Inactive) | Introspected::TokenRefused) => {
            Err(unauthorized(Some("the authorization server says that the token is not active")))
        }
        Err(Failed::Limited(after)) => Err(limited(after)),
        Err(Failed::Server(error)) => {
            tracing::warn!(authorization_server = &*config.server.name, %error, "an owner's token could not be introspected");
            Err(unreachable())
        }
    }
}

/// The token of the header, and nowhere else.
fn bearer(headers: &HeaderMap) -> Result<Rpt, Box<Answer>> {
    let token = serve::bearer(headers).map(str::trim).filter(|token| !token.is_empty() && token.len() <= LONGEST);
    token.map(|token| Rpt(Secret::from(token))).ok_or_else(|| unauthorized(None).into())
}

/// The owner that a good token with the scope is of.
fn owner(config: &Config, mut introspection: Introspection) -> Result<Caller, Box<Answer>> {
    let scopes = introspection.claims.iter().find(|(name, _)| &**name == "scope").map_or("", |(_, scopes)| scopes);
    // What it may do elsewhere says nothing here.
    introspection.permissions = vec![Permission::of_token(scopes)];
    let need = Need { server: &config.server, resource: &ResourceId::of_token(), scopes: std::slice::from_ref(&config.scope), scopes_match: ScopesMatch::All };
    match decide(&need, &introspection, Timestamp::now()) {
        Decision::Permit { leniently: false, .. } => {}
        Decision::Insufficient | Decision::Permit { .. } => return Err(insufficient(&config.scope).into()),
        Decision::Expired => return Err(unauthorized(Some("the token has ended")).into()),
        Decision::NotYetValid => return Err(unauthorized(Some("the token is not valid yet")).into()),
        Decision::WrongIssuer => return Err(unauthorized(Some("the token is of another issuer")).into()),
        Decision::WrongAudience => return Err(unauthorized(Some("the token is for others: among its audiences (`aud`) must be the gateway's client")).into()),
        Decision::Bound => return Err(unauthorized(Some("the token is bound to a key or certificate, which is not accepted here")).into()),
    }
    let name = match config.owner {
        OwnerClaim::Subject => introspection.subject,
        OwnerClaim::Username => introspection.username,
    };
    // A token of nobody, such as a client's own, is no owner's.
    name.filter(|name| !name.is_empty()).map(Caller::Owner).ok_or_else(|| unauthorized(Some("the token is nobody's, or does not say whose")).into())
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;
    use crate::uma::Scope;

    fn config() -> Config {
        let server = authorization_server::Config {
            audience: authorization_server::Audience::Named("content-gateway".into()),
            ..crate::authorization_server::testing::config()
        };
        Config {
            at: super::super::Where::Socket("shares.sock".into()),
            server: Arc::new(server),
            scope: Scope("share".into()),
            owner: OwnerClaim::Subject,
            admin_key: None,
            public_url: "https://photos.example.org".into(),
            host: "photos.example.org".into(),
            prefix: "/s".into(),
            per_owner: 10,
        }
    }

    fn token(scope: &str) -> Introspection {
        Introspection { subject: Some("alice".into()), claims: vec![("scope".into(), scope.into())], ..Introspection::default() }
    }

    fn status(outcome: Result<Caller, Box<Answer>>) -> u16 {
        outcome.map_or_else(|answer| answer.status().as_u16(), |caller| panic!("{caller:?}"))
    }

    #[test]
    fn an_owner_is_whoever_a_good_token_with_the_scope_is_of() {
        let config = config();
        assert_eq!(owner(&config, token("openid share")).ok(), Some(Caller::Owner("alice".into())));
        let by_name = Config { owner: OwnerClaim::Username, ..config };
        let named = Introspection { username: Some("Alice".into()), ..token("share") };
        assert_eq!(owner(&by_name, named).ok(), Some(Caller::Owner("Alice".into())));
        assert_eq!(status(owner(&by_name, token("share"))), 401, "nobody");
    }

    #[test]
    fn a_token_that_would_not_do_for_a_request_does_not_do_here() {
        let config = config();
        let past = Some(Timestamp(1));
        for (introspection, expected) in [
            (token("openid sharex"), 403),
            (token(""), 403),
            (Introspection { exp: past, ..token("share") }, 401),
            (Introspection { nbf: Some(Timestamp(i64::MAX)), ..token("share") }, 401),
            (Introspection { issuer: Some("https://evil.example.org".into()), ..token("share") }, 401),
            (Introspection { audience: vec!["somebody".into()], ..token("share") }, 401),
            (Introspection { bound: true, ..token("share") }, 401),
            (Introspection { subject: None, ..token("share") }, 401),
            (Introspection { subject: Some("".into()), ..token("share") }, 401),
        ] {
            assert_eq!(status(owner(&config, introspection.clone())), expected, "{introspection:?}");
        }
    }

    #[test]
    fn a_permission_of_an_rpt_is_no_scope() {
        let scopes = vec![Scope("share".into())];
        let permissions = vec![Permission { resource: Some(ResourceId::of_token()), scopes: Some(scopes), exp: None, nbf: None }];
        assert_eq!(status(owner(&config(), Introspection { permissions, ..token("") })), 403);
    }

    #[test]
    fn only_one_token_in_the_header_is_taken() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["bearer abc"])).unwrap().0.expose(), "abc");
        for wrong in [&[][..], &["Bearer a", "Bearer a"], &["Bearer "], &["Bearer"], &["Basic YTpi"]] {
            assert!(bearer(&headers(wrong)).is_err(), "{wrong:?}");
        }
    }
}
