//! Section by section, what was written becomes [`Settings`].
//! Checks only what has no value otherwise; the rules between values are in `validate.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wa_core::id::{NodeId, Role};
use wa_core::lease::Tolerance;
use wa_core::master::Fence;
use wa_core::time::Drift;

use super::Replication;
use super::address::{host_of, resolve, source_towards};
use super::client;
use super::closed;
use super::console::ConsoleSettings;
use super::fragment::{self, Fragment, PROFILE_NAMES};
use super::merge::{Environment, HIDDEN, Merge};
use super::upstream;
use super::{
    ClusterKey, ConfigError, DatabaseSettings, Logins, Ports, Secret, Settings, Timers,
    without_password,
};
use crate::api::v1::user::ADMIN_FIRST_PASSWORD;

/// What a cluster gets whose configuration names no profile.
pub const DEFAULT_PROFILE: &str = "standard";
/// Where the packages keep state.
pub(super) const DEFAULT_STATE: &str = "/var/lib/wa-agent";
/// The reference client's name for the key of the certificate towards the database.
pub(super) const DATABASE_KEY_VARIABLE: &str = "WA_DB_SSL_KEY";
const KEY_MISSING: &str = "no cluster key: this machine is not set up. Type as root: wa-agent setup; where the installed files are \
     not used, `wa-agent keygen --out FILE` makes a key, and [cluster] key_file names it";
const KEY_DENIED: &str =
    "this user may not read the cluster key in /etc/wa-agent/credentials: type the same with sudo";
const WEBAPP_KEY_MISSING: &str = "no key for webapps: this machine is not set up. Type as root: wa-agent setup, with --roles webapp \
     where nothing else runs; where the installed files are not used, `wa-agent keygen --webapp-of FILE --out FILE` makes it from the \
     cluster key, and [cluster] key_file names it";

pub(super) fn assemble(
    m: &mut Merge,
    role: Role,
    instance: u16,
    f: Fragment,
) -> Result<Settings, ConfigError> {
    let hostname = hostname(m, role, f.node.hostname);
    let state_directory = PathBuf::from(m.pick(
        "node.state_directory",
        f.node.state_directory.map(|p| p.display().to_string()),
        None,
        (DEFAULT_STATE.into(), "default"),
    ));
    let timers = timers(m, &f.timers)?;
    let fence = fence(m, f.cluster.fence)?;
    let usual = ("wa".into(), "default");
    let name = m.pick("cluster.name", f.cluster.name, None, usual);
    let machine = m.pick(
        "node.machine",
        f.node.machine,
        None,
        (hostname.clone(), "node.hostname"),
    );
    let database = database(m, f.database, &state_directory)?;
    let advertise = advertise(m, role, f.node.advertise, f.node.bind, &database);
    let bind = bind(m, f.node.bind, advertise);
    let metrics_bind = metrics_bind(m, f.node.metrics_bind, (bind, advertise));
    Ok(Settings {
        role,
        instance,
        node: NodeId::new(&format!("{hostname}:{}-{instance}", role.as_str())),
        zone: m.pick(
            "node.zone",
            f.node.zone,
            None,
            (machine.clone(), "node.machine"),
        ),
        machine,
        weight: m.pick("node.weight", f.node.weight, None, (0, "default")),
        advertise,
        bind,
        metrics_bind,
        ports: ports(m, role, instance, &f.ports)?,
        database,
        state_directory,
        cluster_id: cluster_id(&name),
        cluster_name: name,
        cluster_key: cluster_key(m, role, f.cluster.key_file.as_deref())?,
        timers,
        fence,
        gate_exempt: gate_exempt(m, f.gate.exempt)?,
        shard_count: m.pick("cluster.shards", f.cluster.shards, None, (1, "default")),
        upstream: upstream::upstream(m, role, f.upstream)?,
        client: client::client(m, f.client)?,
        api_key: client::api_key(m, f.webapp.api_key_file.as_deref())?,
        first_password: first_password(m, f.webapp.first_password_file.as_deref())?,
        keep_alive: client::keep_alive(m, f.webapp.keep_alive),
        trusted_proxies: client::trusted_proxies(m, f.webapp.trusted_proxies.as_deref())?,
        public_tls: client::public_tls(m, role, f.webapp, hostname)?,
        events: client::events(m, &f.webhooks)?,
        webhooks: client::webhooks(m, role, f.webhooks)?,
        media: super::media::media(m, f.media)?,
        console: console(m, f.console)?,
        ignore_old_client: ignore_old_client(m, f.cluster.ignore_old_client),
        development: development(m, f.cluster.development),
    })
}

