//! Target `introspection`: an answer about a token, and the token's own payload, beside a reader that keeps every member that stands there twice.
//!
//! What each kind of server calls things, and which of its words count, is written down here a second time.

mod json;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::json::{Asked, Json};
use crate::authorization_server::{Answer, Profile, granted_by, read_introspection};
use crate::uma::{Introspection, Permission, Rpt, Timestamp};

/// A kind of authorization server, as its own documents have it.
struct Kind {
    profile: &'static Profile,
    /// Where a permission says which resource it is for.
    names: &'static [&'static str],
    /// Whether the token's own payload is the server's word.
    signs: bool,
    /// Whether `aud` says who asked for the token.
    names_client: bool,
    milliseconds: bool,
    /// Whether `scope` is all that it grants.
    scopes_only: bool,
}

const UMA2: &[&str] = &["resource_id", "rsid"];
const UMA1: &[&str] = &["resource_set_id", "resource_id", "rsid"];
const PLAIN: Kind = Kind { profile: Profile::UMA2, names: UMA2, signs: false, names_client: false, milliseconds: false, scopes_only: false };

/// In this order, so that what was stored when there were only two still means the same.
const KINDS: [Kind; 6] = [
    Kind { profile: Profile::KEYCLOAK, signs: true, ..PLAIN },
    PLAIN,
    Kind { profile: Profile::FORGEROCK, ..PLAIN },
    Kind { profile: Profile::KEYCLOAK_UMA1, names: UMA1, signs: true, names_client: true, ..PLAIN },
    Kind { profile: Profile::OPENAM_UMA1, names: UMA1, milliseconds: true, ..PLAIN },
    Kind { profile: Profile::OAUTH, names: &[], scopes_only: true, ..PLAIN },
];

/// The first byte chooses the kind of server and what the token is; behind it stand the answer and, behind a NUL, the payload of the token.
pub fn introspection(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (body, payload) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let kind = &KINDS[usize::from(choice & 1) + 2 * (usize::from(choice >> 3) % 3)];
    let token = match choice & 6 {
        0 | 4 => format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload)),
        2 => String::from_utf8_lossy(payload).into_owned(),
        _ => "opaque".to_owned(),
    };
    let own = own(&token);
    let rpt = Rpt(token.as_str().into());
    match read_introspection(kind.profile, body, &rpt) {
        Ok(Answer::Active(introspection)) => {
            let answer = json::parse(body).expect("an active answer is JSON to everybody");
            let own = own.as_deref().filter(|_| kind.signs).map(|own| json::parse(own).expect("a payload that was read is JSON to everybody"));
            kind.active(&introspection, &answer, own.as_ref());
        }
        Ok(Answer::Inactive) => assert!(json::parse(body).is_some_and(|answer| answer.all("active") == [&Json::False]), "inactive, says nobody"),
        Err(error) => assert!(!format!("{error} {error:?}").contains("opaque"), "an error shows the token"),
    }
    // A token that has just come instead of an answer is read by itself.
    if kind.signs
        && let Ok(permissions) = granted_by(kind.profile, &rpt)
    {
        let own = own.as_deref().and_then(json::parse).expect("permissions stand in a payload that is JSON to everybody");
        own.members_once();
        kind.permitted(&permissions, &[&own]);
    }
}

/// The payload of a token of three parts.
fn own(token: &str) -> Option<Vec<u8>> {
    let parts: Vec<&str> = token.split('.').collect();
    let [_, payload, _] = parts[..] else { return None };
    URL_SAFE_NO_PAD.decode(payload).ok()
}

