//! What the other masters think, as far as it is fresh.
//! Judges nobody: `failover.rs` weighs it.

use std::collections::BTreeMap;

use crate::guard::{self, Guard};
use crate::id::{Incarnation, NodeId, Term};
use crate::time::{Duration, Instant};
use crate::wire::Opinion;

/// One other master's newest word.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Voice {
    pub arrived: Instant,
    /// Zero when it is not primary.
    pub term: Term,
    pub lateness_ms: u32,
    /// Of the coreapps that it watches, how many answer it.
    pub heard: u16,
    pub silent: BTreeMap<NodeId, (Incarnation, bool)>,
}

/// All other masters' newest words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Opinions {
    voices: BTreeMap<NodeId, Voice>,
}

/// What one opinion datagram says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Said {
    pub term: Term,
    pub lateness_ms: u32,
    pub heard: u16,
    pub opinions: Vec<Opinion>,
}

impl Opinions {
    /// A master's datagram arrived.
    pub fn heard(&mut self, now: Instant, from: &NodeId, said: Said) {
        let voice = self.voices.entry(from.clone()).or_insert_with(|| Voice {
            arrived: now,
            term: said.term,
            lateness_ms: 0,
            heard: 0,
            silent: BTreeMap::new(),
        });
        (voice.arrived, voice.term, voice.lateness_ms, voice.heard) =
            (now, said.term, said.lateness_ms, said.heard);
        for opinion in said.opinions {
            voice
                .silent
                .insert(opinion.node, (opinion.incarnation, opinion.silent));
        }
    }

    /// Forgets masters that are no longer registered.
    pub fn keep<'a>(&mut self, masters: impl Iterator<Item = &'a NodeId>) {
        let known: std::collections::BTreeSet<_> = masters.collect();
        self.voices.retain(|master, _| known.contains(master));
    }

    /// Masters whose word is younger than `fresh`.
    pub fn live(&self, now: Instant, fresh: Duration) -> impl Iterator<Item = (&NodeId, &Voice)> {
        self.voices.iter().filter(move |(_, voice)| {
            now.since(voice.arrived) < fresh || !guard::on(Guard::OpinionIsFresh)
        })
    }

    /// Some live master finds `node` silent.
    pub fn one_finds_silent(&self, now: Instant, fresh: Duration, node: &NodeId) -> bool {
        self.live(now, fresh)
            .any(|(_, voice)| voice.silent.get(node).is_some_and(|(_, silent)| *silent))
    }
}