fn development(m: &mut Merge, written: Option<bool>) -> bool {
    m.pick("cluster.development", written, None, (false, "default"))
}

fn ignore_old_client(m: &mut Merge, written: Option<bool>) -> bool {
    const NAME: &str = "WA_IGNORE_OLD_CLIENT";
    let set = m.environment.get(NAME).map(|value| (NAME, value == "1"));
    m.pick(
        "cluster.ignore_old_client",
        written,
        set,
        (false, "default"),
    )
}

fn cluster_key(m: &mut Merge, role: Role, file: Option<&Path>) -> Result<ClusterKey, ConfigError> {
    // The units hand a webapp its part of the key under this name; an operator's verb on a machine with webapps only finds
    // the file itself.
    let part = role == Role::Webapp && m.installed("webapp-key") && !m.installed("cluster-key");
    let name = if part { "webapp-key" } else { "cluster-key" };
    let key = m.secret("cluster.key_file", file, name, None)?;
    let key = key.ok_or_else(|| {
        let why = match role {
            _ if m.denied() => KEY_DENIED,
            Role::Webapp => WEBAPP_KEY_MISSING,
            Role::Master | Role::Coreapp | Role::Host => KEY_MISSING,
        };
        ConfigError::Rule(why.into())
    })?;
    Ok(ClusterKey::new(key.into_bytes()))
}

/// With what the administrator logs in while nobody has.
///
/// # Errors
/// When its file cannot be read, or holds neither a hash nor the documented word: nobody could log in with it.
fn first_password(m: &mut Merge, file: Option<&Path>) -> Result<Secret, ConfigError> {
    let key = "webapp.first_password_file";
    let text = m
        .secret(key, file, "first-password", None)?
        .unwrap_or_default();
    let known = text.starts_with("$argon2") || text.is_empty();
    if !known && text != ADMIN_FIRST_PASSWORD && text != HIDDEN {
        return Err(ConfigError::Rule(format!(
            "[webapp] first_password_file (credential first-password) holds neither a hash nor the word {ADMIN_FIRST_PASSWORD:?}; \
             type: wa-agent setup --first-password-file FILE --replace"
        )));
    }
    Ok(Secret::new(text))
}

/// Networks in their usual spelling, for example `10.0.0.0/8`.
fn gate_exempt(
    m: &mut Merge,
    written: Option<Vec<String>>,
) -> Result<Vec<wa_bpf::Network>, ConfigError> {
    let shown = written.as_ref().map(|networks| networks.join(" "));
    m.pick("gate.exempt", shown, None, (String::new(), "default"));
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            ConfigError::Rule(format!(
                "[gate] exempt: {text:?} is no network: write \"192.0.2.0/24\" or \"2001:db8::/32\""
            ))
        })
    };
    written.unwrap_or_default().iter().map(parse).collect()
}

fn fence(m: &mut Merge, written: Option<String>) -> Result<Fence, ConfigError> {
    let default = ("required".into(), "default");
    match m.pick("cluster.fence", written, None, default).as_str() {
        "required" => Ok(Fence::Required),
        "best-effort" => Ok(Fence::BestEffort),
        other => Err(ConfigError::Rule(format!(
            "[cluster] fence = {other:?}: write \"required\" or \"best-effort\""
        ))),
    }
}

/// The variable of the reference client that names this node's host, if it is set.
fn host_variable(environment: &Environment, role: Role) -> Option<(&'static str, String)> {
    let own = match role {
        Role::Webapp => "WEBAPP_HOSTNAME",
        Role::Master | Role::Coreapp | Role::Host => "COREAPP_HOSTNAME",
    };
    let names = [own, "EXTERNAL_HOSTNAME"];
    names
        .iter()
        .find_map(|name| Some((*name, environment.get(name)?)))
}

fn hostname(m: &mut Merge, role: Role, written: Option<String>) -> String {
    let own = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".into());
    let variable = host_variable(&m.environment, role);
    m.pick(
        "node.hostname",
        written,
        variable,
        (own, "hostname of this machine"),
    )
}

