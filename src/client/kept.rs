//! RPTs that are kept between fetches, each for one address, one application and one user, until it ends.
//!
//! A file that only its owner may read; what others can read, or have written, is not believed. An entry never opens another address than the one it was fetched for,
//! and its RPT is shown to no other authorization server. Names of addresses and users are in the file as digests only: addresses hold secrets too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{Application, Granted, RequestingParty};
use crate::secret::is_private;
use crate::uma::{Rpt, Timestamp};

/// For how long an RPT is kept that does not say when it ends.
const UNTOLD: i64 = 3600;
/// How many are kept; those that end first go first.
const MOST: usize = 1000;

/// The file, and whose RPT is wanted.
pub(super) struct Kept {
    file: PathBuf,
    key: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Content {
    rpts: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Entry {
    issuer: String,
    rpt: String,
    expires: i64,
}

impl Kept {
    /// Where no other is named: below the user's cache folder, if there is one.
    pub(super) fn default_file() -> Option<PathBuf> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
        Some(folder.join("uma-gateway").join("rpts.json"))
    }

    /// The place of the RPT for this address, application and user; none where it is not known beforehand who will sign in.
    pub(super) fn at(file: PathBuf, address: &str, application: Option<&Application>, party: &RequestingParty) -> Option<Self> {
        let (kind, user) = match party {
            RequestingParty::Password { username, .. } => ("user", username.as_str()),
            RequestingParty::Token(token) => ("token", token.expose()),
            RequestingParty::Nobody | RequestingParty::Browser => return None,
        };
        let application = application.map_or("", |application| &application.id);
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for field in [address, application, kind, user] {
            // With its length, so that no field can run on into the next.
            hash.update(&(field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        let key = hash.finish().as_ref().iter().fold(String::new(), |mut all, byte| {
            let _ = write!(all, "{byte:02x}");
            all
        });
        Some(Self { file, key })
    }

    /// The RPT that has not ended at `now`, with the issuer that gave it.
    ///
    /// # Errors
    /// When there is a file that cannot be used.
    pub(super) fn find(&self, now: Timestamp) -> io::Result<Option<(Rpt, String)>> {
        let entry = read(&self.file)?.rpts.remove(&self.key).filter(|entry| entry.expires > now.0);
        Ok(entry.map(|entry| (Rpt(entry.rpt.into()), entry.issuer)))
    }

    /// Keeps an RPT instead of the one that was there. What has ended goes.
    ///
    /// # Errors
    /// When the file cannot be written, or what is there is not ours to write over.
    pub(super) fn put(&self, rpt: &Rpt, granted: &Granted, now: Timestamp) -> io::Result<()> {
        let mut content = match read(&self.file) {
            Ok(content) => content,
            // What was in a file of this kind that others could read is not believed, and may go. Anything else is not ours.
            Err(_) if fs::symlink_metadata(&self.file)?.is_file() => parse(&fs::read(&self.file)?).map(|_| Content::default())?,
            Err(_) => Content::default(),
        };
        let expires = granted.expires.map_or(now.0.saturating_add(UNTOLD), |end| end.0);
        let entry = Entry { issuer: granted.issuer.clone(), rpt: rpt.0.expose().to_owned(), expires };
        content.rpts.insert(self.key.clone(), entry);
        content.rpts.retain(|_, entry| entry.expires > now.0);
        while content.rpts.len() > MOST {
            let first = content.rpts.iter().min_by_key(|(_, entry)| entry.expires).map(|(key, _)| key.clone());
            content.rpts.remove(&first.unwrap_or_default());
        }
        write(&self.file, &content)
    }
}

/// When an RPT ends: what the server says, or the token itself, whichever comes first (RFC 7519, 4.1.4). Nothing is decided by it.
pub(super) fn end_of(rpt: &Rpt, expires_in: Option<Duration>) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Payload {
        exp: Option<f64>,
    }
    let told = expires_in.map(|life| Timestamp(Timestamp::now().0.saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX))));
    let payload = rpt.0.expose().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let own = payload.and_then(|bytes| serde_json::from_slice::<Payload>(&bytes).ok()).and_then(|payload| payload.exp);
    #[expect(clippy::cast_possible_truncation, reason = "a time beyond that of i64 ends at its limit")]
    let own = own.map(|exp| Timestamp(exp as i64));
    [told, own].into_iter().flatten().min()
}

fn read(file: &Path) -> io::Result<Content> {
    let believed = |found: &Metadata| found.is_file() && is_private(found);
    let refused = || io::Error::new(io::ErrorKind::PermissionDenied, "it is somebody else's, others may read or change it, or it is no file");
    match fs::symlink_metadata(file) {
        Ok(found) if !believed(&found) => Err(refused()),
        Ok(_) => {
            // Whose folder it is in may put another one there in between; what is read is what is believed.
            let mut opened = File::open(file)?;
            if !believed(&opened.metadata()?) {
                return Err(refused());
            }
            let mut text = Vec::new();
            opened.read_to_end(&mut text)?;
            parse(&text)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::default()),
        Err(error) => Err(error),
    }
}

fn parse(text: &[u8]) -> io::Result<Content> {
    let strange = |_| io::Error::new(io::ErrorKind::InvalidData, "it is no file of kept tokens; delete it, or name another one");
    if text.is_empty() { Ok(Content::default()) } else { serde_json::from_slice(text).map_err(strange) }
}

/// Writes beside the file and puts that in its place: nobody reads half a file, and its mode is ours whatever was there.
fn write(file: &Path, content: &Content) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut to| {
        to.write_all(&serde_json::to_vec(content)?)?;
        fs::rename(&beside, file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
