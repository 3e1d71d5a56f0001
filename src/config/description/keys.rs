//! The keys themselves, in the order in which people write them.

use super::{Key, KeyKind, Kind, Section};

/// `scopes: http_method_as_scope`, as Keycloak's policy enforcer calls it.
pub(in crate::config) const AS_SCOPE: &str = "http_method_as_scope";

/// The whole file.
pub(in crate::config) static FILE: Section = Section::new(
    "the configuration",
    &[
        Key::new("version", Kind::Version, "The version of this format.").required().example("1"),
        Key::new("listeners", Kind::List(&Kind::Section(&LISTENER)), "Where the gateway listens.").required(),
        Key::new("health", Kind::Section(&HEALTH), "Health and metrics: `/livez`, `/readyz`, `/startupz`, `/metrics`."),
        Key::new("admin", Kind::Section(&ADMIN), "The operator's door, which `explain` asks: a Unix socket, or an address with a token."),
        Key::new(
            "authorization_servers",
            Kind::Map(KeyKind::Name, &Kind::Section(&SERVER)),
            "The authorization servers that decide, by a name of your choice.",
        ),
        Key::new("upstreams", Kind::Map(KeyKind::Name, &Kind::Section(&UPSTREAM)), "The content servers, by a name of your choice.").required(),
        Key::new(
            "hosts",
            Kind::Map(KeyKind::Host, &Kind::Section(&HOST)),
            "Defaults for the routes of a host. What a route says itself replaces them; nothing is merged.",
        ),
        Key::new("routes", Kind::List(&Kind::Section(&ROUTE)), "What is let through. Of all routes that match the most exact one counts, never the order.")
            .required(),
        Key::new("trusted_proxies", Kind::List(&Kind::Network), "Peers that are believed about the client: its address by `X-Forwarded-For`, or by `Forwarded` where there is none; its scheme by `X-Forwarded-Proto` or `Forwarded`. `X-Forwarded-Host` is only told to the content server.")
            .default("none")
            .example("[10.0.0.0/8]"),
        Key::new("limits", Kind::Section(&LIMITS), "What one client may cause, and connections of clients."),
        Key::new(
            "open_with",
            Kind::Url,
            "The client application, offered on the page that a browser gets instead of content; `{url}` is the address asked for.",
        )
        .example("\"https://app.example.org/open?link={url}\""),
        Key::new("store", Kind::Section(&STORE), "Records that outlive a restart: resources of owners, and their tokens, encrypted. A change needs a restart."),
        Key::new(
            "shares",
            Kind::Section(&SHARES),
            "Owners share what is theirs by an API of its own, at routes with `resource: { shared: true }`. Needs `store`.",
        ),
        Key::new("log", Kind::Section(&LOG), "Logs."),
        Key::new("drain", Kind::Section(&DRAIN), "How the gateway ends when it is told to."),
        Key::new("workers", Kind::Number(1, 1024), "Threads that carry requests.").default("CPUs available").example("2"),
    ],
);

static LISTENER: Section = Section::new(
    "a listener",
    &[
        Key::new("address", Kind::Address, "Address and port; port 0 takes any.").required().example("0.0.0.0:8080"),
        Key::new("hosts", Kind::List(&Kind::Host), "The hosts served here; a request for another one is answered 421.")
            .default("any")
            .example("[photos.example.org]"),
        Key::new("tls", Kind::Section(&LISTENER_TLS), "Serves TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2 over it. Files that change are used for new connections."),
        Key::new("h2c", Kind::Boolean, "Speaks HTTP/2 without TLS to clients that begin with it, beside HTTP/1.1.").default("false"),
    ],
);

static LISTENER_TLS: Section = Section::new(
    "`tls`",
    &[
        Key::new("certificates", Kind::List(&Kind::Section(&CERTIFICATE)), "Certificates by the names in them; the first one answers where no name fits.")
            .required(),
        Key::new("client_auth", Kind::Word(&["none", "optional", "required"]), "Whether clients show a certificate.").default("none"),
        Key::new("client_ca", Kind::File, "Certificates (PEM) that clients' certificates are checked against.").example("clients.pem"),
        Key::new("min_version", Kind::Word(&["1.2", "1.3"]), "The oldest version of TLS that is spoken.").default("1.2"),
        Key::new("hsts", Kind::Duration, "How long browsers are told to come by https only (`Strict-Transport-Security`).").default("not told").example("180d"),
    ],
);

static CERTIFICATE: Section = Section::new(
    "a certificate",
    &[
        Key::new("certificate", Kind::File, "The chain (PEM), the listener's own certificate first.").required().example("tls.crt"),
        Key::new("key", Kind::File, "Its private key (PEM).").required().example("tls.key"),
    ],
);

