//! `log`.

use std::path::PathBuf;

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// One JSON object a line, or text for people.
    pub format: Format,
    /// Least level of events (`error`, `warn`, `info`, `debug`, `trace`).
    pub level: Level,
    /// Which requests the access log holds.
    pub access: Access,
    /// Where lines go.
    pub to: To,
    /// Where decisions go besides.
    pub audit: Option<Audit>,
}

/// `log.to`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum To {
    /// Standard output.
    #[default]
    Stdout,
    /// This file, appended.
    File(PathBuf),
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `log.access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Every request.
    #[default]
    On,
    /// Those that were not forwarded.
    Denied,
    /// None.
    Off,
}

/// `log.audit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Among the other lines.
    Stdout,
    /// Into this file, appended.
    File(PathBuf),
}
