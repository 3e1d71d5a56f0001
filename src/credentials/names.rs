//! Which of a client's header fields go on to a content server.
//!
//! A name is judged in the spelling that a careless server would read: CGI, WSGI and their kin turn every `-` into `_` and some turn any other
//! character into it as well, so names with `_` never pass and names with rarer characters pass only if no reserved name reads like them.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use crate::body::{BodyError, Watch, clean_trailers};
use crate::holes::{Hole, open};

/// What becomes of a client's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on as it came.
    Pass,
    /// It ends here.
    Drop,
    /// It goes on if the peer is a trusted proxy.
    Forwarding,
    /// It goes on if the peer is a trusted proxy, with the address that the gateway has found: many a proxy passes on what the client has written there.
    Address,
}

/// Names that the configuration makes the gateway's own: every identity header of any route and every credential header of any upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    own: Vec<Box<str>>,
    /// The names that mean something anywhere, by their length: a name is compared with few others.
    known: Vec<Vec<(&'static str, Fate)>>,
}

impl Default for Reserved {
    fn default() -> Self {
        Self::new([])
    }
}

impl Reserved {
    /// The set of these names.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let mut folded: Vec<Box<str>> = names.into_iter().map(|name| fold(name.as_str()).into()).collect();
        folded.sort_unstable();
        folded.dedup();
        let all = [(&CONNECTION[..], Fate::Drop), (&OWN, Fate::Drop), (&POSING, Fate::Drop), (&FORWARDING, Fate::Forwarding), (&ADDRESSES, Fate::Address)];
        let mut known: Vec<Vec<_>> = Vec::new();
        for (name, fate) in all.into_iter().flat_map(|(names, fate)| names.iter().map(move |name| (*name, fate))) {
            if known.len() <= name.len() {
                known.resize_with(name.len() + 1, Vec::new);
            }
            if let Some(list) = known.get_mut(name.len()) {
                list.push((name, fate));
            }
        }
        Self { own: folded, known }
    }

    /// What becomes of a field with this name.
    pub(super) fn fate(&self, name: &HeaderName) -> Fate {
        let name = name.as_str();
        if name.contains('_') {
            return if open(Hole::UnderscoreKept) { Fate::Pass } else { Fate::Drop };
        }
        if open(Hole::IdentityHeaderKept) && !CONNECTION.contains(&name) {
            return Fate::Pass;
        }
        let folded = fold(name);
        let fate = if self.own.iter().any(|own| **own == *folded) { Fate::Drop } else { self.of_known(&folded) };
        match folded {
            Cow::Borrowed(_) => fate,
            // Nobody needs `x.real.ip`: an odd spelling of a name that means something is dropped, trusted peer or not.
            Cow::Owned(_) if fate == Fate::Pass => Fate::Pass,
            Cow::Owned(_) => Fate::Drop,
        }
    }

    fn of_known(&self, name: &str) -> Fate {
        let known = self.known.get(name.len()).and_then(|names| names.iter().find(|(known, _)| *known == name));
        known.map_or_else(|| of_family(name), |(_, fate)| *fate)
    }
}

/// What becomes of a field with a name that is not the configuration's.
fn of_family(name: &str) -> Fate {
    if POSING_FAMILIES.iter().any(|family| name.starts_with(family)) { Fate::Drop } else { Fate::Pass }
}

/// A trailer section as it may go on: nothing in it that could not go on in a client's head or means something there only, nothing of where the request
/// came from.
pub(crate) struct Trailers(pub(crate) std::sync::Arc<super::Proxy>);

impl Watch for Trailers {
    fn data(&mut self, _bytes: usize) -> Result<(), BodyError> {
        Ok(())
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        clean_trailers(trailers, |name| self.0.reserved.fate(name) == Fate::Pass);
    }

    fn end(&mut self, _complete: bool) {}
}

/// Whether a configuration may have the gateway set this field: not what frames the message or tells where it came from.
#[must_use]
pub fn may_be_set(name: &HeaderName) -> bool {
    let name = name.as_str();
    !(name.contains('_') || [&CONNECTION[..], &OWN, &FORWARDING, &ADDRESSES].iter().any(|names| names.contains(&name)))
}

/// The name with every character but letters, digits and `-` read as `-`.
fn fold(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.bytes().all(plain) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect())
}