static STORE: Section = Section::new(
    "`store`",
    &[
        Key::new("file", Kind::File, "The SQLite database. It is made where there is none; one gateway has it at a time.")
            .required()
            .example("/var/lib/uma-gateway/records.db"),
        Key::new("key", Kind::Secret, "32 random octets in base64 or hexadecimal, which tokens are encrypted with.").required(),
        Key::new("old_keys", Kind::List(&Kind::Secret), "Keys from before: what they encrypted is encrypted with `key` at the next start.")
            .default("none")
            .example("[ { file: old-store-key } ]"),
    ],
);

static SHARES: Section = Section::new(
    "`shares`",
    &[
        Key::new("socket", Kind::File, "A Unix socket for the API, open to the gateway's own user only.").example("/run/uma-gateway/shares.sock"),
        Key::new("address", Kind::Address, "Address and port of the API, without TLS.").example("127.0.0.1:9092"),
        Key::new("authorization_server", Kind::Text, "The one whose owners share.").default("the only authorization server").example("keycloak"),
        Key::new("scope", Kind::Text, "The scope that an owner's token needs.").required().example("share"),
        Key::new("owner", Kind::Word(&["sub", "username"]), "What of the introspection answer names the owner.").default("sub"),
        Key::new("admin_key", Kind::Secret, "What the operator bears in the place of a token, to share for any owner: 32 octets or more that nobody guesses.")
            .default("none"),
        Key::new("public_url", Kind::Url, "What shareable links begin with: scheme and host of the gateway, as the world has them.")
            .required()
            .example("https://photos.example.org"),
        Key::new("prefix", Kind::Pattern, "The path below which links are: `{public_url}{prefix}/{id}`.").default("/s"),
        Key::new("per_owner", Kind::Number(1, 1_000_000), "How many shares one owner may have.").default("1000"),
    ],
)
.one_of(&[&["socket"], &["address"]]);

static HEALTH: Section = Section::new(
    "`health`",
    &[Key::new("address", Kind::Address, "Address and port, reachable for probes and for Prometheus.").required().example("127.0.0.1:9090")],
);

static ADMIN: Section = Section::new(
    "`admin`",
    &[
        Key::new("socket", Kind::File, "A Unix socket, open to the gateway's own user only.").example("/run/uma-gateway/admin.sock"),
        Key::new("address", Kind::Address, "Address and port.").example("127.0.0.1:9091"),
        Key::new("token", Kind::Secret, "What every request to the address bears, but for those of owners who link the gateway."),
        Key::new(
            "public_url",
            Kind::Url,
            "Where owners' browsers reach the door, to link the gateway: below it are `/owners/NAME/link` and `/owners/NAME/callback`.",
        )
        .default("nowhere")
        .example("https://gateway-admin.example.org"),
    ],
)
.one_of(&[&["socket"], &["address", "token"]]);

static SERVER: Section = Section::new(
    "an authorization server",
    &[
        Key::new(
            "profile",
            Kind::Word(&["auto", "uma2", "keycloak", "forgerock", "keycloak-uma1", "openam-uma1", "oauth"]),
            "The kind of server; `auto` finds out from its discovery document, but for `oauth`: an OAuth server with introspection and without UMA.",
        )
        .default("auto"),
        Key::new("issuer", Kind::Url, "The issuer, exactly as the server's discovery document has it.")
            .required()
            .example("https://id.example.org/realms/photoz"),
        Key::new("discovery", Kind::Url, "Full address of the discovery document.")
            .default("by profile")
            .example("https://id.example.org/realms/photoz/.well-known/uma2-configuration"),
        Key::new("backchannel", Kind::Url, "Internal address: replaces scheme and authority of every endpoint, while `Host` stays the issuer's.")
            .default("the issuer's")
            .example("http://keycloak.iam.svc:8080"),
        Key::new("allow_insecure", Kind::Boolean, "Allows `http://` to hosts other than loopback.").default("false"),
        Key::new("client", Kind::Section(&CLIENT), "The gateway's own client at the server.").required(),
        Key::new(
            "pat",
            Kind::Section(&PAT),
            "Protection API access tokens of owners. Without it the client's own is for everybody's resources, which `forgerock` and `openam-uma1` do not allow.",
        ),
        Key::new("tls", Kind::Section(&TLS), "Trust, and the gateway's certificate, towards this server."),
        Key::new("audience", Kind::WordOr(&["any"], "text"), "The audience that a token must name, if it names any.")
            .default("the client id")
            .example("content-gateway"),
        Key::new("realm", Kind::Text, "The realm of the challenge.").default("the issuer's last path segment, else its host").example("photoz"),
        Key::new("as_uri", Kind::Text, "What the challenge calls the server.").default("the issuer").example("https://am.example.org/am"),
        Key::new("uma_1_0", Kind::Section(&UMA_1_0), "For clients of UMA 1.0: what they look for in a challenge."),
        Key::new(
            "lenient",
            Kind::Section(&LENIENT),
            "Readings of a token's permissions that the specification does not have, logged at each use. The live decision is never read so.",
        ),
        Key::new("rpt_header", Kind::Text, "A header in which clients may present the token besides `Authorization`. It never goes further, on or off.")
            .default("none")
            .example("X-FRDP-RPT"),
        Key::new("introspection", Kind::Section(&INTROSPECTION), "How long answers about a token are used."),
        Key::new("timeout", Kind::Duration, "Time that one request has for all calls to the server that it causes.").default("2s"),
        Key::new("live_decision", Kind::Boolean, "Asks the server also what is granted now, so that an owner's withdrawal counts within `max_age`.")
            .default("true for `keycloak` and `keycloak-uma1`"),
        Key::new("on_unreachable", Kind::Status(&[403, 503]), "One status for every case of a server that cannot be reached.")
            .default("as the case is")
            .example("503"),
    ],
);

