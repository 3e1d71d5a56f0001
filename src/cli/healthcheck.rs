//! `healthcheck`: asks `/readyz?verbose` of a running gateway, for probes in containers that hold nothing else, and says why it is not ready.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;

use super::{Configuration, block_on, print, wrong};
use crate::http_client::{HttpClient, TlsFiles};
use crate::telemetry::complain;

#[derive(clap::Args)]
#[command(after_help = super::EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// The address to ask, instead of the configuration's `health`
    #[arg(long, value_name = "URL")]
    url: Option<http::Uri>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => match configured(&arguments.configuration) {
            Ok(url) => url,
            Err(code) => return code,
        },
    };
    match block_on(ask(&url)) {
        Ok(Ok(())) => print("ready\n"),
        Ok(Err(why)) => {
            complain(format_args!("not ready: {}", why.trim_end()));
            ExitCode::FAILURE
        }
        Err(code) => code,
    }
}

fn configured(configuration: &Configuration) -> Result<http::Uri, ExitCode> {
    let Some(health) = crate::config::health(&configuration.config).map_err(|problems| wrong(&problems))? else {
        complain(format_args!("error: {} has no `health`; write health: {{ address: 127.0.0.1:9090 }}, or give --url", configuration.config.display()));
        return Err(ExitCode::from(super::BAD_CONFIGURATION));
    };
    let mut address = health.address;
    // A wildcard is an address to listen at, not one to ask.
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    format!("http://{address}/readyz?verbose").parse().map_err(|_| ExitCode::FAILURE)
}

async fn ask(url: &http::Uri) -> Result<(), String> {
    let client = HttpClient::new(&TlsFiles::default()).map_err(|error| error.to_string())?;
    let request = http::Request::get(url.clone()).body(Bytes::new()).map_err(|error| error.to_string())?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    let response = client.send(request, 64 * 1024, deadline).await.map_err(|error| error.to_string())?;
    if response.status().is_success() {
        return Ok(());
    }
    Err(format!("{}\n{}", response.status(), String::from_utf8_lossy(response.body()).trim()))
}
