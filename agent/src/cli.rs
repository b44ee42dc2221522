//! The command line: what can be typed, and which room of the house answers.
//! Does nothing itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::log::Format;

/// High-availability agent for WhatsApp messaging on your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "wa-agent",
    version,
    after_help = crate::exit::HELP,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub log_format: Format,
}

/// Which instance, configured where.
#[derive(Debug, Clone, Args)]
pub struct Instance {
    /// Number of this instance on its machine; ports follow from it by rule.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub instance: u16,
    /// Configuration file instead of /etc/wa-agent/wa-agent.toml.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
}

/// How to find the cluster.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// Configuration file; without it /etc/wa-agent/wa-agent.toml, and where that is missing, the cluster of `wa-agent dev`.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What every verb has that changes something. Exit codes: 0 done, 1 refused, 69 when no primary master answers.
#[derive(Debug, Args)]
pub struct Wish {
    #[command(flatten)]
    pub reach: Reach,
    /// Say what would happen, do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Written to the record and the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// A coreapp of this machine.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Local {
    /// Number of the instance on this machine.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100), required_unless_present = "node", conflicts_with = "node")]
    pub instance: Option<u16>,
    /// Its name, as wa-agent status shows it.
    #[arg(long)]
    pub node: Option<String>,
    /// Configuration file instead of /etc/wa-agent/wa-agent.toml.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print one JSON document instead of a sentence.
    #[arg(long)]
    pub json: bool,
}

/// What can be asked of the kernel gate.
#[derive(Debug, Subcommand)]
pub enum GateCommand {
    /// Programs, exempt networks, units with their deadlines, and what was dropped. Exit code 1 when it does not stand.
    Status {
        #[arg(long)]
        json: bool,
    },
    /// Before the start of a coreapp, within its unit: read the gate back from the kernel and make the unit's entry.
    /// Exit code 1, and one sentence, when there is none and fence = "required".
    Attest(Instance),
    /// Take the gate away: programs, links, maps. What the removal of the package does; refused while a coreapp runs.
    Remove,
}

/// What can be done with the cluster key.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Replace the cluster key without an interruption: every node accepts both, then signs with the new one, then forgets the old.
    Rotate(RotateArgs),
    /// What systemctl reload does first in each unit, as root: hand the secrets to the running role as they are now.
    Lay {
        /// The role of the unit.
        #[arg(long, value_parser = ["master", "coreapp", "webapp", "host"])]
        role: String,
        /// Number of the instance on this machine.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
        instance: u16,
    },
}