static CLIENT: Section = Section::new(
    "the client",
    &[
        CLIENT_ID,
        CLIENT_SECRET,
        IN_BODY,
        PRIVATE_KEY,
        KEY_ID,
        ASSERTION_AUDIENCE.default("the issuer"),
        Key::new("certificate", Kind::True, "In the place of a secret: the certificate that `tls` names (`tls_client_auth`, `self_signed_tls_client_auth`)."),
    ],
)
.one_of(&[&["secret"], &["private_key"], &["certificate"]]);

static OAUTH2_CLIENT: Section =
    Section::new("the client", &[CLIENT_ID, CLIENT_SECRET, IN_BODY, PRIVATE_KEY, KEY_ID, ASSERTION_AUDIENCE.default("the token endpoint")])
        .one_of(&[&["secret"], &["private_key"]]);

const CLIENT_ID: Key = Key::new("id", Kind::Text, "Client id.").required().example("content-gateway");
const CLIENT_SECRET: Key = Key::new("secret", Kind::Secret, "Client secret, shown in the header (`client_secret_basic`).");
const IN_BODY: Key = Key::new("in_body", Kind::True, "The secret is shown in the form (`client_secret_post`).");
const PRIVATE_KEY: Key = Key::new(
    "private_key",
    Kind::Secret,
    "In the place of a secret: a private key (PKCS#8, PEM; Ed25519, P-256 or RSA) that signs an assertion of 60 s for each request (`private_key_jwt`).",
);
const KEY_ID: Key = Key::new("key_id", Kind::Text, "`kid` of the assertion, by which the server finds the public key.").default("none").example("\"2026-11\"");
const ASSERTION_AUDIENCE: Key =
    Key::new("audience", Kind::Text, "`aud` of the assertion, for a server that wants another one.").example("https://am.example.org/am/oauth2/access_token");

static LENIENT: Section = Section::new(
    "`lenient`",
    &[
        Key::new(
            "permission_without_scopes",
            Kind::Boolean,
            "A permission in which scopes are left out, by whoever speaks of it, grants every scope of its resource. An empty list grants none.",
        )
        .default("false"),
        Key::new("permission_without_resource", Kind::Boolean, "A permission without a resource is for every resource of the server.").default("false"),
    ],
);

static UMA_1_0: Section = Section::new(
    "`uma_1_0`",
    &[
        Key::new("ticket_in_body", Kind::Boolean, "The body of a challenge is `{ticket, as_uri}`, as in its header, in the place of the problem.")
            .default("false"),
        Key::new("insufficient_status", Kind::Status(&[401, 403]), "The status for a token that lacks a permission.").default("401"),
    ],
);

static PAT: Section = Section::new(
    "`pat`",
    &[Key::new(
        "owners",
        Kind::Map(KeyKind::Owner, &Kind::Section(&OWNER)),
        "Owners who have a token of their own, by the names that `resource.owner` has for them.",
    )
    .required()],
);

static OWNER: Section = Section::new(
    "an owner",
    &[
        Key::new("username", Kind::Text, "The owner's user name at the server.").default("the owner's name").example("alice"),
        Key::new("password", Kind::Secret, "The owner's password there: the first token is had with it, others by refreshing."),
        Key::new("authorization_code", Kind::True, "The owner links the gateway at `admin.public_url`, once, by signing in at the server. It needs `store`."),
        Key::new("subject", Kind::Text, "The owner's `sub` at the server. It counts instead of the user name, which may change hands.")
            .default("none")
            .example("7b72a8c1"),
    ],
)
.one_of(&[&["password"], &["authorization_code"]]);

