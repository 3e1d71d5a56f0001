//! An owner links the gateway: signs in at the authorization server, once, and comes back with a code.

use bytes::Bytes;
use http::{Method, StatusCode};
use uma_gateway::admin::{AdminClient, AdminDoor};
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault, Kind};

use crate::owner::{BY_CODE, BY_PASSWORD, Neighbourhood, Running, header, on_disk, text, until};

#[tokio::test]
async fn an_owner_links_the_gateway_once_and_for_every_restart() {
    let around = Neighbourhood::new(BY_CODE).await;
    let running = around.start_ready().await;
    assert_eq!(around.ask().await, Some(403), "closed before");
    assert!(around.health("/readyz?verbose").await.contains("[!] owner alice at server: has to consent"));
    assert!(around.health("/metrics").await.contains("uma_owners_without_consent{authorization_server=\"server\"} 1"));

    let linked = around.link_as("alice").await;

    assert_eq!(linked.status(), StatusCode::OK, "{}", text(&linked));
    assert!(text(&linked).contains("protect what belongs to alice at server"), "{}", text(&linked));
    assert_eq!(header(&linked, "cache-control"), "no-store");
    assert_eq!(header(&linked, "referrer-policy"), "no-referrer");
    assert!(header(&linked, "content-security-policy").starts_with("default-src 'none'") && !text(&linked).contains("<script"));
    around.open().await;
    let asked = around.control().last_request(Endpoint::Permission).expect("asked");
    let pat = asked.headers["authorization"].to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    assert_eq!(around.control().user_of(&pat).as_deref(), Some("alice"));
    assert!(!around.health("/readyz?verbose").await.contains("owner alice"));
    assert!(around.health("/metrics").await.contains("uma_owners_without_consent{authorization_server=\"server\"} 0"));
    assert!(!on_disk(around.folder.path(), &pat), "nobody reads it on the disk, or in a log");

    running.kill();
    let _running = around.start_ready().await;
    around.open().await;
    assert_eq!(around.grants(), ["authorization_code"]);
}

#[tokio::test]
async fn the_way_there_is_bound_to_the_browser_and_to_the_configured_address() {
    let around = Neighbourhood::new(BY_CODE).await;
    let _running = around.start_ready().await;
    let (location, cookie) = around.begin().await;
    let url = url::Url::parse(&location).expect("an address");
    let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default();
    assert!(location.starts_with(&format!("{}/authorize?", around.server.issuer())), "{location}");
    assert_eq!((&*parameter("response_type"), &*parameter("client_id")), ("code", "content-gateway"));
    assert_eq!((&*parameter("code_challenge_method"), parameter("code_challenge").len()), ("S256", 43));
    assert_eq!((&*parameter("scope"), &*parameter("prompt")), ("uma_protection", "consent"));
    assert_eq!(parameter("redirect_uri"), around.admin("/owners/server/callback"), "what `admin.public_url` says, whatever the request's Host");
    let away = around.browse(Method::GET, &around.admin("/owners/server/link"), None, Bytes::new()).await;
    let set = header(&away, "set-cookie");
    assert!(set.contains("; HttpOnly; SameSite=Lax") && set.contains("Max-Age=600"), "{set}");

    let back = around.sign_in(&location, "alice").await;
    for foreign in [None, Some("uma-gateway-link=guess"), Some(set.split(';').next().expect("a pair"))] {
        assert_eq!(around.come_back(&back, foreign).await.status(), StatusCode::BAD_REQUEST, "another browser");
    }
    assert_eq!(around.come_back(&back, Some(&cookie)).await.status(), StatusCode::OK, "which takes nothing from this one");
    let again = around.come_back(&back, Some(&cookie)).await;
    assert_eq!(again.status(), StatusCode::OK, "the page that is loaded anew says what it said");
    assert!(text(&again).contains("protect what belongs to alice at server"), "{}", text(&again));
    assert_eq!(around.come_back(&back, Some("uma-gateway-link=guess")).await.status(), StatusCode::BAD_REQUEST, "in another browser it says nothing");
    assert_eq!(around.grants(), ["authorization_code"], "good once: nothing else was exchanged");
}