impl Kind {
    /// Whatever reader: the answer says `active: true` and nothing else, and grants no more than was taken from it.
    fn active(&self, introspection: &Introspection, answer: &Json, own: Option<&Json>) {
        assert_eq!(answer.all("active"), [&Json::True], "active, says not everybody");
        let sources: Vec<&Json> = [answer].into_iter().chain(own).collect();
        for source in &sources {
            source.members_once();
            assert!(self.within(source, introspection.exp, introspection.nbf), "believed for longer than was said");
            for (names, taken) in [
                (["sub", "sub"], &introspection.subject),
                (["iss", "iss"], &introspection.issuer),
                (["client_id", "azp"], &introspection.client),
                (["sid", "session_state"], &introspection.session),
            ] {
                if let Some(said) = names.iter().flat_map(|name| source.all(name)).find_map(Json::text) {
                    assert_eq!(taken.as_deref(), Some(said), "another {names:?}");
                }
            }
            let keyless = source.all("cnf").iter().all(|cnf| **cnf == Json::Null) && !source.all("token_type").iter().any(|kind| is_dpop(kind));
            assert!(introspection.bound || keyless, "a bound token is taken for a loose one");
        }
        self.audience(introspection, &sources);
        if self.scopes_only {
            self.own_scopes(&introspection.permissions, answer);
        } else {
            let speaking: Vec<&Json> = sources.into_iter().filter(|source| !source.permissions().is_empty()).collect();
            self.permitted(&introspection.permissions, &speaking);
        }
    }

    /// What the answer says, else the token. A list of nobody is not everybody's, and only a server that writes the client there means nobody by it.
    fn audience(&self, introspection: &Introspection, sources: &[&Json]) {
        let said = sources.iter().find_map(|source| source.all("aud").into_iter().find(|aud| **aud != Json::Null));
        let words: Vec<&str> = introspection.audience.iter().map(|word| &**word).collect();
        match said {
            None => assert_eq!(words, [""; 0], "an audience that nobody said"),
            Some(Json::List(nobody)) if nobody.is_empty() => assert_eq!(words, [""], "nobody is taken for everybody"),
            Some(aud) if self.names_client && aud.texts().iter().map(|one| Some(*one)).eq([introspection.client.as_deref()]) => assert_eq!(words, [""; 0]),
            Some(aud) => assert_eq!(words, aud.texts(), "another audience"),
        }
    }

    /// Each is granted by everybody who speaks of permissions, and at least by one.
    fn permitted(&self, permissions: &[Permission], speaking: &[&Json]) {
        for permission in permissions {
            // One without a resource is for nothing.
            let Some(resource) = &permission.resource else { continue };
            let at_all = if permission.scopes.is_some() { Asked::Any } else { Asked::Unsaid };
            for asked in permission.named().iter().map(|scope| Asked::Scope(&scope.0)).chain([at_all]) {
                let within = |entry: &Json| self.within(entry, permission.exp, permission.nbf);
                let granted = |source: &&Json| source.grants(self.names, &resource.0, asked, &within);
                assert!(!speaking.is_empty() && speaking.iter().all(granted), "{resource} {asked:?} is granted by nobody");
            }
        }
    }

    /// The words of `scope`, for the token itself.
    fn own_scopes(&self, permissions: &[Permission], answer: &Json) {
        let said: Vec<&str> = answer.all("scope").into_iter().filter_map(Json::text).flat_map(|scope| scope.split(' ')).collect();
        for permission in permissions {
            assert_eq!(permission.resource.as_ref().map(|resource| &*resource.0), Some(""), "{} speaks of resources", self.profile.name);
            assert!(permission.named().iter().all(|scope| !scope.0.is_empty() && said.contains(&&*scope.0)), "a scope that nobody said");
        }
    }

    /// Whether these ends lie within those that `source` names.
    fn within(&self, source: &Json, exp: Option<Timestamp>, nbf: Option<Timestamp>) -> bool {
        let times = |name| source.all(name).into_iter().filter_map(Json::number).map(|time| self.seconds(time));
        times("exp").all(|end| exp.is_some_and(|exp| exp.0 <= end)) && times("nbf").all(|start| start == 0 || nbf.is_some_and(|nbf| nbf.0 >= start))
    }

    /// Where milliseconds are told, what would be the year 5138 is one of them.
    fn seconds(&self, time: i64) -> i64 {
        if self.milliseconds && time > 100_000_000_000 { time / 1000 } else { time }
    }
}

fn is_dpop(kind: &Json) -> bool {
    kind.text().is_some_and(|kind| kind.to_lowercase() == "dpop")
}
