//! `register_on_create`: how it is read in a content server's answer that it has made something, and where.
//!
//! `Location` says which resource was made, and nothing else: where its content is stays with the route. What is not surely a path of this gateway, in one
//! reading and where the configuration expects it, is nothing.

use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue};

use super::authority::Authority;
use super::config::{Pattern, Template};
use super::table::Params;
use crate::path::{CanonicalPath, PathProblem, decoded};
use crate::uma::Scope;

/// `register_on_create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnCreate {
    /// The paths that new resources may have.
    pub location: Pattern,
    /// What they are called, with parameters of `location`; absent: nothing that would say what they are.
    pub name: Option<Template>,
    /// Their type.
    pub kind: Option<Arc<str>>,
    /// Their scopes; absent: those that the methods of their own route need.
    pub scopes: Option<Arc<[Scope]>>,
}

/// A resource that a content server has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its path.
    pub path: CanonicalPath,
    /// What it is called.
    pub name: Option<Arc<str>>,
}

/// The request that made it.
pub struct Maker<'a> {
    /// Its path, which a relative `Location` begins at.
    pub path: &'a CanonicalPath,
    /// The path of its route.
    pub pattern: &'a Pattern,
    /// Where that one's parameters stand.
    pub params: &'a Params,
    /// The port of an authority without one, where the scheme is not said.
    pub default_port: u16,
    /// Whether an authority is this gateway's or the content server's, where an absent port is the given one.
    pub knows: &'a dyn Fn(&Authority, u16) -> bool,
}

/// Why a `Location` names no resource that could be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// It stands twice.
    Twice,
    /// It is empty, or holds something else than printable ASCII.
    Unreadable,
    /// It has a scheme other than `http` and `https`.
    Scheme,
    /// It has an authority that is none, or has user information.
    Authority,
    /// It leads to another server.
    Elsewhere,
    /// It has a query: its path alone may be something else.
    Query,
    /// Its path has no single reading.
    Path(PathProblem),
    /// `location` does not have its path.
    NotExpected,
    /// A parameter that the request's path has as well is another one.
    OtherParameter,
}

impl NotMade {
    /// A constant text for the log.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Twice => "it stands twice",
            Self::Unreadable => "it is empty, or not printable ASCII",
            Self::Scheme => "its scheme is neither http nor https",
            Self::Authority => "its authority cannot be read, or holds user information",
            Self::Elsewhere => "it leads to another server",
            Self::Query => "it has a query",
            Self::Path(problem) => problem.reason(),
            Self::NotExpected => "`location` does not have its path",
            Self::OtherParameter => "a path parameter is another one than in the request's path",
        }
    }
}

impl OnCreate {
    /// The resource that an answer says was made; nothing where it names none.
    ///
    /// # Errors
    /// It names one that nobody is to register.
    pub fn made(&self, headers: &HeaderMap, maker: &Maker<'_>) -> Result<Option<Made>, NotMade> {
        let mut all = headers.get_all(LOCATION).iter();
        let Some(location) = all.next() else { return Ok(None) };
        if all.next().is_some() {
            return Err(NotMade::Twice);
        }
        let path = path_of(location, maker)?;
        if !self.expects(&path) {
            return Err(NotMade::NotExpected);
        }
        let params = Params::new(&self.location, &path);
        if !self.agrees(&params, &path, maker) {
            return Err(NotMade::OtherParameter);
        }
        let name = self.name.as_ref().map(|name| name.fill(&params, &path));
        Ok(Some(Made { path, name }))
    }

    /// Whether `location` has this path; with `/**`, something stands in its place.
    fn expects(&self, path: &CanonicalPath) -> bool {
        self.location.behind(path.segments()).is_some_and(|mut behind| behind.next().is_some() == self.location.rest)
    }

    /// Whether parameters with one name have one value: whoever makes something at `/albums/{user}` makes it for the same user.
    fn agrees(&self, params: &Params, path: &CanonicalPath, maker: &Maker<'_>) -> bool {
        self.location.parameters().enumerate().all(|(place, name)| {
            let there = maker.pattern.parameters().position(|other| other == name);
            there.is_none_or(|there| decoded(maker.params.value(maker.path, there)) == decoded(params.value(path, place)))
        })
    }
}

