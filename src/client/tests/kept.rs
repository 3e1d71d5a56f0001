//! RPTs kept between fetches: for whom, for how long, and who may read them.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::super::kept::{Kept, end_of};
use super::*;

/// A folder that goes away with the test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("below").join("rpts.json")
    }

    fn kept(&self, address: &str, application: &str, user: &str) -> Kept {
        let application = Application { id: application.into(), secret: None };
        let party = RequestingParty::Password { username: user.into(), password: "x".into() };
        Kept::at(self.file(), address, Some(&application), &party).unwrap()
    }
}

fn until(expires: Option<i64>) -> Granted {
    Granted { issuer: "https://id.example.org".into(), expires: expires.map(Timestamp) }
}

fn found(kept: &Kept, now: i64) -> Option<String> {
    kept.find(Timestamp(now)).unwrap().map(|(rpt, issuer)| format!("{} of {issuer}", rpt.0.expose()))
}

#[test]
fn an_rpt_is_found_again_until_it_ends() {
    let folder = Folder::new();
    let kept = folder.kept("https://a.example.org/b", "app", "bob");
    assert_eq!(found(&kept, 100), None);
    kept.put(&Rpt("first".into()), &until(Some(200)), Timestamp(100)).unwrap();
    assert_eq!(found(&kept, 199).as_deref(), Some("first of https://id.example.org"));
    assert_eq!(found(&kept, 200), None);
    // One that does not say how long it lives is believed for an hour.
    kept.put(&Rpt("second".into()), &until(None), Timestamp(100)).unwrap();
    assert_eq!((found(&kept, 3699).is_some(), found(&kept, 3700)), (true, None));
}

#[test]
fn an_rpt_of_another_address_application_or_user_is_not_found() {
    let folder = Folder::new();
    folder.kept("https://a.example.org/b", "app", "bob").put(&Rpt("bobs".into()), &until(Some(200)), Timestamp(100)).unwrap();
    for (address, application, user) in [
        ("https://a.example.org/b?c", "app", "bob"),
        ("https://a.example.org/", "app", "bob"),
        ("https://b.example.org/b", "app", "bob"),
        ("http://a.example.org/b", "app", "bob"),
        ("https://a.example.org/b", "other", "bob"),
        ("https://a.example.org/b", "app", "carol"),
        // Fields do not run on into each other.
        ("https://a.example.org/ba", "pp", "bob"),
    ] {
        assert_eq!(found(&folder.kept(address, application, user), 100), None, "{address} {application} {user}");
    }
    let token = Kept::at(folder.file(), "https://a.example.org/b", None, &RequestingParty::Token("bob".into())).unwrap();
    assert_eq!(found(&token, 100), None);
    // Who will sign in is not known before.
    assert!(Kept::at(folder.file(), "https://a.example.org/b", None, &RequestingParty::Browser).is_none());
}

#[test]
fn nobody_else_may_read_the_file_and_one_that_others_can_read_is_not_believed() {
    let folder = Folder::new();
    let kept = folder.kept("https://a.example.org/b?secret=1", "app", "bob");
    let granted = until(Some(200));
    kept.put(&Rpt("bobs".into()), &granted, Timestamp(100)).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.file()), mode(folder.file().parent().unwrap())), (0o600, 0o700));
    let written = std::fs::read_to_string(folder.file()).unwrap();
    assert!(!written.contains("secret=1") && !written.contains("a.example.org") && !written.contains("\"bob\""), "{written}");

    std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(kept.find(Timestamp(100)).is_err());
    // The next one is written all the same, for its owner only.
    kept.put(&Rpt("new".into()), &granted, Timestamp(100)).unwrap();
    assert_eq!((mode(&folder.file()), found(&kept, 100).is_some()), (0o600, true));

    for (strange, mode) in [("{", 0o600), ("my notes\n", 0o600), ("my notes\n", 0o644), ("{\"name\":\"x\"}", 0o600)] {
        std::fs::write(folder.file(), strange).unwrap();
        std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(kept.find(Timestamp(100)).is_err() && kept.put(&Rpt("new".into()), &granted, Timestamp(100)).is_err());
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), strange, "what is no file of tokens is left alone");
    }
    std::fs::write(folder.file(), "").unwrap();
    std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    kept.put(&Rpt("new".into()), &granted, Timestamp(100)).unwrap();
    assert!(found(&kept, 100).is_some(), "an empty one is as good as none");
    std::fs::write(folder.file(), "{").unwrap();
    let elsewhere = folder.0.path().join("elsewhere");
    std::fs::rename(folder.file(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.file()).unwrap();
    assert!(kept.find(Timestamp(100)).is_err());
    kept.put(&Rpt("new".into()), &granted, Timestamp(100)).unwrap();
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "{", "a link is replaced, not followed");
    assert_eq!(std::fs::read_dir(folder.file().parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_file_of_somebody_else_is_not_believed() {
    let folder = Folder::new();
    let kept = folder.kept("https://a.example.org/b", "app", "bob");
    kept.put(&Rpt("bobs".into()), &until(Some(200)), Timestamp(100)).unwrap();
    // Only root can give a file away.
    if std::os::unix::fs::chown(folder.file(), Some(65_534), None).is_ok() {
        assert!(kept.find(Timestamp(100)).is_err());
    }
}

#[test]
fn an_rpt_ends_when_the_server_or_the_token_says_whichever_is_first() {
    let jwt = |payload: &str| Rpt(format!("e30.{}.sig", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload)).into());
    assert_eq!(end_of(&jwt(r#"{"exp":1464906971,"nbf":0}"#), None), Some(Timestamp(1_464_906_971)));
    assert_eq!(end_of(&jwt(r#"{"exp":1464906971}"#), Some(Duration::from_secs(60))), Some(Timestamp(1_464_906_971)));
    let soon = end_of(&jwt(r#"{"exp":99999999999}"#), Some(Duration::from_secs(60))).unwrap();
    assert!(soon.0 <= Timestamp::now().0 + 60);
    for opaque in ["341ef4c3-8a13-4e76", "a.b.c", "", "e30.e30.x"] {
        assert_eq!(end_of(&Rpt(opaque.into()), None), None, "{opaque}");
    }
}

#[tokio::test]
async fn an_rpt_is_shown_to_no_other_server_than_the_one_that_gave_it() {
    let script = Script::start().await.then_rpt();
    let mut request = FetchRequest::get(script.at("/beach.jpg").parse().unwrap());
    request.rpt = Some(Rpt("earlier-0123456789".into()));
    request.rpt_issuer = Some("https://id.example.org".into());
    let fetched = Client::new(bob(), http()).fetch(&request).await.unwrap();
    assert_eq!(script.trades()[0].field("rpt"), "");
    assert_eq!(fetched.granted.unwrap().issuer, script.at(""));
}
