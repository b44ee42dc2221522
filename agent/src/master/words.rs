//! Asks every coreapp for its word on its own work, again and again. The answers are evidence for `evidence.rs`.
//! A word counts only for the name and the start that it carries: an address may belong to somebody else by now.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use wa_core::id::Role;

use super::directory::Directory;
use super::table::{Heard, Words};
use crate::api::internal::{HealthAnswer, path};
use crate::member::masters;
use crate::net::client::InternalClient;
use crate::sys::clock;

/// How often each is asked.
const EVERY: Duration = Duration::from_secs(2);
/// One answer.
const WITHIN: Duration = Duration::from_secs(2);

/// Asks until the stop.
pub async fn run(directory: Arc<Directory>, client: InternalClient, stop: CancellationToken) {
    let keep = async {
        loop {
            let words = round(&directory, &client).await;
            directory.store_words(words);
            clock::sleep(EVERY).await;
        }
    };
    stop.run_until_cancelled(keep).await;
}

async fn round(directory: &Directory, client: &InternalClient) -> Words {
    let table = directory.table();
    let coreapps = table.nodes.iter().map(|n| &n.registration);
    let coreapps = coreapps.filter(|r| r.role == Role::Coreapp && r.port_api != 0);
    let asked = coreapps.map(|r| {
        let (node, start) = (r.node.as_str(), r.incarnation.to_string());
        let known = table.words.get(node).filter(|heard| heard.start == start);
        let known = known.cloned().unwrap_or_else(|| Heard {
            start,
            asked: clock::now(),
            answer: None,
        });
        async move {
            let url = r.api_url();
            let call = masters::get::<HealthAnswer>(client, &url, path::HEALTH);
            let answer = tokio::time::timeout(WITHIN, call).await;
            (
                node.to_owned(),
                take_in(node, known, answer.ok().and_then(Result::ok)),
            )
        }
    });
    join_all(asked).await.into_iter().collect()
}

/// The newest word stays until another comes; it grows old meanwhile, and whoever judges sees that.
fn take_in(node: &str, mut heard: Heard, answer: Option<HealthAnswer>) -> Heard {
    if let Some(answer) = answer.filter(|answer| answer.of(node, &heard.start)) {
        heard.answer = Some((clock::now(), answer));
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whoever took over an address does not speak for who had it. Method: answers with another name, and of another
    /// start, beside the right one.
    #[test]
    fn f11_a_word_counts_for_its_name_and_start_only() {
        let heard = Heard {
            start: "2.b".into(),
            asked: clock::now(),
            answer: None,
        };
        let answer = |node: &str, start: &str| {
            Some(HealthAnswer {
                node: node.into(),
                start: start.into(),
                gateway_status: "connected".into(),
                shard: None,
                epoch: 0,
                work: None,
            })
        };
        let taken = |answer| {
            take_in("old:coreapp-1", heard.clone(), answer)
                .answer
                .is_some()
        };
        assert!(!taken(None));
        assert!(!taken(answer("new:coreapp-1", "2.b")));
        assert!(!taken(answer("old:coreapp-1", "1.a")));
        assert!(!taken(answer("", "")), "who says neither speaks for nobody");
        assert!(taken(answer("old:coreapp-1", "2.b")));
    }
}