/// Concern one connection (RFC 9110, 7.6.1) or frame the message; ours alone.
const CONNECTION: [&str; 15] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "host",
];

/// Set by the gateway on every request; `via` is not here, since the client's entries stay in front of ours.
const OWN: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];

/// Credentials for the gateway, and names by which content servers are told who asks or what to serve instead.
const POSING: [&str; 121] = [
    // What a WebDAV server would write to besides the path that was decided on.
    "destination",
    // More of who asks.
    "x-email",
    "x-groups",
    "x-role",
    "x-user-id",
    "x-username",
    // Credentials.
    "authorization",
    "dpop",
    // In which old clients of UMA present their token.
    "x-frdp-rpt",
    "x-access-token",
    "x-id-token",
    // Who asks, as common proxies tell it.
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "client-cert",
    "client-cert-chain",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "x-auth-user",
    "x-auth-email",
    "x-auth-user-id",
    "x-auth-userid",
    "x-auth-group",
    "x-auth-groups",
    "x-auth-name",
    "x-auth-roles",
    "x-auth-username",
    "x-goog-iap-jwt-assertion",
    "x-proxy-user",
    "x-remote-email",
    "x-remote-group",
    "x-remote-groups",
    "x-remote-name",
    "x-remote-user",
    "x-user",
    "x-userinfo",
    "x-apigateway-api-userinfo",
    "x-client-dn",
    "x-client-verify",
    "x-credential-identifier",
    "x-credential-username",
    "x-anonymous-consumer",
    "id-token",
    "x-client-ssl-verify",
    "x-ldap-user",
    "x-rundeck-auth-roles",
    "x-tls-client-cert",
    "x-user-groups",
    "x-user-roles",
    "x-userid",
    "x-webauth",
    "x-arr-clientcert",
    "x-principal",
    "x-roles",
    "x-ssl-cert",
    "x-user-email",
    "x-user-name",
    "remote-group",
    "remote-role",
    "remote-roles",
    "authenticated-user",
    "smuser",
    "teleport-jwt-assertion",
    "x-authorization",
    "x-client-i-dn",
    "x-client-s-dn",
    "x-jwt",
    "x-rh-identity",
    // Alfresco, Kubeflow.
    "kubeflow-userid",
    "x-alfresco-remote-user",
    // What Shibboleth tells where it is set to tell it by header.
    "affiliation",
    "cn",
    "displayname",
    "entitlement",
    "eppn",
    "givenname",
    "mail",
    "persistent-id",
    "sn",
    "targeted-id",
    "uid",
    "unscoped-affiliation",
    "x-endpoint-api-userinfo",
    // What to do or serve instead of what was asked and decided.
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "base-url",
    "request-uri",
    "x-http-path-override",
    "x-http-verb",
    "x-matched-path",
    "x-middleware-rewrite",
    "x-proxy-url",
    "x-request-method",
    "x-rewrite-path",
    "x-rewrite-uri",
    "x-script-name",
    "x-http-destinationurl",
    "x-original-path",
    "x-override-url",
    "x-replaced-path",
    "x-host",
    "http-method-override",
    "x-waws-unencoded-url",
    // Read by some servers as their own settings.
    "proxy",
    "x-accel-mapping",
    "x-middleware-override-headers",
    "x-middleware-subrequest",
    "x-sendfile-type",
    // Addresses in no form of which the gateway could write its own.
    "cf-connecting-ipv6",
    "cloudfront-viewer-address",
    "x-custom-ip-authorization",
    "x-forwarded",
    "x-original-forwarded-for",
];

