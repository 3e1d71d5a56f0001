//! Whole configurations: the right ones are read as they are meant, the wrong ones say what to write instead.

mod clients;
mod guards;
mod mistakes;
mod pictures;
mod robust;
#[cfg(feature = "store")]
mod shares;
mod uris;

use std::path::Path;

use super::*;

/// The issue's own example.
const EXAMPLE: &str = r#"version: 1
listeners:
  - address: 127.0.0.1:8080
health: { address: 127.0.0.1:9090 }      # /livez /readyz /startupz /metrics
authorization_servers:
  keycloak:
    profile: keycloak                     # default: auto
    issuer: http://127.0.0.1:8180/realms/photoz
    client: { id: content-gateway, secret: { env: GATEWAY_CLIENT_SECRET } }
upstreams:
  albums:
    servers: [ http://127.0.0.1:9101 ]
    credentials:
      basic: { username: gateway, password: { file: proxy-password } }
routes:
  - path: /albums/vacation/**
    upstream: albums
    protect:
      authorization_server: keycloak
      resource: { name: Alice vacation, owner: alice }
      scopes: { GET: [view], "PUT, DELETE": [edit] }
  - path: /public/**
    upstream: albums
    public: true
"#;

/// A directory with the secret files that the examples name, for this user only.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    for name in ["proxy-password", "client", "proxy", "family", "research", "alice-password"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "open-sesame\n").expect("a file");
        close(&path);
    }
    for (name, text) in certificates() {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        close(&path);
    }
    std::fs::write(folder.path().join("sticky-key"), "nobody-guesses-this\n").expect("a file");
    close(&folder.path().join("sticky-key"));
    for (name, digit) in [("store-key", "1"), ("old-store-key", "2")] {
        std::fs::write(folder.path().join(name), format!("0{}\n", digit.repeat(63))).expect("a file");
        close(&folder.path().join(name));
    }
    std::fs::write(folder.path().join("empty"), "\n").expect("a file");
    close(&folder.path().join("empty"));
    folder
}

/// The files of TLS that the examples name: a pair, a key of another pair, a certificate that has expired, and such as are trusted.
fn certificates() -> Vec<(&'static str, String)> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let other = rcgen::KeyPair::generate().expect("a key");
    let names = || rcgen::CertificateParams::new(vec!["photos.example.org".to_owned()]).expect("a name");
    let certificate = names().self_signed(&key).expect("a certificate").pem();
    let mut past = names();
    past.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let expired = past.self_signed(&key).expect("a certificate").pem();
    let mut authority = names();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = authority.self_signed(&key).expect("a certificate").pem();
    vec![
        ("tls.crt", certificate.clone()),
        ("tls.key", key.serialize_pem()),
        ("other.key", other.serialize_pem()),
        ("expired.crt", expired),
        ("clients.pem", authority.clone()),
        ("ca.pem", authority),
        ("gateway.pem", certificate),
        ("gateway-key.pem", key.serialize_pem()),
    ]
}

fn close(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
}

fn environment(name: &str) -> Option<String> {
    matches!(name, "GATEWAY_CLIENT_SECRET" | "PROXY_PASSWORD").then(|| "hidden in the environment".to_owned())
}

fn read_in(folder: &Path, text: &str) -> Result<Gateway, Problems> {
    parse(text, &folder.join("gateway.yaml"), &environment)
}

/// What comes of a configuration that must be right.
fn right(folder: &Path, text: &str) -> Gateway {
    read_in(folder, text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Whether the published schema accepts a text. The YAML is read by serde alone, as an editor would, without our tree.
fn schema_accepts(text: &str) -> bool {
    let options = serde_yaml::options! { strict_booleans: true };
    let value: serde_json::Value = match serde_yaml::from_str_with_options(text, options) {
        Ok(value) => value,
        Err(_) => return false,
    };
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let refusals: Vec<String> = validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    println!("{refusals:#?}");
    refusals.is_empty()
}

#[test]
fn the_example_of_the_issue_is_read_as_it_is_written() {
    let folder = folder();
    let gateway = right(folder.path(), EXAMPLE);
    assert!(schema_accepts(EXAMPLE));
    assert_eq!(gateway.listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>(), ["127.0.0.1:8080"]);
    assert_eq!(gateway.health.map(|health| health.address.port()), Some(9090));
    assert!(gateway.admin.is_none() && gateway.trusted_proxies.is_empty() && gateway.workers.is_none() && gateway.warnings.is_empty());

    let [server] = gateway.authorization_servers.as_slice() else { panic!("one server") };
    assert_eq!((&*server.name, &*server.issuer, &*server.realm), ("keycloak", "http://127.0.0.1:8180/realms/photoz", "photoz"));
    assert_eq!(server.profile, authorization_server::ProfileChoice::Named(authorization_server::Profile::KEYCLOAK));
    assert_eq!(server.audience, authorization_server::Audience::Named("content-gateway".into()));
    assert_eq!(server.client, authorization_server::ClientCredentials::with_secret("content-gateway", "hidden in the environment"));
    let seconds = |seconds| std::time::Duration::from_secs(seconds);
    assert_eq!((server.max_age, server.negative_max_age, server.refresh_window, server.timeout), (seconds(30), seconds(5), 20, seconds(2)));

    let credentials::Credential::Authorization(value) = &gateway.credentials[0].credential else { panic!("basic") };
    assert_eq!(value.as_bytes(), b"Basic Z2F0ZXdheTpvcGVuLXNlc2FtZQ==");
    assert!(value.is_sensitive());
    assert_eq!(gateway.upstreams[0].servers[0].address.to_string(), "127.0.0.1:9101");

    let [protected, public] = gateway.routes.as_slice() else { panic!("two routes") };
    assert!(matches!(public.access, routing::Access::Public));
    let routing::Access::Protect(protect) = &protected.access else { panic!("protected") };
    assert!(
        matches!(&protect.resource, routing::ResourceChoice::Name { name, owner: Some(owner) } if &*name.text == "Alice vacation" && &*owner.text == "alice")
    );
    let needs: Vec<_> =
        protect.scopes.methods.iter().map(|(method, scopes, place)| (method.as_str(), scopes[0].to_string(), place.line, place.column)).collect();
    assert_eq!(needs, [("GET", "view".to_owned(), 21, 17), ("PUT", "edit".to_owned(), 21, 31), ("DELETE", "edit".to_owned(), 21, 36)]);
    assert_eq!((protected.place.line, protected.upstream, &*protected.upstream_name), (16, 0, "albums"));
}

#[test]
fn a_servers_identity_changes_with_its_section_and_not_with_its_secret() {
    let folder = folder();
    let identity = |text: &str| right(folder.path(), text).authorization_servers[0].identity;
    let first = identity(EXAMPLE);
    assert_eq!(first, identity(&EXAMPLE.replace("{ env: GATEWAY_CLIENT_SECRET }", "{ file: client }")), "another secret");
    assert_eq!(
        first,
        identity(&EXAMPLE.replace("    profile: keycloak                     # default: auto\n", "").replace("photoz\n", "photoz\n    profile: keycloak\n")),
        "another order"
    );
    assert_ne!(first, identity(&EXAMPLE.replace("realms/photoz", "realms/other")));
    assert_ne!(first, identity(&EXAMPLE.replace("id: content-gateway", "id: other")));
    assert_ne!(first, identity(&EXAMPLE.replace("keycloak:\n", "other:\n").replace("authorization_server: keycloak", "authorization_server: other")));
}

#[test]
fn an_option_that_is_written_out_has_its_effect() {
    let folder = folder();
    let more = "    audience: any\n    realm: Photos\n    on_unreachable: 503\n    live_decision: false\n    introspection: { max_age: 1s, refresh_window: 0% }\n    timeout: 500ms\n";
    let text = EXAMPLE.replace("upstreams:", &format!("{more}upstreams:"));
    let server = Arc::clone(&right(folder.path(), &text).authorization_servers[0]);
    assert_eq!((server.audience.clone(), &*server.realm, server.live_decision), (authorization_server::Audience::Any, "Photos", Some(false)));
    assert_eq!(server.on_unreachable, Some(crate::response::UnreachableStatus::Unavailable));
    assert_eq!((server.max_age.as_millis(), server.refresh_window, server.timeout.as_millis()), (1000, 0, 500));
}

#[test]
fn leading_zeros_and_numbers_are_texts_where_a_text_is_wanted() {
    let folder = folder();
    let gateway = right(folder.path(), &EXAMPLE.replace("owner: alice", "owner: 007"));
    let routing::Access::Protect(protect) = &gateway.routes[0].access else { panic!("protected") };
    assert!(matches!(&protect.resource, routing::ResourceChoice::Name { owner: Some(owner), .. } if &*owner.text == "007"));
}

#[test]
fn a_secret_that_everyone_can_read_is_a_warning_with_its_place() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let path = folder.path().join("proxy-password");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    let gateway = right(folder.path(), EXAMPLE);
    let [warning] = gateway.warnings.as_slice() else { panic!("one warning") };
    assert!(warning.contains("gateway.yaml:14:53: the secret file") && warning.contains("every user"), "{warning}");
}

#[cfg(feature = "store")]
#[test]
fn records_have_a_file_and_keys() {
    let folder = folder();
    let before = std::fs::read_dir(folder.path()).expect("a folder").count();
    let with = |store: &str| right(folder.path(), &EXAMPLE.replace("upstreams:", &format!("store: {store}\nupstreams:"))).store.expect("a store");
    let store = with("{ file: records.db, key: { file: store-key }, old_keys: [ { file: old-store-key }, { file: store-key } ] }");
    assert_eq!(store.file, folder.path().join("records.db"));
    assert!(store.old_keys[0] != store.key && store.old_keys[1] == store.key);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), before, "nothing is made by reading");
    assert_eq!(with("{ file: /tmp/records.db, key: { file: store-key } }").old_keys, []);
    let text = EXAMPLE.replace("upstreams:", "store: { file: nowhere/records.db, key: { file: nowhere } }\nupstreams:");
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text).expect("written");
    assert!(load_without_secrets(&path).expect("a command that asks where things are").store.is_none());
}

#[test]
fn a_file_that_cannot_be_read_is_a_clear_problem() {
    let folder = folder();
    let problems = load(&folder.path().join("nowhere.yaml")).expect_err("no file");
    assert!(problems.to_string().starts_with("error: there is no such file"), "{problems}");
    assert!(problems.to_string().contains("nowhere.yaml\n1 error. A gateway that is running keeps its configuration."), "{problems}");
    assert!(load(folder.path()).expect_err("a directory").to_string().contains("this is a directory"));
    for empty in ["", "\n# nothing\n", "---\n", "~"] {
        assert!(read_in(folder.path(), empty).expect_err("empty").to_string().contains("the file is empty"), "{empty}");
    }
}

#[test]
fn problems_are_also_told_to_machines() {
    let folder = folder();
    let problems = read_in(folder.path(), &EXAMPLE.replace("upstream: albums\n    public", "upstraem: albums\n    public")).expect_err("misspelt");
    let json = problems.to_json();
    assert_eq!(json["errors"][0]["line"], 23);
    assert_eq!(json["errors"][0]["column"], 5);
    assert_eq!(json["errors"][0]["length"], 8);
    assert_eq!(json["errors"][0]["message"], "unknown key `upstraem`");
    assert_eq!(json["errors"][0]["label"], "did you mean `upstream`?");
}

#[test]
fn every_key_stands_in_the_table_with_what_it_does() {
    let table = table();
    for path in
        ["version", "listeners[].hosts", "authorization_servers.*.introspection.max_age", "routes[].protect.resource.register.scopes", "limits.tickets.rate"]
    {
        assert!(table.contains(&format!("| `{path}` |")), "{path}\n{table}");
    }
    assert!(table.lines().all(|line| line.replace("\\|", "").matches('|').count() == 5), "{table}");
}

#[test]
fn where_pats_belong_to_owners_a_route_says_whose_its_resource_is() {
    let folder = folder();
    let with = |profile: &str, pat: &str, resource: &str| {
        let text = EXAMPLE.replace("    profile: keycloak                     # default: auto\n", &format!("    profile: {profile}\n{pat}"));
        read_in(folder.path(), &text.replace("{ name: Alice vacation, owner: alice }", resource)).map_err(|problems| problems.to_string())
    };
    let alice = "    pat: { owners: { alice: { username: alice.photoz, password: { file: client } } } }\n";
    for (profile, pat, resource) in [
        ("forgerock", alice, "{ name: a, owner: alice }"),
        ("forgerock", alice, "{ id: a, owner: alice }"),
        ("openam-uma1", alice, "{ id: a }"),
        ("uma2", "", "{ name: a, owner: bob }"),
    ] {
        let server = with(profile, pat, resource).unwrap_or_else(|problems| panic!("{profile} {resource}: {problems}"));
        assert_eq!(server.authorization_servers[0].owners.len(), usize::from(!pat.is_empty()));
    }
    for profile in ["forgerock", "openam-uma1", "uma2", "auto"] {
        let problems = with(profile, alice, "{ name: a, owner: bob }").expect_err("no PAT of Bob");
        assert!(problems.contains("has no PAT of bob") && problems.contains("owners: { bob:"), "{problems}");
    }
    assert!(with("forgerock", "", "{ name: a, owner: alice }").expect_err("none at all").contains("has no PAT of alice"));
    assert!(with("forgerock", alice, "{ name: a }").expect_err("nobody's").contains("`owner` is missing"));
}

#[test]
fn owners_who_link_the_gateway_need_a_place_for_it_and_records() {
    let folder = folder();
    let with = |owners: &str, admin: &str, store: &str| {
        let text = EXAMPLE.replace("upstreams:", &format!("    pat: {{ owners: {{ {owners} }} }}\nupstreams:"));
        read_in(folder.path(), &format!("{text}\n{admin}\n{store}\n"))
    };
    let alice = "alice: { authorization_code: true }";
    let admin = "admin: { socket: admin.sock, public_url: \"https://gateway-admin.example.org/gw/\" }";
    let store = "store: { file: records.db, key: { file: store-key } }";
    let problems = |owners: &str, admin: &str, store: &str| with(owners, admin, store).expect_err("a mistake").to_string();
    if cfg!(feature = "store") {
        let config = with(alice, admin, store).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.public_url.as_deref(), Some("https://gateway-admin.example.org/gw"));
    }
    let told = problems(alice, admin, "");
    assert!(told.contains("owners who link the gateway need `store`") && !told.contains("public_url`: their"), "{told}");
    for admin in ["", "admin: { socket: admin.sock }"] {
        let told = problems(alice, admin, store);
        assert!(told.contains("owners who link the gateway need `admin.public_url`") && !told.contains("need `store`"), "{told}");
    }
    assert!(problems(alice, &admin.replace("https", "http"), store).contains("would travel in the clear"));
    assert!(problems(alice, &admin.replace("/gw/", "/?a=b"), store).contains("without a query"));
    for twice in [
        "bob: { authorization_code: true, username: alice }, alice: { authorization_code: true }",
        "a: { authorization_code: true, subject: x }, b: { authorization_code: true, subject: x }",
    ] {
        assert!(problems(twice, admin, store).contains("one user, one owner"));
    }
    // Of two with the same name there, one is told by the subject.
    let told = with("bob: { authorization_code: true, username: alice, subject: x }, alice: { authorization_code: true }", admin, store);
    assert!(told.is_ok() || cfg!(not(feature = "store")));
}

#[test]
fn an_owners_answers_are_kept_apart_from_the_servers() {
    let folder = folder();
    let pat = "    pat: { owners: { alice: { password: { file: client } }, bob: { password: { file: proxy } } } }\nupstreams:";
    let server = Arc::clone(&right(folder.path(), &EXAMPLE.replace("upstreams:", pat)).authorization_servers[0]);
    let [own, alice, bob] = [None, Some("alice"), Some("bob")].map(|owner| server.identity_for(owner));
    assert!(own == server.identity && own != alice && alice != bob && own != bob);
    let other = Arc::clone(&right(folder.path(), &EXAMPLE.replace("upstreams:", &pat.replace("file: proxy", "file: family"))).authorization_servers[0]);
    assert_eq!(other.identity_for(Some("alice")), alice, "another password is the same section");
    let one = Arc::clone(&right(folder.path(), EXAMPLE).authorization_servers[0]);
    assert_eq!(one.identity_for(Some("alice")), one.identity, "one PAT for all");
}

#[test]
fn a_route_of_a_plain_oauth_server_has_scopes_and_no_resource() {
    let folder = folder();
    let oauth = EXAMPLE.replace("    profile: keycloak                     # default: auto\n", "    profile: oauth\n");
    let without = oauth.replace("      resource: { name: Alice vacation, owner: alice }\n", "");
    right(folder.path(), &without);
    let wrong = |text: &str| read_in(folder.path(), text).expect_err("a mistake").to_string();
    assert!(wrong(&oauth).contains("this authorization server knows no resources"));
    assert!(wrong(&without.replace("GET: [view]", "GET: []")).contains("any token of this authorization server would do"));
    let more = without.replace("upstreams:", "    pat: { owners: { alice: { password: { file: client } } } }\n    live_decision: true\nupstreams:");
    let problems = wrong(&more);
    assert!(problems.contains("`pat` means nothing with profile `oauth`") && problems.contains("`live_decision` means nothing"), "{problems}");
    assert!(wrong(&EXAMPLE.replace("      resource: { name: Alice vacation, owner: alice }\n", "")).contains("`resource` is missing: `protect` needs it"));
}
