//! Configuration: TOML as written, merged with the environment, validated into [`Settings`] that others may rely on.
//! Reads files and environment at the start, and again on reload: then only secrets change (`key.rs`, `secret.rs`).

mod address;
mod assemble;
mod client;
mod closed;
mod console;
mod fragment;
#[cfg(test)]
mod hostile_tests;
mod key;
mod media;
mod merge;
mod secret;
#[cfg(test)]
mod secrets_tests;
#[cfg(test)]
mod tests;
mod upstream;
mod validate;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use wa_core::detector::Intervals;
use wa_core::id::{NodeId, Role};
use wa_core::lease::Tolerance;
use wa_core::master::Fence;

pub use assemble::{DEFAULT_PROFILE, health_port, timers_of};
pub use client::{
    ClientSettings, EventSettings, ForeignStatuses, InboundIds, LateStatuses, Links, UnknownNumber,
    WebhookSettings, certificates_in,
};
pub use closed::Open;
pub use console::ConsoleSettings;
pub use fragment::{Fragment, PROFILE_NAMES};
pub use key::ClusterKey;
pub use merge::{Loaded, load, load_below, load_to_show, open_files, read_text, secrets_hidden};
pub use secret::{Logins, Secret, Text, Turn};
pub use upstream::MediaHosts;
pub use validate::{longest_takeover_with, takeover_with, worst_cases};

/// How long our servers keep an idle connection, where nothing else is written: longer than load balancers and clients'
/// pools keep theirs, which is often a minute.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Why the configuration cannot be used. Every text says what to type or where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "cannot read {path}: {why}; name another with --config, or see wa-agent check-config --help"
    )]
    Read { path: PathBuf, why: std::io::Error },
    #[error("{path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{0}")]
    Rule(String),
}

impl ConfigError {
    /// For the status of a unit and the journal: a parse error without its picture of the place.
    pub fn in_one_line(&self) -> String {
        let text = self.to_string();
        let lines = text.lines().filter(|line| !line.contains('|'));
        lines.collect::<Vec<_>>().join("; ")
    }
}

/// How the database's servers follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Synchronous where the server says that it is one of a group (Galera, Group Replication), else asynchronous.
    Auto,
    /// There is one server, and no other ever takes over.
    Single,
    /// What was committed is on every server that may take over.
    Synchronous,
    /// A server that takes over may lack the newest commits.
    Asynchronous,
}

/// Addresses of the database and how to talk to it.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Tried in order; all must be one consistency domain (rule 5.9). As they were at the start: see [`Self::url`].
    pub urls: Vec<String>,
    /// The same with newer passwords.
    pub logins: Logins,
    /// Whether a server that takes over may lack commits (rule 5.9).
    pub replication: Replication,
    pub ssl_ca: Option<PathBuf>,
    pub ssl_cert: Option<PathBuf>,
    pub ssl_key: Option<PathBuf>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// SQLite only: how long to wait for the file lock.
    pub busy_timeout: Duration,
}

impl DatabaseSettings {
    /// A URL with the password that is in force.
    pub fn url(&self, place: usize) -> String {
        let newer = self.logins.at(place);
        newer.unwrap_or_else(|| self.urls[place].clone())
    }
}

/// Protocol timers (design 4).
#[derive(Debug, Clone)]
pub struct Timers {
    /// The profile that set what nothing else did.
    pub profile: String,
    /// Somebody has written how long a hypervisor may hide a pause, if only that it hides none.
    pub vm_pause_answered: bool,
    pub heartbeat_interval: Duration,
    pub unhealthy_interval: Duration,
    pub db_beat_interval: Duration,
    pub db_unhealthy_interval: Duration,
    pub lease_ttl: Duration,
    pub tolerance: Tolerance,
    pub hold_timeout: Duration,
}

impl Timers {
    /// The configured intervals of the heartbeats.
    pub fn intervals(&self) -> Intervals {
        Intervals {
            heartbeat: self.heartbeat_interval,
            unhealthy: self.unhealthy_interval,
        }
    }
}

/// Ports of one instance.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub heartbeat: u16,
    pub control: u16,
    pub api: u16,
    pub health: u16,
}

/// The Cloud API.
#[derive(Debug)]
pub struct UpstreamSettings {
    pub base_url: String,
    pub version: String,
    pub phone_number_id: String,
    /// The business's own number in digits, where it is known: `wa_id` of the settings, and no recipient.
    pub phone_number: Option<String>,
    /// The account that the number belongs to, which has the templates; empty: not known.
    pub waba_id: String,
    /// The business portfolio that the account belongs to; empty: not known.
    pub portfolio_id: String,
    /// The app that the token belongs to, under which files are uploaded; empty: not known.
    pub app_id: String,
    /// Hosts beside that of `base_url` that get the token when a customer's file is fetched.
    pub media_hosts: MediaHosts,
    pub token: Secret,
    pub app_secret: Secret,
    /// Authorities of the upstream's servers beside the usual ones, for coreapps and host agents.
    pub authorities: Vec<rustls_pki_types::CertificateDer<'static>>,
    /// Webapps take events only from who shows a certificate of these authorities, for the upstream's name; none: from everybody
    /// whose signature fits.
    pub mtls_authorities: Vec<rustls_pki_types::CertificateDer<'static>>,
    pub verify_token: Secret,
    /// The number's pin; empty: whoever registers it sends one along.
    pub pin: Secret,
    /// The language of codes, as the upstream names it.
    pub code_language: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// What the upstream allows the number, for all shards together; `None`: as it says itself.
    pub rate_per_second: Option<u32>,
    /// So many messages may go to one customer at once; 0: the upstream says when it is too many.
    pub pair_burst: u32,
    pub concurrency: usize,
    /// How long an ambiguous message waits for its receipt.
    pub ambiguity_window: Duration,
    /// While receipts are late, at most so long.
    pub ambiguity_max: Duration,
    pub on_ambiguity: OnAmbiguity,
    /// A message is sent so often with an outcome that nobody learns.
    pub ambiguity_sends_max: u32,
    pub ambiguity_sends_then: SendsThen,
}

