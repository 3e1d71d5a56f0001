//! What the tests share: the world around a gateway, requests over real sockets, and what a row must prove.

pub mod h2_server;
mod http;
mod proof;
pub mod tls;
mod until;
mod world;

pub use self::http::{Answer, Connection};
pub use proof::{Exchange, Expect, Next, Says};
pub use until::until;
pub use world::{Ask, DECLARED, LINK, Setup, World};

use std::time::Duration;

/// How long a test waits for something that has to come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions.
const REST: Duration = Duration::from_millis(5);

/// Registers tests of rows: each function is a test, and `ROWS` lists the rows that they prove.
macro_rules! row_tests {
    ($($row:ident: $($name:ident),+;)+) => {
        pub const ROWS: &[uma_gateway::response::Row] = &[$(uma_gateway::response::Row::$row,)+];

        mod tests {
            $($(
                #[tokio::test]
                async fn $name() {
                    super::$name(uma_gateway::response::Row::$row).await;
                }
            )+)+
        }
    };
}
pub(crate) use row_tests;
