//! Whole configurations: the right ones are read as they are meant, the wrong ones say what to write instead.

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
    for name in ["proxy-password", "client", "proxy", "family", "research", "api-key"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "open sesame\n").expect("a file");
        close(&path);
    }
    folder
}

fn close(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
}

fn environment(name: &str) -> Option<String> {
    (name == "GATEWAY_CLIENT_SECRET").then(|| "hidden in the environment".to_owned())
}

fn read_in(folder: &Path, text: &str) -> Result<Gateway, Problems> {
    parse(text, &folder.join("gateway.yaml"), &environment)
}

#[test]
fn the_example_of_the_issue_is_read_as_it_is_written() {
    let folder = folder();
    let gateway = read_in(folder.path(), EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    println!("{gateway:#?}");
}
