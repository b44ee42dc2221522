//! File, environment and defaults become one [`Settings`], with the origin of each value.
//! Later wins: built-in default, profile, file, environment of the reference client.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretBox;
use sha2::{Digest as _, Sha256};
use wa_core::id::{NodeId, Role};
use wa_core::lease::Tolerance;
use wa_core::master::Fence;
use wa_core::time::Drift;

use super::fragment::{Fragment, PROFILE_NAMES, Span};
use super::{ConfigError, DatabaseSettings, Ports, Settings, Timers, UpstreamSettings};

/// Where the packages put the configuration.
const DEFAULT_FILE: &str = "/etc/wa-agent/wa-agent.toml";
/// Where the packages keep state.
const DEFAULT_STATE: &str = "/var/lib/wa-agent";

/// Settings, and where each value came from.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// `section.key` → (value as text, secrets masked; origin).
    pub origins: BTreeMap<&'static str, (String, String)>,
}

struct Merge {
    file: Option<PathBuf>,
    origins: BTreeMap<&'static str, (String, String)>,
}

impl Merge {
    /// The value of the file, else of the environment variable, else the default; its origin is noted.
    fn pick<T: std::fmt::Display>(
        &mut self,
        key: &'static str,
        written: Option<T>,
        variable: Option<(&str, T)>,
        default: (T, &str),
    ) -> T {
        let file = self
            .file
            .as_ref()
            .map_or_else(String::new, |f| f.display().to_string());
        let (value, origin) = match (variable, written) {
            (Some((name, value)), _) => (value, format!("environment {name}")),
            (None, Some(value)) => (value, file),
            (None, None) => (default.0, default.1.to_owned()),
        };
        self.origins.insert(key, (value.to_string(), origin));
        value
    }

    fn span(
        &mut self,
        key: &'static str,
        written: Option<Span>,
        default: Duration,
        by: &str,
    ) -> Duration {
        let text = |d: Duration| humantime::format_duration(d).to_string();
        let shown = self.pick(key, written.map(|s| text(s.0)), None, (text(default), by));
        written
            .map_or(default, |s| s.0)
            .max(humantime::parse_duration(&shown).unwrap_or_default())
    }
}

/// An environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Loads the configuration of one instance.
///
/// # Errors
/// [`ConfigError`]: a file that cannot be read or parsed, or a rule that the values break.
pub fn load(role: Role, instance: u16, file: Option<&Path>) -> Result<Loaded, ConfigError> {
    let path = file.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_path_buf);
    let fragment = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => {
            Fragment::default()
        }
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let mut merge = Merge {
        file: Some(path),
        origins: BTreeMap::new(),
    };
    let settings = assemble(&mut merge, role, instance, fragment)?;
    super::validate::check(&settings)?;
    Ok(Loaded {
        settings,
        origins: merge.origins,
    })
}

/// Parses one file; an unknown key is answered with the nearest known one.
pub(super) fn parse(path: &Path, text: &str) -> Result<Fragment, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let mut message = error.to_string();
        if let Some((unknown, known)) = unknown_field(&message) {
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro(&unknown, a).total_cmp(&strsim::jaro(&unknown, b)));
            if let Some(nearest) = nearest {
                message.push_str(&format!("did you mean `{nearest}`?"));
            }
        }
        ConfigError::Parse {
            path: path.to_path_buf(),
            message,
        }
    })
}

/// The unknown field and the known ones of serde's message.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.split("unknown field ").nth(1)?;
    let mut names = rest.split('`').skip(1).step_by(2).map(ToOwned::to_owned);
    Some((names.next()?, names.collect()))
}

