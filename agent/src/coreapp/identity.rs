//! Identity keys of customers, for one owner: those that come with messages are kept and told, those that the business has
//! acknowledged go along with messages to their customers. Judges none: `wa_core::identity` does.

use std::collections::HashMap;

use wa_core::identity::{Before, Standing, see};

use super::node::Node;
use super::unsent::Unsent;
use super::work::Work;
use crate::api::cloud::event::{Event, Inbound};
use crate::api::cloud::identity;
use crate::api::v1::identity::Identity;
use crate::api::v1::who::Recipient;
use crate::db::Db;
use crate::db::identity_key::{ADDRESS_LEN_MAX, HASH_LEN_MAX, IdentityKey, newest};
use crate::db::inbox::Stored;

/// A message that came with a key: its place in the batch, the address that the key is kept by, and the one by which it may have
/// been kept before the number was known.
#[derive(Debug)]
pub struct Carried {
    pub at: usize,
    pub address: String,
    pub former: Option<String>,
}

/// Where the key of the message at this place is kept; `None`: it came without one. What is too long to be kept is left out, and
/// counted.
pub fn carried(node: &Node, work: &Work, at: usize, message: &Inbound) -> Option<Carried> {
    let hash = identity::hash(message)?;
    let (user_id, number) = identity::writer(message);
    let known = || work.customers.number(user_id?);
    let number = number.map(str::to_owned).or_else(known);
    let addresses = [number, user_id.map(str::to_owned)].into_iter().flatten();
    let mut addresses = addresses.filter(|address| address.len() <= ADDRESS_LEN_MAX);
    match addresses.next() {
        Some(address) if hash.len() <= HASH_LEN_MAX => Some(Carried {
            at,
            address,
            former: addresses.next(),
        }),
        Some(_) | None => {
            node.metrics.identities_left_out.inc();
            None
        }
    }
}

/// What the business knows of the key of a customer who has these keys, when this one comes: the newest. One that was seen first
/// by the user id is no news to whoever writes to that; it is to whoever knows another one of the number.
fn before<'a>(keys: &[&'a IdentityKey], hash: &str) -> Option<&'a IdentityKey> {
    let last = newest(keys.iter().copied())?;
    let other = keys.iter().copied().find(|key| key.hash != hash);
    match last.hash == hash && last.standing == Standing::Known {
        true => Some(other.unwrap_or(last)),
        false => Some(last),
    }
}

/// Keeps the keys of a batch. Messages say how their writer's key stands while the business wants to hear of it. By the place in
/// the batch: what it is told before a message, because the key is another one.
///
/// # Errors
/// What the database said.
pub async fn learn(
    node: &Node,
    db: &Db,
    stored: &[Stored],
    events: &mut [Option<Event>],
    carried: Vec<Carried>,
) -> Result<HashMap<usize, String>, String> {
    let mut news = HashMap::new();
    if carried.is_empty() {
        return Ok(news);
    }
    let watched = node.application.load().show_security_notifications;
    let addresses = |one: &Carried| [Some(one.address.clone()), one.former.clone()];
    let addresses: Vec<String> = carried.iter().flat_map(addresses).flatten().collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let keys = db.identity_keys(&addresses).await;
    let mut keys = keys.map_err(|error| error.brief())?;
    let mut fresh: HashMap<String, IdentityKey> = HashMap::new();
    let mut gone: Vec<(String, u64)> = Vec::new();
    for Carried {
        at,
        address,
        former,
    } in carried
    {
        let Some(Some(Event::Message(message))) = events.get_mut(at) else {
            continue;
        };
        let Some(hash) = identity::hash(message).map(str::to_owned) else {
            continue;
        };
        let at_ms = u64::try_from(stored[at].received_ms).unwrap_or(0);
        let both = [Some(&address), former.as_ref()].into_iter().flatten();
        let both: Vec<&IdentityKey> = both.filter_map(|address| keys.get(address)).collect();
        let known = before(&both, &hash);
        let (key, told) = after(known, &address, hash, at_ms, watched);
        if let Some(former) = former
            && keys.remove(&former).is_some()
        {
            fresh.remove(&former);
            gone.push((former, at_ms));
        }
        if keys.get(&address) != Some(&key) {
            fresh.insert(address.clone(), key.clone());
        }
        if watched {
            let identity = shown(&key);
            if told {
                news.insert(at, identity::changed(message, &identity).text());
            }
            identity::mark(message, &identity);
        }
        keys.insert(address, key);
    }
    // Before the business is told: whoever works the event off once more must know that it is news.
    let fresh: Vec<IdentityKey> = fresh.into_values().collect();
    let written = node.in_turn(db.write_identity_keys(&fresh)).await;
    written.map_err(|error| error.brief())?;
    let forgotten = node.in_turn(db.forget_identity_keys(&gone)).await;
    forgotten.map_err(|error| error.brief())?;
    Ok(news)
}

