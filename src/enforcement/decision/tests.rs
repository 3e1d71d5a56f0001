use std::sync::Arc;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn server(audience: Audience) -> Config {
    Config { audience, ..crate::authorization_server::testing::config() }
}

fn scopes(names: &[&str]) -> Vec<Scope> {
    names.iter().map(|name| Scope(Arc::from(*name))).collect()
}

fn permission(resource: &str, names: &[&str]) -> Permission {
    Permission { resource: Some(ResourceId(resource.into())), scopes: Some(scopes(names)), exp: None, nbf: None }
}

fn judged(change: impl FnOnce(&mut Introspection), needed: &[&str], scopes_match: ScopesMatch) -> Decision {
    let mut introspection = Introspection { exp: Some(Timestamp(NOW.0 + 300)), permissions: vec![permission("album", &["view"])], ..Introspection::default() };
    change(&mut introspection);
    let server = server(Audience::Named("content-gateway".into()));
    let need = Need { server: &server, resource: &ResourceId("album".into()), scopes: &scopes(needed), scopes_match };
    decide(&need, &introspection, NOW)
}

fn view(change: impl FnOnce(&mut Introspection)) -> Decision {
    judged(change, &["view"], ScopesMatch::All)
}

#[test]
fn a_permission_that_holds_every_scope_suffices() {
    assert_eq!(view(|_| {}), Decision::Permit { until: Some(Timestamp(NOW.0 + 300)), leniently: false });
}

#[test]
fn the_tokens_own_times_count_at_each_use() {
    assert_eq!(view(|token| token.exp = Some(NOW)), Decision::Expired);
    assert_eq!(view(|token| token.exp = Some(Timestamp(NOW.0 + 1))).row(), Row::E10);
    assert_eq!(view(|token| token.exp = None), Decision::Permit { until: None, leniently: false });
    assert_eq!(view(|token| token.nbf = Some(Timestamp(NOW.0 + 1))), Decision::NotYetValid);
    assert_eq!(view(|token| token.nbf = Some(NOW)).row(), Row::E10);
}

#[test]
fn a_permissions_own_times_count_at_each_use() {
    assert_eq!(view(|token| token.permissions[0].exp = Some(NOW)), Decision::Insufficient);
    assert_eq!(view(|token| token.permissions[0].nbf = Some(Timestamp(NOW.0 + 1))), Decision::Insufficient);
    assert_eq!(view(|token| token.permissions[0].exp = Some(Timestamp(NOW.0 + 5))), Decision::Permit { until: Some(Timestamp(NOW.0 + 5)), leniently: false });
}

#[test]
fn another_issuer_or_audience_is_refused_and_a_missing_one_passes() {
    assert_eq!(view(|token| token.issuer = Some("https://evil.example.org".into())), Decision::WrongIssuer);
    assert_eq!(view(|token| token.issuer = Some("https://id.example.org/realms/photoz/".into())), Decision::WrongIssuer);
    assert_eq!(view(|token| token.issuer = Some("https://id.example.org/realms/photoz".into())).row(), Row::E10);
    assert_eq!(view(|token| token.audience = vec!["other".into()]), Decision::WrongAudience);
    assert_eq!(view(|token| token.audience = vec!["other".into(), "content-gateway".into()]).row(), Row::E10);
    assert_eq!(view(|token| token.audience = vec!["Content-Gateway".into()]), Decision::WrongAudience);
}

#[test]
fn with_audience_any_no_audience_is_foreign() {
    let introspection = Introspection { audience: vec!["other".into()], permissions: vec![permission("album", &["view"])], ..Introspection::default() };
    let server = server(Audience::Any);
    let need = Need { server: &server, resource: &ResourceId("album".into()), scopes: &scopes(&["view"]), scopes_match: ScopesMatch::All };
    assert_eq!(decide(&need, &introspection, NOW).row(), Row::E10);
}

#[test]
fn a_bound_token_is_never_taken_as_a_plain_bearer_token() {
    assert_eq!(view(|token| token.bound = true), Decision::Bound);
}