fn assemble(
    m: &mut Merge,
    role: Role,
    instance: u16,
    f: Fragment,
) -> Result<Settings, ConfigError> {
    let hostname = hostname(m, role, &f);
    let state_directory = PathBuf::from(m.pick(
        "node.state_directory",
        f.node.state_directory.map(|p| p.display().to_string()),
        None,
        (DEFAULT_STATE.into(), "default"),
    ));
    let timers = timers(m, &f.timers)?;
    let fence = match m
        .pick(
            "cluster.fence",
            f.cluster.fence,
            None,
            ("best-effort".into(), "default"),
        )
        .as_str()
    {
        "required" => Fence::Required,
        "best-effort" => Fence::BestEffort,
        other => {
            return Err(ConfigError::Rule(format!(
                "[cluster] fence = {other:?}: write \"required\" or \"best-effort\""
            )));
        }
    };
    let name = m.pick(
        "cluster.name",
        f.cluster.name,
        None,
        ("wa".into(), "default"),
    );
    let key = secret(
        m,
        "cluster.key_file",
        f.cluster.key_file.as_deref(),
        "cluster-key",
        None,
    )?
    .ok_or_else(|| ConfigError::Rule(KEY_MISSING.into()))?;
    let bind = m.pick(
        "node.bind",
        f.node.bind,
        None,
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), "default"),
    );
    let machine = m.pick(
        "node.machine",
        f.node.machine,
        None,
        (hostname.clone(), "hostname"),
    );
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
        advertise: m.pick(
            "node.advertise",
            f.node.advertise,
            None,
            (IpAddr::V4(Ipv4Addr::LOCALHOST), "default"),
        ),
        bind,
        ports: ports(role, instance, f.ports.offset.unwrap_or(0))?,
        database: database(m, f.database, &state_directory)?,
        state_directory,
        cluster_id: cluster_id(&name),
        cluster_key: SecretBox::new(Box::new(key.into_bytes())),
        timers,
        fence,
        shard_count: m.pick("cluster.shards", f.cluster.shards, None, (1, "default")),
        upstream: upstream(m, f.upstream)?,
        api_key: secret(
            m,
            "webapp.api_key_file",
            f.webapp.api_key_file.as_deref(),
            "api-key",
            Some("WA_API_KEY"),
        )?
        .map(|key| SecretBox::new(Box::new(key))),
        development: m.pick(
            "cluster.development",
            f.cluster.development,
            None,
            (false, "default"),
        ),
    })
}

const KEY_MISSING: &str = "no cluster key: type `wa-agent keygen --out /etc/wa-agent/credentials/cluster-key` on one machine, \
     copy the file to the others, and set [cluster] key_file";

fn hostname(m: &mut Merge, role: Role, f: &Fragment) -> String {
    let own = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".into());
    let name = match role {
        Role::Webapp => "WEBAPP_HOSTNAME",
        _ => "COREAPP_HOSTNAME",
    };
    let from_environment = variable(name)
        .map(|v| (name, v))
        .or_else(|| variable("EXTERNAL_HOSTNAME").map(|v| ("EXTERNAL_HOSTNAME", v)));
    m.pick(
        "node.hostname",
        f.node.hostname.clone(),
        from_environment,
        (own, "hostname of this machine"),
    )
}

fn timers(m: &mut Merge, t: &super::fragment::Timers) -> Result<Timers, ConfigError> {
    let profile = m.pick(
        "timers.profile",
        t.profile.clone(),
        None,
        ("compat".into(), "default"),
    );
    let ms = Duration::from_millis;
    let (heartbeat, unhealthy, ttl) = match profile.as_str() {
        "compat" => (ms(5000), ms(30_000), ms(3000)),
        "standard" => (ms(200), ms(2000), ms(1500)),
        "fast" => (ms(50), ms(300), ms(1000)),
        other => {
            let known = PROFILE_NAMES.join(", ");
            return Err(ConfigError::Rule(format!(
                "[timers] profile = {other:?}: the profiles are {known}"
            )));
        }
    };
    let by = format!("profile {profile}");
    let drift = m.pick("timers.drift", t.drift, None, (0.1, "default"));
    let tolerance = Tolerance {
        drift: Drift((drift.clamp(0.0, 0.5) * 1000.0).ceil() as u16),
        margin: m.span("timers.margin", t.margin, ms(20), "default"),
        vm_pause: m.span("timers.vm_pause", t.vm_pause, Duration::ZERO, "default"),
    };
    let mut timers = Timers {
        heartbeat_interval: m.span(
            "timers.heartbeat_interval",
            t.heartbeat_interval,
            heartbeat,
            &by,
        ),
        unhealthy_interval: m.span(
            "timers.unhealthy_interval",
            t.unhealthy_interval,
            unhealthy,
            &by,
        ),
        db_beat_interval: m.span(
            "timers.db_beat_interval",
            t.db_beat_interval,
            ms(60_000),
            "default",
        ),
        db_unhealthy_interval: m.span(
            "timers.db_unhealthy_interval",
            t.db_unhealthy_interval,
            ms(120_000),
            "default",
        ),
        lease_ttl: m.span("timers.lease_ttl", t.lease_ttl, ttl, &by),
        tolerance,
        hold_timeout: Duration::ZERO,
    };
    let worst = super::validate::longest_takeover(&timers);
    timers.hold_timeout = m.span(
        "timers.hold_timeout",
        t.hold_timeout,
        worst + worst / 5,
        "worst-case takeover + 20 %",
    );
    Ok(timers)
}

