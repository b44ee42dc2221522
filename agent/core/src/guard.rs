//! Every guard of the protocol by name: one condition each, without which some promise of the design no longer holds.
//! Switches nothing: without the feature `mutants` (which no shipped build has) [`on`] is the constant `true`.
//!
//! `cargo xtask mutants` takes out one after the other and demands that a scenario, a seeded cluster or the model turns
//! red; the table in `GUARDS.md` says which. A new condition that carries weight gets a line here first.

/// Where the condition stands in what is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this crate.
    Core,
    /// In the statements of `agent/src/db`; the test cluster's database has the same conditions, and it is those that
    /// are taken out.
    Sql,
    /// In the host agent or the gate; the test cluster plays both.
    Host,
    /// In the roles that carry messages (`agent/src/{coreapp,webapp}`); the simulator plays them.
    Path,
}

/// What is known of a guard.
#[derive(Debug, Clone, Copy)]
pub struct About {
    pub guard: Guard,
    pub name: &'static str,
    /// Number in the list of attacks, or the rule of the design.
    pub source: &'static str,
    pub place: Place,
    /// What holds while it stands.
    pub what: &'static str,
}

macro_rules! guards {
    ($($name:ident $place:ident $source:literal $what:literal;)+) => {
        /// A condition that can be taken out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Guard { $(#[doc = $what] $name),+ }

        /// All of them, in the order of the table.
        pub const ALL: &[About] = &[$(About {
            guard: Guard::$name,
            name: stringify!($name),
            source: $source,
            place: Place::$place,
            what: $what,
        }),+];
    };
}

