//! Tests of the configuration as a whole: text and environment in, settings, origins or one sentence out.
//! Reads no file of the machine that it runs on, apart from the shipped example.

use std::path::Path;
use std::time::Duration;

use wa_core::id::Role;

use super::assemble::ports_by_rule;
use super::fragment::{Fragment, Span, parse, unknown_field};
use super::merge::{Environment, Files, Loaded, load_from};
use super::*;

/// A directory with a key, credentials as systemd hands them over.
pub(super) struct Place(pub(super) tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary directory"));
        place.write("cluster-key", &"0123456789abcdef".repeat(4));
        for name in ["upstream-token", "app-secret", "verify-token"] {
            place.write(name, "not-a-real-secret");
        }
        place
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("within the directory")).expect("made");
        std::fs::write(&path, text).expect("written");
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, closed).expect("closed");
    }

    pub(super) fn environment(&self, more: &[(&str, &str)]) -> Environment {
        let own = (
            "CREDENTIALS_DIRECTORY",
            self.0.path().to_str().expect("UTF-8"),
        );
        let all = more.iter().chain(std::iter::once(&own));
        Environment(
            all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    pub(super) fn load(
        &self,
        role: Role,
        text: &str,
        variables: &[(&str, &str)],
    ) -> Result<Loaded, ConfigError> {
        load_from(
            role,
            1,
            Files::text("wa.toml", text),
            self.environment(variables),
        )
    }
}

/// Enough for a coreapp to start.
const NUMBER: &str = "[upstream]\nphone_number_id = \"1\"\n";

/// What is written, and what the answer must say.
const MISTAKES: &[(&str, &str)] = &[
    (
        "[webapp]\ntls = \"on\"",
        "\"off\", \"self-signed\" or \"files\"",
    ),
    ("[webapp]\ntls_cert = \"/c\"", "needs tls_cert and tls_key"),
    ("[webapp]\nkeep_alive = \"2h\"", "must be 1s to 1h"),
    (
        "[console]\nacts = \"some\"",
        "write \"none\", \"safe\" or \"all\"",
    ),
    (
        "[upstream]\nphone_number_id = \"1\"\nmedia_hosts = [\"https://x/\"]",
        "is no host",
    ),
    (
        "[upstream]\nphone_number_id = \"1\"\nmedia_hosts = [\".\"]",
        "is no host",
    ),
    (
        "[upstream]\nphone_number_id = \"1\"\n[client]\ncheck_templates = true",
        "needs [upstream] waba_id",
    ),
    (
        "[webapp]\ntls = \"off\"\ntls_cert = \"/c\"\ntls_key = \"/k\"",
        "does not go with",
    ),
    ("[timers]\nlease_tll = \"1s\"", "did you mean `lease_ttl`?"),
    ("[timer]\nlease_ttl = \"1s\"", "did you mean `timers`?"),
    ("[timers]\nlease_ttl = \"soon\"", "line 2"),
    ("[timers]\nlease_ttl = -1", "is not a number of seconds"),
    ("[timers]\nlease_ttl = [1]", "a duration such as \"200ms\""),
    ("[timers]\nlease_ttl = \"1s\"\nlease_ttl = \"2s\"", "line 3"),
    ("[timers]\nprofile = \"quick\"", "compat, standard, fast"),
    (
        "[timers]\nlease_ttl = \"0.2s\"",
        "lease_ttl 200ms must be 300ms to 60s",
    ),
    ("[timers]\nlease_ttl = \"1h\"", "must be 300ms to 60s"),
    (
        "[timers]\nheartbeat_interval = \"1s\"\nunhealthy_interval = \"2s\"",
        "3 × heartbeat_interval 1s",
    ),
    ("[timers]\nheartbeat_interval = 0.001", "at least 10ms"),
    ("[timers]\nhold_timeout = \"1s\"", "worst-case takeover"),
    ("[timers]\ndrift = 0.9", "write 0.0 to 0.3"),
    ("[timers]\ndrift = nan", "write 0.0 to 0.3"),
    ("[timers]\nmargin = \"2s\"", "make lease_ttl longer"),
    (
        "[timers]\ndb_unhealthy_interval = \"60s\"",
        "2 × db_beat_interval",
    ),
    (
        "[cluster]\nfence = \"maybe\"",
        "\"required\" or \"best-effort\"",
    ),
    (
        "[gate]\nexempt = [\"10.0.0.0/8\", \"ten\"]",
        "\"ten\" is no network",
    ),
    ("[gate]\nexempt = [\"0.0.0.0/0\"]", "is everything"),
    (
        "[upstream]\nbase_url = \"https://192.0.2.7\"\n[gate]\nexempt = [\"192.0.2.0/24\"]",
        "192.0.2.0/24 contains the upstream 192.0.2.7",
    ),
    (
        "[upstream]\nbase_url = \"https://localhost:9\"",
        "is on this machine",
    ),
    (
        "[upstream]\nbase_url = \"https://[::1]:9\"",
        "fence = \"best-effort\"",
    ),
    (
        "[cluster]\nfence = \"best-effort\"\n[upstream]\nbase_url = \"http://127.0.0.1:9280\"",
        "listen on 127.0.0.2",
    ),
    (
        "[cluster]\nfence = \"best-effort\"\n[node]\nadvertise = \"192.0.2.1\"\n[database]\nurls = [\"mysql://wa@127.0.0.1/wa\"]\n\
         [upstream]\nbase_url = \"http://localhost:9280\"",
        "or its database",
    ),
    ("[cluster]\nshards = 3", "1, 2, 4, 8, 16 or 32"),
    ("[cluster]\nshards = 70000", "line 2"),
    ("[node]\nhostname = \"a b\"", "must not contain spaces"),
    ("[node]\nstate_directory = \"state\"", "absolute path"),
    (
        "[node]\nadvertise = \"0.0.0.0\"",
        "not an address that other nodes can send to",
    ),
    ("[node]\nadvertise = \"core1\"", "line 2"),
    (
        "[node]\nbind = \"0.0.0.0\"\nadvertise = \"2001:db8::1\"",
        "write bind = \"::\" below [node]",
    ),
    (
        "[node]\nbind = \"2001:db8::1\"\nadvertise = \"192.0.2.1\"",
        "write bind = \"0.0.0.0\" below [node]",
    ),
    ("[ports]\nhealth = 6252", "health and api are both 6252"),
    ("[ports]\noffset = 65000", "past port 65535"),
    (
        "[database]\nurls = [\"postgres://db/wa\"]",
        "mysql:// or sqlite://",
    ),
    ("[database]\nurls = []", "write at least one"),
    (
        "[database]\nurls = [\"mysql://u:geheim@192.0.2.1\"]",
        "mysql://u:***@192.0.2.1 must name",
    ),
    (
        "[database]\nurls = [\"sqlite:///a\", \"sqlite:///b\"]",
        "stands alone",
    ),
    ("[database]\nssl_cert = \"/c\"", "set both or none"),
    (
        "[database]\nurls = [\"mysql://u@192.0.2.1/wa\"]\n[node]\nadvertise = \"127.0.0.1\"",
        "set [node] advertise",
    ),
    (
        "[upstream]\nbase_url = \"http://graph.example\"",
        "must be https",
    ),
    ("[upstream]\nbase_url = \"graph.example\"", "base_url"),
    ("[upstream]\nrate_per_second = 0", "at least 1"),
    (
        "[upstream]\nambiguity_max = \"1s\"",
        "at least ambiguity_window",
    ),
    (
        "[upstream]\nrequest_timeout = \"1s\"",
        "at least connect_timeout",
    ),
    ("[media]\nrequire = \"smb\"", "\"nfs\", \"mount\""),
    ("[media]\nfree_min = \"much\"", "a size such as"),
    (
        "[upstream]\nphone_number_id = \"1\"\n[media]\ndirectory = \"media\"",
        "must be an absolute path",
    ),
    (
        "[upstream]\nphone_number_id = \"1\"\n[media]\ndirectory = \"/var/lib\"",
        "give media a directory of its own",
    ),
    (
        "[upstream]\nphone_number_id = \"1\"\n[media]\nrequire = \"nfs\"\nprobe_timeout = \"2m\"",
        "must be 100ms to 1m",
    ),
    ("", "phone_number_id is not set"),
    (
        "[cluster]\nkey_file = \"/nonexistent/key\"\n[upstream]\nbase_url=\"ftp://x\"",
        "must be https",
    ),
];

/// Goal: every mistake is answered with one sentence that says what to change. Method: text in, sentence out.
#[test]
fn mistakes_are_answered_with_what_to_change() {
    let place = Place::new();
    for (text, sentence) in MISTAKES {
        let error = place
            .load(Role::Coreapp, text, &[])
            .expect_err(text)
            .to_string();
        assert!(
            error.contains(sentence),
            "{text:?}\n  says: {error}\n  not: {sentence}"
        );
        assert!(!error.contains("geheim"), "a password was printed: {error}");
    }
}

/// Goal: later files win, and every value says the file and line that won.
#[test]
fn files_are_laid_over_each_other() {
    let place = Place::new();
    place.write(
        "wa-agent.toml",
        "[timers]\nprofile = \"fast\"\nlease_ttl = \"2s\"\nmargin = \"10ms\"\n",
    );
    place.write("conf.d/20-b.toml", "[timers]\nlease_ttl = \"5s\"\n");
    place.write(
        "conf.d/10-a.toml",
        "\n[timers]\nlease_ttl = \"4s\"\nvm_pause = 1\n",
    );
    place.write("conf.d/notes.txt", "not TOML");
    place.write("instances/master-2.toml", "[node]\nweight = 7\n");
    let main = place.0.path().join("wa-agent.toml");
    let load = |instance| {
        let files = Files::installed(&main, Role::Master, instance).expect("readable");
        load_from(Role::Master, instance, files, place.environment(&[])).expect("valid")
    };
    let (first, second) = (load(1), load(2));
    assert_eq!((first.settings.weight, second.settings.weight), (0, 7));
    assert_eq!(first.settings.timers.lease_ttl, Duration::from_secs(5));
    assert_eq!(
        first.settings.timers.tolerance.vm_pause,
        Duration::from_secs(1)
    );
    let origin = |key| first.origins[key].1.clone();
    assert!(
        origin("timers.lease_ttl").ends_with("conf.d/20-b.toml:2"),
        "{}",
        origin("timers.lease_ttl")
    );
    assert!(origin("timers.vm_pause").ends_with("conf.d/10-a.toml:4"));
    assert!(origin("timers.margin").ends_with("wa-agent.toml:4"));
    assert_eq!(origin("timers.heartbeat_interval"), "profile fast");
}

/// Goal: the reference client's variables mean here what they mean there, and win over files.
#[test]
fn the_reference_clients_variables_are_understood() {
    let place = Place::new();
    let variables = [
        ("WA_DB_HOSTNAME", "192.0.2.7"),
        ("WA_DB_PORT", "33060"),
        ("WA_DB_USERNAME", "wa@home"),
        ("WA_DB_PASSWORD", "p/w#1"),
        ("WA_DB_NAME_PREFIX", "shop_"),
        ("WA_DB_SSL_CA", "/ca.pem"),
        ("WA_API_KEY", "twelve-chars"),
        ("COREAPP_HOSTNAME", "192.0.2.8"),
        ("COREAPP_EXTERNAL_PORTS", "7250,7251,7252,7253"),
    ];
    let text = format!(
        "{NUMBER}[database]\nurls = [\"mysql://a@192.0.2.9/b\"]\n[node]\nhostname = \"x\"\n"
    );
    let loaded = place.load(Role::Coreapp, &text, &variables).expect("valid");
    let s = &loaded.settings;
    let url = url::Url::parse(&s.database.urls[0]).expect("a URL");
    assert_eq!(
        url.as_str(),
        "mysql://wa%40home:p%2Fw%231@192.0.2.7:33060/shop_wa"
    );
    assert_eq!(s.node.as_str(), "192.0.2.8:coreapp-1");
    assert_eq!(s.advertise.to_string(), "192.0.2.8");
    assert_eq!((s.ports.heartbeat, s.ports.health), (7250, 7253));
    assert_eq!(s.database.ssl_ca.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(
        loaded.origins["database.urls"].1,
        "environment WA_DB_HOSTNAME"
    );
    let printed = format!("{:?}", loaded.origins);
    assert!(
        !printed.contains("p/w#1") && !printed.contains("p%2Fw") && !printed.contains("twelve")
    );
    for (name, value, sentence) in [
        ("WA_DB_ENGINE", "PGSQL", "only MYSQL"),
        ("WA_DB_PORT", "none", "no address"),
        ("WA_API_KEY", "short", "12 to 128"),
        ("COREAPP_EXTERNAL_PORTS", "6250;6251", "separated by commas"),
    ] {
        let variables = [("WA_DB_HOSTNAME", "192.0.2.7"), (name, value)];
        let error = place
            .load(Role::Coreapp, NUMBER, &variables)
            .expect_err(name)
            .to_string();
        assert!(error.contains(sentence), "{error}");
    }
}

/// Goal: every default of every profile keeps every rule, for every role.
#[test]
fn every_profile_keeps_the_rules() {
    let place = Place::new();
    for profile in PROFILE_NAMES {
        for role in [Role::Master, Role::Coreapp, Role::Webapp, Role::Host] {
            let text = format!("[timers]\nprofile = {profile:?}\n{NUMBER}");
            let loaded = place.load(role, &text, &[]).expect(profile);
            let t = &loaded.settings.timers;
            assert!(
                t.hold_timeout
                    > worst_cases(t, false)
                        .iter()
                        .map(|c| c.takeover)
                        .max()
                        .unwrap_or_default()
            );
        }
    }
}

/// Goal: a host agent never makes a printed worst case longer, and takeover covers detection and fencing.
#[test]
fn worst_cases_are_ordered() {
    let place = Place::new();
    for profile in PROFILE_NAMES {
        let text = format!("[timers]\nprofile = {profile:?}\n");
        let t = place
            .load(Role::Master, &text, &[])
            .expect("valid")
            .settings
            .timers;
        for (with, without) in worst_cases(&t, true).iter().zip(worst_cases(&t, false)) {
            assert_eq!(with.class, without.class);
            assert!(
                with.takeover <= without.takeover,
                "{profile}: {}",
                with.class
            );
            assert!(with.takeover >= with.detection && with.takeover >= with.fencing);
        }
    }
}

#[test]
fn spans_may_be_written_as_people_do() {
    for (text, ms) in [
        ("\"0.5s\"", 500),
        ("0.02", 20),
        ("\"50ms\"", 50),
        ("3", 3000),
        ("\"2m\"", 120_000),
        ("\"1s 500ms\"", 1500),
    ] {
        let f = parse(Path::new("x"), &format!("[timers]\nlease_ttl = {text}\n")).expect(text);
        assert_eq!(f.timers.lease_ttl, Some(Span(Duration::from_millis(ms))));
    }
}

#[test]
fn ports_follow_the_rule() {
    assert_eq!(ports_by_rule(Role::Coreapp, 2, 0).expect("ports")[2], 6262);
    assert_eq!(ports_by_rule(Role::Master, 1, 0).expect("ports")[0], 6254);
    assert_eq!(
        ports_by_rule(Role::Webapp, 2, 0).expect("ports"),
        [9291, 0, 9091, 9191]
    );
    assert!(ports_by_rule(Role::Coreapp, 0, 0).is_err());
    assert!(ports_by_rule(Role::Coreapp, 101, 0).is_err());
    // A hundred instances of every role on one machine: no port twice.
    let mut seen = std::collections::BTreeSet::new();
    for instance in 1..=100 {
        for role in [Role::Coreapp, Role::Master, Role::Webapp] {
            for port in ports_by_rule(role, instance, 1000).expect("ports") {
                assert!(port == 0 || seen.insert(port), "{port} twice");
            }
        }
    }
}

const SHIPPED: &str = include_str!("../../../etc/wa-agent/wa-agent.toml");

/// The shipped file with its defaults uncommented: `#key = value`, prose is `# words`.
fn uncommented() -> String {
    let lines = SHIPPED.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Goal: the shipped file names every key that exists, and no other.
#[test]
fn the_shipped_file_names_every_key() {
    let written: toml::Table = toml::from_str(&uncommented()).expect("valid TOML");
    parse(Path::new("wa-agent.toml"), &uncommented()).expect("known keys with fit values");
    let known_in = |text: &str| {
        let error = toml::from_str::<Fragment>(text)
            .expect_err("an unknown key")
            .to_string();
        // serde lists one or two names in other words, but always in backquotes.
        unknown_field(&error).expect("serde names the known keys").1
    };
    for section in known_in("zzz = 1") {
        let keys = written[&section].as_table().expect("a section");
        for key in known_in(&format!("[{section}]\nzzz = 1")) {
            assert!(
                keys.contains_key(&key),
                "[{section}] {key} is missing in etc/wa-agent/wa-agent.toml"
            );
        }
    }
}

/// Goal (F17, and nobody hears anybody): an IPv6 address of the database or of the node is as good as any other. Method: in
/// brackets and without them; the address to listen on is of the family that others send to.
#[test]
fn f17_addresses_of_ipv6() {
    let place = Place::new();
    for host in ["2001:db8::5", "[2001:db8::5]"] {
        let variables = [("WA_DB_HOSTNAME", host), ("WA_DB_PORT", "3307")];
        let text = format!("{NUMBER}[node]\nadvertise = \"2001:db8::9\"\n");
        let loaded = place.load(Role::Coreapp, &text, &variables).expect("valid");
        let s = &loaded.settings;
        assert_eq!(s.database.urls, ["mysql://root@[2001:db8::5]:3307/wa"]);
        assert_eq!(s.bind.to_string(), "::", "{host}");
    }
    let both = "[node]\nbind = \"::\"\nadvertise = \"192.0.2.1\"\n";
    let loaded = place.load(Role::Coreapp, &format!("{NUMBER}{both}"), &[]);
    assert!(loaded.is_ok(), "it hears both families");
}

/// Goal: the defaults that the shipped file shows are those of the code.
#[test]
fn the_shipped_defaults_are_the_codes() {
    let place = Place::new();
    // Examples, not defaults: what differs per machine, names a file, or stands for the port rule.
    let example = |key: &str| {
        key.ends_with("_file")
            || key.contains("tls_")
            || key.contains("ssl_")
            || key == "webhooks.ca"
            || key == "upstream.ca"
            || ["hostname", "advertise", "metrics_bind", "machine", "zone"]
                .iter()
                .any(|k| key == format!("node.{k}"))
    };
    let shown: toml::Table = toml::from_str(&uncommented()).expect("valid TOML");
    let mut kept = toml::Table::new();
    for (section, keys) in shown {
        let keys = keys.as_table().expect("a section").clone();
        let keys = keys
            .into_iter()
            .filter(|(key, _)| !example(&format!("{section}.{key}")));
        let keys = keys.collect();
        kept.insert(section, toml::Value::Table(keys));
    }
    let text = toml::to_string(&kept).expect("TOML");
    // Development, so that the empty number of the example is let through.
    let relaxed = text.replace("development = false", "development = true");
    let written = place.load(Role::Coreapp, &relaxed, &[]).expect("valid");
    let default = place
        .load(Role::Coreapp, "[cluster]\ndevelopment = true", &[])
        .expect("valid");
    for (key, (value, _)) in &default.origins {
        assert_eq!(&written.origins[key].0, value, "{key}");
    }
    assert!(SHIPPED.contains("#development = false"));
}

/// Goal: health and metrics are shown where the others are told to send, and on loopback; what is written wins. Method: a table.
#[test]
fn health_has_few_addresses() {
    let place = Place::new();
    let all = |node: &str| {
        let text = format!("{NUMBER}[node]\n{node}\n");
        let loaded = place.load(Role::Coreapp, &text, &[]).expect("valid");
        let at = loaded.settings.health_addresses();
        let shown = |address: &SocketAddr| address.ip().to_string();
        let beside: Vec<String> = at.beside.iter().map(shown).collect();
        let instead = at.instead.as_ref().map(shown).unwrap_or_default();
        format!("{} or {instead:?}, {}", shown(&at.main), beside.join(" "))
    };
    for (node, addresses) in [
        (
            "advertise = \"192.0.2.1\"",
            "192.0.2.1 or \"0.0.0.0\", 127.0.0.1",
        ),
        (
            "advertise = \"2001:db8::9\"",
            "2001:db8::9 or \"::\", 127.0.0.1 ::1",
        ),
        ("bind = \"192.0.2.2\"", "192.0.2.2 or \"\", 127.0.0.1"),
        ("advertise = \"127.0.0.1\"", "127.0.0.1 or \"0.0.0.0\", "),
        (
            "advertise = \"192.0.2.1\"\nmetrics_bind = \"0.0.0.0\"",
            "0.0.0.0 or \"\", ",
        ),
        (
            "advertise = \"192.0.2.1\"\nmetrics_bind = \"192.0.2.7\"",
            "192.0.2.7 or \"\", 127.0.0.1",
        ),
    ] {
        assert_eq!(all(node), addresses, "{node}");
    }
}
