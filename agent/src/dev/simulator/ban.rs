//! Judges whether two primaries spoke for one shard, as the real number's guard would.
//! Looks at what arrives only, never at what anybody believes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// One request under way.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    shard: u64,
    epoch: u64,
    from: Option<IpAddr>,
    /// Its body has not arrived whole.
    receiving: bool,
}

/// Names one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestNumber(u64);

/// Requests under way, the newest epoch of each shard, and what was wrong.
#[derive(Debug, Default)]
pub struct Ban {
    requests: BTreeMap<RequestNumber, UnderWay>,
    newest: BTreeMap<u64, u64>,
    offences: Vec<String>,
    next: u64,
}

impl Ban {
    /// The first bytes of a request have come.
    pub fn begin(&mut self, shard: u64, epoch: u64, peer: Option<SocketAddr>) -> RequestNumber {
        let from = peer.map(|p| p.ip());
        let newest = self.newest.entry(shard).or_default();
        if epoch < *newest {
            self.offences.push(format!(
                "shard {shard}: a request of epoch {epoch} began after one of epoch {newest}"
            ));
        }
        *newest = epoch.max(*newest);
        for other in self.requests.values().filter(|r| r.shard == shard) {
            if other.epoch < epoch && other.receiving {
                let text = format!(
                    "shard {shard}: a request of epoch {} was still coming in when epoch {epoch} began",
                    other.epoch
                );
                self.offences.push(text);
            }
            if other.epoch == epoch && other.from != from {
                self.offences.push(format!(
                    "shard {shard}: two addresses speak under epoch {epoch}"
                ));
            }
        }
        self.next += 1;
        let number = RequestNumber(self.next);
        self.requests.insert(
            number,
            UnderWay {
                shard,
                epoch,
                from,
                receiving: true,
            },
        );
        number
    }

    /// Its last byte has come.
    pub fn received(&mut self, number: RequestNumber) {
        if let Some(request) = self.requests.get_mut(&number) {
            request.receiving = false;
        }
    }

    /// It was answered, or broke off.
    pub fn end(&mut self, number: RequestNumber) {
        self.requests.remove(&number);
    }

    /// Requests that are neither answered nor broken off.
    #[cfg(test)]
    pub fn under_way(&self) -> usize {
        self.requests.len()
    }

    /// The number is banned.
    pub fn banned(&self) -> bool {
        !self.offences.is_empty()
    }

    /// What was wrong.
    pub fn offences(&self) -> &[String] {
        &self.offences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Option<SocketAddr> {
        Some(SocketAddr::new(IpAddr::from([127, 0, 0, last]), 1))
    }

    /// Goal: the judge itself can find each offence, or every drill would pass. Method: fabricate each.
    #[test]
    fn each_kind_of_double_primary_is_an_offence() {
        let mut late = Ban::default();
        late.begin(0, 2, peer(1));
        late.begin(0, 1, peer(2));
        assert!(late.banned(), "an older epoch begins after a newer");

        let mut overlapping = Ban::default();
        overlapping.begin(0, 1, peer(1));
        overlapping.begin(0, 2, peer(2));
        assert!(overlapping.banned(), "an older request is still coming in");

        let mut shared = Ban::default();
        shared.begin(0, 1, peer(1));
        shared.begin(0, 1, peer(2));
        assert!(shared.banned(), "two addresses in one epoch");
    }

    #[test]
    fn a_clean_handover_is_none() {
        let mut ban = Ban::default();
        let first = ban.begin(0, 1, peer(1));
        ban.received(first);
        let other_shard = ban.begin(1, 7, peer(3));
        ban.begin(0, 2, peer(2));
        ban.end(first);
        ban.end(other_shard);
        assert!(!ban.banned(), "{:?}", ban.offences());
    }
}
