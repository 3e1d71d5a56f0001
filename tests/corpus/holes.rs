//! Takes the defences down one by one: each time some case has to notice.

use uma_gateway::holes::{Hole, close, open_only};

use crate::NO_HOLE;
use crate::cases::{self, Case};
use crate::runner;
use crate::world::World;

/// Classes that are tried first; all others are tried as well.
fn nearest(hole: Hole) -> &'static [&'static str] {
    match hole {
        Hole::ScopeIgnored => &["scopes and resources"],
        Hole::StickyConnection => &["what a connection was allowed"],
        Hole::CacheKeyCut | Hole::StaleCache => &["what the cache knows"],
        Hole::FailOpen | Hole::ActiveTruthy | Hole::ExpiryUnchecked | Hole::IssuerUnchecked | Hole::AudienceUnchecked => &["the authorization server errs"],
        Hole::IdentityHeaderKept => &["identity headers"],
        Hole::UnderscoreKept => &["spellings of names"],
        Hole::CredentialDroppedByConnection => &["named by Connection"],
        Hole::ContradictionsPassed => &["length beside coding"],
        Hole::FirstOfTwo => &["hosts"],
        Hole::CodingsPassed => &["transfer codings"],
        Hole::MethodsInAnyCase => &["methods"],
        Hole::TunnelOnUpgrade => &["upgrades"],
        Hole::FloodsBorne => &["floods of HTTP/2"],
        Hole::NoTimeouts => &["silence"],
        Hole::TokenInQueryIgnored | Hole::FirstOfTwoTokens => &["presentation of tokens"],
        Hole::AnswersUnchecked => &["answers of content servers"],
        Hole::OptInsEverywhere => &["encoded slashes"],
        Hole::DotsForwarded => &["dot segments"],
        Hole::DecodedOnce => &["escapes of escapes"],
        Hole::FormsIgnored => &["compatibility forms"],
        Hole::CaseIgnored => &["letter case"],
        Hole::RawPathForwarded => &["normalised paths"],
    }
}

#[tokio::test]
async fn every_hole_is_seen() {
    let _alone = NO_HOLE.write().await;
    let mut unseen = Vec::new();
    for hole in Hole::ALL {
        match seen(*hole).await {
            Some(fault) => println!("{hole:?}: {fault}"),
            None => unseen.push(*hole),
        }
    }
    assert!(unseen.is_empty(), "no case notices {unseen:?}");
}

async fn seen(hole: Hole) -> Option<String> {
    let world = World::start().await;
    let mut cases = cases::load("hostile");
    cases.sort_by_key(|case: &Case| !nearest(hole).contains(&case.class.as_str()));
    open_only(hole);
    let _closed = Closed;
    let mut found = None;
    for case in &cases {
        if let Some(fault) = runner::run(&world, case).await.into_iter().next() {
            found = Some(fault);
            break;
        }
    }
    found
}

/// No hole is open afterwards, also when a case breaks off.
struct Closed;

impl Drop for Closed {
    fn drop(&mut self) {
        close();
    }
}