/// What becomes of a message that was sent so often with an outcome that nobody learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendsThen {
    /// The business is told `failed`.
    Report,
    /// It stays until a person changes the setting.
    Wait,
}

/// What becomes of a message of which nobody knows whether it was sent, when no receipt came within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAmbiguity {
    /// It may arrive twice.
    Resend,
    /// The business is told `failed`; it may have arrived all the same.
    Report,
}

/// TLS of the public API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicTls {
    /// Something in front of the webapp ends TLS.
    Off,
    /// A certificate that the webapp makes for itself, for these names.
    SelfSigned(Vec<String>),
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

/// What the media directory must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// There is none: media calls are refused, nothing is checked.
    None,
    /// A directory of any kind: one machine, or a file system that is shared by other means.
    Directory,
    /// The root of a mounted file system, or a directory that is bound there from elsewhere.
    Mount,
    /// The root of a mounted NFS export.
    Nfs,
}

impl Require {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Directory => "directory",
            Self::Mount => "mount",
            Self::Nfs => "nfs",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::None, Self::Directory, Self::Mount, Self::Nfs];
        all.into_iter().find(|require| require.as_str() == word)
    }
}

/// The shared media directory and how it is watched.
#[derive(Debug, Clone)]
pub struct MediaSettings {
    pub directory: PathBuf,
    pub require: Require,
    /// Less free space than this counts as full, in bytes.
    pub free_min_bytes: u64,
    /// Fewer free inodes than this count as full; file systems that do not count them pass.
    pub inodes_min: u64,
    pub probe_interval: Duration,
    /// A probe that takes longer found a mount that hangs.
    pub probe_timeout: Duration,
}

/// Where the health port listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthAddresses {
    /// It must be there.
    pub main: SocketAddr,
    /// Where the first is no address of this machine, as behind a translator: this one.
    pub instead: Option<SocketAddr>,
    /// As far as they are there.
    pub beside: Vec<SocketAddr>,
}

impl Settings {
    /// Health and metrics are for scrapers that know this machine, and not for every network that it is in.
    pub fn health_addresses(&self) -> HealthAddresses {
        let at = |address| SocketAddr::new(address, self.ports.health);
        let main = self.metrics_bind;
        let loopbacks: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let alone = main.is_unspecified() || main.is_loopback();
        // Without IPv6 nobody asks by it.
        let wanted = loopbacks
            .into_iter()
            .filter(|address| !alone && (address.is_ipv4() || self.bind.is_ipv6()));
        HealthAddresses {
            main: at(main),
            instead: (main == self.advertise && main != self.bind).then(|| at(self.bind)),
            beside: wanted.map(at).collect(),
        }
    }
}

/// Everything a role needs, validated.
#[derive(Debug)]
pub struct Settings {
    pub role: Role,
    pub instance: u16,
    pub node: NodeId,
    pub machine: String,
    pub zone: String,
    pub weight: i32,
    pub advertise: IpAddr,
    pub bind: IpAddr,
    /// Where health and metrics are shown, beside loopback.
    pub metrics_bind: IpAddr,
    pub ports: Ports,
    pub state_directory: PathBuf,
    pub database: DatabaseSettings,
    pub cluster_name: String,
    /// The name's number on the wire.
    pub cluster_id: u64,
    /// Read again on reload.
    pub cluster_key: ClusterKey,
    pub timers: Timers,
    pub fence: Fence,
    /// Networks that coreapps reach without a tenure, beside those that the host agent finds by itself.
    pub gate_exempt: Vec<wa_bpf::Network>,
    pub shard_count: u16,
    pub upstream: UpstreamSettings,
    pub client: ClientSettings,
    /// Key for health, metrics and stats (`WA_API_KEY`); empty: none is taken.
    pub api_key: Secret,
    /// With what the administrator logs in while nobody has: a hash, or the documented word, or nothing, which is the same.
    pub first_password: Secret,
    pub public_tls: PublicTls,
    /// How long the public API keeps an idle connection.
    pub keep_alive: Duration,
    /// Proxies in front of the public API that are believed when they say who their client is.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Which events the business is told.
    pub events: EventSettings,
    pub webhooks: WebhookSettings,
    pub media: MediaSettings,
    /// What people see and do in a browser.
    pub console: ConsoleSettings,
    /// Webhook URLs of loopback may use http (development only).
    pub development: bool,
    /// Start although the client that this agent replaces seems to run on this machine.
    pub ignore_old_client: bool,
}

impl Settings {
    /// Directory of this instance's own state.
    pub fn instance_directory(&self) -> PathBuf {
        self.state_directory
            .join(format!("{}-{}", self.role.as_str(), self.instance))
    }
}

/// A host as it stands in a URL: an IPv6 address in brackets, also where it came with them.
pub fn in_url(host: &str) -> String {
    match host.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

/// A database URL as it may be shown.
pub fn without_password(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            let _ = parsed.set_password(Some("***"));
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}
