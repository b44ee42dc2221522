//! Customers who have an alias and no number, as one tenure knows them. Gives no alias: `aliases.rs` does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Customers without numbers that are remembered; the business is not told of the numbers of more than these.
pub const LEN_MAX: usize = 50_000;

#[derive(Debug)]
struct Nameless {
    alias: String,
    /// When the event came that told the number: worked off once more, it is told once more.
    named_at_ms: Option<u64>,
}

/// Customers who have an alias and no number.
#[derive(Debug, Default)]
pub struct Aliases(Mutex<HashMap<String, Nameless>>);

impl Aliases {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Nameless>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has this alias, and no number.
    pub fn add(&self, user_id: &str, alias: &str) {
        let mut all = self.all();
        if all.len() >= LEN_MAX {
            return;
        }
        let nameless = || Nameless {
            alias: alias.to_owned(),
            named_at_ms: None,
        };
        all.entry(user_id.to_owned()).or_insert_with(nameless);
    }

    /// The user id is another one from now on: its number is not known, and told when it comes.
    pub fn hand_on(&self, former: &str, next: &str, alias: &str) {
        self.all().remove(former);
        self.add(next, alias);
    }

    /// Its number came at this time. The alias that was told until then, if this is the first time.
    pub fn named(&self, user_id: &str, at_ms: u64) -> Option<String> {
        let mut all = self.all();
        let one = all.get_mut(user_id)?;
        let first = *one.named_at_ms.get_or_insert(at_ms);
        (first == at_ms).then(|| one.alias.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: that an alias is a number from now on is told once. Method: events of two times.
    #[test]
    fn a_number_is_told_once() {
        let aliases = Aliases::default();
        assert_eq!(aliases.named("GB.1", 5), None);
        aliases.add("GB.1", "999000000000001");
        aliases.add("GB.1", "999000000000002");
        let told = Some("999000000000001".to_owned());
        assert_eq!(aliases.named("GB.1", 6), told);
        assert_eq!(aliases.named("GB.1", 6), told, "worked off once more");
        assert_eq!(aliases.named("GB.1", 7), None);
    }
}
