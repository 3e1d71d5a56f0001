//! Whose a file or a folder is, and who else may use it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use rustix::process::geteuid;

/// Whether a file or a folder belongs to the user that this process runs as, and is closed to all others. That others cannot open it is not enough: it may be
/// theirs, and what it says theirs too.
#[must_use]
pub fn is_private(found: &Metadata) -> bool {
    is_private_of(geteuid().as_raw(), found)
}

fn is_private_of(user: u32, found: &Metadata) -> bool {
    found.uid() == user && found.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_closed_is_private_to_its_owner_only() {
        let place = tempfile::tempdir().expect("a folder");
        let file = place.path().join("file");
        std::fs::write(&file, "").expect("written");
        for (mode, private) in [(0o600, true), (0o400, true), (0o700, true), (0o640, false), (0o620, false), (0o604, false), (0o602, false), (0o601, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
            let found = std::fs::symlink_metadata(&file).expect("there");
            assert_eq!(is_private(&found), private, "{mode:o}");
            assert!(!is_private_of(found.uid() + 1, &found), "{mode:o} of somebody else");
        }
    }
}
