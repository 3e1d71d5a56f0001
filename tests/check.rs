//! `check --online`: each mistake that people make has a line of its own that says how to mend it.
//!
//! The command itself is run, against embedded servers where a real Keycloak cannot be made to show the mistake, and against Keycloak where it can.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

#[path = "check/world.rs"]
mod world;

use http::StatusCode;
use rcgen::KeyPair;
use serde_json::json;
use tempfile::TempDir;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::demo::content_server::Reply;
use uma_gateway::jose::VerifyingKeys;

use world::{STORE, Setup, VACATION, World, content, dateless_front, tls_front};

#[tokio::test]
async fn where_everything_fits_every_line_is_ok_and_nothing_is_changed() {
    for world in [World::new().await, World::keycloak().await] {
        let resources = world.control().resources();
        let checked = world.check().await;
        assert_eq!(checked.code, Some(0), "{}", checked.text);
        assert_eq!(checked.lines("ok   ").len(), checked.text.lines().count(), "{}", checked.text);
        assert_eq!(checked.text.lines().count(), 8, "{}", checked.text);
        assert_eq!(world.control().calls(Endpoint::Permission), 0);
        assert_eq!(world.control().resources(), resources);
        assert!(world.records().requests().iter().all(|request| request.method == "GET"));
    }
}

// The twelve.

#[tokio::test]
async fn wrong_secret() {
    let mut world = World::new().await;
    world.setup.secret = "mistyped-secret".into();
    world.check().await.only(
        "FAIL keycloak: it has no client \"content-gateway\", or not with this secret → correct `authorization_servers.keycloak.client.id`, or put the secret that the server has into the environment variable GATEWAY_CLIENT_SECRET",
    );
}

#[tokio::test]
async fn wrong_profile() {
    let mut world = World::new().await;
    world.setup.server = "profile: keycloak".into();
    let checked = world.check().await;
    let warned =
        "warn keycloak: by its discovery document it is `uma2`, not `keycloak` → write `uma2` for `authorization_servers.keycloak.profile`, or leave it out";
    assert!(checked.text.lines().any(|line| line == warned), "{}", checked.text);
    world.setup.server = "profile: uma2".into();
    assert!(!world.check().await.text.contains("by its discovery document"));
}

#[tokio::test]
async fn a_secret_in_the_form() {
    let mut world = World::new().await;
    world.setup.proof = "secret: { env: GATEWAY_CLIENT_SECRET }, in_body: true".into();
    assert_eq!(world.check().await.code, Some(0));
    world.setup.secret = "mistyped-secret".into();
    assert!(world.check().await.text.contains("it has no client \"content-gateway\", or not with this secret"));
}

