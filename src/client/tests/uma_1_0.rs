//! Servers of UMA 1.0: an AAT, a ticket in JSON, claims that are asked for. The answers are those that Keycloak 2.5.5 and OpenAM 14.8.4 gave.

use super::*;

const HYBRID: &str = "http://openid.net/specs/openid-connect-core-1_0.html#HybridIDToken";

/// OpenAM's words for "who are you?".
fn who(issuer: &str) -> serde_json::Value {
    json!({ "error": "need_info", "requesting_party_claims": [{ "name": "id_token", "claim_token_format": [HYBRID], "issuer": [issuer] }] })
}

#[tokio::test]
async fn a_ticket_is_traded_for_the_rpt_with_the_users_token_and_nothing_else() {
    let script = Script::start().await.of_uma_1_0().then(201, json!({ "rpt": RPT }));
    let (status, body, steps) = fetch(&script, bob()).await.unwrap();

    assert_eq!((status.as_u16(), body.as_str()), (200, CONTENT));
    assert_eq!(steps, [StepKind::Ask, StepKind::Discover, StepKind::SignIn, StepKind::Trade, StepKind::Ask]);
    assert_eq!(script.calls("/token")[0].field("scope"), "openid uma_authorization");
    let trade = &script.calls("/rpt")[0];
    assert_eq!((&trade.json, trade.authorization.as_str()), (&json!({ "ticket": "ticket-number-1" }), "Bearer access-of-bob-0123"));
}

#[tokio::test]
async fn the_id_token_goes_along_when_it_is_asked_for_with_the_same_ticket() {
    let script = Script::start().await.of_uma_1_0();
    let issuer = script.at("");
    let script = script.then(403, who(&issuer)).then(200, json!({ "rpt": RPT }));
    assert_eq!(fetch(&script, bob()).await.unwrap().1, CONTENT);

    let trades = script.calls("/rpt");
    assert_eq!(trades[0].json, json!({ "ticket": "ticket-number-1" }));
    assert_eq!(trades[1].json, json!({ "ticket": "ticket-number-1", "claim_tokens": [{ "format": HYBRID, "token": "identity-of-bob-0123" }] }));
    // One sign-in is both: the token that is shown and the one that is pushed.
    assert_eq!(script.calls("/token").len(), 1);
}

#[tokio::test]
async fn claims_named_as_the_specification_has_it_come_with_a_ticket_of_their_own() {
    let script = Script::start().await.of_uma_1_0();
    let claim = json!({ "friendly_name": "identity", "claim_token_format": ["http://openid.net/specs/openid-connect-core-1_0.html#IDToken"] });
    let details = json!({ "requesting_party_claims": { "required_claims": [claim], "ticket": "need-1" } });
    let script = script.then(403, json!({ "error": "need_info", "error_details": details })).then(200, json!({ "rpt": RPT }));
    fetch(&script, bob()).await.unwrap();
    assert_eq!(script.calls("/rpt")[1].json["ticket"], "need-1");
    assert_eq!(script.calls("/rpt")[1].json["claim_tokens"][0]["token"], "identity-of-bob-0123");
}

#[tokio::test]
async fn an_id_token_is_pushed_once_and_only_to_the_server_that_gave_it() {
    let script = Script::start().await.of_uma_1_0().then(403, who("https://elsewhere.example.org"));
    assert!(matches!(fetch(&script, bob()).await, Err(FetchError::NeedInfo { wanted }) if wanted == ["id_token"]));
    assert_eq!(script.calls("/rpt").len(), 1);

    let script = Script::start().await.of_uma_1_0();
    let issuer = script.at("");
    let script = script.then(403, who(&issuer)).then(403, who(&issuer));
    assert!(matches!(fetch(&script, bob()).await, Err(FetchError::NeedInfo { .. })));
    assert_eq!(script.calls("/rpt").len(), 2);
}

