//! What the tests share: the world around a gateway, requests over real sockets, and what a row must prove.

pub mod h2_server;
mod http;
mod proof;
pub mod tls;
mod world;

pub use self::http::{Answer, Connection};
pub use proof::{Exchange, Expect, Next, Says};
pub use world::{Ask, DECLARED, LINK, Setup, World};

use std::time::Duration;

/// How long a test waits for something that has to come.
pub const PATIENCE: Duration = Duration::from_secs(10);

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

/// Asks again and again until `fits`, for [`PATIENCE`] at most.
pub async fn until<T>(what: &str, mut fits: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = fits().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