/// The path that a `Location` leads to on this gateway (RFC 9110, 10.2.2; RFC 3986, 5.2). Dot segments are refused as in requests, not resolved.
fn path_of(location: &HeaderValue, maker: &Maker<'_>) -> Result<CanonicalPath, NotMade> {
    let text = location.to_str().map_err(|_| NotMade::Unreadable)?;
    // It is the reader's and never sent.
    let text = text.split_once('#').map_or(text, |(before, _)| before);
    if text.is_empty() {
        return Err(NotMade::Unreadable);
    }
    if text.contains('?') {
        return Err(NotMade::Query);
    }
    let (scheme, behind) = scheme_of(text);
    let default_port = match scheme {
        None => maker.default_port,
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => 80,
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => 443,
        Some(_) => return Err(NotMade::Scheme),
    };
    let path = match behind.strip_prefix("//") {
        Some(behind) => {
            let (authority, path) = behind.find('/').map_or((behind, ""), |slash| behind.split_at(slash));
            let authority = Authority::parse(authority.as_bytes()).map_err(|_| NotMade::Authority)?;
            if !(maker.knows)(&authority, default_port) {
                return Err(NotMade::Elsewhere);
            }
            path.to_owned()
        }
        // `http:x` has been read in more than one way.
        None if scheme.is_some() => return Err(NotMade::Authority),
        None if behind.starts_with('/') => behind.to_owned(),
        None => {
            let folder = maker.path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{behind}")
        }
    };
    CanonicalPath::parse(path).map_err(NotMade::Path)
}

