//! `fetch URL`: the requesting party's side as a command. Content goes to standard output or a file, everything else to standard error.
//!
//! Passwords and secrets come from files, the environment or the terminal, never from an argument, since arguments are seen by everybody on the machine.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri};
use tokio::time::Instant;

use super::address::pointed;
use super::kept::Kept;
use super::{Application, Client, ClientOptions, FetchError, FetchRequest, Fetched, RequestingParty, Show, Step, says_unreachable};
use crate::http_client::{HttpClient, HttpClientError, HttpError, Streamed, TlsFiles};
use crate::secret::Secret;
use crate::telemetry::complain;
use crate::uma::Timestamp;

/// How long the content may stand still.
const STILL: Duration = Duration::from_mins(1);

/// Fetch protected content as its requesting party: ask, sign in, trade the ticket, ask again
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the content came, 1 it did not, 2 wrong arguments, 3 the owner has still to decide")]
pub struct Arguments {
    /// Address of the content: https, or http on this machine. It is shown the RPT, so name only what may see it
    #[arg(value_name = "URL")]
    url: String,
    /// Method to ask with
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: Method,
    /// File to send as the body
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// File to write the content to, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign in as this user; the password comes from --password-file, UMA_PASSWORD or the terminal. Without --user and --token a browser signs in
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    user: Option<String>,
    /// File with the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// File with a token of the user (ID or access token) that is pushed as the claim
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// The application's client id
    #[arg(long, value_name = "ID", env = "UMA_CLIENT_ID")]
    client_id: Option<String>,
    /// File with the client secret, else UMA_CLIENT_SECRET; none for a public client
    #[arg(long, value_name = "FILE", requires = "client_id")]
    client_secret_file: Option<PathBuf>,
    /// The only authorization server to trust; without it the one that the resource names gets password and secret, or the token. The RPT goes to URL in any case
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// Address of the discovery document, where it is not below the issuer
    #[arg(long, value_name = "URL")]
    discovery: Option<Uri>,
    /// Certificates to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// When the owner has still to decide: ask again for so long (30s, 5m, 1h)
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
    /// File to keep tokens (RPTs) in until they end, instead of rpts.json in the user's cache folder. Kept are those of --user and --token, each for its own address
    #[arg(long, value_name = "FILE", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Keep no token and use none that was kept
    #[arg(long)]
    no_cache: bool,
    /// Allow plain http to other machines: tokens and passwords can be read on the way
    #[arg(long)]
    allow_insecure: bool,
    /// Print each step, secrets shortened
    #[arg(long)]
    explain: bool,
}

/// Why the command ended badly.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("the content cannot be written")]
    Output(#[source] io::Error),
    #[error("no password: give --password-file or UMA_PASSWORD")]
    NoPassword(#[source] io::Error),
    #[error("`{0}` is no address")]
    Url(String),
    #[error(transparent)]
    Tls(#[from] HttpClientError),
    #[error("no runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the content broke off")]
    Content(#[source] HttpError),
}

impl CommandError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Fetch(error) => error.exit_code(),
            Self::Url(_) | Self::NoPassword(_) => 2,
            _ => 1,
        }
    }
}

