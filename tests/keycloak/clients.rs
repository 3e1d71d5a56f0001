//! The gateway's client shows Keycloak who it is in other ways than by a secret in the header.

use std::sync::Arc;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use uma_gateway::authorization_server::{AssertionKey, ClientCredentials, Proof};
use uma_gateway::credentials::oauth2::{self, Grant};
use uma_gateway::http_client::form;
use uma_gateway::jose::SigningKey;
use uma_gateway::secret::Secret;
use uma_gateway::uma::Timestamp;

use super::support::{BEACH, CLIENT_APP, ClientKey, Plan, Realm, http, send};

/// Registration, tickets, introspection and live decisions: all that a request may need.
async fn opens(realm: &Realm, plan: Plan) {
    let world = plan.start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_takes_the_secret_in_the_form() {
    let realm = Realm::photoz().with_new_resource_server().await;
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    opens(&realm, Plan::behind(&realm).vacation(&album.by_name()).client("secret: { env: SECRET_0 }, in_body: true", None)).await;
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_believes_a_client_that_signs_and_each_assertion_once() {
    for key in [ClientKey::p256(), ClientKey::ed25519()] {
        let realm = Realm::photoz().with_new_resource_server().await;
        let album = realm.album().await;
        realm.share(&album, "bob", &["view"]).await;
        realm.believe_key(&key).await;
        let plan = Plan::behind(&realm).vacation(&album.by_name());
        opens(&realm, plan.client("private_key: { env: CLIENT_KEY }, key_id: of-the-test", Some(key.pem()))).await;

        // By the token endpoint, which is all that a proxy credential knows of, Keycloak is meant as well.
        let token = format!("{}/protocol/openid-connect/token", realm.issuer());
        let client = |audience: &str| {
            let signing = SigningKey::from_pem(&Secret::from(key.pem()), Some("of-the-test")).expect("a key");
            let proof = Proof::PrivateKey(Arc::new(AssertionKey { key: signing, audience: audience.into(), origin: None }));
            ClientCredentials { id: realm.client().0.into(), proof }
        };
        let grant = Grant { upstream: "albums".into(), token_endpoint: token.parse().expect("an address"), client: client(&token), scopes: Vec::new() };
        assert!(oauth2::ask(&grant, &http()).await.is_ok());
        let elsewhere = Grant { client: client("https://elsewhere.example.org"), ..grant };
        let refused = oauth2::ask(&elsewhere, &http()).await.expect_err("for another server").to_string();
        assert!(refused.contains("look at `upstreams.albums.credentials.oauth2.client.private_key`"), "{refused}");

        let told = client(&realm.issuer()).tell(&form(&[("grant_type", "client_credentials")]), Timestamp::now()).expect("told");
        assert!(told.authorization.is_none());
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let request = http::Request::post(&token).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            statuses.push(send(&http(), request.body(told.body.clone()).expect("a request")).await.status());
        }
        assert_eq!(statuses[0], StatusCode::OK);
        assert!(statuses[1].is_client_error(), "the same assertion again: {}", statuses[1]);
    }
}
