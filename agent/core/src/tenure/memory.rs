//! A memory that cannot be true: the number in the epoch file is further from the rows than any node was ever away.
//! Reads no file: the driver does, as long as this asks for it.

use super::{State, Tenure};
use crate::guard::{self, Guard};
use crate::id::Epoch;
use crate::plausible;

impl Tenure {
    /// The first rows that a start reads. Its disk may be new, or an older state of itself: what the rows show counts as if
    /// it had been obeyed here, and nothing up to it can be this start's own, since nobody names a start that has not read.
    pub(super) fn take_memory(&mut self, newest: Epoch) {
        if self.rows_asked.is_none() && guard::on(Guard::MemoryFirst) {
            (self.obeyed, self.sealed) = (self.obeyed.max(newest), self.sealed.max(newest));
        }
    }

    /// A master's word is passed on, as far as it can be true by the rows. It seals nothing here: a grant to this very node
    /// may be on its way under that number.
    pub(super) fn told(&mut self, epoch: Epoch) {
        let weighed = self.rows_asked.is_some() && plausible::heard(self.epoch_read.0, epoch.0);
        if weighed && guard::on(Guard::MemoryFirst) {
            self.told = self.told.max(epoch);
        }
    }

    /// What this node remembers to have obeyed cannot be true by the rows that it last read: masters give it no shard, and
    /// it asks for its file to be read again until that is mended.
    pub fn implausible(&self) -> bool {
        self.rows_asked.is_some() && !plausible::heard(self.epoch_read.0, self.obeyed.0)
    }

    /// The file was mended by hand: before that nothing was obeyed, since nothing was above what it said.
    pub(super) fn remembered(&mut self, epoch: Epoch) {
        if matches!(self.state, State::Standby) && self.implausible() {
            (self.obeyed, self.sealed) = (epoch.max(self.gate_seal), epoch.max(self.gate_seal));
        }
    }
}
