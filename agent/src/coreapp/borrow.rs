//! Keeps the connection to the host agent that lends this unit's map of the kernel gate, and says each second whether the
//! gate is whole. A host agent that is away ends nothing: the map stays mapped, and the kernel goes on to enforce.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use crate::sys::clock;
use crate::sys::gate;
use crate::sys::gate_socket::{self, Borrower, Word};

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(250);
/// The host agent speaks each second; after this it is taken for hung, and asked anew.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// Runs for as long as the process does.
pub async fn run(node: Arc<Node>) {
    let mut said = String::new();
    loop {
        let why = match Borrower::connect(Path::new(gate_socket::PATH)).await {
            Ok(borrower) => listen(&node, borrower, &mut said).await,
            Err(_) => "no host agent answers: systemctl status wa-host".to_owned(),
        };
        node.gate.unheard(&why);
        tell(&mut said, &why);
        clock::sleep(AGAIN).await;
    }
}

async fn listen(node: &Node, mut borrower: Borrower, said: &mut String) -> String {
    let mut asks = node.gate.asks();
    // What is open now, this host agent has not heard of.
    asks.mark_changed();
    loop {
        let heard = tokio::select! {
            heard = tokio::time::timeout(SILENCE_MAX, borrower.hear()) => heard,
            _ = asks.changed() => {
                let ask = *asks.borrow_and_update();
                match ask {
                    Some(ask) if node.gate.nftables() && borrower.ask(&ask).await.is_err() => {
                        return "the host agent is away".into();
                    }
                    _ => continue,
                }
            }
        };
        let (mut word, mut lent) = match heard {
            Ok(Ok(heard)) => heard,
            Ok(Err(_)) => return "the host agent is away".into(),
            Err(_) => return format!("the host agent has said nothing for {SILENCE_MAX:?}"),
        };
        if let Some(why) = other_clock(&word) {
            // A deadline that this process writes would mean another moment to the kernel.
            word.attested_at_ns = None;
            word.why = why;
            lent = None;
        }
        if !node.gate.hear(&word, lent) {
            return "the host agent lent no usable map".into();
        }
        tell(said, &word.why);
    }
}

/// The host agent may have another boot clock than this process: then its word is not about ours.
fn other_clock(word: &Word) -> Option<String> {
    word.attested_at_ns?;
    gate::same_clock().err().map(|error| error.to_string())
}

/// Each change once.
fn tell(said: &mut String, why: &str) {
    if said == why {
        return;
    }
    if why.is_empty() {
        tracing::info!("the kernel gate stands in front of this unit");
    } else {
        tracing::info!(why, "not behind the kernel gate");
    }
    why.clone_into(said);
}
