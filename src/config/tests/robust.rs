//! Nothing that a file holds makes the reading panic, grow without bound, or print a secret.

use std::path::Path;

use proptest::prelude::*;

use super::{EXAMPLE, environment, folder, parse, read_in};

const SECRET: &str = "hunter2";

#[test]
fn what_is_to_be_written_instead_moves_no_cursor() {
    for (right, wrong, instead) in [
        ("issuer: http://127.0.0.1:8180/realms/photoz", r#"issuer: "id.example.org\u001b[2J""#, "write   https://id.example.org·[2J"),
        ("    servers: [", "    health_check: { path: \"health\\u0007\" }\n    servers: [", "write   /health·"),
    ] {
        assert!(EXAMPLE.contains(right), "{right}");
        let problems = read_in(folder().path(), &EXAMPLE.replace(right, wrong)).expect_err("wrong");
        let shown = format!("{problems}");
        assert!(shown.contains(instead) && !shown.contains(['\u{7}', '\u{1b}']), "{shown:?}");
    }
}

#[test]
fn a_secret_that_was_written_out_is_never_printed() {
    let spoil = |from: &str, to: &str| {
        assert!(EXAMPLE.contains(from), "{from}");
        EXAMPLE.replace(from, to)
    };
    let client = "client: { id: content-gateway, secret: { env: GATEWAY_CLIENT_SECRET } }";
    let basic = "basic: { username: gateway, password: { file: proxy-password } }";
    let texts = [
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "hunter2"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "\"hunter2\", unknown: 1"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "[hunter2]"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "{ value: hunter2 }"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "{ hunter2 }"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "{ env: \"hunter2!\" }"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "{ env: A, file: b, literal: hunter2 }"),
        spoil("secret: { env: GATEWAY_CLIENT_SECRET }", "secrte: hunter2"),
        spoil("secret: { env: GATEWAY_CLIENT_SECRET }", "client_secret: hunter2"),
        spoil("secret: { env: GATEWAY_CLIENT_SECRET }", "pw: hunter2"),
        spoil("secret: { env: GATEWAY_CLIENT_SECRET }", "anything: hunter2"),
        spoil("secret: { env: GATEWAY_CLIENT_SECRET } }", "secret: |\n      hunter2\n      more }"),
        spoil(client, "client: hunter2"),
        spoil(client, "client: [content-gateway, hunter2]"),
        spoil(client, "client:\n      id: x\n      secret:\n        - hunter2"),
        spoil(client, "client:\n      id: x\n      secret: |\n        hunter2"),
        spoil(client, "client:\n      id: x\n      secret: hunter2\n      secret: hunter2"),
        spoil(basic, "basic: gateway:hunter2"),
        spoil(basic, "basic: { username: gateway, password: hunter2 }"),
        spoil(basic, "basic: { username: gateway, passwrod: hunter2 }"),
        spoil(basic, "bearer: hunter2"),
        spoil(basic, "bearer: { token: hunter2 }"),
        spoil(basic, "headers: hunter2"),
        spoil(basic, "headers: { X-Key: hunter2 }"),
        spoil(basic, "headers: { X_Key: hunter2 }"),
        spoil(basic, "headers: { X-Key: hunter2, X-Key: hunter2 }"),
        spoil(basic, "oauth2: { token_endpoint: \"https://a:hunter2@b/\", client: { id: a, secret: hunter2 } }"),
        spoil("    credentials:\n", "    credential:\n").replace("{ file: proxy-password }", "hunter2"),
        spoil("    credentials:\n      basic", "    credentials: hunter2\n    x"),
        spoil("[ http://127.0.0.1:9101 ]", "[ \"http://gateway:hunter2@127.0.0.1:9101\" ]"),
        spoil("[ http://127.0.0.1:9101 ]", "http://gateway:hunter2@127.0.0.1:9101"),
        spoil("issuer: http://", "issuer: http://gateway:hunter2@"),
        spoil("health: { address: 127.0.0.1:9090 }", "admin: { address: 127.0.0.1:9090, token: hunter2 }"),
        spoil("health: { address: 127.0.0.1:9090 }", "admin: { address: 127.0.0.1:9090, tokne: hunter2 }"),
        spoil("health: { address: 127.0.0.1:9090 }", "store: hunter2"),
        spoil("health: { address: 127.0.0.1:9090 }", "store: { file: x, key: hunter2 }"),
        spoil("health: { address: 127.0.0.1:9090 }", "store: { file: x, key: { env: PROXY_PASSWORD }, old_keys: hunter2 }"),
        spoil("health: { address: 127.0.0.1:9090 }", "store: { file: x, key: { env: PROXY_PASSWORD }, old_keys: [ hunter2 ] }"),
        spoil("health: { address: 127.0.0.1:9090 }", "store: { file: x, key: { env: PROXY_PASSWORD }, old_key: [ hunter2 ] }"),
        // Syntax errors, where there is no tree to look into.
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "hunter2{a}"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "@hunter2"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "*hunter2"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "\"hunter2"),
        spoil("{ env: GATEWAY_CLIENT_SECRET }", "a: hunter2"),
        spoil(client, "client:\n      id: x\n      secret: @hunter2"),
        spoil(client, "client:\n      id: x\n      secret: a: hunter2"),
        spoil(client, "client:\n      id: x\n      secret:\n        @hunter2"),
        spoil(basic, "headers:\n        X-Key: @hunter2"),
        spoil(basic, "headers: { X-Key: %hunter2 }"),
        spoil(basic, "basic: { username: gateway, password: hunter2 ]"),
    ];
    let folder = folder();
    for text in texts {
        let problems = read_in(folder.path(), &text).expect_err(&text);
        let printed = format!("{problems}\n{problems:?}\n{}", problems.to_json());
        assert!(!printed.contains(SECRET), "{text}\n{printed}");
    }
}

