//! The UMA gateway: a reverse proxy that answers as a UMA 2.0 resource server in front of content servers.
//!
//! A request changes its type as it walks: `Request` → `Routed` → `Permitted` → `Outbound` → `Response`.
//! Each type is made in one room only, so a stack that skips enforcement or credentials does not compile.
//! `ARCHITECTURE.md` names the rooms and what each of them never does.

// A reader of what a command says may go before its end: `telemetry::say` and `complain` know that.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(
    test,
    expect(
        clippy::unwrap_in_result,
        clippy::map_unwrap_or,
        clippy::too_many_lines,
        clippy::type_complexity,
        clippy::unnecessary_to_owned,
        reason = "tables of cases are long, and a test may stop at the first surprise"
    )
)]

pub mod admin;
pub mod app;
pub mod authorization_server;
pub mod body;
pub mod cache;
pub mod cli;
pub mod client;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod enforcement;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod holes;
pub mod http_client;
pub mod jose;
pub mod listener;
pub mod path;
pub mod response;
pub mod routing;
pub mod secret;
pub mod shares;
pub mod stack;
pub mod store;
pub mod telemetry;
pub mod uma;
pub mod upstream;
