//! An owner links the gateway: signs in at the authorization server, once, and the code that comes back is exchanged for a protection API access token
//! (UMA 2.0 Federated Authorization, 1.3; RFC 6749, 4.1; RFC 7636).
//!
//! Who has signed in, the server says, asked about the token that it has just given; what a browser brings along is never believed. A way is good once, for
//! ten minutes, and for the browser that began it. Nothing that comes back is logged.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use url::Url;

use super::config::{Config, PatSource};
use super::discovery::Metadata;
use super::error::AskError;
use super::introspection::{self, Answer};
use super::pat::refuses_grant;
use super::profile::Introspector;
use super::renewal::Fresh;
use super::server::{Server, form_request, status};
use crate::http_client::form;
use crate::secret::{Secret, random_text, s256};
use crate::telemetry::AsEndpoint;
use crate::uma::{Introspection, Rpt};

/// How long an owner may take to sign in.
pub const LINK_LIFE: Duration = Duration::from_secs(600);
/// Owners who may be on their way at once; the one who began first has to begin anew when there are more.
const MOST: usize = 1024;
/// How long the server is waited for, once an owner is back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an owner's way led nowhere. No variant holds anything that came back but what is named.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// No owner links the gateway here.
    #[error("no owner of this authorization server links the gateway")]
    Nobody,
    /// The server's document names no authorization endpoint, or one where the configuration expects none.
    #[error("the authorization server names no usable authorization endpoint")]
    NoEndpoint,
    /// The way was not begun, is over, was gone already, or was begun in another browser.
    #[error("this way was not begun in this browser, or is over: begin again")]
    NotBegun,
    /// A parameter is missing or stands twice.
    #[error("what the authorization server sent along cannot be read")]
    Malformed,
    /// The answer is another server's (RFC 9207).
    #[error("the answer is another authorization server's")]
    WrongIssuer,
    /// The server or the owner said no.
    #[error("the authorization server said no{}", code(.0))]
    Refused(Option<Arc<str>>),
    /// What was granted is not enough for a protection API access token.
    #[error("what was granted lacks the scope that the gateway needs: {0}")]
    Scope(&'static str),
    /// Somebody else signed in than the configuration names.
    #[error("the configuration names no owner who is known there as {0}")]
    Stranger(Arc<str>),
    /// The server gave no usable answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No randomness.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

fn code(error: &Option<Arc<str>>) -> String {
    error.as_ref().map_or_else(String::new, |error| format!(" ({error})"))
}

/// The way to the authorization server.
#[derive(Debug)]
pub struct Away {
    /// Where the browser is sent.
    pub location: String,
    /// What tells this browser from others when it comes back: for a cookie.
    pub cookie: Secret,
}

/// An owner who has linked the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The name that the configuration has for the owner.
    pub owner: Arc<str>,
    /// Whether the server lets the owner protect resources.
    pub may_protect: bool,
}

/// Owners who are on their way, and those who have just come to its end: a page that is loaded anew says what it said.
#[derive(Default)]
pub(super) struct Links(RefCell<VecDeque<Begun>>);

struct Begun {
    state: Secret,
    cookie: Secret,
    verifier: Secret,
    redirect: Arc<str>,
    until: Instant,
    progress: Progress,
}

enum Progress {
    /// Nobody is back yet.
    Open,
    /// Somebody is; nobody comes this way again.
    Taken,
    /// It led to the end.
    Ended(Linked),
}

/// What is there for a browser that comes back.
#[derive(Debug)]
enum Back {
    /// Its way.
    Way(Way),
    /// It was back already.
    Ended(Linked),
}

/// What the code is exchanged with.
#[derive(Debug)]
struct Way {
    state: Secret,
    verifier: Secret,
    redirect: Arc<str>,
}

impl Links {
    fn begin(&self, begun: Begun) {
        let mut all = self.0.borrow_mut();
        let now = Instant::now();
        all.retain(|one| now < one.until);
        if all.len() >= MOST {
            all.pop_front();
        }
        all.push_back(begun);
    }