/// The address that other nodes send to.
fn advertise(
    m: &mut Merge,
    role: Role,
    written: Option<IpAddr>,
    bind: Option<IpAddr>,
    database: &DatabaseSettings,
) -> IpAddr {
    let variable = host_variable(&m.environment, role)
        .and_then(|(name, host)| Some((name, resolve(&host).into_iter().next()?)));
    let default = if let Some(bind) = bind.filter(|bind| !bind.is_unspecified()) {
        (bind, "node.bind")
    } else {
        let hosts = database.urls.iter().filter_map(|url| host_of(url));
        match hosts
            .flat_map(|host| resolve(&host))
            .find_map(source_towards)
        {
            Some(address) => (address, "this machine's address towards the database"),
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), "default"),
        }
    };
    m.pick("node.advertise", written, variable, default)
}

/// Where to listen: on all addresses, of the family that the other nodes are told to send to.
fn bind(m: &mut Merge, written: Option<IpAddr>, advertise: IpAddr) -> IpAddr {
    let default = match advertise {
        IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), "default"),
        // Hears IPv4 as well.
        IpAddr::V6(_) => (
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            "of the family of node.advertise",
        ),
    };
    m.pick("node.bind", written, None, default)
}

/// Where health and metrics are shown, beside loopback: where the other nodes are told to send to.
fn metrics_bind(
    m: &mut Merge,
    written: Option<IpAddr>,
    (bind, advertise): (IpAddr, IpAddr),
) -> IpAddr {
    let default = if bind.is_unspecified() {
        (advertise, "node.advertise")
    } else {
        (bind, "node.bind")
    };
    m.pick("node.metrics_bind", written, None, default)
}

/// The timers of a profile as they come.
///
/// # Errors
/// When there is no such profile.
pub fn timers_of(profile: &str) -> Result<Timers, ConfigError> {
    let written = fragment::Timers {
        profile: Some(profile.to_owned()),
        ..fragment::Timers::default()
    };
    timers(&mut Merge::of_nothing(), &written)
}

/// Heartbeat interval, unhealthy interval and lease ttl of a profile, in milliseconds.
fn profile_values(profile: &str) -> Result<[u64; 3], ConfigError> {
    match profile {
        "compat" => Ok([5000, 30_000, 3000]),
        "standard" => Ok([200, 2000, 1500]),
        "fast" => Ok([50, 300, 1000]),
        other => {
            let known = PROFILE_NAMES.join(", ");
            Err(ConfigError::Rule(format!(
                "[timers] profile = {other:?}: the profiles are {known}"
            )))
        }
    }
}

fn timers(m: &mut Merge, t: &fragment::Timers) -> Result<Timers, ConfigError> {
    let profile = m.pick(
        "timers.profile",
        t.profile.clone(),
        None,
        (DEFAULT_PROFILE.into(), "default"),
    );
    let ms = Duration::from_millis;
    let [heartbeat, unhealthy, ttl] = profile_values(&profile)?.map(ms);
    let by = format!("profile {profile}");
    let drift = m.pick("timers.drift", t.drift, None, (0.1, "default"));
    if !(0.0..=0.3).contains(&drift) {
        return Err(ConfigError::Rule(format!(
            "[timers] drift = {drift}: write 0.0 to 0.3; the kernel slews clocks by at most 0.1"
        )));
    }
    let tolerance = Tolerance {
        drift: Drift((drift * 1000.0).ceil() as u16),
        margin: m.span("timers.margin", t.margin, ms(20), "default"),
        vm_pause: m.span("timers.vm_pause", t.vm_pause, Duration::ZERO, "default"),
    };
    let mut span = |key, written, default, by: &str| m.span(key, written, default, by);
    let mut timers = Timers {
        profile,
        vm_pause_answered: t.vm_pause.is_some(),
        heartbeat_interval: span(
            "timers.heartbeat_interval",
            t.heartbeat_interval,
            heartbeat,
            &by,
        ),
        unhealthy_interval: span(
            "timers.unhealthy_interval",
            t.unhealthy_interval,
            unhealthy,
            &by,
        ),
        db_beat_interval: span(
            "timers.db_beat_interval",
            t.db_beat_interval,
            ms(60_000),
            "default",
        ),
        db_unhealthy_interval: span(
            "timers.db_unhealthy_interval",
            t.db_unhealthy_interval,
            ms(120_000),
            "default",
        ),
        lease_ttl: span("timers.lease_ttl", t.lease_ttl, ttl, &by),
        tolerance,
        hold_timeout: Duration::ZERO,
    };
    let worst = super::validate::longest_takeover(&timers);
    // Whole milliseconds, upwards: a third of a ttl would print nanoseconds.
    let hold = (worst + worst / 5).as_nanos().div_ceil(1_000_000);
    timers.hold_timeout = span(
        "timers.hold_timeout",
        t.hold_timeout,
        ms(u64::try_from(hold).unwrap_or(u64::MAX)),
        "worst-case takeover + 20 %",
    );
    Ok(timers)
}

