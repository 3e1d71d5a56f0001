//! What a person meets at the terminal: help that tells exit codes, rows that can be looked up, hints that can be typed as they stand.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

use std::process::{Command, Output};

use uma_gateway::response::Row;

fn gateway(folder: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    command.args(arguments).current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("COLUMNS", "200").env_remove("UMA_GATEWAY_CONFIG").output().expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_command_that_can_fail_lists_its_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["run", "check", "explain", "reload", "healthcheck", "demo", "fetch"] {
        let help = said(&gateway(folder.path(), &[command, "--help"]));
        assert!(help.contains("Exit codes: 0 ") && help.contains(" 1 ") && help.contains(" 2 "), "{command}: {help}");
        assert_eq!(help.contains(" 3 "), command == "fetch", "{command}: {help}");
    }
    assert!(said(&gateway(folder.path(), &["--help"])).contains("78 a wrong configuration"));
}

#[test]
fn rows_are_explained_without_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let all = said(&gateway(folder.path(), &["explain", "--rows"]));
    assert_eq!(all.lines().count(), Row::ALL.len());
    for row in Row::ALL {
        let one = gateway(folder.path(), &["explain", row.label()]);
        assert!(one.status.success() && said(&one).contains(row.meaning().trim()) && all.contains(&said(&one)), "{row:?}");
    }
    assert_eq!(gateway(folder.path(), &["explain"]).status.code(), Some(2));
}

#[test]
fn the_hint_of_explain_names_the_configuration_that_was_used() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let text = "version: 1\nlisteners: [ { address: 127.0.0.1:8080 } ]\nauthorization_servers: { id: { issuer: http://127.0.0.1:1, client: { id: gw, secret: { env: GW } } } }\n\
                upstreams: { content: { servers: [ http://127.0.0.1:1 ] } }\n\
                routes: [ { path: /a, protect: { resource: { name: a, owner: alice }, scopes: { GET: [view] } } } ]\n";
    std::fs::write(folder.path().join("other name.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    let output = command.args(["explain", "GET", "/a", "--config", "other name.yaml"]).current_dir(folder.path()).env("GW", "x").output().expect("it runs");
    assert!(said(&output).contains("uma-gateway check --online --config 'other name.yaml'"), "{output:?}");
}

#[test]
fn a_health_check_says_why_it_is_not_ready() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::fs::write(
        folder.path().join("gateway.yaml"),
        format!(
            "version: 1\nlisteners: [ {{ address: 127.0.0.1:8080 }} ]\nhealth: {{ address: {address} }}\nupstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\n\
             routes: [ {{ path: /a, public: true }} ]\n"
        ),
    )
    .unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let size = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 20\r\n\r\nauthorization server").unwrap();
        String::from_utf8_lossy(&head[..size]).into_owned()
    });
    let output = gateway(folder.path(), &["healthcheck"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not ready: 503 Service Unavailable\nauthorization server"), "{output:?}");
    assert!(asked.join().unwrap().starts_with("GET /readyz?verbose "));
}
