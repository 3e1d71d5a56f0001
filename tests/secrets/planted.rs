//! Secrets that a test has put somewhere, and every form in which one of them could come out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A secret, and what sort of secret it is.
#[derive(Clone, Debug)]
struct Secret {
    kind: String,
    forms: Vec<Vec<u8>>,
}

/// All that must not come out.
#[derive(Default)]
pub struct Planted {
    secrets: Vec<Secret>,
    numbers: u32,
}

/// Longer ones are looked for by their beginning and their end, so that a piece of one is found as well.
const PIECE: usize = 24;

impl Planted {
    /// A new secret of this sort: of the octets that a Bearer token may have (RFC 6750, 2.1), with some that are written otherwise in addresses and JSON.
    pub fn plant(&mut self, kind: &str) -> String {
        self.numbers += 1;
        let random = rcgen::KeyPair::generate().expect("randomness").public_key_raw().iter().skip(1).take(9).fold(String::new(), |mut text, octet| {
            let _ = write!(text, "{octet:02X}");
            text
        });
        let core = format!("{}+/{random}", self.numbers);
        self.know(kind, &core);
        format!("Planted~{core}~end")
    }

    /// A secret that came from elsewhere.
    pub fn know(&mut self, kind: &str, text: &str) {
        assert!(text.len() >= 8, "{kind}: too short to be told from chance");
        let pieces = if text.len() > 2 * PIECE { vec![text.split_at(PIECE).0, text.split_at(text.len() - PIECE).1] } else { vec![text] };
        let forms = pieces.into_iter().flat_map(forms).collect();
        self.secrets.push(Secret { kind: kind.to_owned(), forms });
    }

    /// The sorts of secrets that there are.
    pub fn kinds(&self) -> BTreeSet<&str> {
        self.secrets.iter().map(|secret| secret.kind.as_str()).collect()
    }

    /// Where a secret stands in `text`: its sort, and what stands around it.
    pub fn found(&self, text: &[u8]) -> BTreeMap<&str, String> {
        let forms: Vec<(&str, &Vec<u8>)> = self.secrets.iter().flat_map(|secret| secret.forms.iter().map(|form| (secret.kind.as_str(), form))).collect();
        let search = AhoCorasick::new(forms.iter().map(|(_, form)| form)).expect("a few thousand forms");
        let mut found = BTreeMap::new();
        for hit in search.find_iter(text) {
            let (kind, form) = forms[hit.pattern().as_usize()];
            found.entry(kind).or_insert_with(|| around(text, hit.start(), form.len()));
        }
        found
    }
}

fn around(text: &[u8], at: usize, length: usize) -> String {
    String::from_utf8_lossy(text.get(at.saturating_sub(160)..(at + length + 40).min(text.len())).unwrap_or_default()).into_owned()
}

/// The text as it is, and as it is written in JSON, addresses, base64, hexadecimal digits and lists of octets.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    let hex = |small: bool| bytes.iter().fold(String::new(), |all, octet| if small { format!("{all}{octet:02x}") } else { format!("{all}{octet:02X}") });
    let listed: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let json = serde_json::to_string(text).expect("a text");
    let mut forms = vec![
        text.to_owned(),
        json.trim_matches('"').to_owned(),
        text.replace('/', "\\/"),
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().to_ascii_lowercase().replace('%', "%25"),
        form_urlencoded::byte_serialize(bytes).collect(),
        bytes.iter().fold(String::new(), |all, octet| format!("{all}%{octet:02X}")),
        hex(true),
        hex(false),
        listed.join(", "),
        listed.join(","),
        text.chars().rev().collect(),
    ];
    // Basic encodes the parts before it joins them (RFC 6749, 2.3.1).
    let encoded: String = form_urlencoded::byte_serialize(bytes).collect();
    for bytes in [bytes, encoded.as_bytes()] {
        forms.extend((0..3).flat_map(|before| [in_base64(bytes, before, &STANDARD_NO_PAD), in_base64(bytes, before, &URL_SAFE_NO_PAD)]));
    }
    forms.sort();
    forms.dedup();
    forms.into_iter().map(String::into_bytes).collect()
}

/// The digits that the text has in base64 behind so many other octets, without those that its neighbours share.
fn in_base64(bytes: &[u8], before: usize, alphabet: &impl base64::Engine) -> String {
    let padded = [vec![0; before], bytes.to_vec()].concat();
    let text = alphabet.encode(&padded);
    let shared = usize::from(!padded.len().is_multiple_of(3));
    text.get([0, 2, 3][before]..text.len() - shared).unwrap_or_default().to_owned()
}

#[test]
fn a_secret_is_found_in_every_form() {
    use base64::engine::general_purpose::STANDARD;
    let mut planted = Planted::default();
    let secret = planted.plant("one");
    let json = serde_json::json!({ "a": [secret] }).to_string();
    let mixed = [
        format!("x{secret}y"),
        json.clone(),
        json.replace('/', "\\/"),
        STANDARD.encode(&secret),
        STANDARD.encode(format!("a:{secret}")),
        STANDARD.encode(format!("ab:{secret}:b")),
        base64::engine::general_purpose::URL_SAFE.encode(format!("bob:{secret}")),
        form_urlencoded::Serializer::new(String::new()).append_pair("token", &secret).finish(),
        utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string(),
        STANDARD.encode(format!("gateway:{}", form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>())),
        format!("{:?}", secret.as_bytes()),
        secret.bytes().fold(String::new(), |all, octet| format!("{all}{octet:02x}")),
        format!("{:?}", bytes::Bytes::from(secret.clone())),
        secret.split_at(secret.len() - 4).0.to_owned(),
    ];
    for text in mixed {
        assert_eq!(planted.found(text.as_bytes()).len(), 1, "{text}");
    }
    assert!(planted.found(b"Planted~ nothing of it ~end").is_empty());
}