    /// Takes the way with this `state`, if it is this browser's.
    fn take(&self, state: &str, cookies: &[&str]) -> Option<Back> {
        let mut all = self.0.borrow_mut();
        let now = Instant::now();
        let is_theirs = |one: &&mut Begun| one.state.matches(state) && now < one.until && cookies.iter().any(|cookie| one.cookie.matches(cookie));
        let one = all.iter_mut().find(is_theirs)?;
        match &one.progress {
            Progress::Taken => None,
            Progress::Ended(linked) => Some(Back::Ended(linked.clone())),
            Progress::Open => {
                one.progress = Progress::Taken;
                Some(Back::Way(Way { state: one.state.clone(), verifier: one.verifier.clone(), redirect: Arc::clone(&one.redirect) }))
            }
        }
    }

    /// The way with this `state` led to the end.
    fn ended(&self, state: &Secret, linked: &Linked) {
        if let Some(one) = self.0.borrow_mut().iter_mut().find(|one| one.state.matches(state.expose())) {
            one.progress = Progress::Ended(linked.clone());
        }
    }
}

/// What stands in the query that a browser comes back with.
#[derive(Default)]
struct Returned {
    code: Option<Secret>,
    state: Option<Secret>,
    iss: Option<String>,
    error: Option<String>,
}

impl Returned {
    fn read(query: &str) -> Option<Self> {
        let mut returned = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let twice = match &*name {
                "code" => returned.code.replace(Secret::from(value.into_owned())).is_some(),
                "state" => returned.state.replace(Secret::from(value.into_owned())).is_some(),
                "iss" => returned.iss.replace(value.into_owned()).is_some(),
                "error" => returned.error.replace(value.into_owned()).is_some(),
                // What is not known is left alone (RFC 6749, 4.1.2).
                _ => false,
            };
            if twice {
                return None;
            }
        }
        Some(returned)
    }
}

