//! Five booted machines, a database and an upstream in one network, and what happens to networks.
//! Judges by what clients and the upstream saw; times are printed, never judged.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use wa_agent::sys::clock;

use crate::lan::Lan;
use crate::machine::{Layer, Machine, impossible, quiet, until, wall_ns};
use crate::{packages, program, skipped, traffic};

/// For anything that takes seconds when nothing else runs.
const LATE: Duration = Duration::from_secs(120);

const DATABASE: u8 = 41;
const UPSTREAM: u8 = 42;
/// Hosts, last numbers of their addresses, units.
const MACHINES: [(&str, u8, &str); 5] = [
    ("master1", 11, "wa-master@1"),
    ("master2", 12, "wa-master@1"),
    ("core1", 21, "wa-coreapp@1"),
    ("core2", 22, "wa-coreapp@1"),
    ("web1", 31, "wa-webapp@1"),
];

/// The same on every machine, but for the words in capitals; the keys are made once and copied.
const CONFIGURE: &str = r#"set -e
cd /etc/wa-agent/credentials
umask 077
cp /srv/keys/* .
printf simulator-token >upstream-token
printf simulator-app-secret >app-secret
printf simulator-verify >verify-token
printf twelve-and-more >api-key
umask 022
cat >/etc/wa-agent/conf.d/10-here.toml <<TEXT
[cluster]
development = true
fence = "FENCE"
[database]
urls = ["mysql://wa@10.77.0.41:3306/wa"]
[timers]
profile = "PROFILE"
[upstream]
base_url = "http://10.77.0.42:9280"
phone_number_id = "100200300"
TEXT"#;

/// A program that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The database and the upstream: programs in namespaces of their own.
pub struct Services {
    database: Ends,
    _upstream: Ends,
    upstream_at: String,
    _data: tempfile::TempDir,
}

impl Services {
    pub fn start(lan: &Lan) -> Result<Self, String> {
        let data = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = |name: &str| data.path().join(name).display().to_string();
        quiet(
            Command::new(program("mariadb-install-db").ok_or("no mariadb-install-db")?)
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .args(["--skip-test-db", "--user=root"])
                .arg(format!("--datadir={}", at("data"))),
        )?;
        // One for the cluster, and one as the old client has it.
        let accounts = "CREATE DATABASE wa;\nCREATE USER wa@'%';\nGRANT ALL ON wa.* TO wa@'%';\n\
            CREATE USER whatsapp@'%' IDENTIFIED BY 'old-secret';\nGRANT ALL ON *.* TO whatsapp@'%' WITH GRANT OPTION;\n";
        std::fs::write(at("init.sql"), accounts).map_err(|e| e.to_string())?;
        let place = lan.place("database", DATABASE)?;
        let server = program("mariadbd").ok_or("no mariadbd")?;
        let database = Lan::within(&place, &server.display().to_string())
            .args(["--no-defaults", "--user=root", "--skip-name-resolve"])
            .args(["--bind-address=0.0.0.0", "--port=3306"])
            .args([
                "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=16M",
            ])
            .arg(format!("--datadir={}", at("data")))
            .arg(format!("--socket={}", at("socket")))
            .arg(format!("--pid-file={}", at("pid")))
            .arg(format!("--log-error={}", at("log")))
            .arg(format!("--init-file={}", at("init.sql")))
            .spawn()
            .map_err(|e| e.to_string())?;
        let upstream_at = lan.place("upstream", UPSTREAM)?;
        let upstream = Lan::within(&upstream_at, env!("CARGO_BIN_EXE_wa-agent"))
            .args(["simulator", "--listen"])
            .arg(format!("{}:9280", Lan::address(UPSTREAM)))
            .arg("--webhook")
            .arg(format!("http://{}:9090/cloud/webhook", Lan::address(31)))
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        Ok(Self {
            database: Ends(database),
            _upstream: Ends(upstream),
            upstream_at,
            _data: data,
        })
    }

    /// What the upstream saw.
    fn report(&self) -> Value {
        let output = Lan::within(&self.upstream_at, "curl")
            .arg("-sS")
            .arg(format!(
                "http://{}:9280/admin/report",
                Lan::address(UPSTREAM)
            ))
            .output()
            .expect("curl starts");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Stops the server's threads, and lets them go on.
    fn freeze(&self, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let pid = i32::try_from(self.database.0.id()).expect("a pid");
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        kill(nix::unistd::Pid::from_raw(pid), signal).expect("it runs");
    }
}

/// All of it.
pub struct Cluster {
    machines: Vec<Machine>,
    services: Services,
    _layer: Layer,
    lan: Lan,
}

impl Cluster {
    /// Boots all machines with this package and starts what each is for.
    pub fn boot(deb: &Path, profile: &str, fence: &str) -> Result<Self, String> {
        let lan = Lan::new()?;
        let layer = Layer::with_package(deb)?;
        let services = Services::start(&lan)?;
        let keys = tempfile::tempdir().map_err(|e| e.to_string())?;
        let agent = |words: &[&str]| {
            quiet(
                Command::new(env!("CARGO_BIN_EXE_wa-agent"))
                    .current_dir(keys.path())
                    .args(words),
            )
        };
        agent(&["keygen", "--out", "cluster-key"])?;
        agent(&[
            "keygen",
            "--webapp-of",
            "cluster-key",
            "--out",
            "webapp-key",
        ])?;
        let mut machines = Vec::new();
        for (host, address, unit) in MACHINES {
            let machine = Machine::boot_in(&lan, &layer, host, address)?;
            let place = machine.tree().join("srv/keys");
            std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
            // A machine with webapps only holds their part of the key.
            let whole = (!unit.starts_with("wa-webapp")).then_some("cluster-key");
            for key in whole.into_iter().chain(["webapp-key"]) {
                std::fs::copy(keys.path().join(key), place.join(key)).map_err(|e| e.to_string())?;
            }
            machine.run(
                &CONFIGURE
                    .replace("PROFILE", profile)
                    .replace("FENCE", fence),
            );
            machines.push(machine);
        }
        let of_masters_and_coreapps = machines
            .iter()
            .zip(MACHINES)
            .filter(|(_, (.., unit))| !unit.starts_with("wa-webapp"));
        for (machine, (_, _, unit)) in of_masters_and_coreapps {
            machine.run(&format!(
                "systemctl enable -q {unit} && systemctl start --no-block {unit}"
            ));
        }
        Ok(Self {
            machines,
            services,
            _layer: layer,
            lan,
        })
    }

    /// Waits until every unit is active, and starts the client.
    pub fn started(&self) {
        for (machine, (host, _, unit)) in self.machines.iter().zip(MACHINES) {
            if host != "web1" {
                machine.all_active(&format!("{unit} wa-host"));
            }
        }
        self.web_joined();
        traffic::start(self.web());
    }

    /// The machine with a webapp only joins by what is typed, though it has a configuration already.
    fn web_joined(&self) {
        let web = self.web();
        web.run(
            "wa-agent setup --join mysql://wa@10.77.0.41:3306/wa --roles webapp --behind-proxy 192.0.2.7 --no-input --replace >/run/setup.log || \
             { cat /run/setup.log; exit 1; }",
        );
        web.run("$(grep -o 'systemctl enable --now .*' /run/setup.log)");
        web.all_active("wa-webapp@1");
    }

    fn machine(&self, host: &str) -> &Machine {
        self.machines
            .iter()
            .find(|machine| machine.hostname() == host)
            .expect("one of ours")
    }

    pub fn web(&self) -> &Machine {
        self.machine("web1")
    }

    /// What the primary master says, asked where nothing is broken.
    fn status(&self) -> Value {
        let text = self.web().try_run("wa-agent status --json").1;
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The host that owns the shard, once one does and another one stands by.
    fn owner(&self) -> &'static str {
        let mut owner = None;
        let mut last = Value::Null;
        let settled = until(LATE, || {
            last = self.status();
            let name = last["shards"][0]["owner"].as_str().unwrap_or_default();
            owner = ["core1", "core2"]
                .into_iter()
                .find(|host| name.starts_with(host));
            let phase = last["shards"][0]["phase"].as_str();
            owner.is_some() && phase == Some("active") && !last.to_string().contains("no standby")
        });
        assert!(settled, "no owner with a standby: {last:#}");
        owner.expect("it was found")
    }

    /// Waits until nobody has moved for so long: what boots beside them takes the processors from coreapps, and a profile may
    /// be faster than that allows.
    pub fn at_rest(&self, quiet: Duration) {
        let (mut epoch, mut since) = (0, clock::now());
        let rested = until(LATE, || {
            self.owner();
            let now = self.epoch();
            if now != epoch {
                (epoch, since) = (now, clock::now());
            }
            clock::now().since(since) > quiet
        });
        assert!(rested, "they go on moving\n{}", self.story());
    }

    /// The longest time without an answer around a takeover: from a moment before the fault until the next epoch serves.
    fn outage_ms(&self, from: u64, before: u64) -> u64 {
        let moved = until(LATE, || self.epoch() > before);
        assert!(moved, "nobody took over within {LATE:?}\n{}", self.story());
        traffic::outage_ms(self.web(), from, wall_ns())
    }

    /// The epoch that serves; 0 while none does.
    fn epoch(&self) -> u64 {
        let shard = &self.status()["shards"][0];
        match shard["phase"].as_str() {
            Some("active") => shard["epoch"].as_u64().unwrap_or(0),
            _ => 0,
        }
    }

    /// The last words of everybody, for a test that fails.
    fn story(&self) -> String {
        let mut story = format!("{:#}\n", self.status());
        for machine in &self.machines {
            let (_, journal) =
                machine.try_run("journalctl -o short-precise -t wa-agent -n 15 --no-pager");
            story.push_str(&format!("== {}\n{journal}\n", machine.hostname()));
        }
        let traffic = "tail -n 5 /run/traffic.log; journalctl -u traffic -o cat -n 3 --no-pager";
        story + &self.web().try_run(traffic).1
    }

    /// Everything accepted arrives, once, and never from two.
    pub fn nothing_lost_or_doubled(&self) {
        let accepted = traffic::sent(self.web())
            .iter()
            .filter(|request| request.good())
            .count();
        let mut report = Value::Null;
        let arrived = until(LATE, || {
            report = self.services.report();
            report["unique"].as_u64() >= Some(accepted as u64)
        });
        assert!(
            arrived,
            "{accepted} accepted, the upstream saw {report}\n{}",
            self.story()
        );
        assert_eq!(report["double_primary"], 0, "{report}");
        assert_eq!(report["banned"], false, "{report}");
    }
}

/// Whose power is cut, whose cable is pulled, who is cut off one way: the owner, each time.
pub fn machine_killed(cluster: &mut Cluster) -> u64 {
    let owner = cluster.owner();
    let at = cluster
        .machines
        .iter()
        .position(|machine| machine.hostname() == owner)
        .expect("one of ours");
    let (from, before) = (wall_ns(), cluster.epoch());
    // A machine without power answers nothing, not even that nobody listens.
    cluster.lan.cable(owner, false);
    cluster.machines[at].crash();
    cluster.lan.forget(cluster.machines[at].namespace());
    let outage = cluster.outage_ms(from, before);
    cluster.lan.cable(owner, true);
    let machine = cluster.machines.remove(at).boot_again().expect("it boots");
    cluster.machines.insert(at, machine);
    outage
}

pub fn cable_pulled(cluster: &Cluster) -> u64 {
    let owner = cluster.owner();
    let (from, before) = (wall_ns(), cluster.epoch());
    cluster.lan.cable(owner, false);
    let outage = cluster.outage_ms(from, before);
    cluster.lan.cable(owner, true);
    outage
}

fn one_way(cluster: &Cluster) -> u64 {
    let owner = cluster.owner();
    // It hears everybody, and nobody hears it.
    let (from, before) = (wall_ns(), cluster.epoch());
    let others = ["master1", "master2", "web1", "database", "upstream"];
    for other in others {
        cluster.lan.cut(owner, other);
    }
    let outage = cluster.outage_ms(from, before);
    cluster.lan.mend();
    outage
}

/// How long nobody was answered, and how many requests were told so.
fn database_stopped(cluster: &Cluster) -> (u64, usize) {
    cluster.owner();
    let before = traffic::failed(cluster.web()).len();
    let from = wall_ns();
    cluster.services.freeze(true);
    std::thread::sleep(Duration::from_secs(10));
    cluster.services.freeze(false);
    let outage = traffic::outage_ms(cluster.web(), from, wall_ns());
    cluster.owner();
    (outage, traffic::failed(cluster.web()).len() - before)
}

/// A program that such a network needs and that is not here.
pub fn missing() -> Option<&'static str> {
    ["dpkg-shlibdeps", "nft", "mariadbd", "curl"]
        .into_iter()
        .find(|needed| program(needed).is_none())
}

/// Goal: on a network of machines nothing is lost, sent twice by two owners, or refused, whichever machine, cable or
/// direction fails. Method: the owner's machine each time, under traffic; a database that stands still for 10 s.
#[test]
fn machines_cables_and_directions_fail() {
    let what = "a network of booted machines";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if let Some(needed) = missing() {
        return skipped(what, &format!("{needed} is not installed"));
    }
    let mut cluster = Cluster::boot(packages::deb(), "standard", "best-effort").expect("it boots");
    cluster.started();

    let killed = machine_killed(&mut cluster);
    let pulled = cable_pulled(&cluster);
    let deaf = one_way(&cluster);
    assert_eq!(traffic::failed(cluster.web()), [], "requests failed");
    cluster.nothing_lost_or_doubled();
    let (stopped, refused) = database_stopped(&cluster);
    cluster.web().run("systemctl stop traffic");
    cluster.nothing_lost_or_doubled();
    println!(
        "profile standard, ms until the next answer: machine killed {killed}, cable pulled {pulled}, heard by nobody {deaf}, \
         database stopped for 10 s {stopped} ({refused} requests refused)"
    );
}
