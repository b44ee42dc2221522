//! Every diagnosis and every decision by its name, with the sentence that an operator reads. One table.
//! Decides nothing. `agent/core/REASONS.md` is generated from here.

/// Why something was decided, or was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    // Diagnoses of an owner
    DeadCoreapp,
    RestartedCoreapp,
    UnreachableCoreapp,
    GrayCoreapp,
    SilentOneObserver,
    LapsedAndSilent,
    LapsedByItself,
    DbStale,
    NeverTookOver,
    Released,
    NoOwnerYet,
    DatabaseLost,
    UpstreamLost,
    MediaStalled,
    Draining,
    OwnerStopping,
    OperatorAsked,
    OperatorForced,
    OperatorAdopted,
    ShardCountChanged,
    // Obstacles
    NoStandby,
    NoGatedStandby,
    AntiFlap,
    Paused,
    Safe,
    ObserverImpaired,
    ObserverBlind,
    NotConverged,
    QuiesceTimedOut,
    RefusedNotPrimary,
    RefusedUnknownShard,
    RefusedNotEligible,
    RefusedNothingWrong,
    RewoundRow,
    TableMadeAnew,
    ServerChanged,
    ServerKnown,
    RestoredDatabase,
    // What keeps a coreapp from taking a shard; beside Draining, GrayCoreapp, DeadCoreapp
    GateNotAttested,
    NodeSilent,
    NodeStopping,
    NodeBusy,
    NodeExcluded,
    NodeWithoutDatabase,
    NodeWithoutUpstream,
    NodeWithoutMedia,
    NodeDiskRefuses,
    StoreNewer,
    NumberImplausible,
    NodeTwice,
    OtherDisk,
    GivenBack,
    RowImplausible,
    // Lease of the master
    LeaseFree,
    LeaseLapsed,
    LeaseLost,
    LeaseExpired,
    SealedByGate,
    Stopping,
    // Settlements
    SettledByOwner,
    SettledByReceipt,
    ReceiptOfStranger,
    SettledByTime,
    AllSettled,
}