#[test]
fn what_a_right_configuration_holds_of_secrets_is_not_printed_either() {
    let folder = folder();
    let gateway = read_in(folder.path(), EXAMPLE).expect("right");
    let printed = format!("{gateway:?}");
    for secret in ["open-sesame", "hidden in the environment", "Z2F0ZXdheTpvcGVu"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn ten_thousand_routes_of_one_line_are_read() {
    let (head, _) = EXAMPLE.split_once("routes:\n").expect("routes");
    let routes: String = (0..10_000).map(|number| format!("  - {{ path: /public/{number}/**, upstream: albums, public: true, semicolon: true }}\n")).collect();
    let folder = folder();
    let gateway = read_in(folder.path(), &format!("{head}routes:\n{routes}")).expect("right");
    assert_eq!(gateway.routes.len(), 10_000);
}

#[test]
fn aliases_and_nesting_are_bounded() {
    let bomb: String = (1..12).map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "))).collect();
    let bomb = format!("a0: &a0 x\n{bomb}");
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let chain: String = (1..100).map(|level| format!("a{level}: &a{level} [[[[[[[[[[*a{}]]]]]]]]]]\n", level - 1)).collect();
    let long = "x: y\n".repeat(300_000);
    for (text, words) in [
        (bomb, "aliases make the file grow"),
        (deep, "nested"),
        (format!("a0: &a0 x\n{chain}"), "nested deeper"),
        ("a: &a [*a]\n".to_owned(), "inside the value that it names"),
        (long, "larger than 1 MiB"),
        ("version: 1\n---\nversion: 1\n".to_owned(), "a second document"),
    ] {
        let problems = parse(&text, Path::new("gateway.yaml"), &environment).expect_err("bounded").to_string();
        assert!(problems.contains(words), "{problems}");
    }
}

#[test]
fn an_alias_is_what_it_names() {
    let folder = folder();
    let text = EXAMPLE.replace("{ GET: [view], \"PUT, DELETE\": [edit] }", "&rw { GET: [view] }");
    let text = format!("{text}  - path: /docs\n    protect: {{ resource: {{ name: docs }}, scopes: *rw }}\n");
    assert_eq!(read_in(folder.path(), &text).expect("right").routes.len(), 3);
}

#[test]
fn mistakes_of_a_terminal_are_not_repeated_to_it() {
    let text = EXAMPLE.replace("health:", "\"he\\e[31mlth\u{202e}\":");
    let printed = read_in(Path::new(""), &text).expect_err("unknown key").to_string();
    assert!(!printed.contains(['\u{1b}', '\u{202e}']), "{printed}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_of_yaml_characters_is_read_without_panic(text in "[a-z0-9:{}\\[\\],&*!|>'\"#%@`? \n\t/-]{0,200}") {
        survives(&text);
    }

    #[test]
    fn a_spoilt_configuration_is_read_without_panic(cuts in proptest::collection::vec((0..EXAMPLE.len(), 0..40_usize, "[a-z:{}\\[\\],&*\"# \n/~]{0,6}"), 1..6)) {
        let mut text = EXAMPLE.to_owned();
        for (at, length, instead) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &instead);
        }
        survives(&text);
    }
}

fn survives(text: &str) {
    if let Err(problems) = parse(text, Path::new("gateway.yaml"), &environment) {
        assert!(!problems.errors.is_empty());
        let printed = problems.to_string();
        assert!(!printed.contains("could not be read"), "a problem without words: {text}");
        assert!(problems.to_json().is_object());
    }
}
