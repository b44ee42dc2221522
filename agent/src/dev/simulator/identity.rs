//! Identity keys: whether they are told, and the key of each customer, which stays until a test gives the customer another.
//! Answers no call: `switch.rs` does.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::reader::sent::{Recipient, Sent};

/// Customers whose keys a test has changed.
const CHANGED_MAX: usize = 10_000;

/// The switch, and keys that are not the usual ones.
#[derive(Debug, Default)]
pub struct Identities {
    /// The number's switch.
    pub told: bool,
    changed: BTreeMap<String, String>,
}

impl Identities {
    /// The key of a customer, by number.
    fn of(&self, digits: &str) -> String {
        let usual = || hex::encode(&Sha256::digest(digits)[..8]);
        self.changed.get(digits).cloned().unwrap_or_else(usual)
    }

    /// The key that goes along with a message of this customer, if the switch is on. `new`: from now on it is this one.
    pub fn told(&mut self, digits: &str, new: Option<String>) -> Option<String> {
        if let Some(new) = new
            && self.changed.len() < CHANGED_MAX
        {
            self.changed.insert(digits.to_owned(), new);
        }
        self.told.then(|| self.of(digits))
    }

    /// A message that is for another key than the recipient's.
    pub fn refuses(&self, sent: &Sent) -> bool {
        match (&sent.identity, &sent.to) {
            (Some(wanted), Recipient::Number { digits, .. }) => *wanted != self.of(digits),
            (Some(_) | None, _) => false,
        }
    }
}