/// Name, sentence.
const TABLE: &[(Reason, &str, &str)] = &[
    (
        Reason::DeadCoreapp,
        "DeadCoreapp",
        "its host agent says that the process is gone",
    ),
    (
        Reason::RestartedCoreapp,
        "RestartedCoreapp",
        "a newer incarnation of it answers: the owner's process is gone",
    ),
    (
        Reason::UnreachableCoreapp,
        "UnreachableCoreapp",
        "primary and a secondary master have not heard it for unhealthy_interval",
    ),
    (
        Reason::GrayCoreapp,
        "GrayCoreapp",
        "its heartbeat thread answers but its main loop makes no progress",
    ),
    (
        Reason::SilentOneObserver,
        "SilentOneObserver",
        "silent towards this master only; a live secondary hears it, so nothing is done",
    ),
    (
        Reason::LapsedAndSilent,
        "LapsedAndSilent",
        "it does not answer and its tenure has run out unrenewed; no second opinion is needed",
    ),
    (
        Reason::LapsedByItself,
        "LapsedByItself",
        "it answers and does not hold this shard: its tenure ran out, was lost, or is for another shard",
    ),
    (
        Reason::DbStale,
        "DbStale",
        "its database beat is older than db_unhealthy_interval and no other master is live",
    ),
    (
        Reason::NeverTookOver,
        "NeverTookOver",
        "it was granted the shard and has not renewed once within the ttl",
    ),
    (
        Reason::Released,
        "Released",
        "the owner gave the shard back",
    ),
    (
        Reason::NoOwnerYet,
        "NoOwnerYet",
        "the shard never had an owner",
    ),
    (
        Reason::DatabaseLost,
        "DatabaseLost",
        "it says that it cannot reach the database; a standby can",
    ),
    (
        Reason::UpstreamLost,
        "UpstreamLost",
        "it says that it cannot reach the upstream; a standby can",
    ),
    (
        Reason::MediaStalled,
        "MediaStalled",
        "it says that its media directory does not work; a standby's does",
    ),
    (Reason::Draining, "Draining", "an operator drains the node"),
    (
        Reason::OwnerStopping,
        "OwnerStopping",
        "the owner is being stopped and asked for a handover",
    ),
    (
        Reason::OperatorAsked,
        "OperatorAsked",
        "an operator asked for a switchover",
    ),
    (
        Reason::OperatorForced,
        "OperatorForced",
        "an operator replaced the owner without evidence against it",
    ),
    (
        Reason::OperatorAdopted,
        "OperatorAdopted",
        "an operator adopted a restored database: every grant in it is settled, epochs go on above all that was obeyed",
    ),
    (
        Reason::ShardCountChanged,
        "ShardCountChanged",
        "the number of shards changes",
    ),
    (
        Reason::NoStandby,
        "NoStandby",
        "no other coreapp is eligible; start one: systemctl start wa-coreapp@2",
    ),
    (
        Reason::NoGatedStandby,
        "NoGatedStandby",
        "only the kernel gate is missing: every coreapp that could take over is without an attested one, and fence = \"required\"; type there: wa-agent gate status, then wa-agent doctor",
    ),
    (
        Reason::AntiFlap,
        "AntiFlap",
        "too many failovers of this kind in a short time; the block ends by itself, or by wa-agent ack",
    ),
    (
        Reason::Paused,
        "Paused",
        "an operator paused failover; it ends by itself, or by wa-agent resume",
    ),
    (
        Reason::Safe,
        "Safe",
        "the database connection is new: no promotion until the longest lease would have run out",
    ),
    (
        Reason::ObserverImpaired,
        "ObserverImpaired",
        "this master's own timers were late; its silence counts for nothing",
    ),
    (
        Reason::ObserverBlind,
        "ObserverBlind",
        "another master hears more nodes than this one, which gives the lease back",
    ),
    (
        Reason::NotConverged,
        "NotConverged",
        "the database did not confirm the last write; the row is read again before anything is decided",
    ),
    (
        Reason::QuiesceTimedOut,
        "QuiesceTimedOut",
        "the owner did not finish its requests in time; the handover goes on",
    ),
    (
        Reason::RefusedNotPrimary,
        "RefusedNotPrimary",
        "only the primary master can do this",
    ),
    (
        Reason::RefusedUnknownShard,
        "RefusedUnknownShard",
        "there is no such shard, or it has no active owner",
    ),
    (
        Reason::RefusedNotEligible,
        "RefusedNotEligible",
        "the node asked for cannot take the shard now",
    ),
    (
        Reason::RefusedNothingWrong,
        "RefusedNothingWrong",
        "there is nothing to adopt or to acknowledge",
    ),
    (
        Reason::RewoundRow,
        "RewoundRow",
        "the database shows an older state than before: it lost commits (failover or restore)",
    ),
    (
        Reason::TableMadeAnew,
        "TableMadeAnew",
        "the lease table was made anew, by a restored dump or an upgrade: no promotion until the longest lease would have run out; wa-agent status says whether there is something to adopt",
    ),
    (
        Reason::ServerChanged,
        "ServerChanged",
        "another database server took over and may lack commits: until every coreapp is accounted for, only a receipt or wa-agent ack --server is evidence",
    ),
    (
        Reason::ServerKnown,
        "ServerKnown",
        "the database is trusted again: everybody is accounted for, or an operator said so",
    ),
    (
        Reason::RestoredDatabase,
        "RestoredDatabase",
        "the database shows older epochs than it has shown before: a restored dump; nothing is promoted until wa-agent adopt",
    ),
    (
        Reason::GateNotAttested,
        "GateNotAttested",
        "its kernel gate is not attested, and fence = \"required\"; type there: wa-agent gate status, then wa-agent doctor",
    ),
    (
        Reason::NodeSilent,
        "NodeSilent",
        "it does not answer heartbeats; type there: systemctl status 'wa-*', then wa-agent doctor",
    ),
    (Reason::NodeStopping, "NodeStopping", "it is being stopped"),
    (
        Reason::NodeBusy,
        "NodeBusy",
        "it has another shard, or ends one just now",
    ),
    (
        Reason::NodeExcluded,
        "NodeExcluded",
        "it did not take over when it was asked lately; it may again half a minute later",
    ),
    (
        Reason::NodeWithoutDatabase,
        "NodeWithoutDatabase",
        "it says that it cannot reach the database; type there: wa-agent doctor",
    ),
    (
        Reason::NodeWithoutUpstream,
        "NodeWithoutUpstream",
        "it says that it cannot reach the upstream, so it is no better than the owner; type there: wa-agent doctor",
    ),
    (
        Reason::NodeWithoutMedia,
        "NodeWithoutMedia",
        "it says that its media directory does not work, so it is no better than the owner; type there: wa-agent doctor",
    ),
    (
        Reason::NodeDiskRefuses,
        "NodeDiskRefuses",
        "it cannot write the highest epoch that it obeys to its disk; it tries again every second; make room there (df -h /var/lib/wa-agent), then type: wa-agent doctor",
    ),
    (
        Reason::StoreNewer,
        "StoreNewer",
        "the store holds messages in a form that this node's release cannot read, so it gets no shard; install the release of the other nodes there, or wait until these messages are sent",
    ),
    (
        Reason::NumberImplausible,
        "NumberImplausible",
        "it names an epoch or a term that this cluster cannot have reached, so its numbers are ignored and it gets no shard; type here: wa-agent status, which says what to mend",
    ),
    (
        Reason::NodeTwice,
        "NodeTwice",
        "two machines or processes answer under its name, as a copy beside its original does; neither gets a shard until one is gone: stop the one that is too many (systemctl stop 'wa-*' there)",
    ),
    (
        Reason::OtherDisk,
        "OtherDisk",
        "it was started with a new disk, or with an older state of its disk; it counts like any start",
    ),
    (
        Reason::GivenBack,
        "GivenBack",
        "it was given the shard again and again and gave it back unused each time; it is tried again half a minute later; type there: wa-agent doctor, then journalctl -u 'wa-coreapp@*'",
    ),
    (
        Reason::RowImplausible,
        "RowImplausible",
        "the shard's row in the database holds an epoch that nobody can have given out; its owner cannot renew it and is replaced, which mends the row",
    ),
    (
        Reason::LeaseFree,
        "LeaseFree",
        "nobody holds the master lease",
    ),
    (
        Reason::LeaseLapsed,
        "LeaseLapsed",
        "the holder of the master lease has not renewed it for its ttl",
    ),
    (
        Reason::LeaseLost,
        "LeaseLost",
        "another master holds the lease now",
    ),
    (
        Reason::LeaseExpired,
        "LeaseExpired",
        "this master could not renew its lease in time",
    ),
    (
        Reason::SealedByGate,
        "SealedByGate",
        "the machine's gate has sealed the epoch, or a higher one: only a new grant helps",
    ),
    (Reason::Stopping, "Stopping", "this master is being stopped"),
    (
        Reason::SettledByOwner,
        "SettledByOwner",
        "the former owner said that it has ended",
    ),
    (
        Reason::SettledByReceipt,
        "SettledByReceipt",
        "the host agent sent a receipt for the former owner",
    ),
    (
        Reason::ReceiptOfStranger,
        "ReceiptOfStranger",
        "this host agent sent a receipt for a start that does not run on its machine, or not in this boot of it, as after a reboot or beside a copy of the machine; the receipt does not count, and the former owner's lease has to run out",
    ),
    (
        Reason::SettledByTime,
        "SettledByTime",
        "the former owner's last renewal has run out",
    ),
    (
        Reason::AllSettled,
        "AllSettled",
        "every earlier owner is over: the new one may act",
    ),
];

