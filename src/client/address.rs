//! Which addresses may be asked: https, and http to this machine, unless the user allows more.

use http::header::LOCATION;
use http::{HeaderMap, Uri};

use super::AddressError;
use crate::http_client::is_loopback;
use crate::telemetry::plain;

/// Refuses what is not http or https, has a user name or password in it, or would send tokens over plain http to another machine.
pub(super) fn check(uri: &Uri, allow_insecure: bool) -> Result<(), AddressError> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(AddressError::NotAbsolute) };
    if authority.as_str().contains('@') {
        return Err(AddressError::UserInfo);
    }
    match scheme {
        "https" => Ok(()),
        "http" if allow_insecure || is_loopback(authority.host()) => Ok(()),
        "http" => Err(AddressError::Insecure(authority.host().to_owned())),
        _ => Err(AddressError::Scheme),
    }
}

/// Refuses to go from https to http: whoever can write the answers of the one could read the tokens for the other.
pub(super) fn check_no_downgrade(from: &Uri, to: &Uri, allow_insecure: bool) -> Result<(), AddressError> {
    let downgrade = from.scheme_str() == Some("https") && to.scheme_str() != Some("https");
    if downgrade && !allow_insecure { Err(AddressError::Downgrade) } else { Ok(()) }
}

/// The address without its query, which may hold secrets.
pub(super) fn shown(uri: &Uri) -> String {
    format!("{}://{}{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |authority| authority.as_str()), uri.path())
}

/// Where an answer points (`Location`), as far as it is shown: without query and fragment, which may hold secrets, and nothing that a terminal would obey.
pub(super) fn pointed(headers: &HeaderMap) -> Option<String> {
    let location = String::from_utf8_lossy(headers.get(LOCATION)?.as_bytes()).into_owned();
    let end = location.find(['?', '#']).unwrap_or(location.len());
    let (address, rest) = location.split_at_checked(end)?;
    let mut shown = String::new();
    match address.split_once("//") {
        // A name and a password may stand in front of the host.
        Some((scheme, behind)) => {
            let (authority, path) = behind.split_at_checked(behind.find('/').unwrap_or(behind.len()))?;
            plain(&mut shown, &format!("{scheme}//{}{path}", authority.rsplit('@').next().unwrap_or_default()));
        }
        None => plain(&mut shown, address),
    }
    Some(if rest.is_empty() { shown } else { format!("{shown}?…") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_points_to_is_shown_without_what_may_be_secret() {
        for (location, shown) in [
            ("https://a.example.org/b/c", "https://a.example.org/b/c"),
            ("/login", "/login"),
            ("https://a.example.org/b?code=secret#secret", "https://a.example.org/b?…"),
            ("/b#secret", "/b?…"),
            ("https://h:secret@a.example.org/b", "https://a.example.org/b"),
            ("//secret@a.example.org/@b", "//a.example.org/@b"),
        ] {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            assert_eq!(pointed(&headers).as_deref(), Some(shown));
        }
        assert_eq!(pointed(&HeaderMap::new()), None);
    }

    fn checked(uri: &str) -> Result<(), AddressError> {
        check(&uri.parse().unwrap(), false)
    }

    #[test]
    fn https_goes_anywhere_and_http_to_this_machine_only() {
        for fine in [
            "https://photos.example.org/a",
            "http://127.0.0.1:8080/",
            "http://[::1]:8080/",
            "http://localhost/",
            "http://LOCALHOST:1/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        for refused in [
            "http://photos.example.org/",
            "http://10.0.0.1/",
            "http://localhost.example.org/",
            "http://127.0.0.1.example.org/",
            "http://notlocalhost/",
            "http://a.localhost/",
        ] {
            assert!(matches!(checked(refused), Err(AddressError::Insecure(_))), "{refused}");
            assert!(check(&refused.parse().unwrap(), true).is_ok());
        }
    }

    #[test]
    fn other_schemes_passwords_and_paths_are_no_address() {
        assert!(matches!(checked("ftp://127.0.0.1/"), Err(AddressError::Scheme)));
        assert!(matches!(checked("https://bob:secret@example.org/"), Err(AddressError::UserInfo)));
        assert!(matches!(checked("/albums"), Err(AddressError::NotAbsolute)));
    }

    #[test]
    fn an_https_resource_cannot_lead_to_an_http_server() {
        let (https, http) = ("https://a.example.org/".parse().unwrap(), "http://127.0.0.1/".parse().unwrap());
        assert!(matches!(check_no_downgrade(&https, &http, false), Err(AddressError::Downgrade)));
        assert!(check_no_downgrade(&https, &http, true).is_ok());
        assert!(check_no_downgrade(&http, &https, false).is_ok());
    }

    #[test]
    fn what_is_shown_has_no_query() {
        assert_eq!(shown(&"https://a.example.org/b?code=secret".parse().unwrap()), "https://a.example.org/b");
    }
}
