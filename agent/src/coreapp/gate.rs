//! The gate between the upstream client and the network: no byte without a live tenure.
//! Grants nothing: the driver opens, extends and shuts it as the tenure says.
//!
//! Two stand one behind the other. The one within this process is asked before every connect and every write; it stops
//! our own code early. The one in the kernel, where the host agent has lent us our unit's map, stops packets, whatever
//! this process does or no longer does.

use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use wa_bpf::UnitMap;
use wa_core::id::Epoch;
use wa_core::time::Instant;

use crate::sys::gate_socket::{Ask, Word};

/// The host agent looks each second; a word older than this attests nothing.
const ATTESTED_MAX: Duration = Duration::from_secs(3);
/// At the start of a tenure, until the host agent has had the unit let through by nftables.
const ADMITTED_WITHIN: Duration = Duration::from_millis(300);

/// Both gates.
#[derive(Debug)]
pub struct Gate {
    process: ProcessGate,
    kernel: Mutex<Option<Kernel>>,
    /// When the host agent last found the kernel's gate whole, in nanoseconds since boot; 0: it is not.
    attested_at: AtomicU64,
    /// Nothing opens without the kernel's gate.
    required: bool,
    /// A person has fenced this unit: nothing opens.
    by_hand: AtomicBool,
    /// Every epoch up to this one is over in the kernel.
    seals: watch::Sender<Epoch>,
    why: Mutex<String>,
    /// Where nftables stands instead of the kernel's gate: who is to be let through has to be asked for.
    nftables: AtomicBool,
    /// What the host agent is to be asked, where it wants that; the newest counts.
    asks: watch::Sender<Option<Ask>>,
    /// The epoch that it has let through.
    admitted: watch::Sender<u64>,
}