impl Server {
    /// Begins an owner's way; `redirect` is where it leads back to.
    ///
    /// # Errors
    /// Nobody links the gateway here, or the server cannot be asked where its authorization endpoint is.
    pub async fn begin_link(&self, redirect: Arc<str>) -> Result<Away, LinkError> {
        if !links_owners(&self.config) {
            return Err(LinkError::Nobody);
        }
        let metadata = self.metadata(Instant::now() + PATIENCE).await?;
        let endpoint = metadata.authorization.as_ref().ok_or(LinkError::NoEndpoint)?;
        let mut location = Url::parse(&endpoint.to_string()).map_err(|_| LinkError::NoEndpoint)?;
        let (state, cookie, verifier) = (random()?, random()?, random()?);
        location.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.config.client.id),
            ("redirect_uri", &redirect),
            ("state", state.expose()),
            ("code_challenge", &s256(verifier.expose())),
            ("code_challenge_method", "S256"),
            // To be linked is never a side effect of being signed in; servers that do not know the parameter leave it alone (RFC 6749, 3.1).
            ("prompt", "consent"),
        ]);
        if let Some(scope) = scope(&metadata) {
            location.query_pairs_mut().append_pair("scope", &scope);
        }
        let until = Instant::now() + LINK_LIFE;
        self.links.begin(Begun { state, cookie: cookie.clone(), verifier, redirect, until, progress: Progress::Open });
        Ok(Away { location: location.into(), cookie })
    }

    /// The end of an owner's way: exchanges the code, asks the server whose token it is, keeps it, and tries it once. Who has come to the end before, in the
    /// same browser, is told the same again.
    ///
    /// # Errors
    /// See [`LinkError`]; nothing has changed then.
    pub async fn end_link(&self, query: &str, cookies: &[&str]) -> Result<Linked, LinkError> {
        let returned = Returned::read(query).ok_or(LinkError::Malformed)?;
        let state = returned.state.as_ref().ok_or(LinkError::Malformed)?;
        let way = match self.links.take(state.expose(), cookies).ok_or(LinkError::NotBegun)? {
            Back::Way(way) => way,
            Back::Ended(linked) => return Ok(linked),
        };
        let deadline = Instant::now() + PATIENCE;
        let metadata = self.metadata(deadline).await?;
        match &returned.iss {
            Some(issuer) if *issuer != *self.config.issuer => return Err(LinkError::WrongIssuer),
            None if metadata.names_issuer => return Err(LinkError::WrongIssuer),
            _ => {}
        }
        if let Some(error) = returned.error {
            return Err(LinkError::Refused(plain(&error)));
        }
        let code = returned.code.ok_or(LinkError::Malformed)?;
        let server = self.me.upgrade().ok_or(AskError::ShuttingDown)?;
        // The code is good once: whoever has come so far is led to the end, though the browser goes away.
        let ended = tokio::task::spawn_local(async move { server.exchange(&metadata, &way, &code, deadline).await });
        ended.await.unwrap_or(Err(LinkError::Ask(AskError::ShuttingDown)))
    }

    async fn exchange(&self, metadata: &Metadata, way: &Way, code: &Secret, deadline: Instant) -> Result<Linked, LinkError> {
        let fields =
            [("grant_type", "authorization_code"), ("code", code.expose()), ("redirect_uri", &*way.redirect), ("code_verifier", way.verifier.expose())];
        let response = self.as_client(AsEndpoint::Token, &metadata.token, form(&fields), deadline).await?;
        if refuses_grant(&response) {
            return Err(LinkError::Refused(Some("invalid_grant".into())));
        }
        if response.status() != StatusCode::OK {
            return Err(self.refusal(AsEndpoint::Token, &response).into());
        }
        let fresh = self.fresh(&response)?;
        let spare = fresh.refresh.as_ref().unwrap_or(&fresh.access).clone();
        let linked = match self.owner_of(metadata, &fresh, deadline).await {
            Ok(owner) => self.link(&owner, fresh).await.map(|_| owner).map_err(LinkError::Ask),
            Err(error) => Err(error),
        };
        let owner = match linked {
            Ok(owner) => owner,
            Err(error) => {
                self.give_back(metadata, &spare, deadline).await;
                return Err(error);
            }
        };
        if let Ok(endpoint) = metadata.registration() {
            // What is listed does not matter, nor what else may go wrong: requests will tell.
            let _ = self.list(metadata, endpoint, Some(&owner), deadline).await;
        }
        let linked = Linked { may_protect: self.may_protect(&owner), owner };
        self.links.ended(&way.state, &linked);
        Ok(linked)
    }

    /// The owner whose token this is, by the server's own word.
    async fn owner_of(&self, metadata: &Metadata, fresh: &Fresh, deadline: Instant) -> Result<Arc<str>, LinkError> {
        if let Some(needed) = metadata.profile.pat_scope.filter(|needed| !fresh.scope.is_empty() && !fresh.scope.split(' ').any(|scope| scope == *needed)) {
            return Err(LinkError::Scope(needed));
        }
        let rpt = Rpt(fresh.access.clone());
        let body = form(&[("token", rpt.0.expose())]);
        let response = match metadata.profile.introspector {
            Introspector::Pat => self.call(AsEndpoint::Introspection, &metadata.introspection, form_request(Some(fresh.header())), body, deadline).await?,
            Introspector::Client => self.as_client(AsEndpoint::Introspection, &metadata.introspection, body, deadline).await?,
        };
        let read = match response.status() {
            StatusCode::OK => introspection::read(metadata.profile, response.body(), &rpt),
            _ => Err(status(AsEndpoint::Introspection, &response)),
        };
        let unusable = |why| LinkError::Ask(AskError::unusable(AsEndpoint::Introspection.label(), why));
        let Answer::Active(said) = self.judged(AsEndpoint::Introspection, &response, read)? else {
            return Err(unusable("it calls the token inactive that the server has just given"));
        };
        let ours = said.issuer.as_ref().is_none_or(|issuer| *issuer == self.config.issuer);
        if !ours || said.client.as_ref().is_some_and(|client| *client != self.config.client.id) {
            return Err(unusable("it names another issuer or client than the token was asked of and for"));
        }
        if said.bound {
            return Err(unusable("the token is bound to a key"));
        }
        named(&self.config, &said).ok_or_else(|| LinkError::Stranger(said.username.or(said.subject).unwrap_or_else(|| "nobody".into())))
    }

    /// Takes a token back that is not used (RFC 7009). If the server does not listen, it ends by itself.
    async fn give_back(&self, metadata: &Metadata, token: &Secret, deadline: Instant) {
        let Some(revocation) = &metadata.revocation else { return };
        if let Ok(response) = self.as_client(AsEndpoint::Token, revocation, form(&[("token", token.expose())]), deadline).await {
            self.counted(AsEndpoint::Token, &response, true);
        }
    }
}

