//! Which addresses may be asked: https, and http to this machine, unless the user allows more.

use http::Uri;

use super::AddressError;
use crate::http_client::is_loopback;

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

#[cfg(test)]
mod tests {
    use super::*;

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