#[test]
fn resource_and_scopes_are_compared_byte_for_byte() {
    assert_eq!(view(|token| token.permissions = vec![permission("Album", &["view"])]), Decision::Insufficient);
    assert_eq!(view(|token| token.permissions = vec![permission("album", &["View"])]), Decision::Insufficient);
    assert_eq!(view(|token| token.permissions = vec![permission("album", &["view "])]), Decision::Insufficient);
    assert_eq!(view(|token| token.permissions = vec![permission("albu", &["view"])]), Decision::Insufficient);
}

#[test]
fn several_entries_for_a_resource_add_up_each_within_its_own_time() {
    let two = |second: Option<Timestamp>| {
        judged(
            move |token| {
                let mut edit = permission("album", &["edit"]);
                edit.exp = second;
                token.permissions.push(edit);
            },
            &["view", "edit"],
            ScopesMatch::All,
        )
    };
    assert_eq!(two(None).row(), Row::E10);
    assert_eq!(two(Some(NOW)), Decision::Insufficient);
    assert_eq!(two(Some(Timestamp(NOW.0 + 9))), Decision::Permit { until: Some(Timestamp(NOW.0 + 9)), leniently: false });
}

#[test]
fn only_permissions_that_are_needed_end_what_is_permitted() {
    let (soon, later) = (Timestamp(NOW.0 + 5), Timestamp(NOW.0 + 300));
    let until = |needed: &[&str]| {
        let with_edit = |token: &mut Introspection| {
            token.permissions = vec![permission("album", &["view"]), Permission { exp: Some(soon), ..permission("album", &["edit"]) }];
        };
        judged(with_edit, needed, ScopesMatch::Any)
    };
    for (needed, end) in [(&["view"][..], later), (&["edit"], soon), (&["view", "edit"], soon), (&[], soon)] {
        assert_eq!(until(needed), Decision::Permit { until: Some(end), leniently: false }, "{needed:?}");
    }
}

#[test]
fn all_and_any_differ_where_one_scope_is_missing() {
    assert_eq!(judged(|_| {}, &["view", "edit"], ScopesMatch::All), Decision::Insufficient);
    assert_eq!(judged(|_| {}, &["view", "edit"], ScopesMatch::Any).row(), Row::E10);
    assert_eq!(judged(|_| {}, &["edit"], ScopesMatch::Any), Decision::Insufficient);
}

#[test]
fn no_scopes_needed_still_needs_a_live_permission_on_the_resource() {
    assert_eq!(judged(|_| {}, &[], ScopesMatch::All).row(), Row::E10);
    assert_eq!(judged(|_| {}, &[], ScopesMatch::Any).row(), Row::E10);
    assert_eq!(judged(|token| token.permissions.clear(), &[], ScopesMatch::Any), Decision::Insufficient);
    assert_eq!(judged(|token| token.permissions = vec![permission("other", &["view"])], &[], ScopesMatch::All), Decision::Insufficient);
    assert_eq!(judged(|token| token.permissions[0].exp = Some(NOW), &[], ScopesMatch::All), Decision::Insufficient);
}

#[test]
fn a_permission_without_scopes_grants_none() {
    assert_eq!(view(|token| token.permissions = vec![permission("album", &[])]), Decision::Insufficient);
    assert_eq!(view(|token| token.permissions[0].scopes = None), Decision::Insufficient);
}

#[test]
fn a_token_without_permissions_is_insufficient() {
    assert_eq!(view(|token| token.permissions.clear()), Decision::Insufficient);
}

#[test]
fn what_is_granted_live_suffices_by_the_same_rules() {
    let (all, any) = (ScopesMatch::All, ScopesMatch::Any);
    for (needed, scopes_match, given, expected) in [
        (&["view"][..], all, &["view", "edit"][..], true),
        (&["view"], all, &["edit"], false),
        (&["view"], all, &[], false),
        (&["view"], all, &["View"], false),
        (&["view", "edit"], all, &["view"], false),
        (&["view", "edit"], all, &["edit", "view"], true),
        (&["view", "edit"], any, &["edit"], true),
        (&["view", "edit"], any, &["delete"], false),
        (&["view", "edit"], any, &[], false),
        (&[], all, &[], true),
        (&[], any, &[], true),
    ] {
        assert_eq!(suffices(&scopes(needed), scopes_match, &scopes(given)), expected, "{needed:?} {scopes_match:?} of {given:?}");
    }
}