/// Whether any owner links the gateway here.
fn links_owners(config: &Config) -> bool {
    config.owners.values().any(|owner| matches!(owner.source, PatSource::Code { .. }))
}

/// The owner whom the configuration means: by `sub` where it names one, else by user name.
fn named(config: &Config, said: &Introspection) -> Option<Arc<str>> {
    let is_meant = |source: &PatSource| match source {
        PatSource::Code { subject: Some(subject), .. } => said.subject.as_ref() == Some(subject),
        PatSource::Code { username, subject: None } => said.username.as_ref() == Some(username),
        PatSource::Password { .. } => false,
    };
    config.owners.iter().find(|(_, owner)| is_meant(&owner.source)).map(|(name, _)| Arc::clone(name))
}

/// What is asked for: the protection API, and that it outlives the owner's session, where the server says that it knows how (OpenID Connect Core, 11).
fn scope(metadata: &Metadata) -> Option<String> {
    let offline = metadata.offline.then_some("openid offline_access");
    let words: Vec<&str> = metadata.profile.pat_scope.into_iter().chain(offline).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// An error code of the server's that can be shown: one made as the specification's are.
fn plain(error: &str) -> Option<Arc<str>> {
    (error.len() <= 40 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).then(|| Arc::from(error))
}

/// 256 random bits, base64url.
fn random() -> Result<Secret, LinkError> {
    random_text::<32>().map(Secret::from).ok_or(LinkError::NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(state: &str, cookie: &str) -> Begun {
        let until = Instant::now() + LINK_LIFE;
        Begun { state: state.into(), cookie: cookie.into(), verifier: "v".into(), redirect: "http://127.0.0.1/".into(), until, progress: Progress::Open }
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_is_good_once_in_its_own_browser_for_ten_minutes() {
        let links = Links::default();
        links.begin(begun("s", "c"));
        assert!(links.take("s", &["another"]).is_none() && links.take("another", &["c"]).is_none() && links.take("s", &[]).is_none());
        assert!(matches!(links.take("s", &["another", "c"]), Some(Back::Way(_))));
        assert!(links.take("s", &["c"]).is_none(), "a second time");
        let linked = Linked { owner: "alice".into(), may_protect: true };
        links.ended(&"s".into(), &linked);
        assert!(matches!(links.take("s", &["c"]), Some(Back::Ended(told)) if told == linked), "what it came to");
        assert!(links.take("s", &["another"]).is_none(), "which nobody else hears");
        links.begin(begun("t", "c"));
        tokio::time::advance(LINK_LIFE).await;
        assert!(links.take("s", &["c"]).is_none() && links.take("t", &["c"]).is_none(), "too late");
    }

    #[tokio::test]
    async fn those_on_their_way_are_bounded() {
        let links = Links::default();
        for number in 0..=MOST {
            links.begin(begun(&number.to_string(), "c"));
        }
        assert_eq!(links.0.borrow().len(), MOST);
        assert!(links.take("0", &["c"]).is_none() && links.take("1", &["c"]).is_some());
    }

    #[test]
    fn a_parameter_that_stands_twice_is_refused() {
        assert!(Returned::read("code=a&state=b&iss=c&session_state=d&session_state=e").is_some());
        for query in ["code=a&code=a&state=b", "code=a&state=b&state=c", "state=b&iss=c&iss=c", "error=a&error=b"] {
            assert!(Returned::read(query).is_none(), "{query}");
        }
    }

    #[test]
    fn a_servers_error_is_shown_only_where_it_is_a_code() {
        assert_eq!(plain("access_denied").as_deref(), Some("access_denied"));
        for text in ["<script>", "eyJhbGciOiJub25lIn0", "a b", &"a".repeat(41)] {
            assert_eq!(plain(text), None);
        }
    }
}
