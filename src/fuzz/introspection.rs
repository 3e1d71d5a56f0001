//! Target `introspection`: an answer about a token, and the token's own payload, beside a reader that keeps every member that stands there twice.

mod json;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::json::Json;
use crate::authorization_server::{Answer, Profile, read_introspection};
use crate::uma::{Introspection, Rpt};

/// The first byte chooses the profile and what the token is; behind it stand the answer and, behind a NUL, the payload of the token.
pub fn introspection(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (body, payload) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let profile = if choice & 1 == 0 { Profile::KEYCLOAK } else { Profile::UMA2 };
    let is_jwt = choice & 2 == 0;
    let token = match choice & 6 {
        0 | 4 => format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload)),
        2 => String::from_utf8_lossy(payload).into_owned(),
        _ => "opaque".to_owned(),
    };
    match read_introspection(profile, body, &Rpt(token.as_str().into())) {
        Ok(Answer::Active(introspection)) => {
            let answer = json::parse(body).expect("an active answer is JSON to everybody");
            let own = (profile == Profile::KEYCLOAK && is_jwt).then(|| json::parse(payload).expect("a payload that was read is JSON to everybody"));
            active(&introspection, &answer, own.as_ref());
        }
        Ok(Answer::Inactive) => assert!(json::parse(body).is_some_and(|answer| answer.all("active") == [&Json::False]), "inactive, says nobody"),
        Err(error) => assert!(!format!("{error} {error:?}").contains("opaque"), "an error shows the token"),
    }
}

/// Whatever reader: the answer says `active: true` and nothing else, and grants no more than was taken from it.
fn active(introspection: &Introspection, answer: &Json, own: Option<&Json>) {
    assert_eq!(answer.all("active"), [&Json::True], "active, says not everybody");
    let sources: Vec<&Json> = [answer].into_iter().chain(own).collect();
    for source in &sources {
        source.members_once();
        for end in source.all("exp").iter().filter_map(|value| value.number()) {
            assert!(introspection.exp.is_some_and(|exp| exp.0 <= end), "believed longer than until {end}");
        }
        for start in source.all("nbf").iter().filter_map(|value| value.number()) {
            assert!(start == 0 || introspection.nbf.is_some_and(|nbf| nbf.0 >= start), "believed earlier than from {start}");
        }
        for (name, taken) in
            [("sub", &introspection.subject), ("iss", &introspection.issuer), ("client_id", &introspection.client), ("sid", &introspection.session)]
        {
            for said in source.all(name).iter().filter_map(|value| value.text()) {
                assert_eq!(taken.as_deref(), Some(said), "another `{name}`");
            }
        }
        assert!(introspection.bound || source.all("cnf").iter().all(|cnf| **cnf == Json::Null), "a bound token is taken for a loose one");
    }
    let said = answer.all("aud").first().copied().filter(|aud| **aud != Json::Null);
    if let Some(aud) = said.filter(|aud| **aud != Json::List(Vec::new())) {
        let words: Vec<&str> = introspection.audience.iter().map(|word| &**word).collect();
        assert_eq!(words, aud.texts(), "another audience");
    }
    let speaking: Vec<&Json> = sources.into_iter().filter(|source| source.permissions().is_some()).collect();
    for permission in &introspection.permissions {
        // One without a resource is for nothing.
        let Some(resource) = &permission.resource else { continue };
        for scope in permission.scopes.iter().map(Some).chain([None]) {
            let scope = scope.map(|scope| &*scope.0);
            let granted = |source: &&Json| source.grants(&resource.0, scope, permission.exp.map(|exp| exp.0));
            assert!(!speaking.is_empty() && speaking.iter().all(granted), "{resource} {scope:?} is granted by nobody");
        }
    }
}