/// Ports by rule (design, systemd): a block of four at base + 10·(N−1).
fn ports(role: Role, instance: u16, offset: u16) -> Result<Ports, ConfigError> {
    let too_high = || ConfigError::Rule(format!("instance {instance} has no ports: use 1 to 100"));
    let step = instance
        .checked_sub(1)
        .filter(|n| *n < 100)
        .ok_or_else(too_high)?;
    let block = |base: u16| {
        base.checked_add(step * 10)
            .and_then(|p| p.checked_add(offset))
            .ok_or_else(too_high)
    };
    let ports = |base: u16| Ports {
        heartbeat: base,
        control: base + 1,
        api: base + 2,
        health: base + 3,
    };
    match role {
        Role::Coreapp => block(6250).map(ports),
        Role::Master => block(6254).map(ports),
        Role::Webapp => {
            let public = 9090 + step + offset;
            Ok(Ports {
                heartbeat: 0,
                control: 0,
                api: public,
                health: public + 100,
            })
        }
        Role::Host => Ok(Ports {
            heartbeat: 6248 + offset,
            control: 0,
            api: 0,
            health: 6249 + offset,
        }),
    }
}

fn database(
    m: &mut Merge,
    d: super::fragment::Database,
    state: &Path,
) -> Result<DatabaseSettings, ConfigError> {
    let embedded = format!("sqlite://{}/wa.db", state.display());
    let shown = |urls: &[String]| {
        urls.iter()
            .map(|url| super::without_password(url))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let from_environment = variable("WA_DB_HOSTNAME").map(|host| environment_url(&host));
    let origin = from_environment
        .as_ref()
        .map(|url| ("WA_DB_HOSTNAME", shown(std::slice::from_ref(url))));
    m.pick(
        "database.urls",
        d.urls.as_deref().map(shown),
        origin,
        (embedded.clone(), "default"),
    );
    let mut urls = from_environment
        .map(|url| vec![url])
        .or(d.urls)
        .unwrap_or_else(|| vec![embedded]);
    if let Some(password) = secret(
        m,
        "database.password_file",
        d.password_file.as_deref(),
        "database-password",
        Some("WA_DB_PASSWORD"),
    )? {
        for url in &mut urls {
            if let Ok(mut parsed) = url::Url::parse(url)
                && parsed.scheme() != "sqlite"
                && parsed.set_password(Some(&password)).is_ok()
            {
                *url = parsed.to_string();
            }
        }
    }
    let path = |written: Option<PathBuf>, name: &str| variable(name).map(PathBuf::from).or(written);
    Ok(DatabaseSettings {
        urls,
        ssl_ca: path(d.ssl_ca, "WA_DB_SSL_CA"),
        ssl_cert: path(d.ssl_cert, "WA_DB_SSL_CERT"),
        ssl_key: path(d.ssl_key, "WA_DB_SSL_KEY"),
        connect_timeout: Duration::from_secs(5),
        busy_timeout: Duration::from_secs(2),
    })
}

/// The URL that the reference client's variables mean.
fn environment_url(host: &str) -> String {
    let user = variable("WA_DB_USERNAME").unwrap_or_else(|| "root".into());
    let port = variable("WA_DB_PORT").unwrap_or_else(|| "3306".into());
    let prefix = variable("WA_DB_NAME_PREFIX").unwrap_or_default();
    format!("mysql://{user}@{host}:{port}/{prefix}wa")
}

/// A secret: from the file named in the configuration, from systemd's credentials, or from the environment.
fn secret(
    m: &mut Merge,
    key: &'static str,
    file: Option<&Path>,
    credential: &str,
    environment: Option<&str>,
) -> Result<Option<String>, ConfigError> {
    let directory = variable("CREDENTIALS_DIRECTORY")
        .map(|dir| Path::new(&dir).join(credential))
        .filter(|p| p.exists());
    if let Some(path) = directory.as_deref().or(file) {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        m.origins
            .insert(key, ("***".into(), path.display().to_string()));
        return Ok(Some(text.trim().to_owned()));
    }
    let value = environment.and_then(|name| variable(name).map(|value| (name, value)));
    if let Some((name, value)) = value {
        m.origins
            .insert(key, ("***".into(), format!("environment {name}")));
        return Ok(Some(value));
    }
    Ok(None)
}

fn upstream(m: &mut Merge, u: super::fragment::Upstream) -> Result<UpstreamSettings, ConfigError> {
    let ms = Duration::from_millis;
    let mut need = |key, file: Option<PathBuf>, credential| {
        let found = secret(m, key, file.as_deref(), credential, None)?;
        Ok::<_, ConfigError>(SecretBox::new(Box::new(found.unwrap_or_default())))
    };
    let token = need("upstream.token_file", u.token_file, "upstream-token")?;
    let app_secret = need("upstream.app_secret_file", u.app_secret_file, "app-secret")?;
    let verify_token = need(
        "upstream.verify_token_file",
        u.verify_token_file,
        "verify-token",
    )?;
    let base = "https://graph.facebook.com".to_owned();
    Ok(UpstreamSettings {
        base_url: m.pick("upstream.base_url", u.base_url, None, (base, "default")),
        version: m.pick(
            "upstream.version",
            u.version,
            None,
            ("v23.0".into(), "default"),
        ),
        phone_number_id: m.pick(
            "upstream.phone_number_id",
            u.phone_number_id,
            None,
            (String::new(), "default"),
        ),
        token,
        app_secret,
        verify_token,
        connect_timeout: m.span(
            "upstream.connect_timeout",
            u.connect_timeout,
            ms(3000),
            "default",
        ),
        request_timeout: m.span(
            "upstream.request_timeout",
            u.request_timeout,
            ms(10_000),
            "default",
        ),
        rate_per_second: m.pick(
            "upstream.rate_per_second",
            u.rate_per_second,
            None,
            (80, "default"),
        ),
        concurrency: m.pick("upstream.concurrency", u.concurrency, None, (32, "default")),
        ambiguity_window: m.span(
            "upstream.ambiguity_window",
            u.ambiguity_window,
            ms(5000),
            "default",
        ),
    })
}

/// The cluster's number on the wire: the first eight bytes of its name's SHA-256.
fn cluster_id(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a typing error is answered with the place and the nearest key.
    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_name() {
        let error = parse(Path::new("x.toml"), "[timers]\nlease_tll = \"1s\"\n")
            .expect_err("misspelt")
            .to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(error.contains("did you mean `lease_ttl`?"), "{error}");
    }

    #[test]
    fn spans_may_be_written_as_people_do() {
        let f = parse(
            Path::new("x"),
            "[timers]\nlease_ttl = \"0.5s\"\nmargin = 0.02\nheartbeat_interval = \"50ms\"\n",
        )
        .expect("valid");
        assert_eq!(f.timers.lease_ttl, Some(Span(Duration::from_millis(500))));
        assert_eq!(f.timers.margin, Some(Span(Duration::from_millis(20))));
        assert_eq!(
            f.timers.heartbeat_interval,
            Some(Span(Duration::from_millis(50)))
        );
    }

    #[test]
    fn ports_follow_the_rule() {
        assert_eq!(ports(Role::Coreapp, 2, 0).expect("ports").api, 6262);
        assert_eq!(ports(Role::Master, 1, 0).expect("ports").heartbeat, 6254);
        assert_eq!(ports(Role::Webapp, 2, 0).expect("ports").health, 9191);
        assert!(ports(Role::Coreapp, 0, 0).is_err());
    }
}
