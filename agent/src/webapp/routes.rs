//! Which customer an address belongs to: the store's word, remembered for a moment.
//! Knows no number by itself. Where no number is spelt in two ways, the store is asked once a second and not once a message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Mutex;
use wa_core::shard_map::recipient_hash;
use wa_core::time::Instant;

use crate::api::v1::who::is_user_id;
use crate::db::Db;
use crate::db::route::Route;
use crate::log::seldom;
use crate::sys::clock;

/// Addresses that are remembered, and for how long.
const LEN_MAX: u64 = 100_000;
const KEEP: Duration = Duration::from_secs(10);
/// How often it is asked whether any number is spelt in two ways.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For one look; without an answer an address is its own customer.
const WITHIN: Duration = Duration::from_millis(500);

/// The routes that one webapp has seen.
pub struct Routes {
    any: AtomicBool,
    /// The store has answered once.
    seen: AtomicBool,
    /// When it was looked last.
    looked: Mutex<Option<Instant>>,
    known: Cache<String, Option<Route>>,
}

/// Where a message belongs.
#[derive(Debug, Clone)]
pub struct Place {
    own: u32,
    route: Option<Route>,
}

impl Place {
    /// The customer's hash.
    pub fn hash(&self) -> u32 {
        self.route
            .as_ref()
            .map_or(self.own, |route| route.recipient_hash)
    }

    /// An earlier message with this hash may have been to the same customer: before the upstream told how it spells the number,
    /// each spelling was a customer of its own.
    pub fn may_be(&self, hash: u32) -> bool {
        let spelling = self
            .route
            .as_ref()
            .and_then(|route| route.spelling.as_deref());
        hash == self.own
            || hash == self.hash()
            || spelling.is_some_and(|s| recipient_hash(s) == hash)
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            seen: AtomicBool::new(false),
            looked: Mutex::new(None),
            known: Cache::builder()
                .max_capacity(LEN_MAX)
                .time_to_live(KEEP)
                .build(),
        }
    }
}

impl Routes {
    /// The customer that an address belongs to.
    pub async fn place(&self, db: Option<&Db>, address: &str) -> Place {
        let mut found = self.of(db, &[address]).await;
        Place {
            own: recipient_hash(address),
            route: found.remove(address),
        }
    }

    /// What is known of these addresses; those without an entry are their own customers.
    pub async fn of(&self, db: Option<&Db>, addresses: &[&str]) -> HashMap<String, Route> {
        let mut found = HashMap::new();
        let Some(db) = db else { return found };
        // A user id has its row with its customer, however numbers are spelt.
        let numbers = addresses.iter().any(|address| !is_user_id(address));
        let spelt = numbers && self.any(db).await;
        let mut asked = Vec::new();
        let wanted = addresses.iter().filter(|a| spelt || is_user_id(a));
        for address in wanted {
            match self.known.get(*address) {
                Some(Some(route)) => drop(found.insert((*address).to_owned(), route)),
                Some(None) => {}
                None => asked.push(*address),
            }
        }
        if asked.is_empty() {
            return found;
        }
        match tokio::time::timeout(WITHIN, db.routes(&asked)).await {
            Ok(Ok(routes)) => {
                for address in asked {
                    self.known
                        .insert(address.to_owned(), routes.get(address).cloned());
                }
                found.extend(routes);
            }
            Ok(Err(error)) => {
                seldom!(
                    tracing::warn!(error = %error.brief(), "other spellings of a number could not be looked up; it is taken as it is")
                );
            }
            Err(_) => {
                seldom!(tracing::warn!(
                    "the database did not say in {WITHIN:?} how a number is spelt; it is taken as it is"
                ));
            }
        }
        found
    }

    /// Whether any number is spelt in two ways: once it is so, it stays so.
    async fn any(&self, db: &Db) -> bool {
        if self.any.load(Ordering::Relaxed) {
            return true;
        }
        // Everybody waits for the first look; later ones are one request's.
        let mut looked = match self.looked.try_lock() {
            Ok(looked) => looked,
            Err(_) if self.seen.load(Ordering::Relaxed) => return false,
            Err(_) => self.looked.lock().await,
        };
        let now = clock::now();
        if looked.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return self.any.load(Ordering::Relaxed);
        }
        *looked = Some(now);
        let found = tokio::time::timeout(WITHIN, db.any_route()).await;
        if let Ok(Ok(any)) = found {
            self.any.fetch_or(any, Ordering::Relaxed);
            self.seen.store(true, Ordering::Relaxed);
        }
        self.any.load(Ordering::Relaxed)
    }
}
