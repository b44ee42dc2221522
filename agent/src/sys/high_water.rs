//! The highest epoch obeyed, on the local disk: written by one task at a time, and never with less than it holds.
//! Decides nothing: `wa_core::tenure` says when to write.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::state::NumberFile;

/// The file, and what was written to it last.
#[derive(Debug)]
pub struct HighWater {
    file: NumberFile,
    highest: Mutex<u64>,
}

impl HighWater {
    /// For a file that holds `highest` at least.
    pub fn new(file: NumberFile, highest: u64) -> Self {
        Self {
            file,
            highest: Mutex::new(highest),
        }
    }

    /// Writes `number`, or again what the file holds when that is more: tasks may overtake each other. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses it; the file holds what it held before.
    pub fn store(&self, number: u64) -> io::Result<()> {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        let number = number.max(*highest);
        self.file.store(number)?;
        *highest = number;
        Ok(())
    }

    /// Reads the file again, because what it said cannot be true and a person may have mended it. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be read, or still holds a number that cannot be true.
    pub fn read_again(&self) -> io::Result<u64> {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        *highest = super::state::plausible(&self.file)?;
        Ok(*highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a try that comes late takes nothing back, and a refused write changes nothing. Method: write by hand.
    #[test]
    fn a_late_write_takes_nothing_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = NumberFile::open(dir.path(), "epoch").expect("made");
        let kept = HighWater::new(file.clone(), 7);
        kept.store(9).expect("written");
        kept.store(7).expect("written");
        assert_eq!(file.load().expect("read"), 9);
        let blocked = dir.path().join("epoch.new");
        std::fs::create_dir(&blocked).expect("made");
        assert!(kept.store(12).is_err());
        std::fs::remove_dir(&blocked).expect("removed");
        kept.store(0).expect("written");
        assert_eq!(file.load().expect("read"), 9);
    }
}
