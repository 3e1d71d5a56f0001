//! What owners register themselves, by the shares API or by making something, as Keycloak has it: theirs, closed until they share it, gone when they withdraw it.

use std::path::Path;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use uma_gateway::demo::content_server::Reply;

use super::support::{Album, CLIENT_APP, Plan, Realm, World, until};

/// What Alice shares.
const NOTES: &str = "/users/alice/notes.txt";
/// What Alice makes.
const FOLDER: &str = "/folders/alice/42";

/// Below `/users/{user}` everybody shares what is theirs.
fn users(realm: &Realm, folder: &Path, scope: &str) -> Plan {
    let resource = "{ shared: true, owner: \"{user}\" }";
    Plan::behind(realm).shares(folder, scope).protect("\"/users/{user}/**\"", resource, "{ GET: [view], \"PUT, DELETE\": [edit] }")
}

/// Who may create in Alice's folders makes what is at `/folders/alice/{folder}`.
fn folders(realm: &Realm, folder: &Path, scope: &str, made_in: &Album) -> Plan {
    let create = "register_on_create: { location: \"/folders/{user}/{folder}\", name: \"folder {folder}\", type: \"urn:folder\" }";
    let made = "resource: { shared: true, owner: \"{user}\" }, scopes: { GET: [view], DELETE: [edit] }, unregister_on_delete: true";
    Plan::behind(realm)
        .shares(folder, scope)
        .protect_by("/folders/alice", &format!("resource: {}, scopes: {{ POST: [create] }}, {create}", made_in.by_id()))
        .protect_by("\"/folders/{user}/{folder}\"", made)
}

/// What is needed for Alice's folders, where these may create.
async fn world_where(creators: &[&str]) -> (Realm, TempDir, String, World) {
    let (realm, folder) = (Realm::photoz().with_new_resource_server().await, tempfile::tempdir().expect("a folder"));
    let scope = realm.let_share(CLIENT_APP).await;
    let made_in = realm.register_with_uris(Some("alice"), &["create"], &[]).await;
    for user in creators {
        realm.share(&made_in, user, &["create"]).await;
    }
    let world = folders(&realm, folder.path(), &scope, &made_in).start().await;
    (realm, folder, scope, world)
}

/// The resource of a share.
fn resource(share: &Value) -> Album {
    let text = |member: &str| share[member].as_str().unwrap_or_else(|| panic!("no {member}: {share}")).to_owned();
    Album { id: text("resource_id"), name: text("name") }
}

fn at(share: &Value) -> String {
    format!("/shares/{}", share["id"].as_str().expect("an id"))
}

/// What the gateway answers to a request for it, with a token or without.
async fn status(world: &World, path: &str, token: Option<&str>) -> u16 {
    world.ask(Method::GET, path, token).await.status().as_u16()
}

/// That a path is none for whoever has this token, or none, and that nothing of the content server's says so.
async fn closed(world: &World, path: &str, token: Option<&str>) {
    let answer = world.ask(Method::GET, path, token).await;
    assert_eq!((answer.status(), answer.rows.rsplit(' ').next()), (StatusCode::NOT_FOUND, Some("D10")), "{path}: {answer:?}");
}

/// Somebody gets an RPT for this request, and it passes with it.
async fn passes(world: &World, realm: &Realm, who: &str, method: Method, path: &str, reply: Reply) -> String {
    let challenge = world.ask(method.clone(), path, None).await.challenge();
    let rpt = realm.sign_in(who, CLIENT_APP).await.trade(&challenge).await.unwrap_or_else(|refused| panic!("{who} at {path}: {refused:?}")).token;
    world.content().reply_next(1, reply);
    let answer = world.ask(method, path, Some(&rpt)).await;
    assert!(answer.status().is_success(), "{who} at {path}: {answer:?}");
    rpt
}