#[tokio::test]
async fn what_comes_back_wrong_links_nothing() {
    let around = Neighbourhood::new(BY_CODE).await;
    let _running = around.start_ready().await;
    let callback = around.admin("/owners/server/callback");
    let state = |location: &str| {
        let url = url::Url::parse(location).expect("an address");
        url.query_pairs().find(|(key, _)| key == "state").expect("a state").1.into_owned()
    };
    let issuer = form_urlencoded::byte_serialize(around.server.issuer().as_bytes()).collect::<String>();
    for (query, status, told) in [
        ("code=x&state=STATE&iss=https%3A%2F%2Fevil.example.org", 400, "another authorization server"),
        ("error=access_denied&state=STATE", 403, "said no (access_denied)"),
        ("error=%3Cscript%3E&state=STATE", 403, "said no."),
        ("code=guess&state=STATE", 403, "said no (invalid_grant)"),
        ("state=STATE&iss=ISSUER", 400, "cannot be read"),
        ("code=x&code=y&state=STATE", 400, "cannot be read"),
        ("code=x&state=another", 400, "begin again"),
        ("code=x", 400, "cannot be read"),
    ] {
        let (location, cookie) = around.begin().await;
        let query = query.replace("STATE", &state(&location)).replace("ISSUER", &issuer);
        let answer = around.come_back(&format!("{callback}?{query}"), Some(&cookie)).await;
        assert_eq!(answer.status().as_u16(), status, "{query}");
        assert!(text(&answer).contains(told) && !text(&answer).contains("<script"), "{query}: {}", text(&answer));
        assert!(text(&answer).contains("<a href=\"link\">Begin again</a>"), "{query}: {}", text(&answer));
    }
    assert_eq!(around.ask().await, Some(403));
}

