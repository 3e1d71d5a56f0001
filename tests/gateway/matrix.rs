//! The cross-check of the decision table: what a token truly is, against what is known of it and whether the server can be asked.
//!
//! A world for each column, a token for each line; only statuses are compared, since the rows have tests of their own.

use serde_json::json;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};

use crate::support::{LINK, Next, Setup, World, until};

/// What a token truly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Absent,
    Malformed,
    Expired,
    Revoked,
    WrongAudience,
    Insufficient,
    Valid,
}

/// What is known of it when it is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Fresh,
    TooOld,
    Refused,
}

const TRUTHS: [Truth; 7] = [Truth::Absent, Truth::Malformed, Truth::Expired, Truth::Revoked, Truth::WrongAudience, Truth::Insufficient, Truth::Valid];

/// A ticket, or that none is to be had.
const fn ticket(up: bool) -> u16 {
    if up { 401 } else { 403 }
}

const fn expected(truth: Truth, known: Known, up: bool) -> u16 {
    match (truth, known) {
        (Truth::Absent, _) | (_, Known::Refused) => ticket(up),
        (Truth::Malformed, _) => 400,
        // Revoked after it was introspected: it passes until its answer is too old.
        (Truth::Valid | Truth::Revoked, Known::Fresh) => 200,
        (_, Known::Fresh) => ticket(up),
        (_, Known::Nothing | Known::TooOld) if !up => 503,
        (Truth::Valid, Known::Nothing | Known::TooOld) => 200,
        (_, Known::Nothing | Known::TooOld) => 401,
    }
}

fn token(world: &World, truth: Truth) -> Option<String> {
    let control = world.control();
    Some(match truth {
        Truth::Absent => return None,
        Truth::Malformed => "not a token".to_owned(),
        Truth::Expired => control.grant_rpt("bob", &[("vacation", &["view"])], -1),
        Truth::WrongAudience => control.access_token("bob", "openid", 300),
        Truth::Insufficient => world.rpt(&["edit"]),
        Truth::Revoked | Truth::Valid => world.rpt(&["view"]),
    })
}

async fn ask(world: &World, token: Option<&str>) -> u16 {
    match token {
        Some(token) => world.get(LINK).bearer(token).await.status(),
        None => world.get(LINK).await.status(),
    }
}

/// Brings the gateway to know this of the token.
async fn learn(world: &World, token: &str, truth: Truth, known: Known) {
    if known == Known::Refused {
        world.control().fail_next(Endpoint::Introspection, 1, Fault::json(http::StatusCode::OK, &json!({ "active": false })));
    }
    if known != Known::Nothing {
        ask(world, Some(token)).await;
    }
    if truth == Truth::Revoked {
        world.control().revoke(token);
    }
}

async fn column(known: Known, up: bool) {
    let max_age = if known == Known::TooOld { "500ms" } else { "60s" };
    let world = Setup::default().server(&format!("introspection: {{ max_age: {max_age}, negative_max_age: 60s, refresh_window: 0% }}")).start().await;
    let mut cases = Vec::new();
    for truth in TRUTHS {
        let token = token(&world, truth);
        // An expired token is never fresh or too old: its answer ends with it, and a malformed one has none.
        let applies = match (truth, known) {
            (Truth::Absent, known) => known == Known::Nothing,
            (Truth::Malformed, Known::Refused) => false,
            (Truth::Expired, Known::Fresh | Known::TooOld) => false,
            _ => true,
        };
        if applies {
            if let Some(token) = &token {
                learn(&world, token, truth, known).await;
            }
            cases.push((truth, token));
        }
    }
    if known == Known::TooOld {
        for (truth, token) in &cases {
            let (Some(token), true) = (token, *truth != Truth::Malformed) else { continue };
            until("the answer is too old", async || (world.holds(token) == Next::Stale).then_some(())).await;
        }
    }
    if !up {
        world.control().stop().await;
    }
    let hits = world.upstream().hits();
    let mut passed = 0;
    for (truth, token) in &cases {
        let status = ask(&world, token.as_deref()).await;
        assert_eq!(status, expected(*truth, known, up), "{truth:?}, known: {known:?}, server {}", if up { "up" } else { "down" });
        passed += usize::from(status == 200);
    }
    assert_eq!(world.upstream().hits() - hits, passed);
}

macro_rules! columns {
    ($($name:ident: $known:ident, $up:literal;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                column(Known::$known, $up).await;
            }
        )+
    };
}

columns! {
    nothing_is_known_and_the_server_answers: Nothing, true;
    nothing_is_known_and_the_server_is_away: Nothing, false;
    the_answer_is_fresh_and_the_server_answers: Fresh, true;
    the_answer_is_fresh_and_the_server_is_away: Fresh, false;
    the_answer_is_too_old_and_the_server_answers: TooOld, true;
    the_answer_is_too_old_and_the_server_is_away: TooOld, false;
    the_token_was_refused_and_the_server_answers: Refused, true;
    the_token_was_refused_and_the_server_is_away: Refused, false;
}
