//! README says what is true.

#![expect(clippy::expect_used, clippy::string_slice, reason = "helpers of a test: they stop at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md")
}

#[test]
fn the_configuration_table_is_the_descriptions_own() {
    let readme = readme();
    let begin = readme.find("<!-- configuration: begin").expect("the beginning of the table");
    let end = readme.find("<!-- configuration: end -->").expect("the end of the table");
    let shown = readme[begin..end].split_once('\n').expect("a line").1;
    assert_eq!(shown.trim(), uma_gateway::config::table().trim(), "put the output of `config::table()` between the two marks");
}

#[test]
fn every_metric_that_readme_names_exists() {
    let metrics = uma_gateway::telemetry::Metrics::new().expect("metrics").encode().expect("text");
    let readme = readme();
    let section = readme.split("## Metrics").nth(1).expect("the section").split("\n## ").next().expect("its end");
    let names = section.split('`').skip(1).step_by(2).map(|name| name.split('{').next().unwrap_or(name));
    let names = names.filter(|name| ["uma_", "http_", "tls_", "process_"].iter().any(|family| name.starts_with(family)));
    let code = code_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry"));
    // A family without a series yet is not in the text, but its name is in the code.
    let missing: Vec<&str> = names.filter(|name| !metrics.contains(name) && !code.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn code_below(folder: &Path) -> String {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { code_below(&path) } else { fs::read_to_string(&path).unwrap_or_default() }).collect()
}

#[test]
fn the_socket_unit_has_the_address_of_the_shipped_configuration() {
    let file = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name);
    let config = uma_gateway::config::parse(&file("gateway.yaml"), Path::new("gateway.yaml"), &|_| Some("x".into())).expect("it is right");
    let unit = file("deploy/systemd/uma-gateway.socket");
    let streams: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    let addresses: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(streams, addresses);
}

#[test]
fn the_configurations_that_readme_shows_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("for its owner only");
    };
    for secret in ["client-secret", "alice-password", "proxy-password", "admin-token"] {
        put(secret, "correct horse battery staple");
    }
    put("store-key", &format!("1{}", "a".repeat(63)));
    put("gateway.pub", &rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key").public_key_pem());
    let readme = readme();
    let blocks = readme.split("\n```").skip(1).step_by(2).filter(|block| block.starts_with("yaml")).filter_map(|block| block.split_once('\n'));
    let whole: Vec<&str> = blocks.map(|(_, text)| text).filter(|text| text.starts_with("version: 1\n")).collect();
    assert!(whole.len() >= 4, "{}", whole.len());
    for text in whole {
        let problems = uma_gateway::config::parse(text, &folder.path().join("gateway.yaml"), &|_| Some("x".into())).err();
        assert!(problems.is_none(), "{text}\n{problems:?}");
    }
}