#[tokio::test]
async fn wrong_key() {
    let key = |pem: String| VerifyingKeys::from_pem(pem.as_bytes()).unwrap();
    let (ours, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut world = World::new().await;
    world.setup.proof = "private_key: { env: GATEWAY_CLIENT_SECRET }".into();
    world.setup.secret = ours.serialize_pem();
    world.control().believe_key("content-gateway", key(ours.public_key_pem()));
    let checked = world.check().await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(checked.text.contains("ok   keycloak: client \"content-gateway\" has the right private key and gets a PAT"), "{}", checked.text);

    world.control().believe_key("content-gateway", key(other.public_key_pem()));
    world.check().await.only(&format!(
        "FAIL keycloak: it does not believe what client \"content-gateway\" signs for \"{}\" → give the client at the server the public key of the environment \
         variable GATEWAY_CLIENT_SECRET (`openssl pkey -pubout`) and the same `key_id`, or correct `authorization_servers.keycloak.client.audience`",
        world.setup.issuer
    ));
}

#[tokio::test]
async fn a_way_to_show_who_the_client_is_that_the_server_does_not_name() {
    let key = KeyPair::generate().unwrap();
    let mut world = World::keycloak().await;
    world.setup.proof = "private_key: { env: GATEWAY_CLIENT_SECRET }".into();
    world.setup.secret = key.serialize_pem();
    world.control().believe_key("content-gateway", VerifyingKeys::from_pem(key.public_key_pem().as_bytes()).unwrap());
    world.check().await.only(
        "warn keycloak: it does not name private_key_jwt among the ways in which clients show who they are (token_endpoint_auth_methods_supported) \
         → let it take that, or write another of `in_body`, `private_key` and `certificate` in `authorization_servers.keycloak.client`",
    );
}

#[tokio::test]
async fn wrong_realm() {
    let mut world = World::keycloak().await;
    world.setup.issuer = world.setup.issuer.replace("photoz", "photos");
    world.check().await.only("FAIL keycloak: it has no realm \"photos\" → correct the realm at the end of `authorization_servers.keycloak.issuer`");
}

#[tokio::test]
async fn role_missing() {
    let world = World::keycloak().await;
    world.control().allow_protection("content-gateway", false);
    world.check().await.only("FAIL keycloak: client \"content-gateway\" lacks role uma_protection → Service account roles → assign it");
}

#[tokio::test]
async fn http_for_https() {
    let (directory, mut world) = (TempDir::new().unwrap(), World::new().await);
    let (front, _) = tls_front(world.server.address(), &directory).await;
    world.setup.issuer = format!("http://{}", front.address);
    world
        .check()
        .await
        .only(&format!("FAIL keycloak: {} speaks https, and the address says http → write https:// in `authorization_servers.keycloak.issuer`", front.address));
}

#[tokio::test]
async fn https_for_http() {
    let mut world = World::new().await;
    world.setup.issuer = world.setup.issuer.replace("http:", "https:");
    world.check().await.only(&format!(
        "FAIL keycloak: {} speaks plain http, and the address says https → write http:// in `authorization_servers.keycloak.issuer`, or name the port that speaks TLS",
        world.server.address()
    ));
}

#[tokio::test]
async fn clock_off() {
    let world = World::new().await;
    world.control().set_clock(-300);
    let checked = world.check().await;
    let [line] = checked.lines("FAIL")[..] else { panic!("{}", checked.text) };
    let seconds = line.strip_prefix("FAIL keycloak: its clock is ").and_then(|line| line.split(' ').next()).and_then(|seconds| seconds.parse().ok());
    assert!(matches!(seconds, Some(298..=302)), "{line}");
    assert!(line.contains(" s behind ours → let both machines keep time by NTP"), "{line}");
    assert_eq!(checked.code, Some(1));
}

#[tokio::test]
async fn clock_off_where_no_answer_carries_a_date() {
    let mut world = World::keycloak().await;
    let front = dateless_front(world.server.address()).await;
    world.setup.issuer = format!("http://{}/realms/photoz", front.address);
    world.control().set_issuer(&world.setup.issuer);
    assert_eq!(world.check().await.code, Some(0));

    world.control().set_clock(900);
    let checked = world.check().await;
    assert!(checked.lines("FAIL").iter().any(|line| line.contains("its clock is 9") || line.contains("its clock is 89")), "{}", checked.text);
    assert!(checked.text.contains(" s ahead of ours"), "{}", checked.text);
}

#[tokio::test]
async fn name_misspelt() {
    for mut world in [World::new().await, World::keycloak().await] {
        world.setup.routes = VACATION.replace("Alice vacation", "Alice vacaton");
        world.check().await.only("FAIL keycloak: it has no resource \"Alice vacaton\" of alice → did you mean \"Alice vacation\"? correct line 15");
    }
}

#[tokio::test]
async fn a_pattern_that_the_server_does_not_find() {
    let by_path = VACATION.replace("{ name: Alice vacation, owner: alice }", "{ uris: true }");
    let mut world = World::keycloak().await;
    world.setup.routes = by_path.clone();
    world.control().register_with_uris("alice", "albums", &["view"], &["/albums/{id}", "/albums/*", "/albums/plan.txt"]);
    world.control().register_with_uris("content-gateway", "all", &["view"], &["/{id}"]);
    world.check().await.only(
        "warn keycloak: the pattern /albums/{id} of \"albums\" of alice is not found: the server matches patterns of content-gateway only → write each path, or folders as /folder/*; until then requests there get 404, or what is wanted for a folder above",
    );

    let mut world = World::new().await;
    world.setup.routes = by_path;
    world.check().await.only(
        "FAIL keycloak: it finds no resource by its `uris`, as line 15 wants it to: only Keycloak does → name the resource by `name` and `owner`, or by `id`",
    );
}

#[tokio::test]
async fn scope_missing() {
    let mut world = World::new().await;
    world.setup.routes = VACATION.replace("[edit]", "[edit, delete]");
    world.check().await.only(
        "FAIL keycloak: resource \"Alice vacation\" of alice lacks the scope delete (it has: view, edit) → add it to the resource at the server, or correct `scopes` of line 16",
    );
}

#[tokio::test]
async fn wrong_owner() {
    let mut world = World::keycloak().await;
    world.setup.routes = VACATION.replace("owner: alice", "owner: bob");
    world.check().await.only("FAIL keycloak: resource \"Alice vacation\" belongs to alice, not to bob → write `owner: alice` in line 15");
    world.setup.routes = VACATION.replace(", owner: alice", "");
    world.check().await.only("FAIL keycloak: resource \"Alice vacation\" belongs to alice, not to content-gateway → write `owner: alice` in line 15");
}

#[tokio::test]
async fn every_owners_pat_is_looked_at_and_a_wrong_password_is_told() {
    let world = World::am().await;
    let checked = world.check().await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    for line in [
        "(profile forgerock)",
        "gets a PAT of alice (for ",
        "1 resource of alice",
        "introspection calls our own PAT of alice active",
        "resource \"Alice vacation\" of alice is there",
    ] {
        assert!(checked.text.contains(line), "{line} in {}", checked.text);
    }
    world.control().add_user("alice", "another");
    let checked = world.check().await;
    assert!(checked.text.contains("it refuses the password of the owner \"alice\"") && checked.text.contains("pat.owners.alice.password"), "{}", checked.text);
    assert_eq!(checked.code, Some(1));
}

const BACK: &str = "warn keycloak: owners come back to https://gateway-admin.example.org/gw/owners/keycloak/callback, and whether the server lets them is not checked \
                    → register exactly this address as a redirect address of client \"content-gateway\" there";
const NOT_CHECKED: &str = "warn keycloak: what belongs to \"alice\" is not checked: the token is with the gateway that runs, if the owner has linked it \
                           → look at /readyz?verbose there; the owner links it at https://gateway-admin.example.org/gw/owners/keycloak/link";

#[tokio::test]
async fn where_owners_link_the_gateway_the_secret_is_tried_all_the_same() {
    let mut world = World::linked().await;
    let checked = world.check().await;
    assert_eq!((checked.code, checked.lines("warn")), (Some(0), vec![BACK, NOT_CHECKED]), "{}", checked.text);
    assert!(checked.text.contains("ok   keycloak: client \"content-gateway\" has the right secret and may trade codes"), "{}", checked.text);
    assert_eq!(world.control().last_request(Endpoint::Token).and_then(|seen| seen.parameter("grant_type")).as_deref(), Some("authorization_code"));

    world.control().fail(Endpoint::Token, Fault::error(StatusCode::BAD_REQUEST, "unauthorized_client"));
    let checked = world.check().await;
    assert_eq!(checked.lines("FAIL"), ["FAIL keycloak: client \"content-gateway\" may not use the grant authorization_code → let it, at the server"]);
    assert_eq!(checked.code, Some(1));

    world.control().heal_all();
    world.setup.secret = "mistyped-secret".into();
    let checked = world.check().await;
    let expected = "FAIL keycloak: it has no client \"content-gateway\", or not with this secret → correct `authorization_servers.keycloak.client.id`, or put the secret that the server has into the environment variable GATEWAY_CLIENT_SECRET";
    assert_eq!((checked.code, checked.lines("FAIL")), (Some(1), vec![expected]), "{}", checked.text);
}

#[tokio::test]
async fn a_scope_of_owners_that_the_server_does_not_name_is_a_warning() {
    let mut world = World::new().await;
    let shares = |scope: &str| format!("{STORE}shares: {{ address: 127.0.0.1:9092, scope: {scope}, public_url: \"https://photos.example.org\" }}\n");
    world.setup.routes = format!(
        "{VACATION}\n  - {{ path: \"/users/{{user}}/**\", protect: {{ resource: {{ shared: true, owner: \"{{user}}\" }}, scopes: {{ GET: [view] }} }} }}"
    );
    world.setup.top = shares("publish");
    world.check().await.only(
        "warn keycloak: it does not name the scope publish among those that it knows (scopes_supported), and owners share by tokens that have it \
         → make the scope at the server, or correct `shares.scope`",
    );
    world.setup.top = shares("share");
    assert_eq!(world.check().await.lines("warn"), [] as [&str; 0]);
}

#[tokio::test]
async fn a_plain_oauth_server_is_asked_whether_the_client_may_introspect() {
    let mut world = World::oauth().await;
    let checked = world.check().await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(checked.text.contains("(profile oauth)") && checked.text.contains("has the right secret and may introspect"), "{}", checked.text);
    world.setup.secret = "wrong".into();
    let checked = world.check().await;
    assert!(checked.text.contains("or not with this secret, or lets it not introspect"), "{}", checked.text);
}

#[tokio::test]
async fn upstream_down() {
    let world = World::new().await;
    world.records().stop().await;
    let address = world.content.address();
    world.check().await.only(&format!("FAIL albums: nothing listens at {address} → start it, or correct `upstreams.albums.servers`"));
}

#[tokio::test]
async fn credential_wrong() {
    let world = World::new().await;
    world.records().set_credential(Some(("gateway", "another")));
    world
        .check()
        .await
        .only("FAIL albums: it refuses the gateway's credential (GET / → 401) → correct `upstreams.albums.credentials`, or the account at the content server");
}

#[tokio::test]
async fn content_server_open() {
    let mut world = World::new().await;
    world.records().set_credential(None);
    let open = "warn albums: content server open: anyone who reaches it needs no gateway (GET /albums/vacation/ without a credential → 200) → \
                let it ask for a credential that only the gateway has, and let nobody else reach its port";
    world.check().await.only(open);
    world.setup.credentials.clear();
    world.check().await.only(open);
    // What everybody may read anyway needs no guard.
    world.setup.routes = "\n  - { path: \"/albums/**\", public: true }".into();
    assert_eq!(world.check().await.lines("warn"), [] as [&str; 0]);
}

#[tokio::test]
async fn certificate_unknown() {
    let (directory, mut world) = (TempDir::new().unwrap(), World::new().await);
    let (front, file) = tls_front(world.server.address(), &directory).await;
    world.setup.issuer = format!("https://{}", front.address);
    world.control().set_issuer(&world.setup.issuer);
    let unknown = format!("FAIL keycloak: {} shows a certificate of an issuer that is not trusted here → ", front.address);
    world.check().await.only(&format!("{unknown}name the CA's file: `authorization_servers.keycloak.tls.ca: FILE`"));

    world.setup.server = format!("tls: {{ ca: {} }}", file.display());
    assert_eq!(world.check().await.code, Some(0));

    let other = TempDir::new().unwrap();
    let (_other, file) = tls_front(world.server.address(), &other).await;
    world.setup.server = format!("tls: {{ ca: {} }}", file.display());
    world
        .check()
        .await
        .only(&format!("{unknown}the file that `authorization_servers.keycloak.tls.ca` names holds another CA: name the one that issued this certificate"));
}

// And what else goes wrong.

#[tokio::test]
async fn a_server_that_is_down_is_one_line() {
    let world = World::new().await;
    world.control().stop().await;
    let address = world.server.address();
    world.check().await.only(&format!("FAIL keycloak: nothing listens at {address} → start it, or correct `authorization_servers.keycloak.issuer`"));
}

#[tokio::test]
async fn another_issuer_is_told_with_both_names() {
    let world = World::new().await;
    world.control().set_issuer("https://id.example.org/realms/photoz");
    let ours = &world.setup.issuer;
    world.check().await.only(&format!(
        "FAIL keycloak: it calls itself \"https://id.example.org/realms/photoz\", the configuration calls it \"{ours}\" → \
         write \"https://id.example.org/realms/photoz\" in `authorization_servers.keycloak.issuer` and, if that is not reachable from here, `backchannel: {ours}`"
    ));
}

#[tokio::test]
async fn a_redirect_to_https_is_http_for_https() {
    let world = World::new().await;
    world.control().fail(Endpoint::Discovery, Fault::redirect("https://id.example.org/"));
    let checked = world.check().await;
    assert!(checked.text.contains("speaks https, and the address says http → write https:// in"), "{}", checked.text);
}

#[tokio::test]
async fn authorization_services_off() {
    let world = World::keycloak().await;
    world.control().authorization_services("content-gateway", false);
    world
        .check()
        .await
        .only("FAIL keycloak: client \"content-gateway\" has no authorization services → Clients → content-gateway → Capability config → Authorization → on");
}

#[tokio::test]
async fn an_inactive_pat_of_our_own_names_its_two_causes() {
    let world = World::new().await;
    world.control().fail(Endpoint::Introspection, Fault::json(StatusCode::OK, &json!({ "active": false })));
    let (issuer, address) = (&world.setup.issuer, world.server.address());
    world.check().await.only(&format!(
        "FAIL keycloak: introspection calls our own fresh PAT inactive → either the issuer ({issuer}, `authorization_servers.keycloak.issuer`) is not the address \
         by which the server is asked ({address}), or \"content-gateway\" is not in the token's audience"
    ));
}

#[tokio::test]
async fn resources_that_need_a_path_or_are_registered_are_not_asked_for() {
    let mut world = World::new().await;
    world.setup.routes = "
  - path: /albums/{album}/**
    protect: { resource: { name: \"album {album}\", owner: alice }, scopes: { GET: [view] } }
  - path: /notes/**
    protect: { resource: { register: { name: notes, scopes: [view] } }, scopes: { GET: [view] } }"
        .into();
    let checked = world.check().await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(checked.text.contains("ok   keycloak: resource \"album {album}\" of alice is looked up at first use"), "{}", checked.text);
    assert!(
        checked.text.contains("ok   keycloak: resource \"notes\" of content-gateway is not there yet: the gateway registers it when it starts"),
        "{}",
        checked.text
    );
    assert_eq!(world.control().resource_id("notes"), None);
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_told() {
    let mut world = World::new().await;
    let known = world.control().resource_id("Alice vacation").unwrap();
    world.setup.routes = VACATION.replace("name: Alice vacation, owner: alice", &format!("id: {known}"));
    assert_eq!(world.check().await.code, Some(0));
    world.setup.routes = VACATION.replace("name: Alice vacation, owner: alice", "id: unknown-id");
    world.check().await.only("FAIL keycloak: it has no resource with the id unknown-id (line 15) → correct the id, or name the resource by `name` and `owner`");
}

#[tokio::test]
async fn an_upstream_that_is_the_gateway_itself_is_told() {
    let mut world = World::new().await;
    for address in ["127.0.0.1:8080", "localhost:8080"] {
        world.setup.upstream = format!("http://{address}");
        world.check().await.only(&format!(
            "FAIL albums: {address} is the gateway's own listener: its requests would come back to it → write the content server's address in `upstreams.albums.servers`"
        ));
    }
}

#[tokio::test]
async fn a_content_server_that_wants_a_credential_where_none_is_configured() {
    let mut world = World::new().await;
    world.setup.credentials.clear();
    world.check().await.only("warn albums: it wants a login (GET / → 401), and the configuration gives no credential → if it is the gateway that it wants to know, write `upstreams.albums.credentials`");
}

#[tokio::test]
async fn the_token_endpoint_of_an_upstream_is_asked() {
    let mut world = World::new().await;
    world.control().add_resource_server("photo-proxy", "proxy-secret");
    let oauth2 = |id: &str| {
        format!(
            "credentials: {{ oauth2: {{ token_endpoint: \"{}/token\", client: {{ id: {id}, secret: {{ env: PROXY_PASSWORD }} }} }} }}",
            world.server.issuer()
        )
    };
    let (right, wrong) = (oauth2("photo-proxy"), oauth2("photo-porxy"));
    world.records().reply(Reply::status(404));
    world.setup.credentials = right;
    let checked = world.check().await;
    assert!(checked.text.contains("ok   albums: client \"photo-proxy\" gets its token at "), "{}", checked.text);
    assert_eq!(checked.code, Some(0));

    world.records().reply_as_usual();
    world.setup.credentials = wrong;
    world.check().await.only(
        "FAIL albums: the token endpoint refuses client \"photo-porxy\" (401) → correct `upstreams.albums.credentials.oauth2.client.id`, \
         or the secret in the environment variable PROXY_PASSWORD",
    );
}

#[tokio::test]
async fn programs_get_the_same_as_json() {
    let mut world = World::new().await;
    world.setup.routes = VACATION.replace("owner: alice", "owner: bob");
    let checked = world.setup.check_as("json").await;
    let lines: Vec<serde_json::Value> = serde_json::from_str(&checked.text).unwrap();
    let failed: Vec<_> = lines.iter().filter(|line| line["verdict"] == "fail").collect();
    assert_eq!(
        failed,
        [&json!({
            "verdict": "fail", "who": "keycloak", "what": "resource \"Alice vacation\" belongs to alice, not to bob", "mend": "write `owner: alice` in line 15"
        })]
    );
    assert_eq!(checked.code, Some(1));
}

// Keycloak itself.

fn keycloak_port() -> String {
    std::env::var("KEYCLOAK_PORT").unwrap_or_else(|_| "8180".to_owned())
}

async fn photoz(content: &uma_gateway::demo::content_server::RunningContentServer) -> Setup {
    Setup::new(format!("http://127.0.0.1:{}/realms/photoz", keycloak_port()), content.address())
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_as_it_should_be() {
    let content = content().await;
    let checked = photoz(&content).await.check().await;
    assert_eq!((checked.code, checked.text.lines().count()), (Some(0), 8), "{}", checked.text);
    // Its answers carry no `Date`: the clock is told by the end of the PAT.
    assert!(checked.text.contains("ok   keycloak: its clock and ours agree"), "{}", checked.text);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_tells_a_wrong_secret_from_an_unknown_client() {
    let content = content().await;
    let mut setup = photoz(&content).await;
    setup.secret = "mistyped-secret".into();
    setup.check().await.only(
        "FAIL keycloak: the secret of client \"content-gateway\" is wrong → put the one of Clients → content-gateway → Credentials \
         into the environment variable GATEWAY_CLIENT_SECRET",
    );
    setup.client = "content-gatway".into();
    setup.check().await.only(
        "FAIL keycloak: it has no client \"content-gatway\", or not with a secret → correct `authorization_servers.keycloak.client.id`, or create the client",
    );
    (setup.client, setup.secret) = ("client-app".into(), "client-secret".into());
    setup
        .check()
        .await
        .only("FAIL keycloak: client \"client-app\" has no service account → Clients → client-app → Capability config → Service account roles → on");
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_has_no_such_realm() {
    let content = content().await;
    let mut setup = photoz(&content).await;
    setup.issuer = setup.issuer.replace("photoz", "photos");
    setup.check().await.only("FAIL keycloak: it has no realm \"photos\" → correct the realm at the end of `authorization_servers.keycloak.issuer`");
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_speaks_http_where_the_address_says_https() {
    let content = content().await;
    let mut setup = photoz(&content).await;
    setup.issuer = setup.issuer.replace("http:", "https:");
    let checked = setup.check().await;
    assert!(
        checked.text.contains("speaks plain http, and the address says https → write http:// in `authorization_servers.keycloak.issuer`"),
        "{}",
        checked.text
    );
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_gives_the_role_and_the_services() {
    let content = content().await;
    let mut setup = photoz(&content).await;
    (setup.client, setup.secret) = ("gateway-without-role".into(), "without-role-secret".into());
    setup.check().await.only("FAIL keycloak: client \"gateway-without-role\" lacks role uma_protection → Service account roles → assign it");
    (setup.client, setup.secret) = ("gateway-without-services".into(), "without-services-secret".into());
    setup.check().await.only(
        "FAIL keycloak: client \"gateway-without-services\" has no authorization services → Clients → gateway-without-services → Capability config → Authorization → on",
    );
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn keycloak_knows_the_resource_by_another_name_owner_or_scope() {
    let content = content().await;
    let mut setup = photoz(&content).await;
    for (route, line) in [
        (
            VACATION.replace("Alice vacation", "alice vacaton"),
            "it has no resource \"alice vacaton\" of alice → did you mean \"Alice vacation\"? correct line 15",
        ),
        (VACATION.replace("owner: alice", "owner: bob"), "resource \"Alice vacation\" belongs to alice, not to bob → write `owner: alice` in line 15"),
        (
            VACATION.replace("Alice vacation", "handbook"),
            "resource \"handbook\" belongs to content-gateway, not to alice → leave out `owner` in line 15: the owner is the gateway's own client",
        ),
        (
            VACATION.replace("[edit]", "[delete]"),
            "resource \"Alice vacation\" of alice lacks the scope delete (it has: view, edit) → add it to the resource at the server, or correct `scopes` of line 16",
        ),
    ] {
        setup.routes = route;
        setup.check().await.only(&format!("FAIL keycloak: {line}"));
    }
}
