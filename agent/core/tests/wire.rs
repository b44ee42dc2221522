//! Wire format. Goal: whatever is encoded comes back, in both versions, within the size; no bytes can panic the decoder.
//! Method: thousands of drawn datagrams, every truncation of some, flipped bits, noise. The draw is fixed: a failure repeats.

use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Role, ShardId, Term, splitmix};
use wa_core::plausible::COUNT_MAX;
use wa_core::wire::{
    Body, DATAGRAM_LEN_MAX, Datagram, Health, MAC_LEN, Nudge, Opinion, Receipt, Report, VERSION,
    VERSION_BEFORE, WireError, decode, encode,
};

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        splitmix(&mut self.0) % n
    }

    /// Small, huge and in between alike.
    fn u64(&mut self) -> u64 {
        let bits = self.below(65);
        let value = splitmix(&mut self.0) << 1 | self.below(2);
        if bits == 0 { 0 } else { value >> (64 - bits) }
    }

    /// What counts is below 2^61.
    fn counted(&mut self) -> u64 {
        self.u64() >> 3
    }

    fn u32(&mut self) -> u32 {
        (self.u64() & u64::from(u32::MAX)) as u32
    }

    fn node(&mut self, longest: u64) -> NodeId {
        let len = self.below(longest + 1);
        let name: String = (0..len)
            .map(|_| char::from(b'a' + self.below(26) as u8))
            .collect();
        NodeId::new(&name)
    }

    fn incarnation(&mut self) -> Incarnation {
        Incarnation {
            counter: self.counted(),
            random: self.u64(),
        }
    }

    fn ownership(&mut self) -> (ShardId, Epoch, Grant) {
        (
            ShardId(self.below(32) as u16),
            Epoch(self.counted()),
            Grant(self.u64()),
        )
    }

    fn report(&mut self, version: u8) -> Report {
        let (shard, epoch, grant) = self.ownership();
        Report {
            shard: (self.below(2) == 0).then_some(shard),
            epoch,
            grant,
            epoch_high: Epoch(self.u64()),
            health: Health(self.u32()),
            progress_age_ms: self.u32(),
            lateness_ms: self.u32(),
            in_flight: if version >= 2 { self.u32() } else { 0 },
        }
    }

    fn receipt(&mut self) -> Receipt {
        let (shard, epoch, grant) = self.ownership();
        Receipt {
            machine_id: u128::from(self.u64()) << 64 | u128::from(self.u64()),
            boot_id: u128::from(self.u64()),
            invocation: u128::MAX - u128::from(self.u64()),
            node: self.node(96),
            incarnation: self.incarnation(),
            shard,
            epoch,
            grant,
            seal: Epoch(self.u64()),
            nonce: Nonce(self.u64()),
            sealed: self.below(2) == 0,
            cgroup_empty: self.below(2) == 0,
        }
    }

    fn body(&mut self, version: u8) -> Body {
        let (shard, epoch, grant) = self.ownership();
        match self.below(10) {
            0 => Body::Ping {
                nonce: Nonce(self.u64()),
                sent_at_ns: self.u64(),
                term: Term(self.u64()),
                epoch_high: Epoch(self.u64()),
            },
            1 => Body::Answer {
                nonce: Nonce(self.u64()),
                sent_at_ns: self.u64(),
                report: self.report(version),
            },
            2 => {
                let count = self.below(4);
                let opinions = (0..count)
                    .map(|_| Opinion {
                        node: self.node(80),
                        incarnation: self.incarnation(),
                        silent: self.below(2) == 0,
                    })
                    .collect();
                Body::Opinions {
                    term: Term(self.u64()),
                    lateness_ms: self.u32(),
                    heard: self.below(1 << 16) as u16,
                    of: self.below(1 << 16) as u16,
                    opinions,
                }
            }
            3 => Body::Nudge(if self.below(2) == 0 {
                Nudge::ShardMap
            } else {
                Nudge::Settings
            }),
            4 => Body::Fence {
                term: Term(self.u64()),
                node: self.node(96),
                incarnation: self.incarnation(),
                shard,
                epoch,
                grant,
                nonce: Nonce(self.u64()),
            },
            5 => Body::Receipt(self.receipt()),
            6 => Body::Ended {
                shard,
                epoch,
                grant,
            },
            7 => Body::Quiesce {
                shard,
                epoch,
                grant,
                on: self.below(2) == 0,
            },
            8 => Body::Quiesced {
                shard,
                epoch,
                grant,
            },
            _ => Body::Ask {
                shard,
                epoch,
                grant,
            },
        }
    }

    fn datagram(&mut self) -> Datagram {
        let version = if self.below(3) == 0 {
            VERSION_BEFORE
        } else {
            VERSION
        };
        Datagram {
            version,
            cluster: self.u64(),
            key_id: self.below(256) as u8,
            role: Role::from_u8(1 + self.below(4) as u8).expect("four roles"),
            sender: self.node(96),
            incarnation: self.incarnation(),
            sequence: self.counted(),
            body: self.body(version),
        }
    }
}

#[test]
fn what_is_encoded_comes_back_within_the_size() {
    let mut draw = Draw(1);
    for _ in 0..100_000 {
        let datagram = draw.datagram();
        let mut out = [0xaa; DATAGRAM_LEN_MAX];
        let len = encode(&datagram, &mut out);
        assert!(
            len + MAC_LEN <= DATAGRAM_LEN_MAX,
            "{len} bytes: {datagram:?}"
        );
        assert_eq!(decode(&out[..len]), Ok(datagram));
    }
}