/// Ports: written, else of the reference client's variables, else by rule (design 11):
/// a block of four at base + 10·(N−1).
fn ports(
    m: &mut Merge,
    role: Role,
    instance: u16,
    written: &fragment::Ports,
) -> Result<Ports, ConfigError> {
    let offset = m.pick("ports.offset", written.offset, None, (0, "default"));
    let [heartbeat, control, api, health] = ports_by_rule(role, instance, offset)?;
    let variable = match role {
        Role::Webapp => "WEBAPP_EXTERNAL_PORTS",
        Role::Master | Role::Coreapp | Role::Host => "COREAPP_EXTERNAL_PORTS",
    };
    let published = m
        .environment
        .get(variable)
        .map(|list| published_ports(variable, role, &list))
        .transpose()?;
    let mut pick = |key, at: usize, own: Option<u16>, rule: u16| {
        if rule == 0 {
            return 0;
        }
        let published = published
            .and_then(|ports| ports[at])
            .map(|port| (variable, port));
        m.pick(key, own, published, (rule, "rule of the instance number"))
    };
    Ok(Ports {
        heartbeat: pick("ports.heartbeat", 0, written.heartbeat, heartbeat),
        control: pick("ports.control", 1, written.control, control),
        api: pick("ports.api", 2, written.api, api),
        health: pick("ports.health", 3, written.health, health),
    })
}

pub(super) fn ports_by_rule(
    role: Role,
    instance: u16,
    offset: u16,
) -> Result<[u16; 4], ConfigError> {
    let step = instance
        .checked_sub(1)
        .filter(|n| *n < 100)
        .ok_or_else(|| {
            ConfigError::Rule(format!("instance {instance} has no ports: use 1 to 100"))
        })?;
    let at = |base: u16| {
        base.checked_add(offset).ok_or_else(|| {
            ConfigError::Rule(format!(
                "[ports] offset = {offset} leads past port 65535: make it smaller"
            ))
        })
    };
    let block = |base: u16| Ok([at(base)?, at(base + 1)?, at(base + 2)?, at(base + 3)?]);
    match role {
        Role::Coreapp => block(6250 + step * 10),
        Role::Master => block(6254 + step * 10),
        // It answers no heartbeats: its UDP port takes nudges.
        Role::Webapp => Ok([at(9290 + step)?, 0, at(9090 + step)?, at(9190 + step)?]),
        Role::Host => Ok([at(6248)?, 0, 0, at(6249)?]),
    }
}

/// Where the health port of a node is, by the rule of its instance number. `known`: the port that it registered, of heartbeats or,
/// of a webapp, of the API: all ports of a node are as far from the rule. `None`: there is no such instance.
pub fn health_port(role: Role, instance: u16, known: u16) -> Option<u16> {
    let [heartbeat, _, api, health] = ports_by_rule(role, instance, 0).ok()?;
    let rule = match role {
        Role::Webapp => api,
        Role::Master | Role::Coreapp | Role::Host => heartbeat,
    };
    health.checked_add_signed(i16::try_from(i32::from(known) - i32::from(rule)).ok()?)
}

/// `6250,6251,6252,6253` of a coreapp or master; the first number of a webapp is its public port.
fn published_ports(
    variable: &str,
    role: Role,
    list: &str,
) -> Result<[Option<u16>; 4], ConfigError> {
    let wrong = |_| {
        ConfigError::Rule(format!(
            "{variable} = {list:?}: write port numbers separated by commas"
        ))
    };
    let numbers: Vec<u16> = list
        .split(',')
        .map(|number| number.trim().parse())
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    let at = |n: usize| numbers.get(n).copied();
    Ok(match role {
        Role::Webapp => [None, None, at(0), None],
        Role::Master | Role::Coreapp | Role::Host => [at(0), at(1), at(2), at(3)],
    })
}