static TLS: Section = Section::new(
    "`tls`",
    &[
        Key::new("ca", Kind::File, "Certificates (PEM) trusted instead of the platform's.").example("ca.pem"),
        Key::new("client_certificate", Kind::File, "The gateway's certificate chain (PEM).").example("gateway.pem"),
        Key::new("client_key", Kind::File, "Its private key (PEM).").example("gateway-key.pem"),
    ],
);

static INTROSPECTION: Section = Section::new(
    "`introspection`",
    &[
        Key::new("max_age", Kind::Duration, "Longest use of an answer: a revoked token or share ends within it.").default("30s"),
        Key::new("negative_max_age", Kind::Duration, "Longest use of the answer that a token is not active.").default("5s"),
        Key::new("refresh_window", Kind::Percent, "Last part of `max_age` in which the answer about a token in use is renewed in the background.")
            .default("20%"),
    ],
);

static UPSTREAM: Section = Section::new(
    "an upstream",
    &[
        Key::new("servers", Kind::List(&Kind::ServerOr(&CONTENT_SERVER)), "Its servers; a name is resolved again when DNS says so, after 1 s to 5 min.")
            .required()
            .example("[http://127.0.0.1:9101]"),
        Key::new("credentials", Kind::Section(&CREDENTIALS), "What the gateway presents to it in the place of the client's token.").default("none"),
        Key::new(
            "host",
            Kind::WordOr(&["preserve", "upstream"], "host"),
            "The `Host` that it sees: the one asked for, the server's own (`localhost` for a server at a Unix socket), or a fixed one.",
        )
        .default("upstream"),
        Key::new("protocol", Kind::Word(&["h1", "h2", "auto"]), "HTTP/1.1, HTTP/2 (which gRPC needs), or what a TLS handshake agrees on.").default("h1"),
        Key::new("tls", Kind::Section(&UPSTREAM_TLS), "For servers with `https://`."),
        Key::new("timeouts", Kind::Section(&TIMEOUTS), "Deadlines."),
        Key::new("sticky", Kind::Section(&STICKY), "Keeps a client with one server, while that one is fit.").default("the less busy of two"),
        Key::new("health_check", Kind::Section(&HEALTH_CHECK), "Asks each server how it is; one that fails is left alone until it answers.").default("none"),
        Key::new(
            "ejection",
            Kind::Section(&EJECTION),
            "Leaves a server alone for a while when requests to it fail, if there are others; also where this section is left out.",
        ),
        Key::new("max_connections", Kind::Number(1, 65_535), "Connections to one server at a time, all workers together.").default("1024"),
        Key::new("queue", Kind::Section(&QUEUE), "Requests that wait for one of them."),
        Key::new("retry_budget", Kind::Percent, "Requests that may be sent once more, of all; only what no server has begun with is sent again. Those that a connection of HTTP/2 leaves out when it ends do not count, unless it is 0%.")
            .default("20%"),
    ],
);

static CONTENT_SERVER: Section = Section::new(
    "a server",
    &[
        Key::new("url", Kind::Server, "Where it is.").required().example("http://127.0.0.1:9101"),
        Key::new("weight", Kind::Number(1, 1000), "Its share of the requests, beside those of the others.").default("1"),
    ],
);

static STICKY: Section = Section::new(
    "`sticky`",
    &[
        Key::new("cookie", Kind::Text, "By a cookie with this name, which the gateway sets.").example("uma_server"),
        Key::new("key", Kind::Secret, "What the cookie is made with; gateways that share it keep each other's clients.").default("drawn at each start"),
        Key::new("header", Kind::Text, "By the value of this header.").example("X-Session"),
    ],
)
.one_of(&[&["cookie"], &["header"]]);

static HEALTH_CHECK: Section = Section::new(
    "`health_check`",
    &[
        Key::new("path", Kind::Pattern, "What is asked for, by GET and without the credential; a status below 400, or 401, is healthy.")
            .required()
            .example("/health"),
        Key::new("interval", Kind::Duration, "How often.").default("10s"),
        Key::new("unhealthy_after", Kind::Number(1, 100), "Failures in a row that take a server out; one success takes it back.").default("3"),
    ],
);

static EJECTION: Section = Section::new(
    "`ejection`",
    &[
        Key::new("failures", Kind::Number(1, 1000), "Failed attempts to connect, in a row.").default("5"),
        Key::new("server_errors", Kind::Boolean, "Whether 500, 502, 503, 504, broken connections and missing answers count as well.").default("false"),
        Key::new("rest", Kind::Duration, "How long the first time; twice as long each time after.").default("1s"),
        Key::new("longest_rest", Kind::Duration, "How long at most.").default("1m"),
    ],
);