/// The scheme, where one stands: a colon in the first segment ends it.
fn scheme_of(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((scheme, behind)) if !scheme.contains('/') => (Some(scheme), behind),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [&str; 3] = ["photos.example.org", "gateway.internal:8443", "127.0.0.1:9101"];

    fn on_create(location: &str) -> OnCreate {
        let location = Pattern::parse(location).unwrap();
        let names: Vec<Arc<str>> = location.parameters().cloned().collect();
        OnCreate { name: Template::parse("album {id}", &names).ok(), location, kind: None, scopes: None }
    }

    /// What an answer to a `POST` to this path makes.
    fn made_at(path: &str, location: &str, headers: &[&[u8]]) -> Result<Option<(String, Option<String>)>, NotMade> {
        let path = CanonicalPath::parse(path).unwrap();
        let pattern = Pattern::parse("/albums/{user}").unwrap();
        let knows = |authority: &Authority, port: u16| OURS.iter().any(|ours| Authority::parse(ours.as_bytes()).unwrap().same_as(authority, port));
        let maker = Maker { path: &path, pattern: &pattern, params: &Params::new(&pattern, &path), default_port: 443, knows: &knows };
        let mut all = HeaderMap::new();
        for value in headers {
            all.append(LOCATION, HeaderValue::from_bytes(value).unwrap());
        }
        let made = on_create(location).made(&all, &maker)?;
        Ok(made.map(|made| (made.path.to_string(), made.name.map(|name| name.to_string()))))
    }

    fn made(location: &str) -> Result<String, NotMade> {
        made_at("/albums/alice/", "/albums/{user}/{id}", &[location.as_bytes()]).map(|made| made.expect("one").0)
    }

    #[test]
    fn a_location_is_read_as_a_path_of_this_gateway() {
        for (location, path) in [
            ("/albums/alice/42", "/albums/alice/42"),
            ("42", "/albums/alice/42"),
            ("/albums/alice/42#top", "/albums/alice/42"),
            ("/albums/%61lice/a%40b", "/albums/alice/a%40b"),
            ("https://photos.example.org/albums/alice/42", "/albums/alice/42"),
            ("HTTPS://Photos.Example.ORG:443/albums/alice/42", "/albums/alice/42"),
            ("http://photos.example.org/albums/alice/42", "/albums/alice/42"),
            ("//photos.example.org/albums/alice/42", "/albums/alice/42"),
            ("//photos.example.org:443/albums/alice/42", "/albums/alice/42"),
            ("https://gateway.internal:8443/albums/alice/42", "/albums/alice/42"),
            ("http://127.0.0.1:9101/albums/alice/42", "/albums/alice/42"),
        ] {
            assert_eq!(made(location).as_deref(), Ok(path), "{location}");
        }
    }

    #[test]
    fn what_is_not_surely_a_path_of_this_gateway_is_nothing() {
        use NotMade::{Authority, Elsewhere, NotExpected, OtherParameter, Path, Query, Scheme, Unreadable};
        use PathProblem::{Backslash, DotSegment, EmptySegment, EncodedSlash, NotRooted, Semicolon};
        for (location, why) in [
            ("", Unreadable),
            ("#top", Unreadable),
            ("\t", Path(PathProblem::Byte)),
            ("https://evil.example.org/albums/alice/42", Elsewhere),
            ("//evil.example.org/albums/alice/42", Elsewhere),
            ("https://photos.example.org.evil.example.org/albums/alice/42", Elsewhere),
            ("https://photos.example.org:8443/albums/alice/42", Elsewhere),
            ("http://127.0.0.1:9102/albums/alice/42", Elsewhere),
            ("https://photos.example.org@evil.example.org/albums/alice/42", Authority),
            ("https://alice@photos.example.org/albums/alice/42", Authority),
            ("https://photos.example.org\\.evil.example.org/albums/alice/42", Authority),
            ("https:///albums/alice/42", Authority),
            ("https:/albums/alice/42", Authority),
            ("https:42", Authority),
            ("javascript:42", Scheme),
            ("file:///albums/alice/42", Scheme),
            ("42:1", Scheme),
            ("https://photos.example.org", Path(NotRooted)),
            ("/albums/alice/42?x=1", Query),
            ("?id=42", Query),
            ("/albums/alice/../bob/42", Path(DotSegment)),
            ("../bob/42", Path(DotSegment)),
            ("./42", Path(DotSegment)),
            ("/albums/alice/%2e%2e", Path(DotSegment)),
            ("/albums/alice/4%2F2", Path(EncodedSlash)),
            ("/albums/alice/42;v=1", Path(Semicolon)),
            ("/albums/alice\\42", Path(Backslash)),
            ("/albums//42", Path(EmptySegment)),
            ("/albums/alice/%FF", Path(PathProblem::NotUtf8)),
            ("/albums/alice", NotExpected),
            ("/albums/alice/42/43", NotExpected),
            ("/Albums/alice/42", NotExpected),
            ("/elsewhere/alice/42", NotExpected),
            ("/albums/bob/42", OtherParameter),
            ("/albums/Alice/42", OtherParameter),
        ] {
            assert_eq!(made(location), Err(why), "{location}");
        }
        assert_eq!(made_at("/albums/alice/", "/albums/{user}/{id}", &[b"/albums/alice/\xc3\xa4"]), Err(Unreadable), "not ASCII");
        assert_eq!(made_at("/albums/alice/", "/albums/{user}/{id}", &[b"42", b"42"]), Err(NotMade::Twice));
        assert_eq!(made_at("/albums/alice/", "/albums/{user}/{id}", &[]), Ok(None));
    }

    #[test]
    fn a_relative_location_begins_where_the_request_was() {
        let at = |path: &str, location: &str, value: &str| made_at(path, location, &[value.as_bytes()]).map(|made| made.map(|(path, _)| path));
        assert_eq!(at("/albums/alice", "/albums/{id}", "42"), Ok(Some("/albums/42".to_owned())), "in the place of the last segment (RFC 3986, 5.2.3)");
        assert_eq!(at("/albums/alice/", "/albums/{user}/{id}", "42/"), Ok(Some("/albums/alice/42/".to_owned())));
    }

    #[test]
    fn a_name_has_the_values_of_the_path_and_the_rest_is_more_than_nothing() {
        let named = made_at("/albums/alice", "/albums/{user}/{id}", &[b"/albums/alice/a%20b"]).unwrap().expect("one");
        assert_eq!(named.1.as_deref(), Some("album a b"));
        let rest = |value: &str| made_at("/albums/alice", "/albums/{user}/**", &[value.as_bytes()]).map(|made| made.map(|(path, _)| path));
        assert_eq!(rest("/albums/alice/a/b"), Ok(Some("/albums/alice/a/b".to_owned())));
        assert_eq!(rest("/albums/alice"), Err(NotMade::NotExpected));
    }
}