/// What the host agent has lent.
#[derive(Debug)]
struct Kernel {
    map: UnitMap,
    /// The kernel's number of the map.
    id: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Gate {
    /// Both shut; the kernel's is not there yet. `required`: without it nothing opens.
    pub fn shut_both(required: bool) -> Self {
        Self {
            process: ProcessGate::default(),
            kernel: Mutex::default(),
            attested_at: AtomicU64::new(0),
            required,
            by_hand: AtomicBool::new(false),
            seals: watch::Sender::new(Epoch(0)),
            why: Mutex::new("the host agent has not answered yet".into()),
            nftables: AtomicBool::new(false),
            asks: watch::Sender::new(None),
            admitted: watch::Sender::new(0),
        }
    }

    /// Takes in what the host agent says, and the map that came with it. False: the map cannot be used.
    pub fn hear(&self, word: &Word, lent: Option<OwnedFd>) -> bool {
        // A host agent that was started again lends the same map again: mapping it anew would shut what is open in it.
        let held = locked(&self.kernel).as_ref().map(|kernel| kernel.id);
        if let Some(fd) = lent.filter(|_| held != Some(word.map)) {
            let map = match UnitMap::map(fd) {
                Ok(map) => map,
                Err(error) => {
                    self.unattested(&format!("the unit's map cannot be used: {error}"));
                    return false;
                }
            };
            let id = word.map;
            if locked(&self.kernel).replace(Kernel { map, id }).is_some() {
                // Another map has nothing of the old one: what was open is over.
                let open = self.process.epoch.load(Ordering::Acquire);
                self.sealed(Epoch(open));
            }
        }
        if word.attested_at_ns.is_some() && locked(&self.kernel).is_none() {
            return false;
        }
        self.by_hand.store(word.by_hand, Ordering::Release);
        let before = self.nftables.swap(word.nftables, Ordering::AcqRel);
        if word.nftables && !before {
            // It came up under a tenure: what is open has to be asked for.
            self.asks.send_modify(|_| {});
        }
        if let Some(epoch) = word.admitted {
            self.admitted.send_replace(epoch);
        }
        self.sealed(Epoch(word.seal.saturating_sub(1)));
        match word.attested_at_ns {
            Some(at) => {
                self.attested_at.store(at, Ordering::Release);
                locked(&self.why).clear();
            }
            None => self.unattested(&word.why),
        }
        true
    }

    /// The host agent says that the kernel's gate is not whole, or not ours.
    fn unattested(&self, why: &str) {
        self.attested_at.store(0, Ordering::Release);
        why.clone_into(&mut locked(&self.why));
    }

    /// The host agent is away, and why we think so. Its last word holds for as long as any does: its restart changes nothing.
    pub fn unheard(&self, why: &str) {
        why.clone_into(&mut locked(&self.why));
    }

    /// The kernel's gate was found whole a moment ago, and we have our map.
    pub fn attested(&self, now: Instant) -> bool {
        let at = self.attested_at.load(Ordering::Acquire);
        at != 0 && now.since(Instant(at)) < ATTESTED_MAX
    }

    /// What stands in front of this process, for a line of status.
    pub fn kind(&self, now: Instant) -> String {
        if self.attested(now) {
            return "fence=bpf".into();
        }
        let level = if self.nftables() {
            "nftables"
        } else {
            "process"
        };
        format!("fence={level} ({})", locked(&self.why))
    }

    /// nftables stands instead of the kernel's gate: the host agent wants to be asked.
    pub fn nftables(&self) -> bool {
        self.nftables.load(Ordering::Acquire)
    }

    /// Hears of what the host agent is to be asked.
    pub fn asks(&self) -> watch::Receiver<Option<Ask>> {
        self.asks.subscribe()
    }

    fn ask(&self, epoch: Epoch, deadline: Option<Instant>) {
        self.asks.send_replace(Some(Ask {
            epoch: epoch.0,
            deadline_ns: deadline.map(|at| at.0),
        }));
    }

    /// Waits, where nftables is the fence, until the epoch is let through: a connection that is begun before waits for its
    /// second attempt. Not for long: who is not let through then sends nothing, and says that the upstream is lost. For
    /// whoever connects; the tenure waits for nobody.
    pub async fn admitted(&self, epoch: Epoch) {
        if self.nftables() {
            let mut admitted = self.admitted.subscribe();
            let now = admitted.wait_for(|admitted| *admitted == epoch.0);
            let _ = tokio::time::timeout(ADMITTED_WITHIN, now).await;
        }
    }

    fn sealed(&self, epoch: Epoch) {
        self.seals.send_if_modified(|seal| {
            let higher = epoch > *seal;
            if higher {
                *seal = epoch;
            }
            higher
        });
    }

    /// Hears of seals that others put into the kernel: every epoch up to the value is over.
    pub fn seals(&self) -> watch::Receiver<Epoch> {
        self.seals.subscribe()
    }

    /// Opens for an epoch until its deadline. An epoch that was shut never opens again: then the seal comes back.
    pub fn open(&self, epoch: Epoch, deadline: Instant) -> Option<Epoch> {
        let sealed = *self.seals.borrow();
        if epoch <= sealed {
            return Some(sealed);
        }
        {
            let mut kernel = locked(&self.kernel);
            let opened = match kernel.as_mut() {
                _ if self.by_hand.load(Ordering::Acquire) => false,
                Some(kernel) => kernel.map.open(epoch.0, deadline.0).is_ok(),
                None => !self.required,
            };
            if !opened {
                return Some(epoch);
            }
        }
        let sealed = self.process.open(epoch, deadline);
        if sealed.is_none() {
            self.ask(epoch, Some(deadline));
        }
        sealed
    }

    /// Moves the deadline of the open epoch.
    pub fn extend(&self, epoch: Epoch, deadline: Instant) {
        if self.process.epoch.load(Ordering::Acquire) != epoch.0
            || self.process.sealed.load(Ordering::Acquire) >= epoch.0
        {
            return;
        }
        if let Some(kernel) = locked(&self.kernel).as_mut() {
            // Spent: shut meanwhile; the driver hears of it by the seal.
            let _ = kernel.map.extend(epoch.0, deadline.0);
        }
        self.process.open(epoch, deadline);
        self.ask(epoch, Some(deadline));
    }

    /// Shuts for this epoch and all before it, for good.
    pub fn shut(&self, epoch: Epoch) {
        self.process.shut(epoch);
        let newer = (*self.asks.borrow()).is_some_and(|ask| ask.epoch > epoch.0);
        if !newer {
            self.ask(epoch, None);
        }
        if let Some(kernel) = locked(&self.kernel).as_mut()
            && kernel.map.read().0 <= epoch.0
        {
            kernel.map.shut();
        }
    }

    /// A byte of this epoch may leave at `now`, as far as this process knows.
    pub fn passes(&self, epoch: Epoch, now: Instant) -> bool {
        self.process.passes(epoch, now)
    }
}

/// The gate within this process. Written by the driver only.
#[derive(Debug, Default)]
struct ProcessGate {
    epoch: AtomicU64,
    deadline: AtomicU64,
    sealed: AtomicU64,
}

impl ProcessGate {
    fn open(&self, epoch: Epoch, deadline: Instant) -> Option<Epoch> {
        let sealed = self.sealed.load(Ordering::Acquire);
        if epoch.0 <= sealed {
            return Some(Epoch(sealed));
        }
        if self.epoch.load(Ordering::Acquire) != epoch.0 {
            self.deadline.store(0, Ordering::Release);
            self.epoch.store(epoch.0, Ordering::Release);
        }
        self.deadline.store(deadline.0, Ordering::Release);
        None
    }