static QUEUE: Section = Section::new(
    "`queue`",
    &[
        Key::new("length", Kind::Number(0, 1_000_000), "How many, in each worker; one more is answered 503.").default("1024"),
        Key::new("wait", Kind::Duration, "How long; then 503.").default("1s"),
    ],
);

static UPSTREAM_TLS: Section = Section::new(
    "`tls`",
    &[
        Key::new("ca", Kind::File, "Certificates (PEM) that are trusted instead of the platform's.").example("ca.pem"),
        Key::new("name", Kind::Host, "The name that the server's certificate must have.").default("the server's host").example("content.internal"),
        Key::new("client_certificate", Kind::File, "The gateway's certificate chain (PEM).").example("gateway.pem"),
        Key::new("client_key", Kind::File, "Its private key (PEM).").example("gateway-key.pem"),
    ],
);

static CREDENTIALS: Section = Section::new(
    "`credentials`",
    &[
        Key::new("basic", Kind::Section(&BASIC), "User name and password."),
        Key::new("bearer", Kind::Section(&BEARER), "A fixed token."),
        Key::new("jwt", Kind::Section(&JWT), "A short assertion as Bearer, signed for each request and good for that one alone."),
        Key::new("headers", Kind::Map(KeyKind::Header, &Kind::Secret), "Headers with secret values.").example("{ X-Api-Key: { file: api-key } }"),
        Key::new("oauth2", Kind::Section(&OAUTH2), "A token by client credentials, renewed early."),
    ],
)
.one_of(&[&["basic"], &["bearer"], &["jwt"], &["headers"], &["oauth2"]]);

static BASIC: Section = Section::new(
    "`basic`",
    &[Key::new("username", Kind::Text, "User name.").required().example("gateway"), Key::new("password", Kind::Secret, "Password.").required()],
);

static BEARER: Section = Section::new("`bearer`", &[Key::new("token", Kind::Secret, "The token.").required()]);

static JWT: Section = Section::new(
    "`jwt`",
    &[
        Key::new("key", Kind::Secret, "The private key (PKCS#8, PEM), as `openssl genpkey -algorithm ed25519` makes one.").required(),
        Key::new("algorithm", Kind::Word(&["EdDSA", "ES256", "RS256"]), "What the key is used with; it has to be one for it.").default("the key's"),
        Key::new("key_id", Kind::Text, "`kid`, by which a set of keys finds the public one.").default("none").example("\"2026-11\""),
        Key::new("issuer", Kind::Text, "`iss`.").required().example("gateway"),
        Key::new("audience", Kind::Text, "`aud`.").required().example("albums"),
        Key::new("lifetime", Kind::Duration, "From `iat` to `exp`; 5 s to 10 min.").default("30s"),
        Key::new("subject", Kind::True, "Tells who asks (`sub`), where that is known."),
    ],
);

static OAUTH2: Section = Section::new(
    "`oauth2`",
    &[
        Key::new("token_endpoint", Kind::Url, "Where the token is had.").required().example("https://id.example.org/token"),
        Key::new("client", Kind::Section(&OAUTH2_CLIENT), "As whom.").required(),
        Key::new("scopes", Kind::List(&Kind::Text), "For what.").default("the server's choice").example("[content]"),
    ],
);

static TIMEOUTS: Section = Section::new(
    "`timeouts`",
    &[
        Key::new("connect", Kind::Duration, "Until a connection stands.").default("5s"),
        Key::new(
            "response",
            Kind::Duration,
            "From the last piece of the request to the head of the answer; and for a server that neither takes nor says anything while it is being sent to.",
        )
        .default("60s"),
        Key::new(
            "idle",
            Kind::DurationOrZero,
            "Without a byte of a body or tunnel, and for an unused connection (16 of a server and worker, further ones 5 s); `0`: silence ends no stream.",
        )
        .default("5m"),
    ],
);

static HOST: Section = Section::new(
    "a host",
    &[
        Key::new("upstream", Kind::Text, "Where requests go.").example("content"),
        Key::new("authorization_server", Kind::Text, "Who decides on protected routes.").example("keycloak"),
        Key::new("scopes", Kind::WordOrMap(&[AS_SCOPE], KeyKind::Methods, &Kind::List(&Kind::Text)), "Scopes by method, for protected routes.")
            .example("{ GET: [view] }"),
        Key::new("scopes_match", Kind::Word(&["all", "any"]), "Whether all of these scopes are needed, or one of them.").default("all"),
        Key::new("cors", Kind::Section(&CORS), "Which web pages may read answers."),
        Key::new("identity_headers", Kind::Map(KeyKind::Header, &Kind::Text), "Headers that tell the upstream who asks.").example("{ X-Forwarded-User: sub }"),
    ],
);

