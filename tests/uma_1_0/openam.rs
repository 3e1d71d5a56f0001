//! OpenAM 14.8.4: the open ForgeRock line, for the first source document.

mod shares;

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uma_gateway::uma::UmaChallenge;

use super::support::{
    BEACH, Body, CLIENT_APP, MAX_AGE, Section, World, basic, bearer, call, fetch_link, run, share_at, text, unique, until, wish_elsewhere, wish_for, with,
};

const GATEWAY: (&str, &str) = ("content-gateway", "gateway-secret");
/// The resource server whose access tokens, and so its PATs, live eight seconds.
const SHORT: (&str, &str) = ("short-gateway", "short-gateway-secret");
/// How long an RPT lives, as `tests/openam/start` has it.
const RPT_LIFE: u64 = 20;
const HYBRID: &str = "http://openid.net/specs/openid-connect-core-1_0.html#HybridIDToken";

/// Of two resources that one resource server registers at the same time this server may forget one where it keeps policies, so that it cannot be shared.
static REGISTERING: Mutex<()> = Mutex::const_new(());

fn authority() -> String {
    format!("127.0.0.1:{}", std::env::var("OPENAM_PORT").unwrap_or_else(|_| "8280".into()))
}

fn at(path: &str) -> String {
    format!("http://{}/openam/{path}", authority())
}

