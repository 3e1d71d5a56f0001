//! Keys of every kind, and tokens that no key has signed as they say.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::jose::SigningKey;

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn ed25519() -> (SigningKey, Value) {
    let pair = Ed25519KeyPair::generate().expect("randomness");
    let text = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("DER").as_ref());
    let key = SigningKey::from_pem(&text.into(), None).expect("a key");
    (key, json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key()) }))
}

fn p256() -> (SigningKey, Value) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("randomness");
    let text = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("DER").as_ref());
    let key = SigningKey::from_pem(&text.into(), None).expect("a key");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    (key, json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) }))
}

fn rsa(size: aws_lc_rs::rsa::KeySize) -> String {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    let pair = aws_lc_rs::rsa::KeyPair::generate(size).expect("randomness");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("DER");
    pem("PRIVATE KEY", der.as_ref())
}

/// The public part of an RSA key, as its owner would write it down.
fn spki_of_rsa(modulus: &[u8]) -> Vec<u8> {
    let tagged = |tag: u8, content: &[u8]| {
        let [high, low] = u16::try_from(content.len()).expect("short").to_be_bytes();
        let length: &[u8] = match (high, low) {
            (0, ..0x80) => &[low],
            (0, _) => &[0x81, low],
            _ => &[0x82, high, low],
        };
        [&[tag][..], length, content].concat()
    };
    let key = tagged(0x30, &[tagged(0x02, &[&[0][..], modulus].concat()), tagged(0x02, &[1, 0, 1])].concat());
    let algorithm = [&[0x30, 0x0d, 0x06, 0x09][..], &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], &[0x05, 0x00]].concat();
    tagged(0x30, &[algorithm, tagged(0x03, &[&[0][..], &key].concat())].concat())
}

