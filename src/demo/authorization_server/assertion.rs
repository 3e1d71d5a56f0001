//! Clients that sign (RFC 7523): an assertion is for this server alone, short, and good once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::asked::Asked;
use super::state::State;
use crate::jose::Claims;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest life of one, in seconds.
const LONGEST: i64 = 300;

impl State {
    /// The client that has signed for this request; `None`: nobody whom this server knows, or not for now, for here, or for the first time.
    pub(super) fn signed_by(&self, asked: &Asked) -> Option<String> {
        let assertion = asked.form.get("client_assertion").filter(|_| asked.form.get("client_assertion_type") == Some(TYPE))?;
        // Whose key to look for is all that is taken from it before it is verified.
        let id = Claims::read(&URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?).ok()?.subject?;
        let payload = self.clients.get(&id)?.key.as_ref()?.verify(assertion).ok()?;
        let claims = Claims::read(&payload).ok()?;
        let left = claims.expires.0.saturating_sub(self.now());
        let is_named = asked.form.get("client_id").is_none_or(|named| named == id);
        if !is_named || claims.issuer != id || claims.audience != [self.issuer.as_str()] || !(1..=LONGEST).contains(&left) {
            return None;
        }
        let jti = serde_json::from_slice::<Value>(&payload).ok()?.get("jti")?.as_str()?.to_owned();
        self.assertions.borrow_mut().insert(jti).then_some(id)
    }
}