/// Runs `fetch`: 0 when the content came, 1 when it did not, 2 when the call is wrong, 3 when the owner has still to decide.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(fetch(arguments))) {
        Ok(status) if status.is_success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            complain(format_args!("fetch: {}", chain(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}

async fn fetch(arguments: &Arguments) -> Result<StatusCode, CommandError> {
    let http = HttpClient::new(&TlsFiles { ca: arguments.ca.clone(), ..TlsFiles::default() })?;
    let options = options(arguments)?;
    let kept = kept(arguments, &options);
    let client = Client::new(options, http);
    let mut request = FetchRequest::new(arguments.method.clone(), address(&arguments.url)?);
    if let Some(file) = &arguments.body {
        request.body = Bytes::from(std::fs::read(file).map_err(|error| CommandError::Read(file.clone(), error))?);
    }
    let Fetched { response, .. } = fetch_with_kept(&client, &mut request, kept.as_ref()).await?;
    let status = response.status();
    if says_unreachable(response.headers()) {
        complain(format_args!("fetch: {status}, the gateway cannot reach its authorization server"));
    } else if let Some(to) = pointed(response.headers()).filter(|_| status.is_redirection()) {
        complain(format_args!("fetch: {status}, to {to}: no redirect is followed; fetch that address, if it may see the RPT"));
    } else if !status.is_success() {
        complain(format_args!("fetch: {status}"));
    }
    let bytes = write(arguments.output.as_deref(), response).await?;
    if arguments.explain {
        complain(format_args!("{bytes} bytes"));
    }
    Ok(status)
}

/// Where the RPT of this call is kept, if it is.
fn kept(arguments: &Arguments, options: &ClientOptions) -> Option<Kept> {
    let file = if arguments.no_cache { None } else { arguments.cache.clone().or_else(Kept::default_file) };
    Kept::at(file?, &arguments.url, options.application.as_ref(), &options.requesting_party)
}

/// Begins with the RPT that is kept, and keeps the one that comes out. A file that cannot be used is no reason not to fetch.
async fn fetch_with_kept(client: &Client, request: &mut FetchRequest, kept: Option<&Kept>) -> Result<Fetched, FetchError> {
    let Some(kept) = kept else { return client.fetch(request).await };
    let found = told(kept.find(Timestamp::now()), "read").flatten();
    if let Some((rpt, issuer)) = found.filter(|(_, issuer)| client.trusts(issuer)) {
        (request.rpt, request.rpt_issuer) = (Some(rpt), Some(issuer));
    }
    let fetched = client.fetch(request).await;
    // Else what was there did, or there was nothing to keep; or it does not do for this method, and may for another.
    if let Ok(Fetched { granted: Some(granted), rpt: Some(rpt), .. }) = &fetched {
        told(kept.put(rpt, granted, Timestamp::now()), "written");
    }
    fetched
}

fn told<T>(result: io::Result<T>, what: &str) -> Option<T> {
    result.inspect_err(|error| complain(format_args!("fetch: the file of kept tokens cannot be {what}: {error}"))).ok()
}

fn options(arguments: &Arguments) -> Result<ClientOptions, CommandError> {
    let requesting_party = match (&arguments.user, &arguments.token) {
        (_, Some(file)) => RequestingParty::Token(secret_file(file)?),
        (Some(username), None) => RequestingParty::Password { username: username.clone(), password: password(username, arguments.password_file.as_deref())? },
        (None, None) => RequestingParty::Browser,
    };
    let secret = match &arguments.client_secret_file {
        Some(file) => Some(secret_file(file)?),
        None => std::env::var("UMA_CLIENT_SECRET").ok().map(Secret::from),
    };
    let count = AtomicUsize::new(1);
    let print = move |step: &Step| complain(format_args!("{:>2} {step}", count.fetch_add(1, Ordering::Relaxed)));
    Ok(ClientOptions {
        application: arguments.client_id.clone().map(|id| Application { id, secret }),
        requesting_party,
        issuer: arguments.issuer.clone(),
        discovery: arguments.discovery.clone(),
        allow_insecure: arguments.allow_insecure,
        wait: arguments.wait,
        browser: Some(Arc::new(|url: &str| complain(format_args!("Open this in your browser within five minutes:\n{url}"))) as Show),
        observer: arguments.explain.then(|| Arc::new(print) as super::Observer),
        ..ClientOptions::default()
    })
}

/// The address as it was typed; only characters outside of ASCII are encoded.
fn address(url: &str) -> Result<Uri, CommandError> {
    let ascii: String = percent_encoding::utf8_percent_encode(url, &percent_encoding::AsciiSet::EMPTY).collect();
    ascii.parse().map_err(|_| CommandError::Url(url.to_owned()))
}

/// Streams the content on; an error page does not end up in the user's file. Whoever reads the first lines only and closes the pipe has what was wanted.
async fn write(file: Option<&Path>, response: Response<Streamed>) -> Result<u64, CommandError> {
    let mut to: Box<dyn Write> = match file {
        Some(file) if response.status().is_success() => Box::new(File::create(file).map_err(|error| CommandError::Write(file.to_owned(), error))?),
        Some(_) => Box::new(io::stderr()),
        None => Box::new(io::stdout()),
    };
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(piece) = body.chunk(Instant::now() + STILL).await.map_err(CommandError::Content)? {
        match to.write_all(&piece).and_then(|()| to.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(bytes),
            written => written.map_err(CommandError::Output)?,
        }
        bytes += piece.len() as u64;
    }
    Ok(bytes)
}

fn secret_file(file: &Path) -> Result<Secret, CommandError> {
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(file).map_err(|error| CommandError::Read(file.to_owned(), error))?);
    Ok(Secret::from(text.trim_end_matches(['\r', '\n'])))
}

fn password(user: &str, file: Option<&Path>) -> Result<Secret, CommandError> {
    match (file, std::env::var("UMA_PASSWORD")) {
        (Some(file), _) => secret_file(file),
        (None, Ok(password)) => Ok(password.into()),
        (None, Err(_)) => prompt(user).map_err(CommandError::NoPassword),
    }
}

/// Asks at the terminal without showing what is typed; where that cannot be had, it does not ask.
fn prompt(user: &str) -> io::Result<Secret> {
    let echo = |word: &str| Command::new("stty").arg(word).stdin(Stdio::inherit()).status();
    if !io::stdin().is_terminal() || !echo("-echo")?.success() {
        return Err(io::Error::other("there is no terminal to ask at"));
    }
    let _ = write!(io::stderr(), "Password of {user}: ");
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = io::stdin().lock().read_line(&mut line);
    echo("echo")?;
    complain("");
    read?;
    Ok(Secret::from(line.trim_end_matches(['\r', '\n'])))
}

/// `30s`, `5m`, `1h`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        _ => return Err("write 30s, 5m or 1h".to_owned()),
    };
    let seconds: u64 = digits.parse().map_err(|_| "write 30s, 5m or 1h".to_owned())?;
    seconds.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        let seconds = |text| duration(text).map(|time| time.as_secs()).ok();
        assert_eq!([seconds("30s"), seconds("5m"), seconds("1h"), seconds("7")], [Some(30), Some(300), Some(3600), Some(7)]);
        assert_eq!([seconds("5d"), seconds("s"), seconds(""), seconds("99999999999999999999h"), seconds("9999999999999999999h")], [None; 5]);
    }

    #[test]
    fn an_address_is_sent_as_it_was_typed() {
        assert_eq!(address("http://127.0.0.1/a/../b%2f?x=1").unwrap(), "http://127.0.0.1/a/../b%2f?x=1");
        assert_eq!(address("http://127.0.0.1/é").unwrap(), "http://127.0.0.1/%C3%A9");
        assert!(matches!(address("no address"), Err(CommandError::Url(_))));
    }
}
