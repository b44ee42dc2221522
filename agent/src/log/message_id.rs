//! Stable names of what happens, for `journalctl MESSAGE_ID=…` and for the catalog that `journalctl -x` reads.
//! An id never changes its meaning; a new event gets a new one (`systemd-id128 new`).

macro_rules! message_ids {
    ($($name:ident = $id:literal, $what:literal;)*) => {
        $(#[doc = $what] pub const $name: &str = $id;)*

        /// Every id with its name and meaning.
        pub const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $id, $what)),*];
    };
}

message_ids! {
    ROLE_STARTED = "5d1f0c4b7a9e4f0e8b1d2c3a4f5e6071", "A role started.";
    ROLE_READY = "0b6ad3c2f1e84a57b90c6d7e8f9a1b22", "A role is ready to do its work.";
    ROLE_STOPPING = "c2e47f19a6b34d0d9e5f1a2b3c4d5e33", "A role was told to stop and gives back what it holds.";
    LEASE_WON = "7f3a9b1c5d2e4680a1b2c3d4e5f60744", "A master became primary.";
    LEASE_LOST = "91d0e2f3a4b54c6d8e7f9a0b1c2d3e55", "A primary master is no longer primary.";
    LEASE_RELEASED = "e8c7b6a5941f42d3b0a1f2e3d4c5b666", "A primary master gave the lease back.";
    COREAPP_PROMOTED = "3c5e7a9b0d1f4e2c8a6b4d2f0e1c3a77", "A coreapp became primary of a shard.";
    COREAPP_DEMOTED = "a0b1c2d3e4f54657890a1b2c3d4e5f88", "A coreapp is no longer primary of its shard.";
    COREAPP_FENCED = "4d6f8a0c2e1b43d5978b6a5c4d3e2f99", "The host agent ended a coreapp on request of the primary master.";
    LOCK_HOLDER_KILLED = "7e39fcf938d742f3aa29bfa44ee5adef", "The host agent killed a frozen unit that held the embedded database's write lock.";
    OBITUARY = "62a4c8e0f1b34d5792c3e4a5b6d7f8aa", "The host agent saw a unit end and told the masters.";
    FAILOVER_DECIDED = "f7e6d5c4b3a24910807f6e5d4c3b2abb", "The primary master moves a shard.";
    FAILOVER_BLOCKED = "18293a4b5c6d4e7f8091a2b3c4d5e6cc", "The primary master would move a shard and may not.";
    SETTINGS_CHANGED = "2b4d6f8091a34c5e97b8d9e0f1a2b3dd", "New application settings are in force.";
    SCHEMA_UPGRADED = "d3c2b1a0f9e84d7c9b6a5f4e3d2c1bee", "The database schema moved on.";
    GATE_BROKEN = "1d7c3e5a9b2f4c68a0e4d6b8f1a3c554", "There is no kernel gate in front of the coreapps of this machine.";
    GATE_HEALED = "e5b90d2c7f8a4163b4c8a6e2d0f19765", "The kernel gate stands in front of the coreapps of this machine.";
    GATE_BY_HAND = "7a2e4c6b8d0f4193a5c7e9b1d3f5a876", "A person fenced a coreapp of this machine, or lifted that.";
    MOUNT_BROKEN = "8e9fa0b1c2d34e5f9061728394a5b6ff", "The media directory cannot be used.";
    MOUNT_HEALED = "b5a697881f2e4d3c8b0a192837465a10", "The media directory can be used again.";
    WATCHDOG_LATE = "6c5b4a3928174f06a5b4c3d2e1f0a121", "The decision loop was late for the watchdog.";
    ACCOUNT_NEWS = "4b8d2f6a1c3e4957a0d9e7f5b3c18a62", "The upstream has news of the account: restrictions, quality, templates.";
    OPERATOR_ASKED = "5e0c7b1d9a3f4c2886d4e1f70b2a9c54", "An operator asked for something that changes the cluster.";
    AUDITED = "9b3e6d1f4c7a4a52b8d0e6f2a1c3579e", "Somebody logged in, changed users, settings or certificates, or typed a verb; or was refused.";
    ACCOUNT_REFUSED = "3f5c1b9e7d2a4806b4e8c6a2d0f19b37", "The upstream refuses the account: messages are kept and wait.";
    ACCOUNT_TAKEN = "c81d5a3e9b7f4260a6c4e2f0d8b1937d", "The upstream takes messages of the account again.";
    DATABASE_LOST = "09f8e7d6c5b44a3b92c1d0e9f8a7b632", "The database does not answer.";
    DATABASE_BACK = "ad9c8b7a6f5e4d3c82b1a09f8e7d6c43", "The database answers again.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_and_no_two_are_alike() {
        let mut ids: Vec<_> = ALL.iter().map(|(_, id, _)| *id).collect();
        assert!(
            ids.iter()
                .all(|id| crate::sys::machine::id_of(id).is_some())
        );
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len());
    }

    /// Goal: `journalctl -x` knows every id, and no id that is gone. Method: the catalog as it is installed.
    #[test]
    fn the_catalog_has_every_id_and_no_other() {
        let catalog = include_str!("../../../units/catalog/wa-agent.catalog");
        let mut entries: Vec<(&str, &str)> = catalog
            .split("\n# ")
            .filter_map(|entry| {
                let (name, rest) = entry.split_once("\n-- ")?;
                let (id, text) = rest.split_once('\n')?;
                let parts = [
                    "Subject: ",
                    "What happened: ",
                    "What the agent did: ",
                    "What you should do: ",
                ];
                assert!(
                    parts.iter().all(|part| text.contains(part)),
                    "{name} lacks a part"
                );
                Some((name, id))
            })
            .collect();
        let mut ids: Vec<_> = ALL.iter().map(|(name, id, _)| (*name, *id)).collect();
        entries.sort_unstable();
        ids.sort_unstable();
        assert_eq!(entries, ids);
        assert_eq!(catalog.matches("\n-- ").count(), ids.len());
    }
}
