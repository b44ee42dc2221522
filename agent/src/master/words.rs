//! Asks every coreapp for its word on its own work, again and again. The answers are evidence for `evidence.rs`.
//! A word counts only for the name and the start that it carries: an address may belong to somebody else by now.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;
use wa_core::id::Role;

use super::directory::Directory;
use super::table::{Heard, Words};
use crate::api::internal::{HealthAnswer, path};
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
            older: None,
        });
        async move {
            let said = ask(client, &r.api_url()).await;
            (node.to_owned(), take_in(node, known, said))
        }
    });
    join_all(asked).await.into_iter().collect()
}

/// What came of one question.
enum Said {
    Word(Box<HealthAnswer>),
    /// It does not know how this release looks: the release before.
    Older,
    Nothing,
}

async fn ask(client: &InternalClient, url: &str) -> Said {
    let url = format!("{url}{}", path::HEALTH);
    match client.call(Method::GET, &url, Vec::new(), WITHIN).await {
        Ok((StatusCode::UNAUTHORIZED, _)) => Said::Older,
        Ok((status, body)) if status.is_success() => {
            serde_json::from_slice(&body).map_or(Said::Nothing, |word| Said::Word(Box::new(word)))
        }
        Ok(_) | Err(_) => Said::Nothing,
    }
}

/// The newest word stays until another comes; it grows old meanwhile, and whoever judges sees that.
fn take_in(node: &str, mut heard: Heard, said: Said) -> Heard {
    match said {
        Said::Word(answer) if answer.of(node, &heard.start) => {
            heard.answer = Some((clock::now(), *answer));
            heard.older = None;
        }
        Said::Older => heard.older = Some(clock::now()),
        Said::Word(_) | Said::Nothing => {}
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
            older: None,
        };
        let answer = |node: &str, start: &str| {
            Said::Word(Box::new(HealthAnswer {
                node: node.into(),
                start: start.into(),
                gateway_status: "connected".into(),
                shard: None,
                epoch: 0,
                work: None,
            }))
        };
        let taken = |answer| {
            take_in("old:coreapp-1", heard.clone(), answer)
                .answer
                .is_some()
        };
        assert!(!taken(Said::Nothing));
        assert!(!taken(answer("new:coreapp-1", "2.b")));
        assert!(!taken(answer("old:coreapp-1", "1.a")));
        assert!(!taken(answer("", "")), "who says neither speaks for nobody");
        assert!(taken(answer("old:coreapp-1", "2.b")));
    }

    /// Goal: a coreapp of the release before, which answers 401 to how this one looks, is remembered as older, and not any more once it
    /// says a word. Method: a server that answers so, and one that says nothing anybody understands.
    #[tokio::test]
    async fn a_refusal_is_remembered_until_a_word_comes() {
        use std::net::SocketAddr;

        use crate::net::keys::Keys;
        use crate::net::server;

        let client =
            InternalClient::of_looks(&Keys::new(b"the key of this cluster, which is long"));
        let asked = async |status: StatusCode| {
            let router = axum::Router::new().fallback(move || async move { status });
            let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
            let listener = listener.await.expect("bound");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            let stop = CancellationToken::new();
            tokio::spawn(server::serve(listener, router, stop.clone()));
            let said = ask(&client, &url).await;
            stop.cancel();
            said
        };
        let heard = Heard {
            start: "2.b".into(),
            asked: clock::now(),
            answer: None,
            older: None,
        };
        let refused = asked(StatusCode::UNAUTHORIZED).await;
        let heard = take_in("old:coreapp-1", heard, refused);
        assert!(heard.older.is_some() && heard.answer.is_none());
        let babble = asked(StatusCode::OK).await;
        let heard = take_in("old:coreapp-1", heard, babble);
        assert!(heard.older.is_some(), "that was no word");
        let word = Said::Word(Box::new(HealthAnswer {
            node: "old:coreapp-1".into(),
            start: "2.b".into(),
            gateway_status: "connected".into(),
            shard: None,
            epoch: 0,
            work: None,
        }));
        let heard = take_in("old:coreapp-1", heard, word);
        assert!(heard.older.is_none() && heard.answer.is_some());
    }
}
