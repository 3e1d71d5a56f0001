//! The file: who may read it, that nobody else has it open, and what it says of its schema.
//!
//! One connection, on a thread of the driver. The file is never opened here but by SQLite: on Unix, closing any other handle of the file would give up the
//! locks that keep a second process out.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Sqlite, SqliteConnection, Transaction};

use super::error::{StoreError, result};
use super::migrations;

/// How long the end of another process is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// `SQLITE_BUSY`.
const BUSY: u32 = 5;
/// `SQLITE_NOTADB`.
const NOT_A_DATABASE: u32 = 26;

/// Opens the file, makes it where there is none, and brings its schema up to date.
///
/// # Errors
/// The file cannot be used, others may read it, another process has it, it is no file of ours, or one of a newer release. It was not changed then.
pub(super) async fn open(file: &Path) -> Result<SqliteConnection, StoreError> {
    let (mut connection, schema) = connect(file).await?;
    connection.execute("PRAGMA journal_mode = WAL").await.map_err(|error| of_file(file, error))?;
    migrations::migrate(&mut connection, schema, migrations::MIGRATIONS).await?;
    Ok(connection)
}

/// Opens a file as it is, for reading. `None`: there is none, or its schema is of an earlier release.
///
/// # Errors
/// As of [`open`].
pub(super) async fn peek(file: &Path) -> Result<Option<SqliteConnection>, StoreError> {
    if fs::metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let (connection, schema) = connect(file).await?;
    if schema == migrations::MIGRATIONS.len() {
        return Ok(Some(connection));
    }
    connection.close().await?;
    Ok(None)
}

/// The file, and what it says of its schema.
async fn connect(file: &Path) -> Result<(SqliteConnection, usize), StoreError> {
    let failed = |source| StoreError::File { path: file.to_owned(), source };
    check_folder(file)?;
    match fs::metadata(file) {
        Ok(about) => check_file(file, &about)?,
        Err(error) if error.kind() == ErrorKind::NotFound => make(file).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    }
    // An exclusive lock keeps the index of the log in memory besides: no third file, and it works where files cannot be mapped.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .locking_mode(SqliteLockingMode::Exclusive)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
        // What is deleted is overwritten: tokens that were encrypted with a key that has leaked, for instance.
        .pragma("secure_delete", "ON")
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(|error| of_file(file, error))?;
    let schema = match migrations::schema(&mut connection, file, migrations::MIGRATIONS.len()).await {
        Err(StoreError::Database(error)) => Err(of_file(file, error)),
        other => other,
    }?;
    Ok((connection, schema))
}

/// Begins a transaction. What a commit that failed has left open is taken back first: another one inside of it would be called done and be on no disk. The
/// driver cannot tell, since the database may have taken the failed one back by itself.
///
/// # Errors
/// The database failed.
pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, StoreError> {
    // An error means that none is open, which is the usual case.
    let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    Ok(connection.begin().await?)
}

/// What the first statements that read the file can find.
fn of_file(file: &Path, error: sqlx::Error) -> StoreError {
    match result(&error) {
        Some(BUSY) => StoreError::InUse { path: file.to_owned() },
        Some(NOT_A_DATABASE) => StoreError::NotOurs { path: file.to_owned() },
        _ => StoreError::from(error),
    }
}

fn check_folder(file: &Path) -> Result<(), StoreError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let about = fs::metadata(folder).map_err(|source| StoreError::File { path: folder.to_owned(), source })?;
    if !about.is_dir() {
        return Err(StoreError::File { path: folder.to_owned(), source: ErrorKind::NotADirectory.into() });
    }
    if others_may_replace(&about) {
        return Err(StoreError::OpenFolder { path: folder.to_owned() });
    }
    Ok(())
}

fn check_file(file: &Path, about: &fs::Metadata) -> Result<(), StoreError> {
    if !about.is_file() {
        return Err(StoreError::File { path: file.to_owned(), source: ErrorKind::IsADirectory.into() });
    }
    // A group may: that is how a mounted volume is given to a process.
    if others_may_open(about) {
        return Err(StoreError::OpenFile { path: file.to_owned() });
    }
    Ok(())
}

/// SQLite gives its log the mode of the file.
fn make(file: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop)
}

#[cfg(unix)]
fn others_may_open(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    about.permissions().mode() & 0o006 != 0
}

/// Whether others may write there, and not only what is theirs (the sticky bit).
#[cfg(unix)]
fn others_may_replace(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    about.permissions().mode() & 0o1002 == 0o002
}

#[cfg(not(unix))]
fn others_may_open(_: &fs::Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn others_may_replace(_: &fs::Metadata) -> bool {
    false
}