/// Goal: a start, a sequence or the epoch of an ownership that nothing counts up to is refused, whatever the rest
/// says; what an answer says of epochs comes through, so that the core can name the node. Method: each of them in turn.
#[test]
fn numbers_that_nothing_counts_up_to_are_refused() {
    let mut draw = Draw(9);
    let ended = |number| Body::Ended {
        shard: ShardId(0),
        epoch: Epoch(number),
        grant: Grant(1),
    };
    for number in [u64::MAX, 1 << 63, COUNT_MAX] {
        let mut all = vec![draw.datagram(), draw.datagram(), draw.datagram()];
        all[0].sequence = number;
        all[1].incarnation.counter = number;
        all[2].body = ended(number);
        for datagram in all {
            let mut out = [0; DATAGRAM_LEN_MAX];
            let len = encode(&datagram, &mut out);
            assert_eq!(decode(&out[..len]), Err(WireError::Implausible));
        }
        let mut report = draw.report(VERSION);
        report.epoch_high = Epoch(number);
        let mut datagram = draw.datagram();
        datagram.version = VERSION;
        datagram.body = Body::Answer {
            nonce: Nonce(1),
            sent_at_ns: 1,
            report,
        };
        let mut out = [0; DATAGRAM_LEN_MAX];
        let len = encode(&datagram, &mut out);
        assert_eq!(decode(&out[..len]), Ok(datagram));
    }
}

#[test]
fn longer_opinion_lists_are_cut_not_garbled() {
    let mut draw = Draw(2);
    for _ in 0..2000 {
        let opinions: Vec<Opinion> = (0..draw.below(12))
            .map(|_| Opinion {
                node: draw.node(96),
                incarnation: draw.incarnation(),
                silent: true,
            })
            .collect();
        let mut datagram = draw.datagram();
        datagram.body = Body::Opinions {
            term: Term(1),
            lateness_ms: 0,
            heard: 1,
            of: 2,
            opinions: opinions.clone(),
        };
        let mut out = [0; DATAGRAM_LEN_MAX];
        let len = encode(&datagram, &mut out);
        let Ok(Body::Opinions { opinions: read, .. }) = decode(&out[..len]).map(|d| d.body) else {
            panic!("not an opinion any more: {datagram:?}");
        };
        assert_eq!(read[..], opinions[..read.len()]);
        assert!(!read.is_empty() || opinions.is_empty());
    }
}

#[test]
fn no_truncation_and_no_tail_is_accepted() {
    let mut draw = Draw(3);
    for _ in 0..500 {
        let datagram = draw.datagram();
        let mut out = [0; DATAGRAM_LEN_MAX];
        let len = encode(&datagram, &mut out);
        for short in 0..len {
            assert!(
                decode(&out[..short]).is_err(),
                "{short} of {len} bytes pass"
            );
        }
        assert_eq!(decode(&out[..=len]), Err(WireError::Length));
    }
}

#[test]
fn noise_and_flipped_bits_never_panic() {
    let mut draw = Draw(4);
    for round in 0..100_000u32 {
        let mut out = [0; DATAGRAM_LEN_MAX];
        let len = if round % 2 == 0 {
            let datagram = draw.datagram();
            let len = encode(&datagram, &mut out);
            for _ in 0..=draw.below(4) {
                let bit = draw.below(len as u64 * 8) as usize;
                out[bit / 8] ^= 1 << (bit % 8);
            }
            len
        } else {
            let len = draw.below(DATAGRAM_LEN_MAX as u64 + 1) as usize;
            out[..len].fill_with(|| draw.below(256) as u8);
            // Half of the noise gets past the first checks.
            if len > 4 && round % 4 == 1 {
                let front = [b'W', b'A', VERSION, draw.below(12) as u8];
                out[..4].copy_from_slice(&front);
            }
            len
        };
        // What is read of it, if anything, can be written again.
        if let Ok(datagram) = decode(&out[..len]) {
            let mut again = [0; DATAGRAM_LEN_MAX];
            encode(&datagram, &mut again);
        }
    }
}

#[test]
fn unknown_versions_are_named_not_misread() {
    let mut draw = Draw(5);
    let mut out = [0; DATAGRAM_LEN_MAX];
    let len = encode(&draw.datagram(), &mut out);
    for version in (0..=255).filter(|v| ![VERSION, VERSION_BEFORE].contains(v)) {
        out[2] = version;
        assert_eq!(decode(&out[..len]), Err(WireError::Version(version)));
    }
}

/// Goal: what a fuzzing run found stays fixed. Method: the committed seeds of `tests/fuzz`.
#[test]
fn seeds_of_the_fuzzer_never_panic() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/wire");
    let mut understood = 0;
    for entry in std::fs::read_dir(folder).expect("seeds").flatten() {
        let bytes = std::fs::read(entry.path()).expect("a seed");
        let Ok(datagram) = decode(&bytes) else {
            continue;
        };
        let mut again = [0; DATAGRAM_LEN_MAX];
        let len = encode(&datagram, &mut again);
        assert_eq!(decode(&again[..len]), Ok(datagram), "{:?}", entry.path());
        understood += 1;
    }
    assert!(understood > 0, "no seed is a datagram");
}