#[test]
fn each_decision_says_why() {
    for (decision, words) in [
        (Decision::Permit { until: None, leniently: false }, "the permission suffices"),
        (Decision::Permit { until: None, leniently: true }, "the permission suffices, read leniently"),
        (Decision::Expired, "the token has expired"),
        (Decision::NotYetValid, "the token is not valid yet"),
        (Decision::WrongIssuer, "the token is from another issuer"),
        (Decision::WrongAudience, "the token is for another audience"),
        (Decision::Bound, "the token is bound to a key or certificate"),
        (Decision::Insufficient, "a permission or scope is missing"),
    ] {
        assert_eq!(decision.reason(), words);
    }
}

#[test]
fn granted_lists_only_what_holds_now() {
    let mut old = permission("album", &["delete"]);
    old.exp = Some(NOW);
    let introspection = Introspection {
        permissions: vec![permission("album", &["view"]), old, permission("other", &["edit"]), permission("album", &["view", "edit"])],
        ..Introspection::default()
    };
    assert_eq!(granted(&ResourceId("album".into()), &introspection, NOW), scopes(&["edit", "view"]));
}

#[test]
fn a_lenient_reading_is_one_by_a_switch_of_its_own_and_says_so() {
    let judged = |lenient: Lenient, permission: Permission| {
        let server = Config { lenient, ..server(Audience::Any) };
        let introspection = Introspection { permissions: vec![permission], ..Introspection::default() };
        let resource = ResourceId("album".into());
        decide(&Need { server: &server, resource: &resource, scopes: &scopes(&["view"]), scopes_match: ScopesMatch::All }, &introspection, NOW)
    };
    let (strict, leniently) = (Lenient::default(), Decision::Permit { until: None, leniently: true });
    let (scopes_only, resource_only) = (Lenient { without_scopes: true, ..strict }, Lenient { without_resource: true, ..strict });
    let without_scopes = || Permission { scopes: None, ..permission("album", &[]) };
    let without_resource = || Permission { resource: None, ..permission("", &["view"]) };
    assert_eq!(judged(strict, without_scopes()), Decision::Insufficient);
    assert_eq!(judged(scopes_only, without_scopes()), leniently);
    assert_eq!(judged(resource_only, without_scopes()), Decision::Insufficient);
    assert_eq!(judged(strict, without_resource()), Decision::Insufficient);
    assert_eq!(judged(resource_only, without_resource()), leniently);
    assert_eq!(judged(scopes_only, without_resource()), Decision::Insufficient);
    assert_eq!(judged(scopes_only, permission("album", &[])), Decision::Insufficient, "an empty list names scopes: none");
    assert_eq!(judged(scopes_only, Permission { resource: Some(ResourceId("other".into())), ..without_scopes() }), Decision::Insufficient);
    assert_eq!(judged(resource_only, permission("other", &["view"])), Decision::Insufficient);
    assert_eq!(judged(scopes_only, Permission { exp: Some(NOW), ..without_scopes() }), Decision::Insufficient);
    let soon = Some(Timestamp(NOW.0 + 5));
    assert_eq!(judged(scopes_only, Permission { exp: soon, ..without_scopes() }), Decision::Permit { until: soon, leniently: true });
    assert_eq!(judged(resource_only, Permission { exp: soon, ..without_resource() }), Decision::Permit { until: soon, leniently: true });
    assert_eq!(judged(scopes_only, permission("album", &["view"])), Decision::Permit { until: None, leniently: false }, "it was not needed");
    assert_eq!(leniently.reason(), "the permission suffices, read leniently");
}