static ROUTE: Section = Section::new(
    "a route",
    &[
        Key::new("host", Kind::Host, "The host; `*.example.org` is every host below it.").default("any").example("photos.example.org"),
        Key::new("path", Kind::Pattern, "The path: exact; `{name}` is one segment; a trailing `/**` is the rest, and the prefix itself.")
            .required()
            .example("\"/albums/{album}/**\""),
        Key::new("upstream", Kind::Text, "Where requests go.").default("the only upstream").example("content"),
        Key::new("public", Kind::True, "Lets everyone pass."),
        Key::new("protect", Kind::Section(&PROTECT), "Lets pass whoever has a permission."),
        Key::new("rewrite", Kind::Rewrite, "The path that the upstream sees; `{name}` and, at the end, `{**}` stand for what matched.")
            .default("the path asked for")
            .example("\"/{**}\""),
        Key::new("cors", Kind::Section(&CORS), "Which web pages may read answers.").default("none"),
        Key::new(
            "identity_headers",
            Kind::Map(KeyKind::Header, &Kind::Text),
            "Headers that tell the upstream who asks: `sub`, `username`, `client_id`, or another claim.",
        )
        .default("none")
        .example("{ X-Forwarded-User: sub }"),
        Key::new("scopes_match", Kind::Word(&["all", "any"]), "Whether all scopes of a method are needed, or one of them.").default("all"),
        Key::new("upgrade", Kind::List(&Kind::Word(&["websocket"])), "Protocols that a connection may change to; decided at the handshake. Without it the offer goes no further, and the content server sees an ordinary GET; over HTTP/2 the answer is 405.")
            .default("none")
            .example("[websocket]"),
        Key::new("upgrade_grace", Kind::DurationOrZero, "How long an upgraded connection goes on when its permission has ended or was withdrawn.")
            .default("0s"),
        Key::new("covers", Kind::Word(&["all"]), "`all`: one permission is meant for every value of a path parameter that the resource does not use."),
        Key::new("covers_protected", Kind::True, "This public route is meant to match also paths of a protected one; one with `rewrite`, to ask for what another one protects."),
        Key::new(
            "encoded_slash",
            Kind::True,
            "Admits `%2F`, which stays inside its segment. Only for a content server that does not take it for a slash: one that does serves another path than the one decided on.",
        )
        .default("refused"),
        Key::new(
            "encoded_percent",
            Kind::True,
            "Admits names that are escaped twice, such as `%2541`. Only for a content server that decodes once: one that decodes again serves another path.",
        )
        .default("refused"),
        Key::new(
            "semicolon",
            Kind::True,
            "Admits `;` and `%3B`. Only for a content server that does not cut parameters off: one that does serves the path without them.",
        )
        .default("refused"),
    ],
)
.one_of(&[&["public"], &["protect"]]);

static PROTECT: Section = Section::new(
    "`protect`",
    &[
        Key::new("mode", Kind::Word(&["uma", "guard"]), "Who decides: the authorization server, or a credential that only the gateway in front has.")
            .default("uma"),
        Key::new("authorization_server", Kind::Text, "Who decides.").default("the only authorization server").example("keycloak"),
        Key::new("resource", Kind::Section(&RESOURCE), "What is protected; for `uma`. With profile `oauth` it is left out: the token's own scopes count.")
            .default("needed, but with `oauth`"),
        Key::new("accept", Kind::Section(&ACCEPT), "The credential; for `guard`. It goes no further, and no authorization server is asked."),
        Key::new(
            "scopes",
            Kind::WordOrMap(&[AS_SCOPE], KeyKind::Methods, &Kind::List(&Kind::Text)),
            "The scopes that each method needs; an empty list: a permission with any scopes. A method that is not listed is refused; HEAD follows GET. `http_method_as_scope`: every method of the web and of WebDAV needs the scope of its own name, as in `GET: [GET]`.",
        )
        .default("that of `hosts`")
        .example("{ GET: [view], \"PUT, DELETE\": [edit] }"),
        Key::new(
            "register_on_create",
            Kind::Section(&ON_CREATE),
            "A `POST` that the content server answers with 201 and a `Location` registers the new resource for whoever has created it, if a route with `shared` lets them own it.",
        )
        .default("nothing is registered"),
        Key::new(
            "unregister_on_delete",
            Kind::True,
            "Beside `shared`: a `DELETE` that the content server answers with 2xx, 404 or 410 withdraws the share of exactly that path; it is closed before the answer goes on.",
        ),
    ],
);

