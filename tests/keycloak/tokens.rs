//! Tokens that do not do: forged, meant for something else, of another realm, no RPTs at all.

use http::{Method, StatusCode};

use super::support::{BEACH, CLIENT_APP, PLAN, Plan, Realm};

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_token_that_keycloak_did_not_sign_is_refused_with_a_ticket() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    let (head, signature) = rpt.token.rsplit_once('.').expect("a JWT");
    let payload = head.split('.').nth(1).expect("a payload");
    let other = if signature.starts_with('A') { signature.replacen('A', "B", 1) } else { format!("A{}", signature.chars().skip(1).collect::<String>()) };
    for (forged, row) in [
        (format!("{head}.{other}"), "I5"),
        (format!("{head}."), "I5"),
        ("nonsense".to_owned(), "I5"),
        // Keycloak calls this one a bad request, not an inactive token.
        (format!("eyJhbGciOiJub25lIn0.{payload}."), "I9"),
    ] {
        let refused = world.get(BEACH, &forged).await;
        let challenge = refused.refusal("invalid_token");
        assert_eq!(refused.rows, format!("{row} C3"), "{forged}");
        bob.trade(&challenge).await.expect("the ticket is a good one");
    }
    assert_eq!(world.content().hits(), 1);
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_plain_access_token_gets_a_ticket() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;

    let challenge = world.get(BEACH, bob.access()).await.refusal("insufficient_scope");
    assert!(world.content().saw_nothing());
    let rpt = bob.trade(&challenge).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn an_rpt_for_one_album_gets_a_ticket_for_the_other() {
    let realm = Realm::photoz();
    let (vacation, work) = (realm.album().await, realm.album().await);
    realm.share(&vacation, "bob", &["view"]).await;
    let plan = Plan::behind(&realm).vacation(&vacation.by_name()).protect("/albums/work/**", &work.by_id(), "{ GET: [view] }");
    let world = plan.start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");

    let challenge = world.get(PLAN, &rpt.token).await.refusal("insufficient_scope");
    assert!(world.content().saw_nothing());
    assert_eq!(bob.trade(&challenge).await.err().map(|refused| refused.0), Some(403), "the ticket is for the other album");
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn each_route_speaks_of_its_own_realm() {
    let (photoz, research) = (Realm::photoz(), Realm::research());
    let (album, notes) = (photoz.album().await, research.album().await);
    photoz.share(&album, "bob", &["view"]).await;
    research.share(&notes, "bob", &["view"]).await;
    let plan = Plan::behind(&photoz).vacation(&album.by_name());
    let world = plan.and_behind(&research).protect("/albums/work/**", &notes.by_name(), "{ GET: [view] }").start().await;

    let rpt = |realm, path| {
        let world = &world;
        async move {
            let challenge = world.get_without_token(path).await.challenge();
            Realm::sign_in(realm, "bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT").token
        }
    };
    let (of_photoz, of_research) = (rpt(&photoz, BEACH).await, rpt(&research, PLAN).await);
    world.get(BEACH, &of_photoz).await.assert_passed();
    world.get(PLAN, &of_research).await.assert_passed();
    let hits = world.content().hits();

    for (path, token, realm) in [(PLAN, &of_photoz, &research), (BEACH, &of_research, &photoz)] {
        let refused = world.get(path, token).await;
        let challenge = refused.refusal("invalid_token");
        assert_eq!((challenge.realm.as_deref(), &*challenge.as_uri), (Some(realm.name()), &*realm.issuer()));
    }
    assert_eq!(world.content().hits(), hits);
    for (path, body) in [(BEACH, world.content_of(BEACH).await), (PLAN, world.content_of(PLAN).await)] {
        let (status, fetched) = world.fetch(Method::GET, path, "bob").await.expect("the content");
        assert_eq!((status, fetched), (StatusCode::OK, body));
    }
}
