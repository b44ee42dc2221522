//! Asks the control ports of masters what they see: the primary's answer, else that of any.
//! Changes nothing, and knows nothing of where masters are: the caller has read that in the database.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::client::InternalClient;
use crate::api::control::{ClusterStatus, Explanation, path};

/// How long one master may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// One call to one master; why it came to nothing, in words.
///
/// # Errors
/// When it does not answer, refuses, or says what nobody understands.
pub async fn get<T: DeserializeOwned>(
    client: &InternalClient,
    master: &str,
    path: &str,
) -> Result<T, String> {
    let url = format!("{master}{path}");
    let call = client.call(http::Method::GET, &url, Vec::new(), ANSWER_WITHIN);
    let (status, body) = call.await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{master} answered {status}"));
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

/// The primary's view, else that of any master that answers.
pub async fn status(client: &InternalClient, masters: &[String]) -> Option<ClusterStatus> {
    let mut any = None;
    for master in masters {
        if let Ok(status) = get::<ClusterStatus>(client, master, path::STATUS).await {
            if status.primary {
                return Some(status);
            }
            any = Some(status);
        }
    }
    any
}

/// Why each shard is where it is, by the primary, else by any master that answers.
pub async fn explain(client: &InternalClient, masters: &[String]) -> Option<Vec<Explanation>> {
    let mut any = None;
    for master in masters {
        let Ok(answer) = get::<Vec<Explanation>>(client, master, path::EXPLAIN).await else {
            continue;
        };
        let status = get::<ClusterStatus>(client, master, path::STATUS).await;
        if status.is_ok_and(|status| status.primary) {
            return Some(answer);
        }
        any = Some(answer);
    }
    any
}
