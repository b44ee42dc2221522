//! Secrets as they are in force: read at the start and again on reload, so that none needs a restart (F13).
//! Whoever uses one says what came of it: a new one that is refused while the former is at hand gives way to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret as _, SecretBox};
use tokio::sync::Notify;

/// One text of a secret.
pub type Text = Arc<SecretBox<String>>;

struct Held {
    now: Text,
    other: Other,
}

/// Another text, which may be the right one.
enum Other {
    None,
    /// The one before, until somebody has taken the one in force.
    Former(Text),
    /// A newer one that was refused: whoever takes it may not know it yet.
    Newer(Text),
}

/// Which text came into force in the place of one that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Former,
    Newer,
}

/// A secret that a reload may replace. Clones are the same secret; an empty text is none.
#[derive(Clone)]
pub struct Secret {
    held: Arc<Mutex<Held>>,
    renewed: Arc<Notify>,
}

impl Secret {
    /// In force from the start.
    pub fn new(text: String) -> Self {
        let held = Held {
            now: Arc::new(SecretBox::new(Box::new(text))),
            other: Other::None,
        };
        Self {
            held: Arc::new(Mutex::new(held)),
            renewed: Arc::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text in force.
    pub fn now(&self) -> Text {
        Arc::clone(&self.held().now)
    }

    /// The text that was in force before, until [`Self::fits`] was said of the newer one.
    pub fn former(&self) -> Option<Text> {
        match &self.held().other {
            Other::Former(text) => Some(Arc::clone(text)),
            Other::None | Other::Newer(_) => None,
        }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.held().now.expose_secret().is_empty()
    }

    /// Puts another text into force. False when it is the same.
    pub fn replace(&self, text: &str) -> bool {
        let mut held = self.held();
        if held.now.expose_secret() == text {
            return false;
        }
        let new = Arc::new(SecretBox::new(Box::new(text.to_owned())));
        let old = std::mem::replace(&mut held.now, new);
        // Of two that nobody has taken, the one that was taken last is kept.
        if !matches!(held.other, Other::Former(_)) {
            held.other = if old.expose_secret().is_empty() {
                Other::None
            } else {
                Other::Former(old)
            };
        }
        drop(held);
        self.renewed.notify_waiters();
        true
    }

    /// This text was taken. True: it is a new one, which nobody had taken before; the former is forgotten.
    pub fn fits(&self, used: &Text) -> bool {
        let mut held = self.held();
        let first = Arc::ptr_eq(&held.now, used) && matches!(held.other, Other::Former(_));
        if first {
            held.other = Other::None;
        }
        first
    }

    /// This text was refused. The other one is in force now, if there is one.
    pub fn refused(&self, used: &Text) -> Option<Turn> {
        let mut held = self.held();
        if !Arc::ptr_eq(&held.now, used) {
            return None;
        }
        let (other, turn) = match std::mem::replace(&mut held.other, Other::None) {
            Other::None => return None,
            Other::Former(text) => (text, Turn::Former),
            Other::Newer(text) => (text, Turn::Newer),
        };
        let refused = std::mem::replace(&mut held.now, other);
        held.other = match turn {
            Turn::Former => Other::Newer(refused),
            Turn::Newer => Other::Former(refused),
        };
        Some(turn)
    }

    /// Waits until it is replaced.
    pub async fn renewed(&self) {
        self.renewed.notified().await;
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

/// The database's URLs with the passwords that a reload has brought and their servers have taken.
/// Clones are the same; empty until the first of them.
#[derive(Clone, Default)]
pub struct Logins {
    /// By their place in `urls`; `None` where the one of the start is in force.
    newer: Arc<ArcSwap<Vec<Option<String>>>>,
    count: Arc<AtomicU64>,
    /// A server refused the password in force.
    refused: Arc<Notify>,
}

impl Logins {
    /// The newer URL at a place, if there is one.
    pub fn at(&self, place: usize) -> Option<String> {
        self.newer.load().get(place).cloned().flatten()
    }

    /// Puts a URL into force; every new connection uses it.
    pub fn put(&self, place: usize, url: &str) {
        self.newer.rcu(|newer| {
            let mut newer = Vec::clone(newer);
            if newer.len() <= place {
                newer.resize(place + 1, None);
            }
            newer[place] = Some(url.to_owned());
            newer
        });
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// How often one was put: whoever keeps a copy sees that it is old.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// A server refused a password that is in force: one that waits may be the right one by now.
    pub fn refused(&self) {
        self.refused.notify_waiters();
    }

    /// Waits for [`Self::refused`].
    pub async fn until_refused(&self) {
        self.refused.notified().await;
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logins([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a new secret that is refused gives way to the former one, and has its turn again when that one is refused; one
    /// that was taken stays. Method: each order of replacing, taking and refusing, by holders of clones.
    #[test]
    fn a_new_secret_that_is_refused_gives_way() {
        let secret = Secret::new("one".into());
        let other = secret.clone();
        let shown = || secret.now().expose_secret().clone();
        let one = other.now();
        assert!(!secret.replace("one"));
        assert_eq!(other.refused(&one), None, "nothing else is there");
        assert!(secret.replace("two"));
        let two = other.now();
        assert_eq!(shown(), "two");
        assert_eq!(other.refused(&one), None, "of an older one");
        assert_eq!(other.refused(&two), Some(Turn::Former));
        assert_eq!(other.refused(&two), None, "heard already");
        assert_eq!(shown(), "one");
        assert!(!other.fits(&one), "which says nothing of the newer one");
        assert_eq!(other.refused(&one), Some(Turn::Newer));
        assert_eq!(shown(), "two");
        assert!(other.fits(&two) && !other.fits(&two));
        assert_eq!((other.refused(&two), shown()), (None, "two".into()));
        assert!(secret.replace("three") && secret.replace("four"));
        let former = secret.former().expect("kept");
        assert_eq!(former.expose_secret(), "two", "the one taken last");
        let four = other.now();
        assert_eq!(other.refused(&four), Some(Turn::Former));
        assert!(secret.replace("five") && other.fits(&other.now()));
        assert!(secret.former().is_none());
        assert!(!format!("{secret:?}").contains("five"));
    }

    /// Goal: what was put at one place is seen by all, and only there.
    #[test]
    fn newer_urls_have_their_place() {
        let logins = Logins::default();
        let other = logins.clone();
        logins.put(1, "mysql://wa:new@b/wa");
        assert_eq!(other.at(0), None);
        assert_eq!(other.at(1).as_deref(), Some("mysql://wa:new@b/wa"));
        assert_eq!(other.count(), 1);
        assert!(!format!("{logins:?}").contains("new"));
    }
}
