//! Tokens in the database are AES-256-GCM, each with a nonce of its own, bound to the place where it stands.
//!
//! The associated data say table, authorization server, owner, column and key, so a token that is moved to another row or column does not open there.
//! Nonces are random: with one key 2^32 tokens may be written before a repetition is as likely as once in 2^32.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::config::Key;
use super::error::StoreError;
use crate::secret::Secret;

/// Octets of the tag that AES-GCM appends.
const TAG: usize = 16;

/// Where an encrypted text stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) table: &'a str,
    pub(super) column: &'a str,
    pub(super) authorization_server: &'a str,
    pub(super) owner: &'a str,
}

/// The keys: the first one encrypts, all decrypt.
pub(super) struct KeyRing {
    current: Opener,
    old: Vec<Opener>,
}

struct Opener {
    id: String,
    key: RandomizedNonceKey,
    origin: String,
}

impl KeyRing {
    pub(super) fn new(current: &Key, old: &[Key]) -> Result<Self, StoreError> {
        let old: Result<Vec<Opener>, StoreError> = old.iter().map(Opener::new).collect();
        Ok(Self { current: Opener::new(current)?, old: old? })
    }

    /// The id of the key that encrypts.
    pub(super) fn current(&self) -> &str {
        &self.current.id
    }

    /// Whether what was encrypted with this key can be read.
    pub(super) fn has(&self, id: &str) -> bool {
        self.opener(id).is_some()
    }

    /// The ids of all keys, each with its origin, for people.
    pub(super) fn given(&self) -> String {
        let all = std::iter::once(&self.current).chain(&self.old);
        all.map(|opener| format!("{} from {}", opener.id, opener.origin)).collect::<Vec<_>>().join(", ")
    }

    fn opener(&self, id: &str) -> Option<&Opener> {
        std::iter::once(&self.current).chain(&self.old).find(|opener| opener.id == id)
    }

    /// Encrypts with the current key: nonce, text, tag.
    pub(super) fn seal(&self, place: Place<'_>, text: &Secret) -> Result<Vec<u8>, StoreError> {
        let plain = text.expose().as_bytes();
        // With room for the tag, so that no copy of the text is left behind where it grew out of.
        let mut sealed = Vec::with_capacity(plain.len() + TAG);
        sealed.extend_from_slice(plain);
        let aad = Aad::from(place.data(&self.current.id));
        let nonce = self.current.key.seal_in_place_append_tag(aad, &mut sealed).map_err(|_| StoreError::Cipher)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Decrypts what was encrypted with the key of that id at that place.
    pub(super) fn open(&self, id: &str, place: Place<'_>, sealed: &[u8]) -> Result<Secret, StoreError> {
        let damaged = StoreError::Damaged { what: "token of a credential" };
        let Some((opener, (nonce, sealed))) = self.opener(id).zip(sealed.split_at_checked(NONCE_LEN)) else { return Err(damaged) };
        let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return Err(damaged) };
        let mut text = Zeroizing::new(sealed.to_vec());
        let opened = opener.key.open_in_place(nonce, Aad::from(place.data(id)), &mut text);
        let text = opened.ok().and_then(|plain| std::str::from_utf8(plain).ok()).map(Secret::from);
        text.ok_or(damaged)
    }
}

impl Opener {
    fn new(key: &Key) -> Result<Self, StoreError> {
        // Says which key it is, and nothing about it.
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.octets()), b"uma-gateway store: the id of a key");
        let id = tag.as_ref().iter().take(8).map(|octet| format!("{octet:02x}")).collect();
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.octets()).map_err(|_| StoreError::Cipher)?;
        Ok(Self { id, key: cipher, origin: key.origin().to_owned() })
    }
}

impl Place<'_> {
    /// Each part with its length in front, so that no two places have the same data.
    fn data(self, key_id: &str) -> Vec<u8> {
        let mut data = Vec::new();
        for part in ["uma-gateway store 1", self.table, self.column, self.authorization_server, self.owner, key_id] {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> = Place { table: "credential", column: "access_token", authorization_server: "https://id.example.org", owner: "alice" };

    fn key(digit: char) -> Key {
        Key::parse(&Secret::from(format!("1{}", digit.to_string().repeat(63)))).expect("a key")
    }

    #[test]
    fn a_token_opens_where_it_was_sealed_and_nowhere_else() {
        let keys = KeyRing::new(&key('a'), &[]).expect("keys");
        let id = keys.current().to_owned();
        let sealed = keys.seal(HERE, &Secret::from("token")).expect("sealed");
        assert_eq!(keys.open(&id, HERE, &sealed).expect("opened").expose(), "token");
        let elsewhere = [
            Place { table: "resource", ..HERE },
            Place { column: "refresh_token", ..HERE },
            Place { authorization_server: "https://other.example.org", ..HERE },
            Place { owner: "bob", ..HERE },
            // The same letters, otherwise divided.
            Place { authorization_server: "https://id.example.orga", owner: "lice", ..HERE },
        ];
        for place in elsewhere {
            assert!(matches!(keys.open(&id, place, &sealed), Err(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn a_changed_octet_is_noticed_wherever_it_is() {
        let keys = KeyRing::new(&key('a'), &[]).expect("keys");
        let id = keys.current().to_owned();
        let sealed = keys.seal(HERE, &Secret::from("token")).expect("sealed");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(keys.open(&id, HERE, &changed).is_err(), "octet {place}");
            assert!(keys.open(&id, HERE, &sealed[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn the_same_token_is_never_encrypted_the_same_way() {
        let keys = KeyRing::new(&key('a'), &[]).expect("keys");
        let all: std::collections::BTreeSet<Vec<u8>> = (0..100).map(|_| keys.seal(HERE, &Secret::from("token")).expect("sealed")).collect();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn old_keys_read_and_the_new_one_writes() {
        let before = KeyRing::new(&key('a'), &[]).expect("keys");
        let sealed = before.seal(HERE, &Secret::from("token")).expect("sealed");
        let after = KeyRing::new(&key('b'), &[key('a')]).expect("keys");
        assert_eq!(after.open(before.current(), HERE, &sealed).expect("opened").expose(), "token");
        assert_ne!(after.current(), before.current());
        assert!(after.open(after.current(), HERE, &sealed).is_err(), "under the name of the other key");
        assert!(!before.has(after.current()));
    }
}
