//! Webhooks and addresses of the inside, over the client that delivers them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::config::Secret;
use crate::coreapp::receiver::{self, Refused, Target};
use crate::coreapp::trust::Trust;
use crate::coreapp::webhook;

/// Goal: the client that delivers webhooks asks about each address that it is about to connect to, by name and by number; one that is
/// not permitted is not connected to at all, and a redirect is no way there. Method: a listener on this machine that counts
/// connections, with its host listed and not, and one whose answer leads elsewhere.
#[tokio::test]
async fn a_webhook_reaches_this_machine_only_where_that_is_written() {
    let place = tempfile::tempdir().expect("a directory");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let at = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{at}/again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
        }
    });
    let trust = Trust {
        version: 0,
        also: Vec::new(),
    };
    let none = Secret::new(String::new());
    for (hosts, url, reached) in [
        (&[][..], format!("http://{at}/"), false),
        (&[], format!("http://localhost:{}/", at.port()), false),
        (&["localhost"], format!("http://{at}/"), false),
        (
            &["localhost"],
            format!("http://localhost:{}/", at.port()),
            true,
        ),
        (&["127.0.0.1"], format!("http://{at}/"), true),
    ] {
        let mut settings = settings(place.path(), at);
        settings.development = false;
        settings.webhooks.hosts = hosts.iter().map(ToString::to_string).collect();
        let client = webhook::client(&settings, &trust);
        let target = Target::parse(&url).expect("a receiver");
        let before = connections.load(Ordering::SeqCst);
        let refused = receiver::post(&client, &target, &none, "{}").await;
        let made = connections.load(Ordering::SeqCst) - before;
        match refused {
            Err(Refused::Failed(why)) => {
                assert!(reached && why.contains("307"), "{hosts:?} {url}: {why}");
                assert_eq!(made, 1, "the redirect is not followed");
            }
            Err(Refused::Unreached(why)) => {
                assert!(
                    !reached && why.contains("[webhooks] hosts"),
                    "{hosts:?} {url}: {why}"
                );
                assert_eq!(made, 0, "{hosts:?} {url}");
            }
            Ok(()) => panic!("it answers no 200"),
        }
    }
}
