//! The options of `wa-agent simulator`.
//! Options that misbehave stand in `knobs.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::knobs::KnobArgs;
use super::script;

/// Run the simulated Cloud API alone. It takes every call that wa-agent makes, as strictly as the vendor, and delivers nothing.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = script::help())]
pub struct SimulatorArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9280")]
    pub listen: SocketAddr,
    /// Id of the business's number, as calls name it.
    #[arg(long, default_value = "100200300")]
    pub phone_number_id: String,
    /// The business's number itself, as webhooks name it.
    #[arg(long, default_value = "447700900999")]
    pub display_phone_number: String,
    /// Id of the business account: templates are listed below it.
    #[arg(long, default_value = "100200400")]
    pub waba_id: String,
    /// Id of the app that the token belongs to: files are uploaded below it.
    #[arg(long, default_value = "100200500")]
    pub app_id: String,
    /// Bearer token that senders must show.
    #[arg(long, default_value = "simulator-token")]
    pub token: String,
    /// Key of the webhook signature.
    #[arg(long, default_value = "simulator-app-secret")]
    pub app_secret: String,
    /// Word of the hub.challenge verification.
    #[arg(long, default_value = "simulator-verify")]
    pub verify_token: String,
    /// Where webhooks go; tried in order. May be given several times.
    #[arg(long = "webhook", value_name = "URL")]
    pub webhooks: Vec<String>,
    /// One JSON line for every send: when, shard, epoch, peer, our message id, status. Never a body.
    #[arg(long, value_name = "FILE")]
    pub request_log: Option<PathBuf>,
    #[command(flatten)]
    pub knobs: KnobArgs,
}

impl Default for SimulatorArgs {
    /// As when nothing is typed.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: SimulatorArgs,
        }
        <Line as clap::Parser>::parse_from(["simulator"]).args
    }
}