/// Beginnings of such names.
const POSING_FAMILIES: [&str; 46] = [
    "x-auth-request-",
    "x-webauth-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-amzn-oidc-",
    "x-pomerium-",
    "x-ssl-client-",
    "ssl-client-",
    "tailscale-user-",
    "x-authentik-",
    "x-authenticated-",
    "x-consumer-",
    "x-hasura-",
    "x-impersonate-",
    "x-vouch-",
    "impersonate-",
    "x-appengine-user-",
    "x-jwt-",
    "x-remote-extra-",
    "x-token-",
    "oidc-",
    "shib-",
    // With the certificate, its chain, its names.
    "x-client-cert",
    "x-amzn-mtls-",
    // IBM WebSEAL, Oracle Access Manager.
    "iv-",
    "oam-",
    // SiteMinder. `sm-` alone would take what other products call theirs.
    "sm-auth",
    "sm-domino",
    "sm-server",
    "sm-universalid",
    "sm-user",
    // Next.js: what to serve instead.
    "x-invoke-",
    // WebSphere: `$WSRU` and its kin, folded.
    "-ws",
    // Elasticsearch and OpenSearch: on whose behalf.
    "es-secondary-",
    "es-security-",
    "x-proxy-ext-",
    "x-proxy-roles",
    // CouchDB, NiFi, Spinnaker, WebLogic.
    "x-auth-couchdb-",
    "x-proxiedentit",
    "x-spinnaker-",
    "wl-proxy-client-",
    // Service meshes: another destination, another time limit.
    "dapr-",
    "l5d-",
    "x-envoy-",
    // But for those among what tells the way, and what is ours.
    "x-forwarded-",
];

/// By which port, prefix and scheme a request came, besides what is ours.
const FORWARDING: [&str; 12] = [
    "front-end-https",
    "wl-proxy-ssl",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-original-port",
    "x-original-proto",
    "x-original-scheme",
    "x-scheme",
    "x-url-scheme",
];