static ON_CREATE: Section = Section::new(
    "`register_on_create`",
    &[
        Key::new(
            "location",
            Kind::Pattern,
            "The paths, as clients have them, that `Location` may name. A parameter that the route's path has as well has the same value in both.",
        )
        .required()
        .example("\"/albums/{user}/{album}\""),
        Key::new("name", Kind::Template, "What it is called at the authorization server, with parameters of `location`; the share's id stands behind it.")
            .default("`share` and the id")
            .example("\"album {album}\""),
        Key::new("type", Kind::Text, "Its type.").example("urn:photoz:album"),
        Key::new("scopes", Kind::List(&Kind::Text), "Its scopes.").default("those that the methods at its path need").example("[view, edit]"),
    ],
);

static ACCEPT: Section = Section::new(
    "`accept`",
    &[
        Key::new("basic", Kind::Section(&ACCEPT_BASIC), "User name and password."),
        Key::new("bearer_jwt", Kind::Section(&ACCEPT_JWT), "Short signed assertions, such as `credentials: { jwt }` makes."),
        Key::new("client_certificate", Kind::Section(&ACCEPT_CERTIFICATE), "The certificate that the listener's `client_auth` has verified."),
    ],
)
.one_of(&[&["basic"], &["bearer_jwt"], &["client_certificate"]]);

static ACCEPT_BASIC: Section = Section::new(
    "`basic`",
    &[
        Key::new("username", Kind::Text, "User name.").required().example("gateway"),
        Key::new("password", Kind::Secret, "Password, of 16 random characters or more.").required(),
        Key::new("grace", Kind::DurationOrZero, "How long the pair before stays good when another one is read; `0`: not at all. A restart forgets it.")
            .default("5m"),
    ],
);

static ACCEPT_JWT: Section = Section::new(
    "`bearer_jwt`",
    &[
        Key::new("keys", Kind::Section(&JWKS), "Those who may sign: several keys, such as the old and the new one."),
        Key::new("public_key", Kind::File, "The one who may sign (PEM), as `openssl pkey -pubout` prints it.").example("gateway.pub"),
        Key::new("issuer", Kind::Text, "`iss`, exactly.").required().example("gateway"),
        Key::new("audience", Kind::Text, "What `aud` must name.").required().example("albums"),
        Key::new("max_lifetime", Kind::Duration, "From `iat` to `exp` at most; clocks may differ by 5 s.").default("60s"),
        Key::new(
            "unbound",
            Kind::True,
            "Accepts also assertions that do not name the request (`htm`, `htu`): overheard, such a one opens everything until it ends.",
        )
        .default("refused"),
    ],
)
.one_of(&[&["keys"], &["public_key"]]);

static JWKS: Section = Section::new("`keys`", &[Key::new("file", Kind::File, "A JWK Set (RFC 7517).").required().example("jwks.json")]);

static ACCEPT_CERTIFICATE: Section = Section::new(
    "`client_certificate`",
    &[
        Key::new("subjects", Kind::List(&Kind::Text), "By subject, in the form of RFC 4514: the last name first, no blanks.")
            .example("[\"CN=gateway,O=Example\"]"),
        Key::new("san_uris", Kind::List(&Kind::Text), "By a URI among the alternative names.").example("[spiffe://example.org/gateway]"),
        Key::new("sha256", Kind::List(&Kind::Text), "By the certificate itself.").example("[9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08]"),
    ],
)
.one_of(&[&["subjects"], &["san_uris"], &["sha256"]]);

static RESOURCE: Section = Section::new(
    "`resource`",
    &[
        Key::new("id", Kind::Text, "By its id at the authorization server.").example("a1b0c2d3"),
        Key::new("name", Kind::Template, "By its name there.").example("\"album {album}\""),
        Key::new("owner", Kind::Template, "The owner, beside `name` or `id`; beside `shared`, who alone may share here.")
            .default("the gateway's client")
            .example("alice"),
        Key::new("register", Kind::Section(&REGISTER), "Registered by the gateway."),
        Key::new(
            "shared",
            Kind::True,
            "Registered by its owner, by the API of `shares`: each path is what was shared there, or closed. Without `owner` only `admin_key` shares here.",
        ),
        Key::new(
            "uris",
            Kind::True,
            "Only with `keycloak`: the resource whose `uris` there have the path. An owner's are found with the path itself or a folder's `/*`; `{id}` and `/*.ext` with resources of the gateway's client only.",
        ),
    ],
)
.one_of(&[&["id"], &["name"], &["register"], &["shared"], &["uris"]])
.of_text("{ name: \"…\", owner: OWNER }      or { id: ID }");

