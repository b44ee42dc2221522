//! The cluster key as it is in force: read at the start, and again on reload, so that keys change without a restart.
//! Derives nothing from it: `net/keys.rs` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret as _, SecretBox};

/// The text of the key file. Clones are the same key: who replaces it in one replaces it in all.
#[derive(Clone)]
pub struct ClusterKey {
    current: Arc<ArcSwap<SecretBox<Vec<u8>>>>,
    replaced: Arc<AtomicU64>,
}

impl ClusterKey {
    /// A key file with this text.
    pub fn new(file: Vec<u8>) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(SecretBox::new(Box::new(file)))),
            replaced: Arc::default(),
        }
    }

    /// The text in force.
    pub fn current(&self) -> Arc<SecretBox<Vec<u8>>> {
        self.current.load_full()
    }

    /// Puts another text into force. False when it is the same.
    pub fn replace(&self, file: &[u8]) -> bool {
        if self.current().expose_secret() == file {
            return false;
        }
        let secret = SecretBox::new(Box::new(file.to_vec()));
        self.current.store(Arc::new(secret));
        self.replaced.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// How often it was replaced: whoever has told others about it sees that there is something new to tell.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_key_is_replaced_for_all_who_hold_it() {
        let key = ClusterKey::new(b"one".to_vec());
        let other = key.clone();
        assert!(!key.replace(b"one"));
        assert_eq!(other.replaced(), 0);
        assert!(key.replace(b"two"));
        assert_eq!(other.current().expose_secret(), b"two");
        assert_eq!(other.replaced(), 1);
        assert!(!format!("{key:?}").contains("two"));
    }
}
