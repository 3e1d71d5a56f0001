//! Why records cannot be read or kept. No error holds a token, and none the text of a record.

use std::path::PathBuf;

/// A store that could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or the file cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    File {
        /// The folder or the file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Every user of this machine may read or write the file.
    #[error("{path} is open to every user of this machine: chmod 600 {path}", path = path.display())]
    OpenFile {
        /// The file.
        path: PathBuf,
    },
    /// Every user of this machine may put another file in the place of this one.
    #[error("every user of this machine may write into {path}: chmod 700 {path}", path = path.display())]
    OpenFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Another process has the file open.
    #[error("{} is in use: another process has it open, and only one may", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} was not written by uma-gateway: name another file in `store`", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a later release.
    #[error(
        "{} was written by a newer uma-gateway (schema {found}, this one knows up to {known}); start that one again, or restore the copy made before it was started",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema of the file.
        found: i64,
        /// The newest schema that this binary knows.
        known: i64,
    },
    /// Tokens are encrypted with a key that was not given.
    #[error(
        "{} needs the key {id} for {count} of its credentials, and it is not among those given ({given}): add it to `old_keys`",
        path.display()
    )]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key's id.
        id: String,
        /// How many credentials need it.
        count: i64,
        /// The ids of the keys that were given, each with its origin.
        given: String,
    },
    /// What was read is not what was written.
    #[error("the {what} is damaged")]
    Damaged {
        /// What was read.
        what: &'static str,
    },
    /// Another record has the path or the link, or is what the authorization server calls so.
    #[error("another record has this path, this link or this id")]
    Taken,
    /// The owner has as many records as one may have.
    #[error("the owner has as many records as one may have")]
    TooMany,
    /// A folder has as many templates as one may have.
    #[error("a folder has as many templates as one may have")]
    TooManyTemplates {
        /// It is the owner who has so many there.
        of_owner: bool,
    },
    /// There is no such record, or not in that state.
    #[error("there is no such record in this state")]
    Absent,
    /// A record that cannot be kept as it is.
    #[error("a record whose {0} cannot be kept")]
    Unfit(&'static str),
    /// The view of the records has reached its bound.
    #[error("the store is full: its records fill the memory that they may have")]
    Full,
    /// No randomness, or no cipher.
    #[error("a token could not be encrypted")]
    Cipher,
    /// The process ends.
    #[error("the store was closed")]
    Closed,
    /// Anything else that the database says.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

/// `SQLITE_CORRUPT`.
const CORRUPT: u32 = 11;

/// SQLite's result, without what it says besides.
pub(super) fn result(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(said) if said.is_unique_violation() => Self::Taken,
            sqlx::Error::Database(said) if said.is_foreign_key_violation() => Self::Absent,
            _ if result(&error) == Some(CORRUPT) => Self::Damaged { what: "file of the records" },
            _ => Self::Database(error),
        }
    }
}