/// Keycloak refuses somebody the ticket of a request.
async fn refused(world: &World, realm: &Realm, who: &str, path: &str) {
    let challenge = world.get_without_token(path).await.challenge();
    let refused = realm.sign_in(who, CLIENT_APP).await.trade(&challenge).await.err().unwrap_or_else(|| panic!("{path} is open to {who}"));
    assert_eq!((refused.0, &*refused.1), (403, "access_denied"), "{who} at {path}: {}", refused.2);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn what_alice_shares_by_the_api_is_hers_at_keycloak_and_closed_at_once_when_she_withdraws_it() {
    let (realm, folder) = (Realm::photoz().with_new_resource_server().await, tempfile::tempdir().expect("a folder"));
    let scope = realm.let_share(CLIENT_APP).await;
    let world = users(&realm, folder.path(), &scope).start().await;
    let alice = realm.sign_in_for(&format!("openid {scope}"), "alice", CLIENT_APP).await;
    let bob = realm.sign_in_for(&format!("openid {scope}"), "bob", CLIENT_APP).await;
    let wish = json!({ "path": NOTES, "name": "Notes", "type": "urn:notes" });

    // For the gateway as well, and by another scope.
    let another = realm.let_share(CLIENT_APP).await;
    let unscoped = realm.sign_in_for(&format!("openid {another}"), "alice", CLIENT_APP).await;
    assert_eq!(world.api(Method::POST, "/shares", unscoped.access(), &wish).await.0, StatusCode::FORBIDDEN, "without the scope");
    assert_eq!(world.api(Method::POST, "/shares", bob.access(), &wish).await.0, StatusCode::FORBIDDEN, "what is Alice's");
    let (created, share) = world.api(Method::POST, "/shares", alice.access(), &wish).await;
    assert_eq!((created, share["state"].as_str(), share["owner"].as_str()), (StatusCode::CREATED, Some("registered"), Some("alice")), "{share}");
    let (notes, link) = (resource(&share), share["link"].as_str().and_then(|link| link.strip_prefix("https://photos.example.org")).expect("a link"));
    assert_eq!(realm.named("Notes", "alice").await, [notes.id.as_str()]);
    let described = realm.described("Notes", "alice").await;
    assert_eq!(described, ("alice".into(), Some("urn:notes".into()), vec!["edit".into(), "view".into()]));
    assert_eq!(world.api(Method::POST, "/shares", alice.access(), &wish).await.0, StatusCode::CONFLICT, "once");

    refused(&world, &realm, "bob", NOTES).await;
    refused(&world, &realm, "bob", link).await;
    realm.share(&notes, "bob", &["view"]).await;
    let rpt = passes(&world, &realm, "bob", Method::GET, NOTES, Reply::ok("notes")).await;
    passes(&world, &realm, "bob", Method::GET, link, Reply::ok("notes")).await;
    assert_eq!(world.ask(Method::PUT, NOTES, Some(&rpt)).await.status(), StatusCode::UNAUTHORIZED, "to view and not to edit");
    refused(&world, &realm, "carol", NOTES).await;
    let seen: Vec<String> = world.content().requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, [NOTES, NOTES], "nothing of the link");

    for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, json!({ "name": "Bob's" })), (Method::DELETE, Value::Null)] {
        assert_eq!(world.api(method.clone(), &at(&share), bob.access(), &body).await.0, StatusCode::NOT_FOUND, "{method} by Bob");
    }

    let world = world.restart_with(&users(&realm, folder.path(), &scope)).await;
    assert_eq!(world.api(Method::GET, &at(&share), alice.access(), &Value::Null).await, (StatusCode::OK, share.clone()));
    world.content().reply_next(2, Reply::ok("notes"));
    assert_eq!((status(&world, NOTES, Some(&rpt)).await, status(&world, link, Some(&rpt)).await), (200, 200));
    assert_eq!(realm.named("Notes", "alice").await, [notes.id.as_str()]);

    let hits = world.content().hits();
    assert_eq!(world.api(Method::DELETE, &at(&share), alice.access(), &Value::Null).await.0, StatusCode::NO_CONTENT);
    closed(&world, NOTES, Some(&rpt)).await;
    closed(&world, link, Some(&rpt)).await;
    assert_eq!(realm.named("Notes", "alice").await, [""; 0]);
    let world = world.restart_with(&users(&realm, folder.path(), &scope)).await;
    closed(&world, NOTES, Some(&rpt)).await;

    // Shared again it is another resource, which nothing of before opens.
    let (_, again) = world.api(Method::POST, "/shares", alice.access(), &wish).await;
    assert_ne!(resource(&again).id, notes.id);
    assert_eq!((status(&world, NOTES, Some(&rpt)).await, world.content().hits()), (401, hits));
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn what_alice_makes_is_registered_for_her_before_the_answer_and_closed_at_once_when_she_deletes_it() {
    let (realm, _folder, scope, world) = world_where(&["alice", "bob"]).await;
    let alice = realm.sign_in_for(&format!("openid {scope}"), "alice", CLIENT_APP).await;
    let shares = async || world.api(Method::GET, "/shares", alice.access(), &Value::Null).await.1["shares"].as_array().expect("a list").clone();

    passes(&world, &realm, "bob", Method::POST, "/folders/alice", Reply::status(201).header("Location", FOLDER)).await;
    closed(&world, FOLDER, None).await;
    assert_eq!(shares().await.len(), 0, "what Bob makes is not Alice's");

    let creators = passes(&world, &realm, "alice", Method::POST, "/folders/alice", Reply::status(201).header("Location", FOLDER)).await;
    let made = shares().await;
    let [share] = &made[..] else { panic!("one: {made:?}") };
    let made = resource(share);
    assert_eq!((share["path"].as_str(), share["state"].as_str()), (Some(FOLDER), Some("registered")));
    assert_eq!(made.name, format!("folder 42 ({})", share["id"].as_str().expect("an id")));
    assert_eq!(realm.named(&made.name, "alice").await, [made.id.as_str()]);
    let described = realm.described(&made.name, "alice").await;
    assert_eq!(described, ("alice".into(), Some("urn:folder".into()), vec!["edit".into(), "view".into()]));

    refused(&world, &realm, "bob", FOLDER).await;
    assert_eq!(status(&world, FOLDER, Some(&creators)).await, 401, "what was needed to make it opens nothing");
    realm.share(&made, "bob", &["view"]).await;
    realm.share(&made, "alice", &["view", "edit"]).await;
    let bobs = passes(&world, &realm, "bob", Method::GET, FOLDER, Reply::ok("42")).await;
    assert_eq!(world.ask(Method::DELETE, FOLDER, Some(&bobs)).await.status(), StatusCode::UNAUTHORIZED, "to view and not to delete");

    passes(&world, &realm, "alice", Method::DELETE, FOLDER, Reply::status(204)).await;
    closed(&world, FOLDER, Some(&bobs)).await;
    until("Keycloak has forgotten it", async || realm.named(&made.name, "alice").await.is_empty().then_some(())).await;
    until("the record is gone", async || shares().await.is_empty().then_some(())).await;
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn what_alice_makes_while_keycloak_is_away_is_registered_once_it_is_back() {
    let (realm, _folder, _, world) = world_where(&["alice"]).await;
    let rpt = passes(&world, &realm, "alice", Method::POST, "/folders/alice", Reply::status(201)).await;

    world.keycloak.shut().await;
    world.content().reply_next(1, Reply::status(201).header("Location", FOLDER));
    assert_eq!(world.ask(Method::POST, "/folders/alice", Some(&rpt)).await.status(), StatusCode::CREATED, "it is made, whatever Keycloak says");
    closed(&world, FOLDER, Some(&rpt)).await;
    world.keycloak.open().await;
    until("it is registered", async || (status(&world, FOLDER, None).await == 401).then_some(())).await;
    refused(&world, &realm, "bob", FOLDER).await;
}
