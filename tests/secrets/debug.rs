//! What a developer prints while looking for a fault may end in a log: nothing that holds a secret shows it.

use std::fmt::Debug;
use std::net::SocketAddr;

use uma_gateway::app::{Gateway, Options};
use uma_gateway::config;
use uma_gateway::credentials::Credential;
use uma_gateway::credentials::oauth2::Grant;
use uma_gateway::secret::{Rotating, Secret};
use uma_gateway::uma::{Pat, PermissionTicket, Rpt};

use crate::planted::Planted;

const CONFIGURATION: &str = r#"version: 1
listeners: [ { address: 127.0.0.1:0 } ]
admin: { address: 127.0.0.1:0, token: { env: ADMIN } }
authorization_servers:
  server: { issuer: "http://127.0.0.1:9", client: { id: content-gateway, secret: { env: CLIENT } } }
  in_body: { issuer: "http://127.0.0.1:9", client: { id: content-gateway, secret: { env: IN_BODY }, in_body: true } }
  signs: { issuer: "http://127.0.0.1:9", client: { id: content-gateway, private_key: { env: KEY } } }
upstreams:
  basic: { servers: [ "http://127.0.0.1:9" ], credentials: { basic: { username: gateway, password: { env: PASSWORD } } } }
  bearer: { servers: [ "http://127.0.0.1:9" ], credentials: { bearer: { token: { env: BEARER } } } }
  header: { servers: [ "http://127.0.0.1:9" ], credentials: { headers: { X-Upstream-Key: { env: HEADER } } } }
  oauth2: { servers: [ "http://127.0.0.1:9" ], credentials: { oauth2: { token_endpoint: "http://127.0.0.1:9/token", client: { id: a, secret: { env: OAUTH2 } } } } }
routes:
  - { path: /a, upstream: basic, protect: { authorization_server: server, resource: { name: a, owner: alice }, scopes: { GET: [view] } } }
  - { path: /b, upstream: bearer, public: true }
  - { path: /c, upstream: header, public: true }
  - { path: /d, upstream: oauth2, public: true }
"#;

#[test]
fn nothing_that_holds_a_secret_prints_it() {
    let mut planted = Planted::default();
    let names = ["ADMIN", "CLIENT", "PASSWORD", "BEARER", "HEADER", "OAUTH2", "IN_BODY"];
    let environment: Vec<(&str, String)> = names.into_iter().map(|name| (name, planted.plant(name))).collect();
    let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let key = |name: &str| (name == "KEY").then(|| pem.clone());
    let value = |name: &str| key(name).or_else(|| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()));
    let config = config::parse(CONFIGURATION, std::path::Path::new("gateway.yaml"), &value).unwrap_or_else(|problems| panic!("{problems}"));
    let mut printed = Vec::new();
    let mut print = |thing: &dyn Debug| printed.push(format!("{thing:?} {thing:#?}"));

    print(&config);
    for server in &config.authorization_servers {
        print(server);
        print(&Rotating::new(server.client.clone()));
    }
    for (upstream, credential) in config.upstreams.iter().zip(&config.credentials) {
        print(credential);
        if let Credential::Oauth2 { token_endpoint, client, scopes } = &credential.credential {
            print(&Grant { upstream: upstream.name.clone(), token_endpoint: token_endpoint.clone(), client: client.clone(), scopes: scopes.clone() });
        }
    }
    let options = Options { log: Some(|| Box::new(std::io::sink())), ..Options::default() };
    let gateway = Gateway::start(config, &options).expect("it starts");
    print(&gateway.snapshot());
    print(&gateway.config());
    print(gateway.cache());

    let token = planted.plant("token");
    let secret = || Secret::from(token.as_str());
    print(&(secret(), secret().from_origin("a file"), Rpt(secret()), Pat(secret()), PermissionTicket(secret())));
    let url = "http://h/".parse().expect("an address");
    print(&uma_gateway::admin::ExplainRequest { method: http::Method::GET, url, token: Some(secret()) });
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    print(&uma_gateway::admin::AdminClient::new(&uma_gateway::admin::AdminDoor::Address { address, token: secret() }));

    assert!(printed.len() >= 12);
    for text in &printed {
        assert!(planted.found(text.as_bytes()).is_empty(), "{text}");
        assert!(pem.lines().all(|line| !text.contains(line)), "{text}");
    }
}