fn after(
    known: Option<&IdentityKey>,
    address: &str,
    hash: String,
    at_ms: u64,
    watched: bool,
) -> (IdentityKey, bool) {
    let before = match known {
        None => Before::Nothing,
        Some(key) if key.hash == hash => Before::Same {
            standing: key.standing,
            by_this: key.changed_ms == at_ms,
        },
        // It came earlier than the one that is known.
        Some(key) if key.changed_ms > at_ms => {
            let address = address.to_owned();
            return (
                IdentityKey {
                    address,
                    ..key.clone()
                },
                false,
            );
        }
        Some(_) => Before::Another,
    };
    let (standing, told) = see(before, watched);
    let changed_ms = match (before, known) {
        (Before::Same { .. }, Some(key)) => key.changed_ms,
        (Before::Nothing | Before::Another | Before::Same { .. }, _) => at_ms,
    };
    let key = IdentityKey {
        address: address.to_owned(),
        hash,
        changed_ms,
        standing,
    };
    (key, told)
}

/// As the business is shown it.
fn shown(key: &IdentityKey) -> Identity {
    Identity {
        acknowledged: key.standing != Standing::Changed,
        created_timestamp: key.changed_ms,
        hash: key.hash.clone(),
    }
}

/// The key that goes along with a message: the one that the business has acknowledged for this recipient. While it does not want
/// to hear of changes, none does.
///
/// # Errors
/// [`Unsent::Later`]: the store does not answer.
pub async fn acknowledged(node: &Node, to: &Recipient) -> Result<Option<String>, Unsent> {
    if !node.application.load().show_security_notifications {
        return Ok(None);
    }
    let db = node
        .db()
        .ok_or_else(|| Unsent::Later("no database".into()))?;
    let found = db.key_of(to).await;
    let found = found.map_err(|error| Unsent::Later(error.brief()))?;
    let acknowledged = found.filter(|key| key.standing == Standing::Acknowledged);
    Ok(acknowledged.map(|key| key.hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a customer who has a key by number and one by user id has the newest; one that is new to the number is news. Method:
    /// pairs of keys.
    #[test]
    fn the_newest_of_two_keys_counts() {
        let key = |address: &str, hash: &str, changed_ms, standing| IdentityKey {
            address: address.into(),
            hash: hash.into(),
            changed_ms,
            standing,
        };
        let old = key("447700900456", "a", 100, Standing::Acknowledged);
        let changed = key("GB.1", "b", 200, Standing::Changed);
        assert_eq!(before(&[&old, &changed], "b"), Some(&changed));
        assert_eq!(before(&[&old, &changed], "c"), Some(&changed));
        let first = key("GB.1", "b", 200, Standing::Known);
        assert_eq!(before(&[&old, &first], "b"), Some(&old));
        assert_eq!(before(&[&first], "b"), Some(&first));
        assert_eq!(before(&[], "b"), None);
        let (late, _) = after(Some(&changed), "447700900456", "a".into(), 150, true);
        assert_eq!(
            (late.address.as_str(), late.hash.as_str()),
            ("447700900456", "b")
        );
    }

    /// Goal: a key is known from its first message, and news when it is another one. Method: one message after the other.
    #[test]
    fn keys_follow_each_other() {
        let see = |known: Option<&IdentityKey>, hash: &str, at_ms, watched| {
            after(known, "447700900456", hash.to_owned(), at_ms, watched)
        };
        let (first, told) = see(None, "a", 100, true);
        assert_eq!((first.standing, told), (Standing::Known, false));
        let (same, told) = see(Some(&first), "a", 200, true);
        assert!(same == first && !told && shown(&same).acknowledged);
        let (other, told) = see(Some(&first), "b", 300, true);
        assert_eq!(
            (other.standing, other.changed_ms, told),
            (Standing::Changed, 300, true)
        );
        assert!(!shown(&other).acknowledged);
        // The same event once more, a later one, and one that was late.
        assert!(see(Some(&other), "b", 300, true).1);
        assert!(!see(Some(&other), "b", 400, true).1);
        assert_eq!(see(Some(&other), "a", 200, true), (other.clone(), false));
        let (quiet, told) = see(Some(&first), "b", 300, false);
        assert_eq!((quiet.standing, told), (Standing::Known, false));
    }
}
