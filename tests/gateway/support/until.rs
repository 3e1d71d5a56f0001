//! Waiting for what has to come: as long as whoever takes this in has patience, with the rests that are wanted there in between.

use super::{PATIENCE, REST};

/// Asks again and again until `fits`, for [`PATIENCE`] at most.
pub async fn until<T>(what: &str, mut fits: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = fits().await {
                return found;
            }
            tokio::time::sleep(REST).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