fn database(
    m: &mut Merge,
    d: fragment::Database,
    state: &Path,
) -> Result<DatabaseSettings, ConfigError> {
    let embedded = vec![format!("sqlite://{}/store/wa.db", state.display())];
    let from_environment = environment_url(&m.environment)?.map(|url| vec![url]);
    let shown = |urls: &Vec<String>| {
        let urls = urls.iter().map(|url| without_password(url));
        urls.collect::<Vec<_>>().join(" ")
    };
    m.pick(
        "database.urls",
        d.urls.as_ref().map(shown),
        from_environment
            .as_ref()
            .map(|urls| ("WA_DB_HOSTNAME", shown(urls))),
        (shown(&embedded), "default"),
    );
    let mut urls = from_environment.or(d.urls).unwrap_or(embedded);
    let password = m.secret(
        "database.password_file",
        d.password_file.as_deref(),
        "database-password",
        Some("WA_DB_PASSWORD"),
    )?;
    if let Some(password) = password {
        for url in &mut urls {
            if let Ok(mut parsed) = url::Url::parse(url)
                && parsed.scheme() != "sqlite"
                && parsed.set_password(Some(&password)).is_ok()
            {
                *url = parsed.to_string();
            }
        }
    }
    let ssl_key = m.path(closed::DATABASE_KEY, d.ssl_key, DATABASE_KEY_VARIABLE);
    if let Some(path) = &ssl_key {
        m.closed_to_others(closed::DATABASE_KEY, path)?;
    }
    Ok(DatabaseSettings {
        urls,
        logins: Logins::default(),
        replication: replication(m, d.replication)?,
        ssl_ca: m.path("database.ssl_ca", d.ssl_ca, "WA_DB_SSL_CA"),
        ssl_cert: m.path("database.ssl_cert", d.ssl_cert, "WA_DB_SSL_CERT"),
        ssl_key,
        connect_timeout: Duration::from_secs(5),
        busy_timeout: Duration::from_secs(2),
    })
}

fn replication(m: &mut Merge, written: Option<String>) -> Result<Replication, ConfigError> {
    let default = ("auto".into(), "default");
    match m
        .pick("database.replication", written, None, default)
        .as_str()
    {
        "auto" => Ok(Replication::Auto),
        "single" => Ok(Replication::Single),
        "synchronous" => Ok(Replication::Synchronous),
        "asynchronous" => Ok(Replication::Asynchronous),
        other => Err(ConfigError::Rule(format!(
            "[database] replication = {other:?}: write \"auto\", \"single\", \"synchronous\" or \"asynchronous\""
        ))),
    }
}

/// The URL that the reference client's variables mean.
fn environment_url(environment: &Environment) -> Result<Option<String>, ConfigError> {
    let Some(host) = environment.get("WA_DB_HOSTNAME") else {
        return Ok(None);
    };
    let engine = environment
        .get("WA_DB_ENGINE")
        .unwrap_or_else(|| "MYSQL".into());
    if !engine.eq_ignore_ascii_case("mysql") {
        return Err(ConfigError::Rule(format!(
            "WA_DB_ENGINE = {engine:?}: only MYSQL (MySQL, MariaDB) is supported; move the data, or unset it and use SQLite"
        )));
    }
    let port = environment
        .get("WA_DB_PORT")
        .unwrap_or_else(|| "3306".into());
    let wrong = || {
        ConfigError::Rule(format!(
            "WA_DB_HOSTNAME and WA_DB_PORT give {host:?}:{port:?}, which is no address"
        ))
    };
    let user = environment
        .get("WA_DB_USERNAME")
        .unwrap_or_else(|| "root".into());
    let prefix = environment.get("WA_DB_NAME_PREFIX").unwrap_or_default();
    let mut url = url::Url::parse("mysql://host/").map_err(|_| wrong())?;
    url.set_host(Some(&super::in_url(&host)))
        .map_err(|_| wrong())?;
    url.set_port(Some(port.parse().map_err(|_| wrong())?))
        .map_err(|()| wrong())?;
    url.set_username(&user).map_err(|()| wrong())?;
    url.set_path(&format!("/{prefix}wa"));
    Ok(Some(url.to_string()))
}

/// The cluster's number on the wire: the first eight bytes of its name's SHA-256.
fn cluster_id(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

/// Reads `[console]`.
fn console(m: &mut Merge, written: fragment::Console) -> Result<ConsoleSettings, ConfigError> {
    let usual = ConsoleSettings::default();
    let serve = (usual.serve, "default");
    let serve = m.pick("console.serve", written.serve, None, serve);
    let acts = (usual.acts.as_str().to_owned(), "default");
    let acts = m.pick("console.acts", written.acts, None, acts);
    ConsoleSettings::of(serve, &acts).map_err(ConfigError::Rule)
}