#[tokio::test]
async fn somebody_else_who_signs_in_links_nothing_and_the_token_is_given_back() {
    let around = Neighbourhood::new(BY_CODE).await;
    let running = around.start_ready().await;

    let refused = around.link_as("bob").await;

    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(text(&refused).contains("names no owner who is known there as bob"), "{}", text(&refused));
    assert_eq!(around.control().calls(Endpoint::Revocation), 1);
    assert_eq!(around.ask().await, Some(403), "and certainly not with Bob's token");
    around.configure("{ authorization_code: true, subject: id-of-bob }");
    running.kill();
    let _running = around.start_ready().await;
    assert_eq!(around.link_as("alice").await.status(), StatusCode::FORBIDDEN, "where `subject` is named, the user name does not count");
    assert_eq!(around.link_as("bob").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_owner_who_withdraws_consent_is_closed_until_she_links_the_gateway_again() {
    let around = Neighbourhood::new(BY_CODE).await;
    let running = around.start_ready().await;
    assert_eq!(around.link_as("alice").await.status(), StatusCode::OK);
    around.open().await;
    // A failure that passes takes nothing away.
    around.control().revoke_pats();
    around.control().fail_next(Endpoint::Token, 1, Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    around.open().await;
    assert_eq!(around.grants(), ["authorization_code", "refresh_token", "refresh_token"]);

    around.control().log_out("alice");
    assert_eq!(around.ask().await, Some(403));
    assert!(around.health("/metrics").await.contains("uma_owners_without_consent{authorization_server=\"server\"} 1"));
    let told = until("the audit log says so", async || around.audited().into_iter().find(|line| line["linked_before"] == true)).await;
    assert_eq!((&told["owner"], &told["authorization_server"]), (&"alice".into(), &"server".into()));
    running.kill();
    around.control().reset_calls();
    let running = around.start_ready().await;
    assert_eq!(around.ask().await, Some(403), "a restart does not open it");
    assert_eq!(around.grants(), [""; 0], "and asks for nothing that was refused");
    assert_eq!(around.link_as("alice").await.status(), StatusCode::OK);
    around.open().await;
    assert!(around.audited().iter().any(|line| line["message"] == "the owner has linked the gateway"));
    running.end().await;
}

#[tokio::test]
async fn what_is_an_owners_who_has_to_consent_is_closed_to_whoever_has_a_token_too() {
    for kind in [Kind::Uma2, Kind::Keycloak { realm: "photoz".into() }] {
        let around = Neighbourhood::at(kind, BY_CODE).await;
        let running = around.start_ready().await;
        assert_eq!(around.link_as("alice").await.status(), StatusCode::OK);
        around.open().await;
        let rpt = around.control().grant_rpt("bob", &[("vacation", &["view"])], 300);
        assert_eq!(around.ask_with(&rpt).await, 502);

        around.control().log_out("alice");
        assert_eq!(around.ask().await, Some(403), "which tells the gateway so");
        let (asked, decided) = (around.control().calls(Endpoint::Introspection), around.control().calls(Endpoint::Token));
        assert_eq!(around.ask_with(&rpt).await, 503, "at once, whatever is cached of the token");
        assert_eq!((around.control().calls(Endpoint::Introspection), around.control().calls(Endpoint::Token)), (asked, decided), "and nobody is asked");
        let told = until("the audit log says why", async || around.audited_requests().into_iter().find(|line| line["uma.row"] == "I10")).await;
        assert_eq!(told["uma.reason"], "the owner has to link the gateway", "{told}");
        let door = AdminDoor::Address { address: around.admin, token: "admin-token".into() };
        let url = "http://gateway.example.org/albums/vacation/notes.txt".parse().expect("an address");
        let explained = AdminClient::new(&door).explain(&Method::GET, &url, Some(&rpt.as_str().into())).await.expect("an explanation");
        assert_eq!((&explained["uma.row"], &explained["uma.reason"]), (&"I10".into(), &"the owner has to link the gateway".into()), "{explained}");

        assert_eq!(around.link_as("alice").await.status(), StatusCode::OK);
        assert_eq!(around.ask_with(&rpt).await, 502, "open again");
        running.end().await;
    }
}

#[tokio::test]
async fn an_owner_whose_password_is_refused_is_closed_to_whoever_has_a_token_too() {
    for kind in [Kind::Keycloak { realm: "photoz".into() }, Kind::OpenAm] {
        let around = Neighbourhood::at(kind, BY_PASSWORD).await;
        let _running = around.start_ready().await;
        around.open().await;
        let rpt = around.control().grant_rpt("bob", &[("vacation", &["view"])], 300);
        assert_eq!(around.ask_with(&rpt).await, 502);
        around.control().add_user("alice", "another password");
        around.control().revoke_pats();
        assert_eq!(around.ask().await, Some(403));
        assert_eq!(around.ask_with(&rpt).await, 503);
    }
}

/// What is Alice's by its id: nobody has to be asked which resource it is.
const LETTERS: &str = "/letters/1";
const LETTERS_ROUTE: &str = "  - { path: /letters/**, protect: { resource: { id: letters, owner: alice }, scopes: { GET: [view] } } }\n";

/// At a Keycloak where Alice has letters too, with a token of Bob's for them that is let through.
async fn with_letters() -> (Neighbourhood, Running, String) {
    let around = Neighbourhood::at(Kind::Keycloak { realm: "photoz".into() }, BY_PASSWORD).await;
    around.control().register_with_id("letters", "alice", "letters", &["view"]);
    around.configure_with(BY_PASSWORD, "2s", "", LETTERS_ROUTE);
    let running = around.start_ready().await;
    around.open().await;
    let rpt = around.control().grant_rpt("bob", &[("letters", &["view"])], 300);
    around.open_to(&rpt).await;
    (around, running, rpt)
}

impl Neighbourhood {
    /// Has the server refuse Alice's password, and the gateway hear so.
    async fn refuse_password(&self, rpt: &str) {
        self.control().add_user("alice", "another password");
        self.control().revoke_pats();
        assert_eq!(self.ask().await, Some(403));
        assert_eq!(self.ask_for_with(LETTERS, rpt).await, 503);
    }

    /// The server gives no token until the gate is open; all else it answers.
    fn hold_tokens(&self) -> Gate {
        let gate = Gate::closed();
        for endpoint in [Endpoint::Pat, Endpoint::Token] {
            self.control().fail(endpoint, Fault::held(&gate));
        }
        gate
    }

    async fn reload(&self) {
        let door = AdminDoor::Address { address: self.admin, token: "admin-token".into() };
        AdminClient::new(&door).reload().await.expect("no mistakes");
    }

    /// Asks until whoever has this token is let through.
    async fn open_to(&self, rpt: &str) {
        until("it is open", async || (self.ask_for_with(LETTERS, rpt).await == 502).then_some(())).await;
    }
}

#[tokio::test]
async fn a_reload_opens_nothing_of_an_owner_whose_password_is_refused() {
    let (around, _running, rpt) = with_letters().await;
    around.refuse_password(&rpt).await;
    let asked = around.grants();

    let gate = around.hold_tokens();
    around.configure_with(BY_PASSWORD, "3s", "", LETTERS_ROUTE);
    around.reload().await;

    assert_eq!(around.ask_for_with(LETTERS, &rpt).await, 503, "another section, and no answer");
    gate.open();
    assert_eq!(around.ask().await, Some(403));
    assert_eq!(around.ask_for_with(LETTERS, &rpt).await, 503, "the server is well, and the password is the same");
    assert_eq!(around.grants(), asked, "which is not tried again");
    assert!(around.health("/metrics").await.contains("uma_owners_without_consent{authorization_server=\"server\"} 1"));
}

#[tokio::test]
async fn another_password_opens_what_is_an_owners_when_there_is_a_token() {
    let (around, _running, rpt) = with_letters().await;
    for (timeout, why) in [("2s", "the section is the same"), ("3s", "the section is another one")] {
        around.write("alice-password", "alice");
        around.control().add_user("alice", "alice");
        around.reload().await;
        around.open_to(&rpt).await;
        around.refuse_password(&rpt).await;

        let gate = around.hold_tokens();
        around.write("alice-password", "another password");
        around.configure_with(BY_PASSWORD, timeout, "", LETTERS_ROUTE);
        around.reload().await;

        assert_eq!(around.ask_for_with(LETTERS, &rpt).await, 503, "{why}");
        gate.open();
        around.open_to(&rpt).await;
        around.control().heal_all();
    }
}

#[tokio::test]
async fn a_password_that_comes_while_the_server_refuses_the_one_before_is_tried_at_once() {
    let (around, _running, _) = with_letters().await;
    around.control().add_user("alice", "another password");
    around.control().revoke_pats();
    let gate = around.hold_tokens();
    assert_eq!(around.ask().await, Some(403), "no answer yet");
    around.write("alice-password", "another password");
    around.reload().await;
    gate.open();
    around.open().await;
}

#[tokio::test]
async fn a_restart_opens_nothing_of_an_owner_whose_password_was_refused_until_there_is_a_token() {
    let (around, running, rpt) = with_letters().await;
    around.refuse_password(&rpt).await;
    running.end().await;

    let gate = around.hold_tokens();
    around.write("alice-password", "another password");
    let _running = around.start();
    until("it serves", async || around.ask().await).await;

    assert_eq!(around.ask_for_with(LETTERS, &rpt).await, 503, "no answer yet");
    gate.open();
    around.open_to(&rpt).await;
}

#[tokio::test]
async fn the_door_opens_nothing_else_without_its_token() {
    let around = Neighbourhood::new(BY_CODE).await;
    let _running = around.start_ready().await;
    for (path, status) in [("/records", 401), ("/owners/another/link", 404), ("/owners/server/other", 404), ("/owners/server/link/x", 404), ("/owners/", 404)] {
        assert_eq!(around.browse(Method::GET, &around.admin(path), None, Bytes::new()).await.status().as_u16(), status, "{path}");
    }
    let posted = around.browse(Method::POST, &around.admin("/owners/server/link"), None, Bytes::new()).await;
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_owner_whom_the_server_lets_protect_nothing_hears_so_and_so_does_the_operator() {
    let around = Neighbourhood::at(Kind::Keycloak { realm: "photoz".into() }, BY_CODE).await;
    around.control().allow_protection("content-gateway", false);
    let _running = around.start_ready().await;

    let linked = around.link_as("alice").await;

    assert_eq!(linked.status(), StatusCode::FORBIDDEN, "{}", text(&linked));
    for told in ["does not let alice protect resources", "uma_protection", "<a href=\"link\">"] {
        assert!(text(&linked).contains(told), "{told} in {}", text(&linked));
    }
    for _ in 0..2 {
        assert_eq!(around.ask().await, Some(403));
    }
    let ready = around.health("/readyz?verbose").await;
    assert!(ready.contains("[!] owner alice at server: is not let protect resources"), "{ready}");
    assert!(around.health("/metrics").await.contains("uma_owners_without_consent{authorization_server=\"server\"} 1"));
    let told = || around.audited().into_iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains("uma_protection"))).collect::<Vec<_>>();
    until("the audit log says so", async || (!told().is_empty()).then_some(())).await;
    assert_eq!(told().iter().map(|line| (line["owner"].as_str(), line["level"].as_str())).collect::<Vec<_>>(), [(Some("alice"), Some("WARN"))], "once");

    around.control().allow_protection("content-gateway", true);
    around.open().await;
    assert!(!around.health("/readyz?verbose").await.contains("owner alice"));
    assert!(around.health("/metrics").await.contains("uma_owners_without_consent{authorization_server=\"server\"} 0"));
}

#[tokio::test]
async fn explain_says_that_the_owner_has_not_linked_the_gateway() {
    let around = Neighbourhood::new(BY_CODE).await;
    let _running = around.start_ready().await;
    let door = AdminDoor::Address { address: around.admin, token: "admin-token".into() };
    let admin = AdminClient::new(&door);
    let explained = async || {
        let url = "http://gateway.example.org/albums/vacation/notes.txt".parse().expect("an address");
        let told = admin.explain(&Method::GET, &url, None).await.expect("an explanation");
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        (told["http.response.status_code"].as_u64(), text("uma.row"), text("uma.reason"))
    };
    let closed = (Some(403), "C2".to_owned(), "the owner has to link the gateway".to_owned());
    assert_eq!(explained().await, closed);
    assert_eq!(around.link_as("alice").await.status(), StatusCode::OK);
    around.open().await;
    assert_eq!(explained().await.0, Some(401));
    // The gateway knows the resource still, and there is nobody to ask for a ticket.
    around.control().log_out("alice");
    assert_eq!(around.ask().await, Some(403));
    assert_eq!(explained().await, closed);
}
