//! Log set-up: the journal under systemd, readable lines on a terminal, JSON on request.
//! Logs no secret and no message body: callers pass ids.

mod journal;
pub mod message_id;
pub mod seldom;

use std::io::IsTerminal as _;

use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use journal::{node, set_node};
pub(crate) use seldom::seldom;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Journal under systemd, else lines.
    Auto,
    Lines,
    Json,
}

/// Runs `f` with its log lines going to the journal only, whoever started this process. Where there is no journal they are
/// lost: what a person did is printed as well.
pub fn to_journal(f: impl FnOnce()) {
    if let Ok(layer) = tracing_journald::layer() {
        let layer = layer
            .with_field_prefix(None)
            .with_syslog_identifier("wa-agent".into());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), f);
    }
}

/// Installs the subscriber; `WA_LOG` chooses levels, for example `info,wa_agent::master=debug`.
pub fn init(format: Format) {
    let filter = || EnvFilter::try_from_env("WA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    if format == Format::Auto
        && under_systemd
        && let Some(journal) = journal::start()
    {
        let _ = tracing_subscriber::registry()
            .with(filter())
            .with(journal)
            .try_init();
        return;
    }
    // Ids of messages are for the journal; people read the sentence.
    let shown = fmt::format::debug_fn(|out, field, value| match field.name() {
        "MESSAGE_ID" => Ok(()),
        "message" => write!(out, "{value:?}"),
        name => write!(out, "{name}={value:?}"),
    });
    let lines = fmt::layer()
        .fmt_fields(shown.delimited(" "))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let registry = tracing_subscriber::registry().with(filter());
    let _ = if format == Format::Json {
        registry.with(lines.json()).try_init()
    } else {
        registry.with(lines).try_init()
    };
}
