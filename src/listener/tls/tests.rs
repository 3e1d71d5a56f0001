//! Which certificate answers, and what becomes of files that change.

use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, names: &[&str]) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let files = CertificateFiles { certificate: self.0.path().join(format!("{name}.crt")), key: self.0.path().join(format!("{name}.key")) };
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

fn config(certificates: Vec<CertificateFiles>) -> TlsConfig {
    TlsConfig { certificates, client_ca: None, client_auth: ClientAuth::None, min_version: TlsVersion::Tls12, hsts: None }
}

#[test]
fn an_exact_name_comes_before_a_wildcard_and_the_first_certificate_last() {
    let files = Files::new();
    let pairs = [files.write("first", &["first.example.org"]), files.write("wild", &["*.example.org"]), files.write("exact", &["A.example.org"])];
    let provider = aws_lc_rs::default_provider();
    let mut choice = Choice::default();
    for pair in &pairs {
        let source = Source::read(&config(vec![pair.clone()])).unwrap();
        let (certificate, key) = source.pairs[0].open(&provider).unwrap();
        choice.add(&certificate, key);
    }
    let best = |name| choice.all.iter().position(|key| choice.candidates(name).next().is_some_and(|best| Arc::ptr_eq(best, key)));
    assert_eq!(best(Some("a.example.org")), Some(2));
    assert_eq!(best(Some("a.example.org.")), Some(2));
    assert_eq!(best(Some("b.example.org")), Some(1));
    assert_eq!(best(Some("example.org")), Some(0));
    assert_eq!(best(Some("a.b.example.org")), Some(0));
    assert_eq!(best(None), Some(0));
}

#[test]
fn files_are_taken_whole_or_not_at_all_and_the_same_trouble_is_told_once() {
    let files = Files::new();
    let pair = files.write("tls", &["photos.example.org"]);
    let tls = Tls::load(&config(vec![pair.clone()])).unwrap();
    let before = tls.server();
    assert!(matches!(tls.refresh(), Refresh::Unchanged));
    let key = std::fs::read(&pair.key).unwrap();
    files.write("tls", &["docs.example.org"]);
    let next = std::fs::read(&pair.key).unwrap();
    std::fs::write(&pair.key, &key).unwrap();
    assert!(matches!(tls.refresh(), Refresh::Refused(TlsError::Mismatch { .. })));
    assert!(matches!(tls.refresh(), Refresh::StillRefused));
    assert!(Arc::ptr_eq(&before, &tls.server()), "the old pair stays");
    std::fs::remove_file(&pair.key).unwrap();
    assert!(matches!(tls.refresh(), Refresh::Refused(TlsError::Unreadable { .. })));
    std::fs::write(&pair.key, &next).unwrap();
    assert!(matches!(tls.refresh(), Refresh::Swapped));
    assert_eq!(tls.certificates()[0].names, ["docs.example.org".into()]);
    assert!(Arc::ptr_eq(&before.ticketer, &tls.server().ticketer), "tickets outlive the exchange");
}

#[test]
fn where_clients_show_a_certificate_no_session_is_resumed() {
    let files = Files::new();
    let pair = files.write("tls", &["photos.example.org"]);
    let asked = TlsConfig { client_ca: Some(pair.certificate.clone()), client_auth: ClientAuth::Optional, ..config(vec![pair]) };
    let server = Tls::load(&asked).unwrap().server();
    assert!(!server.ticketer.enabled() && !server.session_storage.can_cache());
    assert_eq!(server.send_tls13_tickets, 0);
}
