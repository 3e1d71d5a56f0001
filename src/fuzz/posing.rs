//! Names of fields that content servers believe, and the spellings in which a careless one reads them. Written down anew, not taken from `credentials/`.

/// Who asks, and what to do or serve instead (the most usual of them).
const POSING: &[&str] = &[
    "authorization",
    "client-cert",
    "destination",
    "dpop",
    "proxy",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "x-access-token",
    "x-auth-user",
    "x-auth-user-id",
    "x-client-verify",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-method",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-goog-iap-jwt-assertion",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-id-token",
    "x-jwt-assertion",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-remote-user",
    "x-request-id",
    "x-rewrite-url",
    "x-user",
    "x-user-id",
    "x-userinfo",
    "x-username",
];

const FAMILIES: &[&str] = &[
    "iv-",
    "oam-",
    "sm-auth",
    "sm-server",
    "sm-user",
    "x-amzn-mtls-",
    "x-client-cert",
    "x-auth-request-",
    "x-webauth-",
    "x-ssl-client-",
    "ssl-client-",
    "x-ms-client-principal",
    "x-authenticated-",
    "x-amzn-oidc-",
    "x-authentik-",
];

const FORWARDING: &[&str] =
    &["forwarded", "x-real-ip", "true-client-ip", "x-client-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"];

const FRAMING: &[&str] = &["connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// As CGI and its kin read a name: capitals, and `_` for whatever is neither letter nor digit.
fn read(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' }).collect()
}

/// Whether a careless server takes one name for the other.
pub(super) fn reads_as(name: &str, other: &str) -> bool {
    read(name) == read(other)
}

/// Whether it says who asks or what to do instead.
pub(super) fn is_posing(name: &str) -> bool {
    POSING.iter().any(|posing| reads_as(name, posing)) || FAMILIES.iter().any(|family| read(name).starts_with(&read(family)))
}

/// Whether it says where the request came from.
pub(super) fn is_forwarding(name: &str) -> bool {
    FORWARDING.iter().any(|forwarding| reads_as(name, forwarding)) || read(name).starts_with("X_FORWARDED_")
}

/// Whether a trusted proxy's word on it counts as it stands.
pub(super) fn is_of_the_way(name: &str) -> bool {
    ["x-forwarded-port", "x-forwarded-prefix", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl"].contains(&name)
}

/// Whether it concerns the connection or where the message ends.
pub(super) fn frames(name: &str) -> bool {
    FRAMING.iter().any(|framing| reads_as(name, framing))
}