async fn token(client: (&str, &str), user: &str, scope: &str) -> Value {
    let password = format!("{user}-password");
    let fields = [("grant_type", "password"), ("username", user), ("password", &*password), ("scope", scope)];
    let (status, answer) = call(Method::POST, &at("oauth2/access_token"), basic(client), Body::Form(&fields)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// A session of this user's, as the pages of the server have it.
async fn session(user: &str) -> HeaderMap {
    let mut headers = with("x-openam-username", user);
    headers.extend(with("x-openam-password", &format!("{user}-password")));
    headers.extend(with("accept-api-version", "resource=2.0, protocol=1.0"));
    let (status, answer) = call(Method::POST, &at("json/realms/root/authenticate"), headers, Body::Json(json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    with("iplanetdirectorypro", &text(&answer, "tokenId"))
}

/// The section of a gateway that has the token of this owner.
fn section(client: (&'static str, &'static str), owner: &str) -> Section {
    let further = format!(", pat: {{ owners: {{ {owner}: {{ password: {{ env: PASSWORD_OF_{owner} }} }} }} }}");
    Section { issuer: at("oauth2"), authority: authority(), client, further }
}

/// A resource that is the test's own.
struct Album {
    owner: &'static str,
    client: (&'static str, &'static str),
    name: String,
    id: String,
}

impl Album {
    async fn of_alice() -> Self {
        Self::of("alice", GATEWAY).await
    }

    async fn of(owner: &'static str, client: (&'static str, &'static str)) -> Self {
        let mut album = Self { owner, client, name: unique("Album"), id: String::new() };
        album.register().await;
        album
    }

    async fn register(&mut self) {
        let pat = text(&token(self.client, self.owner, "uma_protection").await, "access_token");
        let description = json!({ "name": self.name, "scopes": ["view", "edit"], "type": "urn:photoz:album" });
        let _alone = REGISTERING.lock().await;
        let (status, answer) = call(Method::POST, &at("oauth2/resource_set"), bearer(&pat), Body::Json(description)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        self.id = text(&answer, "_id");
    }

    async fn world(&self) -> World {
        World::start(&section(self.client, self.owner), &self.name, self.owner).await
    }

    fn policies(&self, path: &str) -> String {
        at(&format!("json/realms/root/users/{}/uma/policies{path}", self.owner))
    }

    /// The owner lets Bob view it.
    async fn share(&self) {
        let policy = json!({ "policyId": self.id, "permissions": [{ "subject": "bob", "scopes": ["view"] }] });
        let (status, answer) = call(Method::POST, &self.policies("?_action=create"), session(self.owner).await, Body::Json(policy)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }

    async fn withdraw(&self) {
        let (status, answer) = call(Method::DELETE, &self.policies(&format!("/{}", self.id)), session(self.owner).await, Body::Nothing).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
}

async fn trade(challenge: &UmaChallenge, user: &str) -> (StatusCode, Value) {
    let tokens = token(CLIENT_APP, user, "openid uma_authorization").await;
    let claim = json!({ "format": HYBRID, "token": text(&tokens, "id_token") });
    let message = json!({ "ticket": challenge.ticket.0.expose(), "claim_tokens": [claim] });
    call(Method::POST, &at("uma/authz_request"), bearer(&text(&tokens, "access_token")), Body::Json(message)).await
}

async fn rpt(world: &World, user: &str) -> String {
    let (status, answer) = trade(&world.get(None).await.challenge(), user).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    text(&answer, "rpt")
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn the_sequence_of_the_first_source_document_step_by_step() {
    // "The Resource Owner (RO) has previously created a resource, registered the resource with an Authorization Server (AS) and shared the resource with the
    // Requesting Party (RqP) for a set of purposes (scopes)." The gateway registers it, with Alice's PAT, when the operator says so for her: this server tells
    // nobody else whose a token is, so she cannot say so herself. Shared it is by her own session at the server.
    let records = tempfile::tempdir().expect("a folder");
    let world = shares::sharing(records.path()).await;
    let wish = json!({ "path": BEACH, "owner": "alice", "name": unique("Album"), "scopes": ["view"] });
    let share = shares::shared(&world, wish).await;
    let album = shares::album(&share);
    album.share().await;

    // "The Resource Owner (RO) obtains a "shareable link" that contains access information to the resource and the allowed scopes. The RO delivers the
    // "shareable link" to the Requesting Party (RqP)." It names the record. The scopes are those of the record and not in the link, where the requesting party
    // could change them.
    let link = text(&share, "link");
    let link = link.strip_prefix(&world.address("")).expect("a link to this gateway");
    assert_eq!(link, format!("/s/{}", text(&share, "id")));

    // What is in the records now is all that the next gateway has.
    world.server.clear();
    let world = world.restarted().await;

    // "The RqP enters the "shareable link" into the CA. The CA submits a request to the Resource Server (RS) for the resource with the scopes. (Note: the CA
    // does not provide a Requesting Party Token)."
    let answer = world.ask(Method::GET, link, None).await;

    // "The Resource Server (RS) gets the "meta data" for the resource. The Protection API Token (PAT) credential record key is stored in the "meta data"." The
    // record says whose resource it is; the owner's PAT is kept by the owner's name. "The PAT, which is an access_token, is obtained": from the records, and
    // nobody is asked for another one.
    assert_eq!(world.server.calls_to("/openam/oauth2/access_token"), 0, "{:?}", world.server.calls());

    // "The RS submits a POST to the Authorization Server (AS), using the resource id, scopes, and PAT. The AS returns a "permission ticket"."
    assert_eq!(world.server.calls_to("POST /openam/uma/permission_request"), 1, "{:?}", world.server.calls());

    // "The "permission ticket" and information about the AS is returned to the Client Application (CA)."
    let challenge = answer.challenge();
    assert_eq!(challenge.as_uri, at("oauth2"));
    assert!(world.content().saw_nothing());

    // "The CA submits a request POST /openam/oauth2/access_token to the AS for an access token (the "claims token"), with a scope of "openid", using the Basic
    // Auth header to validate the CA." Here Bob's password is in the same call; with a browser "The RqP submits login credentials for authentication and a SSO
    // session is created" first. "The AS returns a "claims token" to the CA."
    let claims = text(&token(CLIENT_APP, "bob", "openid").await, "id_token");

    // "The CA submits a request POST /openam/oauth2/access_token to the Authorization Server (AS) for the RPT. The request MUST include the "permission ticket"
    // and the "claims token"." That is UMA 2.0 at a newer server; this one speaks UMA 1.0, whose place for it is `rpt_endpoint`, with a token of its own (AAT).
    let (status, answer) = call(
        Method::POST,
        &at("oauth2/access_token"),
        basic(CLIENT_APP),
        Body::Form(&[("grant_type", "urn:ietf:params:oauth:grant-type:uma-ticket"), ("ticket", challenge.ticket.0.expose())]),
    )
    .await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("unsupported_grant_type")));
    let aat = text(&token(CLIENT_APP, "bob", "uma_authorization").await, "access_token");
    let request = |claims: Value| Body::Json(json!({ "ticket": challenge.ticket.0.expose(), "claim_tokens": claims }));
    let (status, answer) = call(Method::POST, &at("uma/authz_request"), bearer(&aat), request(json!([]))).await;
    assert_eq!((status, &answer["error"]), (StatusCode::FORBIDDEN, &json!("need_info")), "without the claims token");
    let claims = json!([{ "format": HYBRID, "token": claims }]);
    let (status, answer) = call(Method::POST, &at("uma/authz_request"), bearer(&aat), request(claims)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    // "The AS returns the RPT to the CA."
    let rpt = text(&answer, "rpt");

    // "The Client Application (CA) makes a second request for the resource, to the Resource Server (RS), using the Requesting Party Token (RPT) and scopes."
    let answer = world.ask(Method::GET, link, Some(&rpt)).await;

    // "The Resource Server (RS) validates the Requesting Party Token (RPT) with the Authorization Server (AS)."
    assert_eq!(world.server.calls_to("/openam/oauth2/introspect"), 1, "{:?}", world.server.calls());

    // "The RS gets the "meta data" related to the resource to obtain the resource's information on the Content Server (CS)." The record has the path, the route
    // has the server: nothing of the link goes on. "The Resource Server (RS) submits a request to the Content Server (CS) to obtain the actual resource. The CS is
    // protected by an Identity Gateway (IGCS) and only allows authorized access. The RS request contains "proxy credentials" for authentication."
    let seen = world.content().requests();
    assert_eq!((seen.len(), &*seen[0].target), (1, BEACH));
    assert_eq!(seen[0].all("authorization"), ["Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ="]);
    assert!(!seen[0].headers.iter().any(|(_, value)| value.contains(&rpt)), "the RPT went on");

    // "The Content Server (CS) receives the request, obtains the resource data and returns it. The RS passes the resource data to the Client Application (CA)".
    answer.assert_passed();
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn fetch_goes_the_whole_way_and_begins_with_the_kept_rpt_the_next_time() {
    let album = Album::of_alice().await;
    album.share().await;
    let world = album.world().await;
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("rpts.json");

    let first = world.fetch("bob", "bob-password", Some(&kept)).await;
    first.assert_came();
    assert!(first.told.contains("need_info: id_token") && first.told.contains("bob signs in (openid uma_authorization)"), "{}", first.told);

    // It may have ended by now on a slow machine; then the way is walked again.
    let second = world.fetch("bob", "bob-password", Some(&kept)).await;
    second.assert_came();
    assert!(!second.told.contains("no token"), "{}", second.told);

    // It does not do for an edit, and is kept for what it does for.
    let before = std::fs::read_to_string(&kept).expect("a file");
    world.fetch_by("PUT", "bob", "bob-password", Some(&kept)).await.assert_refused(3);
    assert_eq!(std::fs::read_to_string(&kept).expect("a file"), before);

    let carol = world.fetch("carol", "carol-password", Some(&kept)).await;
    carol.assert_refused(3);
    assert!(carol.told.contains("no token"), "{}", carol.told);
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn an_edit_is_refused_to_whom_only_the_view_was_shared() {
    let album = Album::of_alice().await;
    album.share().await;
    let world = album.world().await;
    let rpt = rpt(&world, "bob").await;

    let challenge = world.ask(Method::PUT, BEACH, Some(&rpt)).await.challenge();
    let (status, answer) = trade(&challenge, "bob").await;
    assert_eq!((status, &answer["error"]), (StatusCode::FORBIDDEN, &json!("request_submitted")));
    assert!(world.content().saw_nothing());
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn sharing_opens_and_after_withdrawal_and_revocation_an_rpt_lives_no_longer_than_its_own_time() {
    let album = Album::of_alice().await;
    let world = album.world().await;
    world.fetch("bob", "bob-password", None).await.assert_refused(3);
    assert!(world.content().saw_nothing());

    album.share().await;
    // On a busy machine its time may be over before the first use.
    let (rpt, had) = until("an RPT in time", async || {
        let rpt = rpt(&world, "bob").await;
        let had = Instant::now();
        (world.get(Some(&rpt)).await.status() == StatusCode::OK).then_some((rpt, had))
    })
    .await;

    album.withdraw().await;
    let (status, answer) = call(Method::POST, &at("oauth2/token/revoke"), basic(CLIENT_APP), Body::Form(&[("token", &rpt)])).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    // No new one is had from now on. Of the old one this server says that it is active until it ends, and has no way to ask for more.
    world.fetch("bob", "bob-password", None).await.assert_refused(3);
    let refused = world.refused(&rpt, had, std::time::Duration::from_secs(RPT_LIFE + 1)).await;
    assert_eq!(refused.challenge().error.as_deref(), Some("invalid_token"));
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn tickets_go_on_when_the_owners_token_lives_eight_seconds() {
    let album = Album::of("alice", SHORT).await;
    let world = album.world().await;
    let began = Instant::now();
    until("twenty seconds of tickets", async || {
        world.get(None).await.challenge();
        (began.elapsed() > std::time::Duration::from_secs(20)).then_some(())
    })
    .await;
    assert!(world.server.calls_to("/openam/oauth2/access_token") >= 3, "{:?}", world.server.calls());
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn an_owners_token_that_was_taken_back_is_replaced_within_the_request() {
    // Nobody else's test uses a token of Carol's.
    let album = Album::of("carol", GATEWAY).await;
    let world = album.world().await;
    world.get(None).await.challenge();

    let applications = at("json/realms/root/users/carol/oauth2/applications/content-gateway");
    let (status, answer) = call(Method::DELETE, &applications, session("carol").await, Body::Nothing).await;
    assert!(status.is_success(), "{status} {answer}");
    world.get(None).await.challenge();
    assert!(world.server.calls_to("/openam/oauth2/access_token") >= 2, "{:?}", world.server.calls());
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn what_is_no_rpt_is_refused_and_is_no_outage() {
    let album = Album::of_alice().await;
    album.share().await;
    let world = album.world().await;
    let rpt = rpt(&world, "bob").await;
    // The server answers 400 `server_error` to an introspection of the latter two.
    let ticket = world.get(None).await.challenge().ticket.0.expose().to_owned();
    let aat = text(&token(CLIENT_APP, "bob", "uma_authorization").await, "access_token");
    for token in ["nonsense", &ticket, &aat] {
        assert_ne!(world.get(Some(token)).await.status(), StatusCode::OK);
    }
    assert!(world.content().saw_nothing());
    world.get(Some(&rpt)).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn while_the_server_is_away_everything_but_what_is_public_closes_and_opens_again_with_it() {
    let album = Album::of_alice().await;
    album.share().await;
    let world = album.world().await;
    let token = rpt(&world, "bob").await;
    world.get(Some(&token)).await.assert_passed();

    world.server.shut().await;
    let refused = until("the refusal", async || {
        let answer = world.get(Some(&token)).await;
        (answer.status() != StatusCode::OK).then_some(answer)
    })
    .await;
    refused.assert_unreachable();
    world.assert_closed_but_for_what_is_public().await;

    world.server.open().await;
    until("a ticket", async || (world.get(None).await.status() == StatusCode::UNAUTHORIZED).then_some(())).await;
    let token = rpt(&world, "bob").await;
    world.get(Some(&token)).await.assert_passed();
}

#[tokio::test]
#[ignore = "ends OpenAM for everybody, so .ci/run runs it alone: just uma1"]
async fn the_server_really_ended_and_came_back_without_its_memory() {
    let mut album = Album::of_alice().await;
    album.share().await;
    let world = album.world().await;
    let token = rpt(&world, "bob").await;
    world.get(Some(&token)).await.assert_passed();
    let records = tempfile::tempdir().expect("a folder");
    let shares = shares::sharing(records.path()).await;
    let wish = wish_for(&["view"]);
    let share = shares::shared(&shares, wish.clone()).await;
    shares::album(&share).share().await;
    fetch_link(&text(&share, "link"), "bob", "bob-password").await.assert_came();

    run("tests/openam/stop").await;
    world.refused(&token, Instant::now(), MAX_AGE).await.assert_unreachable();
    world.assert_closed_but_for_what_is_public().await;
    shares.assert_closed_but_for_what_is_public().await;

    run("tests/openam/start").await;
    // It never deletes what is the first to be shared from now on: closed all the same, and its name stays taken.
    let first = wish_elsewhere(wish_for(&["view"]));
    let stuck = until("a share", async || shares.share(first.clone()).await.ok()).await;
    shares::album(&stuck).share().await;
    assert_eq!(shares.operator(Method::DELETE, &share_at(&stuck), Value::Null).await.0, StatusCode::ACCEPTED);
    assert_eq!(shares.ask(Method::GET, &text(&first, "path"), None).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(shares.share(first).await.err(), Some(StatusCode::CONFLICT));
    // It knows neither the owner's token, nor what renewed it, nor the album; the owner registers and shares one of the same name.
    album.register().await;
    album.share().await;
    until("a ticket", async || (world.get(None).await.status() == StatusCode::UNAUTHORIZED).then_some(())).await;
    assert_eq!(world.get(Some(&token)).await.status(), StatusCode::UNAUTHORIZED);
    let token = rpt(&world, "bob").await;
    world.get(Some(&token)).await.assert_passed();

    // The record still names what is no more: closed, until the operator takes it back and shares anew.
    shares.get(None).await.assert_unreachable();
    assert_eq!(shares.operator(Method::DELETE, &share_at(&share), Value::Null).await.0, StatusCode::NO_CONTENT);
    let again = shares::shared(&shares, wish).await;
    shares::album(&again).share().await;
    fetch_link(&text(&again, "link"), "bob", "bob-password").await.assert_came();
}
