//! Who stands behind `as_uri` (UMA 2.0 Grant, 2). What the document names is used only if it names itself as the resource named it.

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use serde::Deserialize;

use super::{ANSWER, Client, FetchError, address};

const STEP: &str = "discovery";
const WELL_KNOWN: &str = "/.well-known/uma2-configuration";

/// What the client needs of an authorization server's metadata.
#[derive(Clone, Debug)]
pub struct AuthorizationServer {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// Where tickets are traded.
    pub token_endpoint: Uri,
    /// Where users sign in, if they can.
    pub authorization_endpoint: Option<Uri>,
    /// Where the document was.
    pub document: Uri,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: Option<String>,
    authorization_endpoint: Option<String>,
}

impl Client {
    /// Reads the metadata of the authorization server that `resource` named as `as_uri`. Some resource servers name the discovery document itself; that
    /// is understood.
    ///
    /// # Errors
    /// When the server is not the trusted one, must not be asked, gives no document, or one of another issuer.
    pub async fn discover(&self, resource: &Uri, as_uri: &str) -> Result<AuthorizationServer, FetchError> {
        let named = as_uri.strip_suffix(WELL_KNOWN).unwrap_or(as_uri);
        if let Some(trusted) = self.options.issuer.as_deref().filter(|trusted| *trusted != named) {
            return Err(FetchError::Untrusted { named: super::step::excerpt(named), trusted: trusted.to_owned() });
        }
        let server: Uri = named.parse().map_err(|_| FetchError::BadServerAddress)?;
        self.check(&server)?;
        address::check_no_downgrade(resource, &server, self.options.allow_insecure)?;
        let document = match &self.options.discovery {
            Some(document) => document.clone(),
            None => format!("{}{WELL_KNOWN}", named.trim_end_matches('/')).parse().map_err(|_| FetchError::BadServerAddress)?,
        };
        self.check(&document)?;
        let found = self.read_document(&document).await?;
        if found.issuer != named {
            return Err(FetchError::IssuerMismatch { named: super::step::excerpt(named), issuer: super::step::excerpt(&found.issuer) });
        }
        let token_endpoint = found.token_endpoint.ok_or(FetchError::Lacks { step: STEP, member: "token_endpoint" })?;
        Ok(AuthorizationServer {
            issuer: found.issuer,
            token_endpoint: self.endpoint(&server, &token_endpoint)?,
            authorization_endpoint: found.authorization_endpoint.map(|text| self.endpoint(&server, &text)).transpose()?,
            document,
        })
    }

    async fn read_document(&self, document: &Uri) -> Result<Document, FetchError> {
        let request = Request::get(document.clone()).header("accept", "application/json").body(Bytes::new()).map_err(|_| FetchError::BadServerAddress)?;
        let answer = self.http.send(request, ANSWER, self.deadline()).await.map_err(|source| FetchError::Server { step: STEP, source })?;
        if answer.status() != StatusCode::OK {
            let error = "no UMA 2.0 discovery document".to_owned();
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
