//! Messages of one tenure that were refused for hours and wait for their one more try. The age of a message does not tell: it
//! may have waited for other reasons before the first refusal. Decides nothing: `wa_core::outcome` does.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Messages that are remembered. One that is forgotten is tried once more than it need be.
const WAITED_MAX: u64 = 10_000;
/// Nothing needs to be known of a message for longer: it is not sent after this time.
const WAITED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which messages have waited long, or do.
pub struct WaitedLong(Cache<String, ()>);

impl Default for WaitedLong {
    fn default() -> Self {
        // The newest matters most: it must never be turned away for old ones.
        let cache = Cache::builder()
            .max_capacity(WAITED_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(WAITED_FOR);
        Self(cache.build())
    }
}

impl WaitedLong {
    /// This message waits long from now on.
    pub fn will(&self, id: &str) {
        self.0.insert(id.to_owned(), ());
    }

    /// This message has waited long.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wa_core::outcome::{LONG_WAIT, wait_long};

    /// Goal: the first refusal waits, however old the message is, and the second ends it; others are not touched.
    #[test]
    fn each_message_waits_long_once() {
        let waited = WaitedLong::default();
        for id in ["one", "other"] {
            assert_eq!(wait_long(waited.has(id)), Some(LONG_WAIT), "{id}");
            waited.will(id);
            assert_eq!(wait_long(waited.has(id)), None, "{id}");
        }
    }
}