static REGISTER: Section = Section::new(
    "`register`",
    &[
        Key::new("name", Kind::Text, "Its name.").required().example("vacation"),
        Key::new("type", Kind::Text, "Its type.").example("urn:photoz:album"),
        Key::new("scopes", Kind::List(&Kind::Text), "All its scopes.").default("those that the route's methods need").example("[view, edit]"),
        Key::new("owner", Kind::Text, "Its owner.").default("the gateway's client").example("alice"),
    ],
);

static CORS: Section = Section::new(
    "`cors`",
    &[
        Key::new("origins", Kind::List(&Kind::Origin), "Origins, exactly; `\"*\"` alone is any.").required().example("[https://app.example.org]"),
        Key::new("credentials", Kind::Boolean, "Whether cookies may go along.").default("false"),
        Key::new("max_age", Kind::Duration, "How long a browser may keep the answer to a preflight.").default("10m"),
    ],
);

static LIMITS: Section = Section::new(
    "`limits`",
    &[
        Key::new("body", Kind::Size, "Largest request body.").default("no limit").example("10MiB"),
        Key::new("tickets", Kind::Section(&TICKETS), "Permission tickets for one client (an IPv4 address or an IPv6 /64)."),
        Key::new(
            "introspections",
            Kind::Section(&INTROSPECTIONS),
            "Introspections that requests of one client wait for, those of the shares API too, and, each counted apart, live decisions, look-ups of resources, and wrong credentials at guards.",
        ),
        Key::new("off_for", Kind::List(&Kind::Network), "Addresses without limits for one client: tickets, introspections, connections.")
            .default("none")
            .example("[10.0.0.0/8]"),
        Key::new("connections", Kind::Number(1, 1_000_000), "Connections at a time, all listeners together; one more is closed at once.").default("10000"),
        Key::new(
            "connections_per_client",
            Kind::Number(1, 1_000_000),
            "Of these, from one client, and requests that it has under way over HTTP/2; not for `off_for` and `trusted_proxies`. A request that goes on without its client (`register_on_create`, `unregister_on_delete`) counts until it is answered; behind `trusted_proxies` such requests of each client are counted by themselves (503).",
        )
        .default("256"),
        Key::new("timeouts", Kind::Section(&CLIENT_TIMEOUTS), "Deadlines for clients. What changes here holds for new connections."),
    ],
);

static CLIENT_TIMEOUTS: Section = Section::new(
    "`timeouts`",
    &[
        Key::new("head", Kind::Duration, "From the beginning of a connection, or of a later request, to the end of the request's head.").default("10s"),
        Key::new("body", Kind::Duration, "Without a byte of a request's body; all such waits together 60 s, and a second more for each KiB.").default("15s"),
        Key::new(
            "write",
            Kind::Duration,
            "Without the client taking a byte of what is sent to it; all such waits together may take as long, 60 s at least, and a second more for each KiB.",
        )
        .default("60s"),
        Key::new("idle", Kind::Duration, "Between an answer and the next request.").default("60s"),
    ],
);

static TICKETS: Section = Section::new(
    "`tickets`",
    &[Key::new("rate", Kind::Rate, "On average.").default("20/s"), Key::new("burst", Kind::Number(1, 1_000_000), "At once.").default("200")],
);

static INTROSPECTIONS: Section = Section::new(
    "`introspections`",
    &[Key::new("rate", Kind::Rate, "On average.").default("200/s"), Key::new("burst", Kind::Number(1, 1_000_000), "At once.").default("2000")],
);

static DRAIN: Section = Section::new(
    "`drain`",
    &[
        Key::new("delay", Kind::Duration, "From `/readyz` saying 503 to the end of new connections, so that whoever sends requests here notices first.")
            .default("5s"),
        Key::new("timeout", Kind::Duration, "For the requests that are under way then.").default("30s"),
    ],
);

static LOG: Section = Section::new(
    "`log`",
    &[
        Key::new("format", Kind::Word(&["json", "text"]), "One JSON object a line, or text for people.").default("json"),
        Key::new("level", Kind::Word(&["error", "warn", "info", "debug", "trace"]), "The least level of events.").default("info"),
        Key::new("access", Kind::Word(&["on", "denied", "off"]), "Which requests the access log holds.").default("on"),
        Key::new("to", Kind::WordOr(&["stdout"], "file"), "Where lines go. A file is appended to, and opened anew on SIGHUP.").default("stdout"),
        Key::new("audit", Kind::WordOr(&["stdout"], "file"), "Where decisions are recorded besides.").default("nowhere").example("stdout"),
    ],
);