/// What can be done with events that are kept.
#[derive(Debug, Subcommand)]
pub enum EventsVerb {
    /// Show them, newest first: when, which, why; no texts. Reads the database: works with no master up.
    List {
        #[command(flatten)]
        reach: Reach,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Let the owners of the shards read events once more: after an upgrade that understands them, for example.
    Retry {
        #[command(flatten)]
        wish: Wish,
        /// The key of one event, as wa-agent events list shows it. Without it: all that nobody could read.
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
}

/// Which lines of the audit.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    pub reach: Reach,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Only what this user of the API did, or this operator (user@machine).
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
}

/// What can be done with users of the API and their tokens.
#[derive(Debug, Subcommand)]
pub enum UsersVerb {
    /// Show who may log in, and how many tokens each has. Reads the database: works with no master up.
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show tokens that are good, by fingerprint: of whom, when made, until when, when used last (to the minute). Works with no
    /// master up.
    Tokens {
        #[command(flatten)]
        reach: Reach,
        /// Only those of this user.
        user: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// End the tokens of a user within a second, on all webapps. The user can log in again: change the password first, or delete
    /// the user, where somebody else may know it.
    Revoke {
        #[command(flatten)]
        wish: Wish,
        user: String,
        /// Only the one with this fingerprint, as wa-agent users tokens shows it.
        #[arg(long, value_name = "FINGERPRINT")]
        token: Option<String>,
    },
}

/// What can be done with webhooks that are parked.
#[derive(Debug, Subcommand)]
pub enum WebhooksVerb {
    /// Show those that are parked: the business refused them for longer than [webhooks] park_after. Works with no master up.
    List {
        #[command(flatten)]
        reach: Reach,
        /// At most this many, the oldest first.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Deliver parked webhooks again, as if they were new: when the business's receiver is mended.
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Delete parked webhooks for good. The business is never told of them; asks before.
    Purge {
        #[command(flatten)]
        which: Which,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which of the parked webhooks.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("of").required(true))]
pub struct Which {
    #[command(flatten)]
    pub wish: Wish,
    /// Their numbers, as wa-agent webhooks list shows them.
    #[arg(value_name = "ID", group = "of", value_parser = clap::value_parser!(i64).range(1..))]
    pub ids: Vec<i64>,
    /// All that are parked.
    #[arg(long, group = "of")]
    pub all: bool,
}

/// How a rotation goes.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    pub wish: Wish,
    /// Show which keys each node signs with and accepts, and what a rotation waits for. Changes nothing.
    #[arg(long)]
    pub status: bool,
    /// The cluster key of this machine; default: where the configuration finds it.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Run by sh after each new file, to copy it ($WA_KEY_FILE) to every machine and to reload there: systemctl reload 'wa-*@*' 'wa-host*'.
    /// Without it you are told each time, and do it while this command waits.
    #[arg(long, value_name = "COMMAND")]
    pub distribute: Option<String>,
    /// How long each phase may take until all live nodes report. Then the exit code is 75, and the same command goes on.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub wait: std::time::Duration,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a master: watches coreapps, decides failover.
    Master(Instance),
    /// Run a coreapp: holds one shard's upstream connection, accepts messages, delivers webhooks.
    Coreapp(Instance),
    /// Run a webapp: the public /v1 API.
    Webapp(Instance),
    /// Run the host agent: follows the units of this machine, fences on request. Needs root.
    Host(Instance),
    /// Run a whole cluster on this machine, with a simulated upstream. Add --drill to break it on purpose.
    Dev(crate::dev::DevArgs),
    /// Run the simulated Cloud API alone.
    Simulator(crate::dev::simulator::SimulatorArgs),
    /// Show nodes, shards, leases, and what is wrong. Exit code 3 when something is, 69 when no master answers.
    Status {
        #[command(flatten)]
        reach: Reach,
        /// Stay, and show how things stand each second. On a terminal this is a live page with curves and with what would
        /// happen if a node died now: ? shows its keys, q ends it. With --json, or where the output is no terminal: plain lines
        /// until Ctrl-C. The exit code is that of the last answer.
        #[arg(long)]
        watch: bool,
    },
    /// Move a shard to another coreapp, without losing a request.
    Switchover {
        #[command(flatten)]
        reach: Reach,
        #[arg(long)]
        shard: u16,
        /// Node to move to, for example core2.example:coreapp-1; the primary master chooses when absent.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Not now: in a while (+30m), or at a time (2026-12-01T03:00:00Z), at most a week ahead. Whoever is primary master
        /// then moves it, by that machine's wall clock; without one for ten minutes it is dropped.
        #[arg(long, value_name = "TIME", value_parser = crate::ctl::switchover::parse_at)]
        at: Option<(Option<u64>, Option<u64>)>,
        /// Forget the switchover of this shard that waits for its time.
        #[arg(long, conflicts_with_all = ["at", "to"])]
        cancel: bool,
        /// Say what would happen, do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Written to the record and the journal.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Why each shard is where it is: evidence, rule, outcome, obstacles, worst cases.
    Explain {
        #[command(flatten)]
        reach: Reach,
        /// Only this shard.
        #[arg(long, conflicts_with = "decision")]
        shard: Option<u16>,
        /// A past decision, by its number in wa-agent history: what was known then. Reads the database: works with no master up.
        #[arg(long, value_name = "ID")]
        decision: Option<i64>,
    },
    /// What would happen if a node died now.
    Plan {
        #[command(flatten)]
        reach: Reach,
        /// For example core1.example:coreapp-1, as wa-agent status shows it.
        node: String,
    },
    /// Past decisions and operators' verbs, newest last. Reads the database: works with no master up.
    History {
        #[command(flatten)]
        reach: Reach,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Only this shard.
        #[arg(long)]
        shard: Option<u16>,
    },
    /// Who logged in, changed users, settings or certificates, or typed a verb: from where, and what came of it. Newest last. Reads
    /// the database: works with no master up.
    Audit(AuditArgs),
    /// Users of the API and their tokens: list them, end tokens. The API makes, changes and deletes users.
    Users {
        #[command(subcommand)]
        verb: UsersVerb,
    },
    /// Events of the upstream that nobody could read, or that are about messages which are not ours.
    Events {
        #[command(subcommand)]
        verb: EventsVerb,
    },
    /// The application settings as they are stored; the API changes them. Reads the database: works with no master up.
    Settings {
        #[command(flatten)]
        reach: Reach,
    },
    /// Webhooks that the business refused for too long: list them, deliver them again, delete them.
    Webhooks {
        #[command(subcommand)]
        verb: WebhooksVerb,
    },
    /// The verbs that change something through the primary master.
    #[command(flatten)]
    Steer(Steer),
    /// Shut a coreapp of this machine off from the upstream, now and for every later start, until unfence. Needs root.
    Fence {
        #[command(flatten)]
        which: Local,
        /// Written to the journal, and shown wherever the node is missed.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Lift a fence: new epochs may begin again. Needs root.
    Unfence {
        #[command(flatten)]
        which: Local,
        /// Written to the journal.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// The kernel gate of this machine. Needs root.
    Gate {
        #[command(subcommand)]
        what: GateCommand,
    },
    /// Look at the media directory and say what was found: the roles start this, with a deadline.
    #[command(hide = true)]
    ProbeMount(crate::sys::probe::ProbeArgs),
    /// Send one datagram to a loopback address from within a control group: the host agent finds out by it what nftables can.
    #[command(hide = true)]
    SendFromGroup { group: PathBuf },
    /// The verbs for one installation.
    #[command(flatten)]
    Install(Install),
}

/// The verbs that change something through the primary master.
#[derive(Debug, Subcommand)]
pub enum Steer {
    /// Make a coreapp ineligible and move its shard off, for maintenance.
    Drain {
        #[command(flatten)]
        wish: Wish,
        node: String,
    },
    /// Make a drained coreapp eligible again.
    Undrain {
        #[command(flatten)]
        wish: Wish,
        node: String,
    },
    /// Replace no owner on evidence for a while. Ends by itself; status shows it meanwhile.
    Pause {
        #[command(flatten)]
        wish: Wish,
        /// For how long, for example 30m; at most a day.
        #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
        span: std::time::Duration,
        /// Only this shard.
        #[arg(long)]
        shard: Option<u16>,
    },
    /// End a pause before its time.
    Resume {
        #[command(flatten)]
        wish: Wish,
        /// Only the pause of this shard.
        #[arg(long)]
        shard: Option<u16>,
    },
    /// Acknowledge a problem: unblock a shard that failed over too often, or trust a database server that took over.
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Ack {
        #[command(flatten)]
        wish: Wish,
        /// Lift the anti-flap block of this shard.
        #[arg(long, group = "what")]
        shard: Option<u16>,
        /// Say that nobody acts by what the former database server granted: failover goes on as usual.
        #[arg(long, group = "what")]
        server: bool,
        /// Do not ask (with --server).
        #[arg(long)]
        yes: bool,
    },
    /// Go on with a database that was restored from an older state. Until then nothing is promoted: status says so.
    Adopt {
        #[command(flatten)]
        wish: Wish,
    },
    /// Replace an owner that no evidence speaks against. For planned moves use switchover, which loses no time.
    Failover {
        #[command(flatten)]
        wish: Wish,
        #[arg(long)]
        shard: u16,
        /// Node to move to; the primary master chooses when absent.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Says that you mean it.
        #[arg(long, required_unless_present = "dry_run")]
        force: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Forget a node that is gone for good: a machine that was removed or renamed. Refused while it beats or owns a shard.
    Forget {
        #[command(flatten)]
        wish: Wish,
        /// Its name, as wa-agent status shows it.
        node: String,
    },
}

/// The verbs for one installation: they make it, look at it, and clear it away.
#[derive(Debug, Subcommand)]
pub enum Install {
    /// Put the threads of the host agent under realtime scheduling: its unit calls this.
    #[command(hide = true)]
    Raise { pid: i32 },
    /// Set this machine up: configuration, key, database, and the line that starts it. Asks, or takes flags.
    Setup(Box<crate::ctl::setup::SetupArgs>),
    /// Examine this installation: one line each, with what to do. Exit code 3 when something is bad.
    Doctor(crate::ctl::doctor::DoctorArgs),
    /// Collect journal, status, configuration and more into one file for whoever helps; secrets are masked.
    Debug(crate::ctl::debug::DebugArgs),
    /// Carry the old client's environment and compose files over; lists what has no counterpart.
    Import(crate::ctl::import::ImportArgs),
    /// Remove what the roles keep: state, database or media. Asks for the cluster's name.
    Reset(crate::ctl::reset::ResetArgs),
    /// Print every effective value with its origin, and the worst-case takeover times. Exit code 78 when a rule is broken.
    CheckConfig {
        #[command(flatten)]
        instance: Instance,
        /// For which role.
        #[arg(long, default_value = "coreapp", value_parser = ["master", "coreapp", "webapp", "host"])]
        role: String,
        #[arg(long, conflicts_with = "open_files")]
        json: bool,
        /// Say only which files with secrets other users can read. Exit code 78 when the start would refuse one. The packages ask
        /// this before they restart an instance.
        #[arg(long)]
        open_files: bool,
    },
    /// Write man pages and shell completions, as the packages install them.
    #[command(hide = true)]
    Generate {
        /// Folder to write into.
        #[arg(long, value_name = "DIRECTORY")]
        out: PathBuf,
    },
    /// Look after the cluster key while the cluster runs.
    Keys {
        #[command(subcommand)]
        verb: KeysVerb,
    },
    /// Make a cluster key: one for the whole cluster, copied to every machine.
    Keygen {
        /// File to write (mode 0600, never overwritten); standard output when absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write the part of this cluster key that machines with webapps only need: it can sign nothing that decides.
        #[arg(long, value_name = "FILE")]
        webapp_of: Option<PathBuf>,
    },
}
