//! How the simulator misbehaves: from the start by options, later by `POST /admin/knobs`.
//! What single recipients do stands in `script.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How the simulator misbehaves from the start; `POST /admin/knobs` changes it while it runs.
#[derive(Debug, Clone, clap::Args)]
pub struct KnobArgs {
    /// Milliseconds that every send takes.
    #[arg(long, default_value_t = 2)]
    pub latency_ms: u64,
    /// Of 1,000 sends, how many fail with 131000.
    #[arg(long, default_value_t = 0)]
    pub errors_per_mille: u64,
    /// Milliseconds between a send and its webhooks.
    #[arg(long, default_value_t = 20)]
    pub webhook_delay_ms: u64,
    /// Every webhook is sent twice.
    #[arg(long)]
    pub duplicate_webhooks: bool,
    /// Messages a second for the number, in and out together; above it 130429. The vendor's limit is 80. 0: no limit.
    #[arg(long, default_value_t = 0)]
    pub rate_per_second: u64,
    /// The number is told to be upgraded: throughput HIGH. What is refused, --rate-per-second says.
    #[arg(long)]
    pub throughput_high: bool,
    /// The limit for one recipient: one message in 6 seconds, or up to 45 at once and then silence; above it 131056.
    #[arg(long)]
    pub pair_limit: bool,
}

/// Who says that a file is not there: see [`Knobs::media_refusal`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaRefusal {
    /// The answer to the send.
    #[default]
    Answer,
    /// A webhook, after the send was accepted.
    Webhook,
}

/// The knobs as they stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    pub latency_ms: u64,
    pub errors_per_mille: u64,
    pub webhook_delay_ms: u64,
    pub duplicate_webhooks: bool,
    pub rate_per_second: u64,
    /// See [`KnobArgs::throughput_high`].
    pub throughput_high: bool,
    /// See [`KnobArgs::pair_limit`].
    pub pair_limit: bool,
    /// Calls of management (templates) an hour; above it 80007. 0: no limit.
    pub management_per_hour: u64,
    /// All sends are refused with 131057: the number is being upgraded.
    pub maintenance: bool,
    /// Sends are taken in and never answered.
    pub stall: bool,
    /// Milliseconds that must lie between two messages to one recipient; below it 131056. 0: no limit.
    pub pair_gap_ms: u64,
    /// The only token that is taken; empty: that of the start.
    pub token: String,
    /// The secret that signs webhooks; empty: that of the start.
    pub app_secret: String,
    /// Of 1,000 webhook events, how many are late, and by how many milliseconds.
    pub late_per_mille: u64,
    pub late_ms: u64,
    /// Of 1,000 webhook events, how many never come.
    pub lost_per_mille: u64,
    /// Of 1,000 webhook events, how many come twice.
    pub doubled_per_mille: u64,
    /// Of 1,000 messages, how many have their statuses told in the wrong order.
    pub reordered_per_mille: u64,
    /// Each webhook call has one event; otherwise up to 100.
    pub single_webhooks: bool,
    /// Webhook calls with statuses have `contacts`, too.
    pub status_contacts: bool,
    /// Where a file that is not there, or does not fit, is refused with 131053.
    pub media_refusal: MediaRefusal,
    /// `message_status` of template sends; empty: `accepted`.
    pub message_status: String,
    /// Seconds by which the simulator's clock is ahead: files, addresses and message ids grow old at once.
    pub clock_ahead_s: u64,
    /// Calls about the business that are refused, each with this code: `profile`, `compliance`, `uploads` (its beginning),
    /// `upload` (its bytes), `photo` (its being shown), `block`.
    pub calls_refused: BTreeMap<String, u32>,
    /// Calls about the business that are taken in and never answered.
    pub calls_hang: BTreeSet<String>,
    /// The profile is answered one level deeper, as some documents have it.
    pub profile_deeper: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            latency_ms: 2,
            errors_per_mille: 0,
            webhook_delay_ms: 20,
            duplicate_webhooks: false,
            rate_per_second: 0,
            throughput_high: false,
            pair_limit: false,
            management_per_hour: 0,
            maintenance: false,
            stall: false,
            pair_gap_ms: 0,
            token: String::new(),
            app_secret: String::new(),
            late_per_mille: 0,
            late_ms: 0,
            lost_per_mille: 0,
            doubled_per_mille: 0,
            reordered_per_mille: 0,
            single_webhooks: false,
            status_contacts: false,
            media_refusal: MediaRefusal::Answer,
            message_status: String::new(),
            clock_ahead_s: 0,
            calls_refused: BTreeMap::new(),
            calls_hang: BTreeSet::new(),
            profile_deeper: false,
        }
    }
}

impl From<&KnobArgs> for Knobs {
    fn from(args: &KnobArgs) -> Self {
        Self {
            latency_ms: args.latency_ms,
            errors_per_mille: args.errors_per_mille,
            webhook_delay_ms: args.webhook_delay_ms,
            duplicate_webhooks: args.duplicate_webhooks,
            rate_per_second: args.rate_per_second,
            throughput_high: args.throughput_high,
            pair_limit: args.pair_limit,
            ..Self::default()
        }
    }
}
