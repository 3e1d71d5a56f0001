//! The corpus of challenges that resource servers send, and the round trip of our own.

use proptest::prelude::*;

use super::*;

/// `scheme[|token68]; name=value; …`, challenges joined by ` / `.
fn shown(field: &str) -> String {
    let show = |challenge: &Challenge| {
        let head = challenge.token68.as_ref().map_or(challenge.scheme.clone(), |token| format!("{}|{token}", challenge.scheme));
        challenge.parameters.iter().fold(head, |text, (name, value)| format!("{text}; {name}={value}"))
    };
    parse_challenges(field).map_or("error".to_owned(), |all| all.iter().map(show).collect::<Vec<_>>().join(" / "))
}

#[test]
fn challenges_are_read_as_they_are_written_in_the_wild() {
    let corpus = [
        // UMA 2.0 Grant, 3.2.1
        (r#"UMA realm="example", as_uri="https://as.example.com", ticket="016f84e8""#, "UMA; realm=example; as_uri=https://as.example.com; ticket=016f84e8"),
        // any order, extra parameters, names in any case
        (r#"UMA Ticket="t", x="1", AS_URI="https://a", error="invalid_token""#, "UMA; ticket=t; x=1; as_uri=https://a; error=invalid_token"),
        // scheme in another case, blanks around the sign
        (r#"uma as_uri = "https://a" ,ticket	=	"t""#, "uma; as_uri=https://a; ticket=t"),
        // Gluu: bare values and the whole discovery address
        (
            "UMA as_uri=https://g.example/.well-known/uma2-configuration, ticket=a.b-c_d==",
            "UMA; as_uri=https://g.example/.well-known/uma2-configuration; ticket=a.b-c_d==",
        ),
        // several challenges in one field
        (r#"Basic realm="simple", UMA as_uri="https://a", ticket="t""#, "Basic; realm=simple / UMA; as_uri=https://a; ticket=t"),
        (r#"UMA as_uri="https://a", ticket="t", Bearer error="invalid_token""#, "UMA; as_uri=https://a; ticket=t / Bearer; error=invalid_token"),
        // RFC 9110, 11.6.1
        (
            r#"Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\"""#,
            r#"Basic; realm=simple / Newauth; realm=apps; type=1; title=Login to "apps""#,
        ),
        ("Negotiate", "Negotiate"),
        ("Negotiate, NTLM", "Negotiate / NTLM"),
        ("Negotiate YII/+w==, Basic realm=x", "Negotiate|YII/+w== / Basic; realm=x"),
        ("DPoP algs=\"ES256 RS256\", error=\"use_dpop_nonce\"", "DPoP; algs=ES256 RS256; error=use_dpop_nonce"),
        // commas and signs inside quotes, an escaped backslash
        (r#"UMA realm="a, b=c", ticket="x\\y""#, r"UMA; realm=a, b=c; ticket=x\y"),
        // empty list members, and none at all
        (r#", ,UMA ,realm="r" , ,ticket="t","#, "UMA; realm=r; ticket=t"),
        ("", ""),
        // no commas
        (r#"UMA realm="r" as_uri="https://a" ticket="t""#, "UMA; realm=r; as_uri=https://a; ticket=t"),
        // ForgeRock IG puts the error after the ticket
        (
            r#"UMA realm="example", as_uri="http://am.example.com:8080/am/uma", ticket="t", error="insufficient_scope""#,
            "UMA; realm=example; as_uri=http://am.example.com:8080/am/uma; ticket=t; error=insufficient_scope",
        ),
        // an empty value
        (r#"UMA realm="", ticket="t""#, "UMA; realm=; ticket=t"),
        // not readable
        (r#"realm="x""#, "error"),
        (r#"UMA realm="x"#, "error"),
        (r#"UMA realm="x\"#, "error"),
        (r#""UMA""#, "error"),
        ("UMA @", "error"),
    ];
    for (field, expected) in corpus {
        assert_eq!(shown(field), expected, "{field}");
    }
}

#[test]
fn the_uma_challenge_is_found_among_several_fields() {
    let mut headers = HeaderMap::new();
    for field in ["Bearer realm=\"x\"", "broken \"", "UMA realm=\"no ticket\", as_uri=\"https://other\"", "UMA as_uri=\"https://a\", ticket=\"t\""] {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(field));
    }
    let found = UmaChallenge::of(&headers).unwrap();
    assert_eq!((found.as_uri.as_str(), found.ticket.0.expose(), found.realm), ("https://a", "t", None));
}

#[test]
fn a_challenge_with_two_tickets_is_none() {
    let mut headers = HeaderMap::new();
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("UMA as_uri=\"https://a\", ticket=\"t\", ticket=\"u\""));
    assert!(UmaChallenge::of(&headers).is_none());
}

#[test]
fn our_challenge_has_realm_first_and_ticket_last() {
    let ticket = PermissionTicket("016f".into());
    let plain = uma_challenge("photoz", "https://id.example.org/realms/photoz", None, &ticket).unwrap();
    assert_eq!(plain, r#"UMA realm="photoz", as_uri="https://id.example.org/realms/photoz", ticket="016f""#);
    let with_error = uma_challenge("a \"b\" \\", "https://id.example.org/", Some(TokenError::InsufficientScope), &ticket).unwrap();
    assert_eq!(with_error, r#"UMA realm="a \"b\" \\", as_uri="https://id.example.org/", error="insufficient_scope", ticket="016f""#);
    assert!(plain.is_sensitive());
}

#[test]
fn a_bearer_challenge_names_the_error_and_the_scopes() {
    let scopes = |names: &[&str]| names.iter().map(|name| Scope((*name).into())).collect::<Vec<_>>();
    let plain = bearer_challenge("photoz", None, &scopes(&["view", "edit"])).unwrap();
    assert_eq!(plain, r#"Bearer realm="photoz", scope="view edit""#);
    let with_error = bearer_challenge("a \"b\"", Some(TokenError::InvalidToken), &scopes(&["view"])).unwrap();
    assert_eq!(with_error, r#"Bearer realm="a \"b\"", error="invalid_token", scope="view""#);
    assert!(bearer_challenge("photoz", None, &scopes(&["a\nb"])).is_err());
}

#[test]
fn the_body_for_clients_of_uma_1_0_holds_ticket_and_server() {
    let body = challenge_body("https://id.example.org/", &PermissionTicket("016f\"".into()));
    let read: serde_json::Value = serde_json::from_str(body.expose()).unwrap();
    assert_eq!(read, serde_json::json!({ "ticket": "016f\"", "as_uri": "https://id.example.org/" }));
}

#[test]
fn a_ticket_that_no_header_can_carry_is_refused() {
    for ticket in ["", "a\rb", "a\nb", "a\0b", "tické", "a\tb", "a\u{7f}"] {
        assert!(uma_challenge("r", "https://a", None, &PermissionTicket(ticket.into())).is_err(), "{ticket:?}");
    }
}

#[test]
fn a_ticket_of_six_kibibytes_is_carried_whole() {
    let ticket = "eyJh.".repeat(1229);
    let value = uma_challenge("r", "https://a", None, &PermissionTicket(ticket.as_str().into())).unwrap();
    assert_eq!(read_back(value).ticket.0.expose(), ticket);
}

#[test]
fn debug_shows_no_ticket() {
    let all = parse_challenges("UMA as_uri=\"https://a\", ticket=\"very-secret\"").unwrap();
    assert_eq!(format!("{all:?}"), r#"[Challenge { scheme: "UMA", parameters: ["as_uri", "ticket"], .. }]"#);
}

#[test]
fn challenges_of_other_schemes_are_passed_over_whatever_their_parameters() {
    let mut headers = HeaderMap::new();
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Other as_uri=\"https://evil\", ticket=\"e\", uma as_uri=\"https://a\", ticket=\"t\""));
    assert_eq!(UmaChallenge::of(&headers).unwrap().as_uri, "https://a");
}

fn read_back(value: HeaderValue) -> UmaChallenge {
    let mut headers = HeaderMap::new();
    headers.insert(WWW_AUTHENTICATE, value);
    UmaChallenge::of(&headers).unwrap()
}

proptest! {
    #[test]
    fn any_ticket_of_visible_ascii_comes_back(ticket in "[!-~]{1,200}", realm in "[ -~]{1,40}") {
        let value = uma_challenge(&realm, "https://as.example.com/", Some(TokenError::InvalidToken), &PermissionTicket(ticket.as_str().into())).unwrap();
        let back = read_back(value);
        prop_assert_eq!(back.ticket.0.expose(), ticket);
        prop_assert_eq!(back.realm.unwrap(), realm);
        prop_assert_eq!(back.as_uri, "https://as.example.com/");
        prop_assert_eq!(back.error.unwrap(), "invalid_token");
    }

    #[test]
    fn no_field_makes_the_reader_fall_over(field in "\\PC{0,80}") {
        let _ = parse_challenges(&field);
    }
}