fn set(keys: &[&Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn of(key: &SigningKey) -> VerifyingKeys {
    VerifyingKeys::from_pem(pem("PUBLIC KEY", key.public()).as_bytes()).expect("a key")
}

/// The token with another header, signed by nobody.
fn with_header(token: &str, header: &str) -> String {
    let (_, rest) = token.split_once('.').expect("three parts");
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

#[test]
fn each_kind_of_key_verifies_what_it_has_signed_and_nothing_of_another() {
    let rsa = SigningKey::from_pem(&rsa(aws_lc_rs::rsa::KeySize::Rsa2048).into(), None).expect("a key");
    let keys = [ed25519().0, p256().0, rsa];
    assert_eq!(keys.each_ref().map(SigningKey::algorithm), [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256]);
    for (place, key) in keys.iter().enumerate() {
        let token = key.sign(b"{}").expect("signed");
        assert_eq!(of(key).verify(&token), Ok(b"{}".to_vec()));
        for other in keys.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, other)| other) {
            assert_eq!(of(other).verify(&token), Err(Invalid::Algorithm));
        }
        let at = token.len() - 10;
        let changed: String = token.chars().enumerate().map(|(place, c)| if place == at { if c == 'A' { 'B' } else { 'A' } } else { c }).collect();
        assert_eq!(of(key).verify(&changed), Err(Invalid::Signature));
    }
    assert_eq!(of(&ed25519().0).verify(&keys[0].sign(b"{}").expect("signed")), Err(Invalid::Signature));
}

#[test]
fn a_set_of_keys_takes_the_old_and_the_new_one_in_either_order() {
    let ((old, mut old_jwk), (new, new_jwk)) = (ed25519(), p256());
    for set in [set(&[&old_jwk, &new_jwk]), set(&[&new_jwk, &old_jwk])] {
        let keys = VerifyingKeys::from_jwks(&set).expect("a set");
        assert!(keys.verify(&old.sign(b"{}").expect("signed")).is_ok() && keys.verify(&new.sign(b"{}").expect("signed")).is_ok());
    }
    // Two of one kind are tried one after the other.
    let (another, another_jwk) = ed25519();
    let keys = VerifyingKeys::from_jwks(&set(&[&old_jwk, &another_jwk])).expect("a set");
    assert!(keys.verify(&another.sign(b"{}").expect("signed")).is_ok());
    // A `kid` chooses; one that nobody has is no key's.
    old_jwk["kid"] = "old".into();
    let keys = VerifyingKeys::from_jwks(&set(&[&old_jwk])).expect("a set");
    let payload = URL_SAFE_NO_PAD.encode("{}");
    assert_eq!(keys.verify(&with_header(&format!("x.{payload}.eA"), r#"{"alg":"EdDSA","kid":"new"}"#)), Err(Invalid::UnknownKey));
    assert!(keys.verify(&old.sign(b"{}").expect("signed")).is_ok(), "a token without a kid may be any key's");
}

#[test]
fn an_rsa_key_in_a_set_verifies_and_one_of_less_than_2048_bits_is_none() {
    let key = SigningKey::from_pem(&rsa(aws_lc_rs::rsa::KeySize::Rsa2048).into(), Some("r")).expect("a key");
    let (_, info) = SubjectPublicKeyInfo::from_der(key.public()).expect("DER");
    let Ok(PublicKey::RSA(public)) = info.parsed() else { panic!("an RSA key") };
    let modulus = &public.modulus[1..];
    let jwk = json!({ "kty": "RSA", "kid": "r", "use": "sig", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" });
    let keys = VerifyingKeys::from_jwks(&set(&[&jwk])).expect("a set");
    assert_eq!(keys.verify(&key.sign(b"{}").expect("signed")), Ok(b"{}".to_vec()));
    assert_eq!(format!("{keys:?}"), r#"["RS256"]"#);
    // The same by the whole public key; a modulus that is too short is refused when it is read, not first when it verifies.
    assert!(VerifyingKeys::from_der(&spki_of_rsa(modulus)).is_ok());
    assert_eq!(VerifyingKeys::from_der(&spki_of_rsa(&[0xff; 128])).expect_err("1024 bits"), KeyError::Kind(1));
}

#[test]
fn a_key_signs_as_another_does_where_both_key_and_id_are_the_same() {
    let texts = [rsa(aws_lc_rs::rsa::KeySize::Rsa2048), rsa(aws_lc_rs::rsa::KeySize::Rsa2048)];
    let key = |text: &str, id| SigningKey::from_pem(&text.into(), id).expect("a key");
    let own = key(&texts[0], Some("a"));
    assert!(own.is_same(&key(&texts[0], Some("a"))));
    assert!(!own.is_same(&key(&texts[0], Some("b"))) && !own.is_same(&key(&texts[0], None)));
    assert!(!own.is_same(&key(&texts[1], Some("a"))));
}

#[test]
fn no_header_chooses_anything() {
    let (key, _) = ed25519();
    let (keys, token) = (of(&key), key.sign(b"{}").expect("signed"));
    for (header, why) in [
        (r#"{"alg":"none"}"#, Invalid::Algorithm),
        (r#"{"alg":"NONE"}"#, Invalid::Algorithm),
        (r#"{"alg":""}"#, Invalid::Algorithm),
        (r#"{"alg":"HS256","typ":"JWT"}"#, Invalid::Algorithm),
        (r#"{"alg":"eddsa","typ":"JWT"}"#, Invalid::Algorithm),
        (r#"{"alg":"EdDSA"}"#, Invalid::Signature),
        (r#"{"alg":"EdDSA","typ":"logout+jwt"}"#, Invalid::Header),
        (r#"{"alg":"EdDSA","typ":"at+jwt"}"#, Invalid::Header),
        (r#"{"alg":"EdDSA","crit":["exp"]}"#, Invalid::Header),
        (r#"{"alg":"EdDSA","b64":false}"#, Invalid::Header),
        (r#"{"alg":"EdDSA","jwk":{}}"#, Invalid::Header),
        (r#"{"alg":"EdDSA","jku":"https://elsewhere"}"#, Invalid::Header),
        (r#"{"alg":"EdDSA","x5c":[]}"#, Invalid::Header),
        (r#"{"alg":"none","alg":"EdDSA"}"#, Invalid::Header),
        (r#"{"typ":"JWT"}"#, Invalid::Header),
        (r#"{"alg":["EdDSA"]}"#, Invalid::Header),
        ("EdDSA", Invalid::Header),
    ] {
        assert_eq!(keys.verify(&with_header(&token, header)), Err(why), "{header}");
    }
}

#[test]
fn the_public_key_is_no_secret_of_an_hmac() {
    let (key, _) = ed25519();
    let head = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode("{}"));
    for secret in [pem("PUBLIC KEY", key.public()).into_bytes(), key.public().to_vec()] {
        let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret), head.as_bytes());
        assert_eq!(of(&key).verify(&format!("{head}.{}", URL_SAFE_NO_PAD.encode(tag))), Err(Invalid::Algorithm));
    }
}

#[test]
fn what_is_not_in_compact_form_is_not_looked_at() {
    let (key, _) = ed25519();
    let (keys, token) = (of(&key), key.sign(b"{}").expect("signed"));
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    for wrong in [String::new(), "a".into(), "a.b".into(), "..".into(), format!("{token}."), format!("{token}="), format!(" {token}"), "a".repeat(LONGEST + 1)]
    {
        assert!(matches!(keys.verify(&wrong), Err(Invalid::Form | Invalid::Header)), "{wrong}");
    }
    assert_eq!(keys.verify(&format!("{signed}.")), Err(Invalid::Signature));
    assert_eq!(keys.verify(&format!("{signed}.{signature}{signature}")), Err(Invalid::Signature));
}

#[test]
fn a_token_of_eight_kibibytes_is_looked_at_and_a_longer_one_is_not() {
    let (key, _) = ed25519();
    let token = |bytes: usize| key.sign(&vec![b' '; bytes]).expect("signed");
    let (longest, longer) = (token(6051), token(6052));
    assert_eq!((longest.len(), longer.len()), (8192, 8194));
    assert!(of(&key).verify(&longest).is_ok());
    assert_eq!(of(&key).verify(&longer), Err(Invalid::Form));
}

#[test]
fn each_reason_is_told_apart_from_the_others() {
    let all = [Invalid::Form, Invalid::Header, Invalid::UnknownKey, Invalid::Algorithm, Invalid::Signature, Invalid::Claims];
    let reasons: std::collections::BTreeSet<_> = all.iter().map(|invalid| invalid.reason()).collect();
    assert_eq!(reasons.len(), all.len());
    assert!(reasons.iter().all(|reason| reason.contains("assertion")), "{reasons:?}");
}

#[test]
fn keys_that_must_not_be_used_are_refused() {
    let ((_, ed), (_, ec)) = (ed25519(), p256());
    let refused = |jwk: Value| VerifyingKeys::from_jwks(&set(&[&jwk])).expect_err("refused");
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    assert_eq!(refused(json!({ "kty": "oct", "k": "c2VjcmV0" })), KeyError::NotPublic(1));
    assert_eq!(refused(json!({ "kty": "oct" })), KeyError::NotPublic(1));
    assert_eq!(refused(with(&ed, "d", "c2VjcmV0".into())), KeyError::NotPublic(1));
    assert_eq!(refused(with(&ed, "k", "c2VjcmV0".into())), KeyError::NotPublic(1), "a secret, whatever kind of key it stands in");
    assert_eq!(refused(with(&ed, "alg", "HS256".into())), KeyError::Kind(1));
    assert_eq!(refused(with(&ed, "crv", "X25519".into())), KeyError::Kind(1));
    assert_eq!(refused(with(&ed, "use", "enc".into())), KeyError::NoKey);
    assert_eq!(refused(with(&ec, "y", ec["x"].clone())), KeyError::Kind(1), "not on the curve");
    assert_eq!(refused(json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB" })), KeyError::Kind(1), "1024 bits");
    assert_eq!(VerifyingKeys::from_jwks(b"{}").expect_err("refused"), KeyError::NotJwks);
    assert_eq!(VerifyingKeys::from_jwks(&set(&[&ed; 17])).expect_err("refused"), KeyError::TooMany(16));
    assert_eq!(VerifyingKeys::from_pem(b"nothing").expect_err("refused"), KeyError::NoPem("public key"));
    assert_eq!(SigningKey::from_pem(&"nothing".into(), None).expect_err("refused"), KeyError::NoPem("private key (PKCS#8)"));
    assert_eq!(format!("{:?}", ed25519().0), "SigningKey(EdDSA)");
}