    fn shut(&self, epoch: Epoch) {
        self.sealed.fetch_max(epoch.0, Ordering::AcqRel);
        if self.epoch.load(Ordering::Acquire) <= epoch.0 {
            self.deadline.store(0, Ordering::Release);
        }
    }

    fn passes(&self, epoch: Epoch, now: Instant) -> bool {
        let deadline = self.deadline.load(Ordering::Acquire);
        let same = self.epoch.load(Ordering::Acquire) == epoch.0;
        // Read twice: the deadline must not be the next epoch's.
        same && deadline == self.deadline.load(Ordering::Acquire)
            && now.0 < deadline
            && epoch.0 > self.sealed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a tenure that lapsed, or was shut, never passes again. Method: every way to reopen it.
    #[test]
    fn what_was_shut_stays_shut() {
        let gate = Gate::shut_both(false);
        let at = Instant::from_millis;
        assert!(!gate.passes(Epoch(1), at(1)));
        gate.open(Epoch(5), at(100));
        assert!(gate.passes(Epoch(5), at(99)));
        assert!(!gate.passes(Epoch(5), at(100)));
        assert!(!gate.passes(Epoch(4), at(50)) && !gate.passes(Epoch(6), at(50)));
        gate.extend(Epoch(5), at(200));
        assert!(gate.passes(Epoch(5), at(150)));
        gate.shut(Epoch(5));
        gate.extend(Epoch(5), at(300));
        gate.open(Epoch(5), at(300));
        assert!(!gate.passes(Epoch(5), at(150)));
        gate.open(Epoch(6), at(400));
        gate.shut(Epoch(5));
        assert!(gate.passes(Epoch(6), at(350)));
    }

    /// Goal: where the kernel's gate is required, nothing opens without it; a seal is never opened again.
    #[test]
    fn nothing_opens_without_the_kernel_where_it_is_required() {
        let at = Instant::from_millis;
        let gate = Gate::shut_both(true);
        assert_eq!(gate.open(Epoch(5), at(100)), Some(Epoch(5)));
        assert!(!gate.passes(Epoch(5), at(50)));
        let gate = Gate::shut_both(false);
        let word = Word {
            attested_at_ns: None,
            seal: 8,
            map: 0,
            by_hand: false,
            why: "it was looked for in vain".into(),
            nftables: false,
            admitted: None,
        };
        assert!(gate.hear(&word, None));
        assert_eq!(*gate.seals().borrow(), Epoch(7));
        assert_eq!(gate.open(Epoch(7), at(100)), Some(Epoch(7)));
        assert_eq!(gate.open(Epoch(8), at(100)), None);
        assert!(gate.kind(at(1)).contains("in vain"));
        let by_hand = Word {
            by_hand: true,
            ..word
        };
        assert!(gate.hear(&by_hand, None));
        assert_eq!(
            gate.open(Epoch(9), at(100)),
            Some(Epoch(9)),
            "fenced by hand"
        );
    }

    /// Goal: where nftables is the fence, what is open is asked for, each time it moves, and given back; an epoch that is
    /// over takes nothing from a newer one. Method: what the host agent would be asked.
    #[test]
    fn a_unit_asks_to_be_let_through() {
        let at = Instant::from_millis;
        let gate = Gate::shut_both(false);
        let mut asks = gate.asks();
        let word = Word {
            attested_at_ns: None,
            seal: 0,
            map: 0,
            by_hand: false,
            why: "no clang".into(),
            nftables: true,
            admitted: Some(5),
        };
        assert!(gate.hear(&word, None));
        assert!(gate.kind(at(1)).starts_with("fence=nftables (no clang"));
        let mut asked = || *asks.borrow_and_update();
        let ask = |epoch, deadline: Option<u64>| {
            let deadline_ns = deadline.map(|ms| at(ms).0);
            Some(Ask { epoch, deadline_ns })
        };
        assert_eq!(gate.open(Epoch(5), at(100)), None);
        assert_eq!(asked(), ask(5, Some(100)));
        gate.extend(Epoch(5), at(200));
        assert_eq!(asked(), ask(5, Some(200)));
        gate.shut(Epoch(4));
        assert_eq!(asked(), ask(5, Some(200)), "of another one");
        gate.shut(Epoch(5));
        assert_eq!(asked(), ask(5, None));
    }

    /// Goal: opening waits for nobody, or a renewal would be late; whoever connects waits until the epoch is let through, and
    /// gives up where it never is. Method: a host agent that has not answered yet, then one that has.
    #[tokio::test]
    async fn only_who_connects_waits_for_nftables() {
        use futures_util::FutureExt as _;
        let gate = Gate::shut_both(false);
        let word = |admitted| Word {
            attested_at_ns: None,
            seal: 0,
            map: 0,
            by_hand: false,
            why: String::new(),
            nftables: true,
            admitted,
        };
        assert!(gate.hear(&word(None), None));
        // Of the thread, and no future: it could not wait without holding the thread up.
        assert_eq!(gate.open(Epoch(5), Instant(u64::MAX)), None);
        assert!(gate.admitted(Epoch(5)).now_or_never().is_none());
        let (waiting, heard) = (gate.admitted(Epoch(5)), async {
            gate.hear(&word(Some(5)), None);
        });
        tokio::join!(waiting, heard);
        assert!(gate.admitted(Epoch(5)).now_or_never().is_some());
        assert!(gate.admitted(Epoch(6)).now_or_never().is_none());
        gate.admitted(Epoch(6)).await;
    }

    /// Goal: an attestation gets old, and one without a map is none.
    #[test]
    fn an_attestation_is_worth_little_for_long() {
        let at = Instant::from_millis;
        let gate = Gate::shut_both(true);
        gate.attested_at.store(at(10_000).0, Ordering::Release);
        assert!(gate.attested(at(12_999)) && !gate.attested(at(13_000)));
        gate.unattested("gone");
        assert!(!gate.attested(at(10_001)));
        let word = Word {
            attested_at_ns: Some(1),
            seal: 1,
            map: 3,
            by_hand: false,
            why: String::new(),
            nftables: false,
            admitted: None,
        };
        assert!(!gate.hear(&word, None), "no map came");
    }
}
