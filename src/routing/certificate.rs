//! The certificate that a client has shown, as far as a guard looks at it.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::{Oid, Tag};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::guard::sha256;

/// A certificate whose chain the listener has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject in the form of RFC 4514, as `openssl x509 -noout -subject -nameopt RFC2253,utf8,-esc_msb` prints it; absent where it is empty.
    pub(super) subject: Option<Box<str>>,
    /// The URIs among its alternative names.
    pub(super) san_uris: Vec<Box<str>>,
    /// Of the whole certificate.
    pub(super) sha256: [u8; 32],
}

impl ClientCertificate {
    /// Reads a certificate (DER); nothing where it cannot be read.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = rfc4514(certificate.subject())?;
        let alternatives = certificate.subject_alternative_name().ok()?;
        let uris = alternatives.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).into()),
            _ => None,
        });
        Some(Self { subject: (!subject.is_empty()).then(|| subject.into()), san_uris: uris.collect(), sha256: sha256(der) })
    }
}

/// RFC 4514, 2: the last name first. Two names that differ are never written alike.
fn rfc4514(name: &X509Name<'_>) -> Option<String> {
    let all: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (place, rdn) in all.into_iter().rev().enumerate() {
        if place > 0 {
            text.push(',');
        }
        for (place, attribute) in rdn.iter().enumerate() {
            if place > 0 {
                text.push('+');
            }
            push(&mut text, attribute)?;
        }
    }
    Some(text)
}

fn push(text: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let value = attribute.attr_value();
    let plain = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    match short_name(attribute.attr_type()).filter(|_| plain) {
        Some(name) => {
            let value = std::str::from_utf8(value.data).ok()?;
            let _ = write!(text, "{name}=");
            escape(text, value);
        }
        // 2.4: the whole value in hexadecimal, here its tag and content.
        None => {
            let _ = write!(text, "{}=#{:02X}", attribute.attr_type().to_id_string(), value.tag().0);
            for byte in value.data {
                let _ = write!(text, "{byte:02X}");
            }
        }
    }
    Some(())
}

fn short_name(kind: &Oid<'_>) -> Option<&'static str> {
    // RFC 4514, 3.
    const NAMES: [(&str, &str); 9] = [
        ("2.5.4.3", "CN"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.10", "O"),
        ("2.5.4.11", "OU"),
        ("2.5.4.6", "C"),
        ("2.5.4.9", "street"),
        ("0.9.2342.19200300.100.1.25", "DC"),
        ("0.9.2342.19200300.100.1.1", "UID"),
    ];
    let kind = kind.to_id_string();
    NAMES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (place, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            '#' if place == 0 => text.push_str("\\#"),
            ' ' if place == 0 || place == last => text.push_str("\\ "),
            character if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            character => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[(DnType, &str)], uri: Option<&str>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(Ia5String::try_from(uri).unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_is_written_with_its_last_name_first_and_nothing_in_it_passes_for_another_name() {
        let subject = |names: &[(DnType, &str)]| ClientCertificate::read(&certificate(names, None)).unwrap().subject.map(String::from);
        let (cn, o) = (DnType::CommonName, DnType::OrganizationName);
        assert_eq!(subject(&[(o, "Example"), (cn.clone(), "gateway")]).as_deref(), Some("CN=gateway,O=Example"));
        assert_eq!(subject(&[(cn.clone(), "gateway,O=Example")]).as_deref(), Some(r"CN=gateway\,O=Example"));
        assert_eq!(subject(&[(cn.clone(), " #a\\\"+<>; ")]).as_deref(), Some(r#"CN=\ #a\\\"\+\<\>\;\ "#));
        assert_eq!(subject(&[(cn.clone(), "#a")]).as_deref(), Some(r"CN=\#a"));
        assert_eq!(subject(&[(cn.clone(), "the gateway #1")]).as_deref(), Some("CN=the gateway #1"));
        assert_eq!(subject(&[(cn, "gäte\0")]).as_deref(), Some(r"CN=gäte\00"));
        assert_eq!(subject(&[]), None);
    }

    #[test]
    fn several_names_in_one_are_joined_and_what_has_no_text_is_written_in_hexadecimal() {
        let tagged = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()][..], content].concat();
        let attribute = |last: u8, tag: u8, value: &[u8]| tagged(0x30, &[tagged(0x06, &[0x55, 0x04, last]), tagged(tag, value)].concat());
        let subject = |attributes: &[Vec<u8>]| {
            let der = tagged(0x30, &tagged(0x31, &attributes.concat()));
            rfc4514(&X509Name::from_der(&der).unwrap().1)
        };
        let (utf8, bmp) = (0x0c, 0x1e);
        assert_eq!(subject(&[attribute(3, utf8, b"gateway"), attribute(11, utf8, b"edge")]).as_deref(), Some("CN=gateway+OU=edge"));
        assert_eq!(subject(&[attribute(3, bmp, b"\0g")]).as_deref(), Some("2.5.4.3=#1E0067"));
        assert_eq!(subject(&[attribute(0x41, utf8, b"g")]).as_deref(), Some("2.5.4.65=#0C67"));
        assert_eq!(subject(&[attribute(3, utf8, b"\xff")]), None);
    }

    #[test]
    fn uris_are_told_from_other_names_and_the_digest_is_that_of_the_whole() {
        let der = certificate(&[(DnType::CommonName, "spiffe://example.org/other")], Some("spiffe://example.org/gateway"));
        let read = ClientCertificate::read(&der).unwrap();
        assert_eq!(read.san_uris, vec![Box::<str>::from("spiffe://example.org/gateway")]);
        assert_eq!(read.sha256, sha256(&der));
        assert!(ClientCertificate::read(b"nothing").is_none());
    }
}
