//! The sequence of the first source document (`Sequence: RqP: Get Resource`), step by step, where the authorization server speaks like ForgeRock AM 7: a record, its
//! link, and the PAT of its owner. The comments quote the steps.

use http::StatusCode;
use serde_json::{Value, json};
use uma_gateway::demo::authorization_server::Endpoint;
use uma_gateway::demo::content_server::Reply;

use crate::support::{Answer, Connection, Setup, World};

/// Of the requesting party's application: `client-app:client-secret`.
const BASIC: &str = "Basic Y2xpZW50LWFwcDpjbGllbnQtc2VjcmV0";
const ID_TOKEN: &str = "http://openid.net/specs/openid-connect-core-1_0.html#IDToken";

/// "The CA submits a request POST /openam/oauth2/access_token": here the demo's `/am`.
async fn access_token(world: &World, form: &[(&str, &str)]) -> Answer {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let server: http::Uri = world.server.issuer().parse().expect("an address");
    let (authority, length) = (server.authority().expect("an address"), form.len());
    let mut connection = Connection::open(authority.as_str().parse().expect("an address"), None).await;
    let head = format!("POST /am/oauth2/access_token HTTP/1.1\r\nHost: {authority}\r\nAuthorization: {BASIC}\r\n");
    let fields = format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n");
    connection.send(format!("{head}{fields}{form}").as_bytes()).await;
    connection.answer(false).await
}

fn text(answer: &Answer, member: &str) -> String {
    answer.json()[member].as_str().unwrap_or_else(|| panic!("no {member}: {}", answer.text())).to_owned()
}

#[tokio::test]
async fn the_sequence_of_the_first_source_document_step_by_step() {
    let world = Setup::default().am().shares().start().await;
    world.upstream().reply(Reply::ok("content"));

    // "The Resource Owner (RO) has previously created a resource, registered the resource with an Authorization Server (AS) and shared the resource with the
    // Requesting Party (RqP) for a set of purposes (scopes)." Alice registers it at the gateway, which does so at the server with her PAT; she shares it at the server.
    let alice = world.control().access_token("alice", "openid share", 300);
    let share = world.api("POST", "/shares", &alice, &json!({ "path": "/users/alice/notes.txt", "name": "Notes" })).await.json();
    assert!(world.control().share("alice", "Notes", "bob", &["view", "edit"]));

    // "The Resource Owner (RO) obtains a "shareable link" that contains access information to the resource and the allowed scopes. The RO delivers the
    // "shareable link" to the Requesting Party (RqP)." It names the record. Which scopes a request needs is in the gateway's configuration and not in the link,
    // where the requesting party could change it.
    let link = share["link"].as_str().and_then(|link| link.strip_prefix("https://gateway.example.org")).expect("a link");

    // "The RqP enters the "shareable link" into the CA. The CA submits a request to the Resource Server (RS) for the resource with the scopes. (Note: the CA
    // does not provide a Requesting Party Token)."
    let refused = world.get(link).await;

    // "The Resource Server (RS) gets the "meta data" for the resource. The Protection API Token (PAT) credential record key is stored in the "meta data". The PAT,
    // which is an access_token, is obtained. The RS submits a POST to the Authorization Server (AS), using the resource id, scopes, and PAT."
    let asked = world.control().last_request(Endpoint::Permission).expect("a call");
    let pat = asked.headers["authorization"].to_str().expect("text").strip_prefix("Bearer ").expect("a PAT");
    assert_eq!((asked.method.as_str(), world.control().user_of(pat).as_deref()), ("POST", Some("alice")));
    let wanted: Value = serde_json::from_str(&asked.body).expect("JSON");
    assert_eq!(wanted, json!({ "resource_id": share["resource_id"], "resource_scopes": ["view", "edit"] }));

    // "The AS returns a "permission ticket". […] The "permission ticket" and information about the AS is returned to the Client Application (CA)."
    let challenge = refused.challenge();
    assert_eq!((refused.status(), &*challenge.as_uri), (401, world.server.issuer()));
    assert_eq!(world.upstream().hits(), 0);

    // "The CA submits a request […] to the AS for an access token (the "claims token"), with a scope of "openid", using the Basic Auth header to validate the CA. […]
    // The RqP submits login credentials for authentication and a SSO session is created. […] The AS returns a "claims token" to the CA." Bob's password is in the
    // same call here.
    let claims = access_token(&world, &[("grant_type", "password"), ("username", "bob"), ("password", "bob"), ("scope", "openid")]).await;
    let claims = text(&claims, "id_token");

    // "The CA submits a request POST /openam/oauth2/access_token to the Authorization Server (AS) for the RPT. The request MUST include the "permission ticket"
    // and the "claims token"."
    let ticket = challenge.ticket.0.expose();
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:uma-ticket");
    let without = access_token(&world, &[grant, ("ticket", ticket)]).await;
    assert_eq!((without.status, text(&without, "error").as_str()), (403, "need_info"));
    let ticket = text(&without, "ticket");
    let granted = access_token(&world, &[grant, ("ticket", &ticket), ("claim_token", &claims), ("claim_token_format", ID_TOKEN)]).await;
    assert_eq!(granted.status, StatusCode::OK.as_u16(), "{}", granted.text());

    // "The AS returns the RPT to the CA. […] The Client Application (CA) makes a second request for the resource, to the Resource Server (RS), using the Requesting
    // Party Token (RPT) and scopes."
    let rpt = text(&granted, "access_token");
    let answer = world.get(link).bearer(&rpt).await;

    // "The Resource Server (RS) validates the Requesting Party Token (RPT) with the Authorization Server (AS)." Once; AM wants the owner's PAT for it.
    assert_eq!(answer.calls(Endpoint::Introspection), 1);

    // "The RS gets the "meta data" related to the resource to obtain the resource's information on the Content Server (CS). The Resource Server (RS) submits a request
    // to the Content Server (CS) to obtain the actual resource. The CS is protected by an Identity Gateway (IGCS) and only allows authorized access. The RS request
    // contains "proxy credentials" for authentication."
    let seen = world.upstream().last().expect("a request");
    assert_eq!((world.upstream().hits(), seen.target.as_str()), (1, "/users/alice/notes.txt"));
    assert_eq!(seen.all("authorization"), ["Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ="]);
    assert!(!seen.headers.iter().any(|(_, value)| value.contains(&rpt)), "the RPT went on");

    // "The Content Server (CS) receives the request, obtains the resource data and returns it. The RS passes the resource data to the Client Application (CA)".
    assert_eq!((answer.status(), answer.answer.text().as_str()), (200, "content"));
}