#[tokio::test]
async fn refusals_of_both_old_servers_are_understood() {
    let denied = Script::start().await.of_uma_1_0().then(403, json!({ "error": "not_authorized" }));
    assert!(matches!(fetch(&denied, bob()).await, Err(FetchError::Denied)));
    let submitted = Script::start().await.of_uma_1_0().then(403, json!({ "error": "request_submitted", "error_description": "The client is not authorised" }));
    assert!(matches!(fetch(&submitted, bob()).await, Err(FetchError::Submitted { waited: None })));
    let old = json!({ "error": "invalid_signature", "error_description": "Unexpected error while validating signature." });
    for (status, answer) in [(500, old), (400, json!({ "error": "invalid_ticket" })), (400, json!({ "error": "expired_ticket" }))] {
        let script = Script::start().await.of_uma_1_0().then(status, answer).then(200, json!({ "rpt": RPT }));
        assert_eq!(fetch(&script, bob()).await.unwrap().1, CONTENT);
        assert_eq!(script.calls("/rpt")[1].json["ticket"], "ticket-number-2");
    }
    let openam = json!({ "code": 401, "reason": "Unauthorized", "message": "The access token provided is expired" });
    let stale = Script::start().await.of_uma_1_0().then(401, openam);
    let error = fetch(&stale, bob()).await.unwrap_err().to_string();
    assert_eq!(error, "the authorization server refuses (trading the ticket): 401 Unauthorized, The access token provided is expired");
}

#[tokio::test]
async fn without_a_user_there_is_no_token_to_trade_with() {
    let script = Script::start().await.of_uma_1_0();
    let error = fetch(&script, ClientOptions { requesting_party: RequestingParty::Nobody, ..bob() }).await.unwrap_err();
    assert!(matches!(error, FetchError::NeedsUser));
    assert_eq!((error.exit_code(), script.calls("/rpt").len()), (2, 0));
}

#[tokio::test]
async fn a_ticket_in_the_body_is_as_good_as_one_in_the_header() {
    // UMA 1.0.1 says where the server is in the header; a resource server of ForgeRock's says both in the body.
    for with_as_uri in [true, false] {
        for status in [401, 403] {
            let script = Script::start().await.of_uma_1_0().then(201, json!({ "rpt": RPT }));
            let as_uri = script.at("");
            let (field, body) = if with_as_uri {
                (format!(r#"UMA realm="photoz", as_uri="{as_uri}""#), r#"{"ticket":"{ticket}"}"#.to_owned())
            } else {
                (
                    r#"UMA realm="photoz""#.to_owned(),
                    format!(r#"{{"ticket":"{{ticket}}","as_uri":"{as_uri}","message":"RPT is missing or invalid","token":null}}"#),
                )
            };
            let script = script.challenge(&field).refusal(status, &body);
            assert_eq!(fetch(&script, bob()).await.unwrap().1, CONTENT, "{status} {field}");
            assert_eq!(script.calls("/rpt")[0].json["ticket"], "ticket-number-1");
        }
    }
}

#[tokio::test]
async fn a_refusal_without_a_ticket_anywhere_is_handed_on_with_its_body() {
    for body in ["", "no", r#"{"ticket":""}"#, r#"{"ticket":7}"#, r#"{"ticket":"t"}"#] {
        let script = Script::start().await.challenge(r#"UMA realm="photoz""#).refusal(401, body);
        let (status, said, steps) = fetch(&script, bob()).await.unwrap();
        assert_eq!((status.as_u16(), said.as_str(), steps.as_slice()), (401, body, [StepKind::Ask].as_slice()));
    }
    // A ticket in the body of something that is no challenge of UMA leads nowhere.
    let script = Script::start().await.challenge("Bearer").refusal(401, r#"{"ticket":"t","as_uri":"http://127.0.0.1:1"}"#);
    assert_eq!(fetch(&script, bob()).await.unwrap().0, 401);
}
