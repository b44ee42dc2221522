//! The options of `wa-agent dev`.
//! Does nothing: `mod.rs` carries them out.

use std::path::PathBuf;

/// A whole cluster on this machine.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Port of the first webapp; every other port follows from it by rule.
    #[arg(long, default_value_t = 9090, value_parser = clap::value_parser!(u16).range(9090..=60000))]
    pub port: u16,
    /// Database URL, for example mysql://root@127.0.0.1:3306/wa (several: with commas), or the word "mariadb" for a private
    /// server that is started and ended with the cluster, or "galera" for three of them; the embedded one when absent.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Forget everything that an earlier run left: the state directory with the embedded database or private server.
    #[arg(long)]
    pub reset: bool,
    /// Timers: fast, standard or compat.
    #[arg(long, default_value = "fast", value_parser = ["fast", "standard", "compat"])]
    pub profile: String,
    /// Where keys, configuration and the embedded database lie.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Run drills instead of waiting; without names, all of them.
    #[arg(long, value_name = "NAME", num_args = 0.., value_delimiter = ',')]
    pub drill: Option<Vec<String>>,
    /// Run each drill so many times.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Measure the intake with so many connections instead of waiting; see `cargo xtask bench intake`.
    #[arg(long)]
    pub bench_intake: bool,
    /// Measure the highest rate of messages that the whole cluster sustains, each with three statuses that the business is
    /// told: at --rate for --seconds, with one owner killed every --kill-every seconds. See `cargo xtask bench send`.
    #[arg(long)]
    pub bench_send: bool,
    /// Measure intake, claim and takeover on a store full of finished messages beside an empty one instead of waiting, on
    /// --database mariadb or embedded. See `cargo xtask bench rows`.
    #[arg(long)]
    pub bench_rows: bool,
    /// With --bench-rows: messages in the full store.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(200..=50_000_000))]
    pub rows: u64,
    /// With --bench-rows: how often it is measured, in turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// With --bench-send: search for the highest rate up to --rate in runs of a minute, then hold it for --seconds.
    #[arg(long, requires = "bench_send")]
    pub search: bool,
    /// With --bench-send: seconds between two owners that are killed; 0 kills none.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 60,
        overrides_with = "kill_every"
    )]
    pub kill_every: u64,
    /// With --bench-send: shards; one coreapp more than shards is started.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub shards: u16,
    /// Strike again and again under traffic, and watch every term and epoch in between; see `cargo xtask soak`.
    #[arg(long)]
    pub soak: bool,
    /// Strikes of a soak.
    #[arg(long, default_value_t = 20)]
    pub failovers: u32,
    /// What a soak does, in turn: kill, freeze, cable (its network goes), master.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "kill,freeze,master"
    )]
    pub strikes: Vec<String>,
    /// Processes that do nothing but compute, beside the cluster.
    #[arg(long, default_value_t = 0)]
    pub hogs: u16,
    /// Coreapps of the cluster.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=9))]
    pub coreapps: u16,
    /// Heartbeat threads stay at normal priority: shows what SCHED_FIFO is for.
    #[arg(long, hide = true)]
    pub plain_heartbeats: bool,
    /// Each master and coreapp in a network namespace of its own, named PREFIX-NAME and made before.
    #[arg(long, hide = true, value_name = "PREFIX")]
    pub lab: Option<String>,
    /// Measure the reply gap of heartbeat threads instead; see `cargo xtask bench detection`.
    #[arg(long, hide = true)]
    pub bench_gap: bool,
    /// The other end of that measurement.
    #[arg(long, hide = true)]
    pub gap_responder: bool,
    /// Connections of the benchmark.
    #[arg(long, default_value_t = 64)]
    pub connections: u32,
    /// Print one JSON object as the last line.
    #[arg(long)]
    pub json: bool,
    /// Messages a second while a drill runs.
    #[arg(long, default_value_t = 200, overrides_with = "rate")]
    pub rate: u32,
    /// Seconds of traffic before and after each fault.
    #[arg(long, default_value_t = 3, overrides_with = "seconds")]
    pub seconds: u64,
    /// Milliseconds that a message of unknown fate waits for its receipt before it is sent again.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 1000,
        overrides_with = "ambiguity_ms"
    )]
    pub ambiguity_ms: u64,
    /// The longest that it waits while receipts of other messages are late too.
    #[arg(long, value_name = "MS", default_value_t = 600_000)]
    pub ambiguity_max_ms: u64,
    /// Milliseconds between a send and its webhooks.
    #[arg(long, value_name = "MS", default_value_t = 20)]
    pub webhook_delay_ms: u64,
    /// Milliseconds that the simulated upstream takes for each send.
    #[arg(long, value_name = "MS", default_value_t = 2)]
    pub upstream_latency_ms: u64,
}