guards! {
    // Time.
    TtlFromSend Core "attack 11" "a tenure counts from before its renewal was sent";
    MasterTtlFromSend Core "attack 11" "a master's lease counts from before its renewal was sent";
    AnswerArrivalStamp Core "attack 11" "a challenger counts from when the answer arrived, not from when it asked";
    HolderDrift Core "attack 9" "a holder lives by ttl·(1−ρ)";
    ChallengerDrift Core "attack 9" "a challenger waits ttl·(1+ρ)";
    WaitMargin Core "rule 5.3" "a challenger waits ε longer";
    EvidenceMargin Core "attack 2" "ε passes after a settlement: device queues";
    PreviousKeepsTtl Core "attack 11" "an entry of `previous` keeps its own ttl";
    NonceCounts Core "rule 5.4" "a new nonce restarts the challenger's wait";
    // SAFE.
    SafeOnNewConnection Core "attack 4" "a new connection or server means SAFE for a master";
    SafeOnRewind Core "rule 5.5" "a value lower than one seen before means SAFE for a master";
    SafeOnNewTable Core "attack 40" "a lease table that was made anew means SAFE for a master";
    SafeRestartsClocks Core "attack 4" "SAFE restarts every clock of rule 5.3";
    SafeHoldsStep2 Core "attack 4" "nobody is named during SAFE";
    SafeHoldsStep4 Core "attack 4" "nobody is activated during SAFE";
    TenureSafeOnNewServer Core "rule 5.5" "no tenure begins on another server before SAFE is over";
    TenureSafeOnRewind Core "rule 5.5" "no tenure begins on rewound rows before SAFE is over";
    OldGrantReadAgain Core "rule 5.5" "the first renewal of a grant that may have been replaced opens nothing before the rows were read once more";
    TenureSafeAfterGap Core "rule 5.5" "a grant that is read after a ttl without any reading begins no tenure before SAFE is over";
    // The server.
    ServerChangeHolds Core "rule 5.9" "after a change of server that may have lost commits nobody is named or activated before every coreapp is accounted for";
    RestoreHolds Core "attack 6" "on a restored dump nobody is named or activated before an operator adopts it";
    // A tenure ends once.
    ExpiredNeverLives Core "attack 5" "a tenure whose deadline has passed is closed before anything else is looked at";
    SealedNeverObeyed Core "attack 5" "an epoch that ended here, or lower than one obeyed, is never obeyed again";
    MemoryFirst Core "attack 39" "a start takes the highest epoch of the rows and of the masters for its own before it says how far it has come";
    StoredBeforeObeyed Core "rule 5.6" "the epoch is on disk before it is renewed";
    OwnStartOnly Core "attack 10" "a grant to an earlier start of the node is not one's own";
    ActivePhaseOnly Core "promotion 4" "a tenure begins only in phase active";
    DiskTriedAgain Core "rule 5.6" "a disk that refused an epoch is tried again until it takes one";
    RenewalHeldOnly Core "rule 5.4" "an unknown outcome is not a renewal";
    RenewalNonceMatches Core "rule 5.4" "an answer counts only for the renewal that it answers";
    ReplacedCloses Core "promotion 3" "an owner that reads its replacement shuts its gate at once";
    EndedAfterWorkStopped Core "attack 2" "an owner says `ended` only after its senders are joined";
    ReleasedAfterShut Core "attack 24" "an owner gives its row back only after its gate is shut";
    HoldEndsByItself Core "attack 23" "a held intake goes on by itself";
    // Evidence.
    SealBeforeEvidence Core "attack 2" "with a gate demanded, an unsealed death settles nothing";
    ReceiptNamesGrant Core "attack 10" "a sealed receipt of a living process settles only the grant that it names";
    ReceiptNamesStart Core "attack 10" "a receipt settles only grants of the start that it names";
    ReceiptFromItsMachine Core "attack 42" "a receipt counts only from the host agent of the machine and boot in which the named start runs";
    ReceiptJudgedAgain Core "attack 42" "a receipt whose sender no row or heartbeat names yet is judged again when newer ones come";
    EndedOnlyByOwner Core "attack 10" "only the owner's own start may say that a grant has ended";
    SealInKernel Host "attack 2" "the host agent seals and empties the gate before it signs";
    SignsForItsMachine Host "attack 39" "the host agent signs only for starts that it has seen on this very machine";
    FenceSparesNewer Host "attack 10" "the host agent never kills a process that obeys a newer epoch";
    GateDeadline Host "promise S1" "the gate shuts at the deadline whatever the process does";
    GateDefaultClosed Host "attack 2" "without an entry nothing passes: what a dead start queued stays";
    GateSeal Host "attack 2" "a sealed epoch passes nothing, whatever its deadline";
    GateSocketStamp Host "attack 1" "a socket passes only under the epoch that was live when it was connected";
    GateCeiling Host "attack 14" "a deadline further away than any lease is no tenure";
    GateReadsTwice Host "attack 14" "an epoch and a deadline that do not belong together pass nothing";
    GateEntryPerStart Host "attack 14" "every start has an entry of its own, without a deadline";
    GatePassesReset Host "attack 36" "the end of a connection passes, so that the peer learns of it";
    // Promotion.
    PreviousIsAppended Core "attack 3" "the replaced owner is appended to `previous`";
    PreviousAllSettled Core "attack 3" "every entry of `previous` is settled before step 4";
    EpochAboveAll Core "attack 6" "a new epoch is above every one heard of, not only above the row";
    HeardIsPlausible Core "rule 5.6" "a number that a node or a file says counts only if legal steps from the rows can lead there";
    RowIsPlausible Core "rule 5.6" "a number in a row counts only if legal steps from the other rows can lead there";
    AgreedIsBelieved Core "rule 5.6" "a number that two places agree on counts, also where the rows have lost it";
    GrantIsRandom Core "attack 6" "a grant is a fresh random number";
    TermAboveAll Core "attack 6" "a new term is above every one heard of, not only above the row";
    ReshardListsAll Core "attack 26" "a change of the shard count lists every old grant in every row";
    ReshardNamesSeen Sql "attack 26" "a change of the shard count needs the generation and the counter that the master saw";
    ReshardFreshNonce Core "attack 26" "a change of the shard count restarts every clock of rule 5.3";
    OneShardEach Core "attack 1" "a coreapp holds at most one shard";
    DeadStartNotChosen Core "promotion 1" "a start known to be dead is not chosen";
    GateToPromote Core "promotion 1" "without an attested gate nobody is promoted";
    FailedSuccessorReplaced Core "attack 3" "a successor that dies before step 4 is replaced";
    TimeToEnd Core "promotion 3" "an owner that answers may end by itself before it is fenced";
    // The rows.
    CasRow Sql "attack 6" "step 2 needs the epoch, grant, nonce and phase that the master saw";
    CasNonce Sql "attack 4" "step 2 needs at least the nonce that the master saw";
    CasGeneration Sql "attack 26" "step 2 needs the generation of the map that the master saw";
    CasTerm Sql "attack 8" "a master's transaction needs its own term and grant in the row";
    TakeNamesNonce Sql "rule 5.3" "taking the lease needs the nonce that was seen unchanged";
    ActivateNamesGrant Sql "promotion 4" "step 4 needs the handover that the master saw";
    RenewNamesOwner Sql "attack 6" "a renewal needs its own epoch, grant, node and start";
    RenewOnlyActive Sql "attack 3" "a renewal needs phase active";
    OneWriter Sql "attack 7" "only the one server that takes writes is used";
    OwnerWriteNamesGrant Sql "promise S5" "every write of an owner's work names its epoch and grant";
    IdStoredOnce Sql "promise S4" "an id is stored once";
    ToldInTheSameCommit Sql "promise S3" "a message fails in the commit that stores the webhook which tells of it";
    // The message path.
    AnsweredAfterCommit Path "promise S3" "2xx is answered only after the commit";
    ClaimedBeforeSent Path "attack 31" "a message is claimed in the store before its first byte leaves";
    MarkedAtStart Path "attack 31" "what an earlier owner was sending is ambiguous from the start of a tenure";
    OrphansAmbiguous Path "attack 30" "what a row says is being sent, and its owner does not have in hand, is ambiguous";
    LateIsNotAbsent Path "attack 31" "no message of unknown fate is settled while its neighbours wait for their receipts too";
    MayHaveGoneOut Path "attack 31" "an error after which a message may have gone out makes it one of unknown fate";
    UnknownHasAnEnd Path "fault F07" "a message is sent with unknown outcome only so often";
    RefusedAccountHolds Path "fault F05" "while the account is refused no message is sent but one at a time, after the upstream was asked";
    NamedGoesFirst Path "attack 41" "a message that names one of ours waits while that may still get an id";
    // Masters.
    MasterLeaseEnds Core "rule 5.2" "a master whose lease has run out decides nothing";
    MasterLapseFirst Core "rule 5.3" "the lease is taken from another only after it was seen unchanged";
    TakeHeldOnly Core "rule 5.4" "an unknown outcome is not the lease";
    FreshMapOnly Core "promotion 2" "a new primary decides on a map that was asked for after it became primary";
    ImpairedGivesBack Core "attack 18" "a primary that abstains gives the lease back";
    BlindGivesBack Core "attack 18" "a primary that hears fewer nodes than a secondary gives the lease back";
    DoubterStaysOut Core "attack 18" "who doubted itself does not compete for 2·ttl";
    // Failure detection.
    LateRoundSkipped Core "attack 18" "a late round of heartbeats counts for nothing";
    OldStartIsNoSign Core "attack 10" "an answer of an older start is no sign of life";
    BothAreAsked Core "attack 39" "an owner counts as restarted only once it left a ping unanswered that the other start could answer";
    TwiceNotChosen Core "attack 39" "nobody is chosen whose name two living starts use";
    IntervalsRestartCounts Core "attack 28" "a change of intervals restarts every silence count";
    SecondOpinion Core "attack 17" "silence alone is not enough while another master lives";
    OpinionIsFresh Core "attack 17" "only a fresh opinion counts";
    LapsedNeedsFirstRenewal Core "attack 19" "an owner that has not renewed yet has nothing that could lapse";
    NeverTookOver Core "attack 19" "an owner that never renews is replaced";
    ExcludedForAWhile Core "attack 19" "an owner that never took over is passed over for a while";
    GivenBackPassedOver Core "attack 19" "who gives a shard back unused, again and again, is passed over for a while";
    ExclusionEnds Core "attack 19" "an exclusion that has ended stays ended: no later start is passed over for it";
    AntiFlap Core "attack 20" "failovers on an owner's word or with running renewals are limited";
    DeathIsNotLimited Core "attack 20" "a lapsed or dead owner is never held back by the limit";
    OwnWordWhenLive Core "promotion 5" "health bits count only once the grant is live";
}

/// True while the guard stands, which is always without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_: Guard) -> bool {
    true
}

#[cfg(feature = "mutants")]
static OUT: core::sync::atomic::AtomicU16 = core::sync::atomic::AtomicU16::new(u16::MAX);

/// True while the guard stands.
#[cfg(feature = "mutants")]
pub fn on(guard: Guard) -> bool {
    OUT.load(core::sync::atomic::Ordering::Relaxed) != guard as u16
}

/// Takes one guard out in the whole process, or puts all back.
#[cfg(feature = "mutants")]
pub fn take_out(guard: Option<Guard>) {
    let number = guard.map_or(u16::MAX, |guard| guard as u16);
    OUT.store(number, core::sync::atomic::Ordering::Relaxed);
}