/// The address of who asks, by itself.
const ADDRESSES: [&str; 28] = [
    "akamai-client-ip",
    "ali-cdn-real-ip",
    "cf-connecting-ip",
    "client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded-for",
    "incap-client-ip",
    "proxy-client-ip",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forward-for",
    "x-http-client-ip",
    "x-nf-client-connection-ip",
    "x-original-remote-addr",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-sucuri-clientip",
    "x-vercel-forwarded-for",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;

    use super::super::{Config, Credential, HostPolicy, Proxy};
    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_of_a_reserved_name_is_dropped() {
        let own = [name("X-Photo-User")];
        let reserved = Reserved::new(&own);
        for text in [
            "Destination",
            "X-User-Id",
            "X-Photo-User",
            "x-photo-user",
            "X_Photo_User",
            "X-Photo_User",
            "X.Photo.User",
            "x~photo!user",
            "X_Forwarded_For",
            "X.Forwarded.For",
            "Remote.User",
            "remote_user",
            "AUTHORIZATION",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "Content.Length",
            "X-Forwarded-User",
            "X-Auth-Request-Anything",
            "Ssl-Client-Verify",
            "X-HTTP-Method-Override",
            "OIDC-access-token",
            "Impersonate-User",
            "X-Remote-Extra-Scopes",
            "X-Jwt-Payload",
            "X-Rewrite-Path",
            "Eppn",
            "X-Auth-Groups",
            "X-ARR-ClientCert",
            "anything_else",
        ] {
            assert_eq!(reserved.fate(&name(text)), Fate::Drop, "{text}");
        }
    }

    #[test]
    fn names_by_which_products_tell_who_asks_are_dropped_in_every_spelling() {
        for text in [
            "iv-user",
            "iv-user-l",
            "iv-groups",
            "iv-creds",
            "sm-user",
            "sm-userdn",
            "sm-usergroups",
            "sm-authtype",
            "sm-authdirname",
            "sm-serversessionid",
            "sm-serveridentityspec",
            "sm-universalid",
            "sm-dominocn",
            "oam-remote-user",
            "oam-identity-domain",
            "x-amzn-mtls-clientcert",
            "x-amzn-mtls-clientcert-subject",
            "x-client-cert",
            "x-client-cert-chain",
            "x-client-cert-dn",
            "x-client-certificate",
            "x-client-certificate-chain",
            "x-auth-user-id",
            "x-hasura-role",
            "x-hasura-user-id",
            "x-rh-identity",
            "teleport-jwt-assertion",
            "x-jwt",
            "x-authorization",
            "x-client-s-dn",
            "x-client-i-dn",
            "x-impersonate-user",
            "x-impersonate-group",
            "authenticated-user",
            "smuser",
            "x-envoy-original-dst-host",
            "x-envoy-internal",
            "x-envoy-upstream-rq-timeout-ms",
            "x-alfresco-remote-user",
            "kubeflow-userid",
            "$wsru",
            "$wscc",
            "es-security-runas-user",
            "es-secondary-authorization",
            "x-proxy-roles",
            "x-proxy-ext-department",
            "x-auth-couchdb-username",
            "x-auth-couchdb-token",
            "x-proxiedentitieschain",
            "x-proxiedentitygroups",
            "x-spinnaker-accounts",
            "wl-proxy-client-cert",
            "dapr-app-id",
            "l5d-dst-override",
            "cloudfront-viewer-address",
            "x-waws-unencoded-url",
            "x-middleware-override-headers",
            "x-invoke-path",
            "x-invoke-query",
            "x-invoke-output",
            "x-invoke-status",
            "http-method-override",
        ] {
            for spelling in [text.to_owned(), text.to_uppercase(), text.replace('-', "_"), text.replace('-', "."), text.replacen('-', "~", 1)] {
                assert_eq!(Reserved::default().fate(&name(&spelling)), Fate::Drop, "{spelling}");
            }
        }
    }

    #[test]
    fn ordinary_fields_pass() {
        let reserved = Reserved::default();
        for text in [
            "Accept",
            "Cookie",
            "If-None-Match",
            "Range",
            "X-Requested-With",
            "X-Photo-User",
            "traceparent",
            "Via",
            "X.Odd",
            "Content-Type",
            "Origin",
            "X-Api-Key",
            "IV",
            "Ivy-Version",
            "SM-Request-Id",
            "SM-Use-Cache",
            "SMS-User",
            "Oam",
            "X-Amzn-Trace-Id",
            "X-Client-Version",
            "X-Client-Data",
            "X-Client-Ceiling",
            "X-Auth-Flow",
            "X-Middleware-Prefetch",
            "X-Authorization-Hint",
            "Authenticated-Users",
            "X-Client-S",
            "WS-Trace",
            "ES-Query",
            "X-Proxy-Cache",
            "X-Auth-Couch",
        ] {
            assert_eq!(reserved.fate(&name(text)), Fate::Pass, "{text}");
        }
    }

    #[test]
    fn what_tells_the_origin_passes_from_trusted_peers_only() {
        for (text, fate) in [
            ("X-Forwarded-Port", Fate::Forwarding),
            ("X-Forwarded-Prefix", Fate::Forwarding),
            ("X-Forwarded-Anything", Fate::Drop),
            ("X-Real-IP", Fate::Address),
            ("Akamai-Client-Ip", Fate::Address),
            ("Incap-Client-Ip", Fate::Address),
            ("X-Nf-Client-Connection-Ip", Fate::Address),
            ("X-Http-Client-Ip", Fate::Address),
            ("X-Envoy-External-Address", Fate::Address),
            ("WL-Proxy-Client-IP", Fate::Address),
            ("WL-Proxy-SSL", Fate::Forwarding),
            ("Ali-CDN-Real-IP", Fate::Address),
            ("X-Azure-SocketIP", Fate::Address),
            ("X-Sucuri-ClientIP", Fate::Address),
        ] {
            assert_eq!(Reserved::default().fate(&name(text)), fate, "{text}");
        }
    }

    #[test]
    fn trailers_lose_what_a_head_would_lose_even_from_trusted_peers() {
        let reserved = Arc::new(Reserved::new(&[name("X-Photo-User")]));
        let proxy = Proxy::new(&Config { credential: Credential::None }, HostPolicy::Upstream, reserved, None);
        let fields = ["x-checksum", "grpc-status", "x-photo-user", "x-photo_user", "authorization", "x-forwarded-for", "x-real-ip", "x-remote-user"];
        let mut trailers: HeaderMap = fields.into_iter().map(|field| (name(field), HeaderValue::from_static("1"))).collect();
        Trailers(Arc::new(proxy)).trailers(&mut trailers);
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-checksum", "grpc-status"]);
    }

    #[test]
    fn a_configuration_cannot_set_what_frames_the_message() {
        for text in [
            "Content-Length",
            "Host",
            "Connection",
            "Transfer-Encoding",
            "X-Request-Id",
            "X-Forwarded-For",
            "X-Forwarded-Port",
            "X-Real-IP",
            "CF-Connecting-IP",
            "X_User",
        ] {
            assert!(!may_be_set(&name(text)), "{text}");
        }
        for text in ["Authorization", "X-Api-Key", "X-Forwarded-User", "Remote-User", "Cookie"] {
            assert!(may_be_set(&name(text)), "{text}");
        }
    }
}
