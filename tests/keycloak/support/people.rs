//! Users with their applications, and the tokens that they get: by password, by trading a ticket, by refreshing.

use http::StatusCode;
use serde_json::Value;
use uma_gateway::uma::UmaChallenge;

use super::{Realm, payload};

/// A client application of the realms.
#[derive(Clone, Copy)]
pub struct Application {
    pub id: &'static str,
    pub secret: &'static str,
}

/// Bob's application.
pub const CLIENT_APP: Application = Application { id: "client-app", secret: "client-secret" };
/// The same with tokens of four seconds.
pub const SHORT_APP: Application = Application { id: "short-app", secret: "short-secret" };

/// A user who has signed in with an application.
pub struct Person<'a> {
    realm: &'a Realm,
    application: Application,
    access: String,
    refresh: String,
}

/// A requesting party token with what belongs to it.
#[derive(Clone)]
pub struct Rpt {
    pub token: String,
    refresh: String,
}

impl Rpt {
    /// `exp`, in seconds since 1970.
    pub fn exp(&self) -> i64 {
        payload(&self.token)["exp"].as_i64().expect("a time")
    }
}

impl Realm {
    /// A user signs in. Passwords are the names here.
    pub async fn sign_in(&self, user: &str, application: Application) -> Person<'_> {
        self.sign_in_for("openid", user, application).await
    }

    /// The same for these scopes.
    pub async fn sign_in_for(&self, scope: &str, user: &str, application: Application) -> Person<'_> {
        let fields = [("grant_type", "password"), ("username", user), ("password", user), ("scope", scope)];
        let (status, answer) = self.token(application.id, application.secret, &fields).await;
        assert_eq!(status, StatusCode::OK, "{user} cannot sign in: {answer}");
        Person { realm: self, application, access: text(&answer, "access_token"), refresh: text(&answer, "refresh_token") }
    }
}

impl Person<'_> {
    /// The plain access token.
    pub fn access(&self) -> &str {
        &self.access
    }

    /// Trades a ticket.
    ///
    /// # Errors
    /// Status, `error` and `error_description` of Keycloak's refusal.
    pub async fn trade(&self, challenge: &UmaChallenge) -> Result<Rpt, (u16, String, String)> {
        assert_eq!(challenge.as_uri, self.realm.issuer());
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:uma-ticket"),
            ("ticket", challenge.ticket.0.expose()),
            ("claim_token", &self.access),
            ("claim_token_format", "http://openid.net/specs/openid-connect-core-1_0.html#IDToken"),
        ];
        let (status, answer) = self.realm.token(self.application.id, self.application.secret, &fields).await;
        if status == StatusCode::OK {
            return Ok(rpt(&answer));
        }
        let word = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Err((status.as_u16(), word("error"), word("error_description")))
    }

    /// A new RPT for an old one's refresh token.
    pub async fn refresh(&self, old: &Rpt) -> Rpt {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", old.refresh.as_str())];
        let (status, answer) = self.realm.token(self.application.id, self.application.secret, &fields).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        rpt(&answer)
    }

    /// Signs out: ends the session that every token here belongs to.
    pub async fn sign_out(&self) {
        let fields = [("refresh_token", self.refresh.as_str())];
        let (status, answer) = self.realm.form("logout", self.application.id, self.application.secret, &fields).await;
        assert!(status.is_success(), "{status} {answer}");
    }

    /// Takes one token back (RFC 7009).
    pub async fn revoke(&self, token: &str) {
        let fields = [("token", token), ("token_type_hint", "access_token")];
        let (status, answer) = self.realm.form("revoke", self.application.id, self.application.secret, &fields).await;
        assert!(status.is_success(), "{status} {answer}");
    }
}

fn rpt(answer: &Value) -> Rpt {
    Rpt { token: text(answer, "access_token"), refresh: text(answer, "refresh_token") }
}

pub fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("no `{member}`")).to_owned()
}