impl Reason {
    /// All reasons in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(reason, _, _)| *reason)
    }

    /// The name, as logs, metrics and `explain` use it.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What it means, as a half sentence.
    pub fn sentence(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        TABLE
            .iter()
            .find(|(reason, _, _)| *reason == self)
            .expect("a test holds every reason against the table")
    }
}

/// The table as a Markdown document.
pub fn document() -> String {
    let mut out = String::from(
        "# Reasons\n\nEvery diagnosis and decision of the core. Generated from `agent/core/src/reason.rs`; \
         rewrite with `UPDATE_SCENARIOS=1 cargo test -p wa-core`.\n\n| name | meaning |\n|---|---|\n",
    );
    for (_, name, sentence) in TABLE {
        out.push_str(&format!("| `{name}` | {sentence} |\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the document that operators read is the table. Method: compare, rewrite on demand.
    #[test]
    fn document_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/REASONS.md");
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(path, document()).expect("REASONS.md is writable");
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            document(),
            "run with UPDATE_SCENARIOS=1"
        );
    }

    #[test]
    fn table_has_each_reason_once_under_its_own_name() {
        for (index, (reason, name, _)) in TABLE.iter().enumerate() {
            assert_eq!(format!("{reason:?}"), *name);
            assert_eq!(
                *reason as usize, index,
                "the table is in the order of the enum, so none is missing"
            );
        }
    }
}
