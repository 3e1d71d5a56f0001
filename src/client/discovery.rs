//! Who stands behind `as_uri` (UMA 2.0 Grant, 2; UMA 1.0.1 Core, 1.4). What the document names is used only if it names itself as the resource named it.

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use serde::Deserialize;

use super::{ANSWER, Client, FetchError, address};

const STEP: &str = "discovery";
const WELL_KNOWN: &str = "/.well-known/uma2-configuration";
const WELL_KNOWN_1_0: &str = "/.well-known/uma-configuration";

/// What the client needs of an authorization server's metadata.
#[derive(Clone, Debug)]
pub struct AuthorizationServer {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// Where tickets are traded.
    pub token_endpoint: Uri,
    /// Where tickets are traded at a server that speaks UMA 1.0; `None`: it speaks UMA 2.0.
    pub rpt_endpoint: Option<Uri>,
    /// Where users sign in, if they can.
    pub authorization_endpoint: Option<Uri>,
    /// Where the document was.
    pub document: Uri,
}

impl AuthorizationServer {
    /// What the application asks for when the user signs in.
    pub(super) const fn scope(&self) -> &'static str {
        // Either is served best by one token each; servers give both at once.
        if self.rpt_endpoint.is_some() { "openid uma_authorization" } else { "openid" }
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: Option<String>,
    rpt_endpoint: Option<String>,
    authorization_endpoint: Option<String>,
}

impl Client {
    /// Reads the metadata of the authorization server that `resource` named as `as_uri`. Some resource servers name the discovery document itself; that
    /// is understood.
    ///
    /// # Errors
    /// When the server is not the trusted one, must not be asked, gives no document, or one of another issuer.
    pub async fn discover(&self, resource: &Uri, as_uri: &str) -> Result<AuthorizationServer, FetchError> {
        let named = [WELL_KNOWN, WELL_KNOWN_1_0].into_iter().find_map(|suffix| as_uri.strip_suffix(suffix)).unwrap_or(as_uri);
        if let Some(trusted) = self.options.issuer.as_deref().filter(|trusted| *trusted != named) {
            return Err(FetchError::Untrusted { named: super::step::excerpt(named), trusted: trusted.to_owned() });
        }
        let server: Uri = named.parse().map_err(|_| FetchError::BadServerAddress)?;
        self.check(&server)?;
        address::check_no_downgrade(resource, &server, self.options.allow_insecure)?;
        let (found, document) = match &self.options.discovery {
            Some(document) => (self.read_document(document).await?, document.clone()),
            None => self.find_document(named).await?,
        };
        if found.issuer != named {
            return Err(FetchError::IssuerMismatch { named: super::step::excerpt(named), issuer: super::step::excerpt(&found.issuer) });
        }
        let token_endpoint = found.token_endpoint.ok_or(FetchError::Lacks { step: STEP, member: "token_endpoint" })?;
        // A document of UMA 2.0 that keeps the old endpoint is one of UMA 2.0.
        let rpt_endpoint = found.rpt_endpoint.filter(|_| !document.path().ends_with(WELL_KNOWN)).map(|text| self.endpoint(&server, &text)).transpose()?;
        if rpt_endpoint.is_none() && document.path().ends_with(WELL_KNOWN_1_0) {
            return Err(FetchError::Lacks { step: STEP, member: "rpt_endpoint" });
        }
        Ok(AuthorizationServer {
            rpt_endpoint,
            issuer: found.issuer,
            token_endpoint: self.endpoint(&server, &token_endpoint)?,
            authorization_endpoint: found.authorization_endpoint.map(|text| self.endpoint(&server, &text)).transpose()?,
            document,
        })
    }

    /// The first document that is there, of UMA 2.0 before UMA 1.0. The old Keycloak answers 500 where it has none; if there is none, the first answer counts.
    async fn find_document(&self, named: &str) -> Result<(Document, Uri), FetchError> {
        let mut first = None;
        for address in documents(named) {
            let document = address.parse().map_err(|_| FetchError::BadServerAddress)?;
            match self.read_document(&document).await {
                Ok(found) => return Ok((found, document)),
                Err(error @ FetchError::Refused { .. }) => first = first.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or(FetchError::BadServerAddress))
    }

    async fn read_document(&self, document: &Uri) -> Result<Document, FetchError> {
        self.check(document)?;
        let request = Request::get(document.clone()).header("accept", "application/json").body(Bytes::new()).map_err(|_| FetchError::BadServerAddress)?;
        let answer = self.http.send(request, ANSWER, self.deadline()).await.map_err(|source| FetchError::Server { step: STEP, source })?;
        if answer.status() != StatusCode::OK {
            let error = "no UMA discovery document".to_owned();
            return Err(FetchError::Refused { step: STEP, status: answer.status().as_u16(), error, description: String::new() });
        }
        serde_json::from_slice(answer.body()).map_err(|source| FetchError::Malformed { step: STEP, source })
    }

    /// An endpoint may be on another host, but not less protected than the issuer that vouches for it.
    fn endpoint(&self, server: &Uri, text: &str) -> Result<Uri, FetchError> {
        let endpoint: Uri = text.parse().map_err(|_| FetchError::BadServerAddress)?;
        self.check(&endpoint)?;
        address::check_no_downgrade(server, &endpoint, self.options.allow_insecure)?;
        Ok(endpoint)
    }
}

/// Where the document of the issuer `named` may be. ForgeRock's servers name `…/oauth2` as their issuer and keep the document below `…/uma`.
fn documents(named: &str) -> Vec<String> {
    let named = named.trim_end_matches('/');
    let beside = named.match_indices("/oauth2").map(|(at, found)| (at, at.saturating_add(found.len()))).find_map(|(at, end)| {
        let (before, after) = (named.get(..at)?, named.get(end..)?);
        (after.is_empty() || after.starts_with('/')).then(|| format!("{before}/uma{after}"))
    });
    let bases = beside.into_iter().chain([named.to_owned()]);
    bases.flat_map(|base| [format!("{base}{WELL_KNOWN}"), format!("{base}{WELL_KNOWN_1_0}")]).collect()
}
