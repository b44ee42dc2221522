//! Goal: from nothing to a cluster of two machines by the commands that an administrator types, and no second cluster on
//! its database. Method: the real binary with a folder for each machine, a private MariaDB, and a real master between them.

#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::drill;
use crate::mariadb::{self, Server};

/// A machine: a folder instead of /.
pub struct Machine(tempfile::TempDir);

impl Machine {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Exit code and everything that was said.
    pub fn type_(&self, verb: &str, words: &[&str]) -> (i32, String) {
        let mut command = wa_agent();
        command
            .arg(verb)
            .args(words)
            .arg("--root")
            .arg(self.0.path());
        if verb == "setup" {
            // Whatever listens on this machine is another test's business.
            command.arg("--force");
            let said = |word: &&str| word.starts_with("--first-") || *word == "--join";
            if !words.iter().any(said) {
                command.args(["--first-password", "secret"]);
            }
        }
        let output = command.output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    pub fn secrets(&self) -> Vec<String> {
        ["token", "app-secret"]
            .iter()
            .flat_map(|name| {
                let path = self.path(name);
                std::fs::write(&path, format!("planted-{name}")).expect("written");
                [format!("--{name}-file"), path.display().to_string()]
            })
            .collect()
    }
}

pub fn wa_agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wa-agent"));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::null());
    command
}

/// A master on what `setup` wrote below the folder, on ports of its own.
struct Master(Child);

impl Master {
    fn start(machine: &Machine, name: &str, user: &str, server: &Server) -> Self {
        let credential = |name: &str| machine.path(&format!("etc/wa-agent/credentials/{name}"));
        let text = format!(
            "[cluster]\nname = {name:?}\nkey_file = {:?}\n[node]\nhostname = \"core1\"\nadvertise = \"127.0.0.1\"\nstate_directory = {:?}\n\
             [database]\nurls = [\"mysql://{user}@127.0.0.1:{}/{user}\"]\npassword_file = {:?}\n[ports]\noffset = {}\n\
             [upstream]\nphone_number_id = \"100200300\"\n",
            credential("cluster-key"),
            machine.path("state"),
            server.port,
            credential("database-password"),
            // Not from those that the kernel gives away: another test could be given one in between.
            drill::port() - 9090,
        );
        let file = machine.path(&format!("{name}.toml"));
        std::fs::write(&file, text).expect("written");
        let log = std::fs::File::create(machine.path("log")).expect("a file");
        let child = wa_agent()
            .args(["master", "--config"])
            .arg(&file)
            .stderr(log.try_clone().expect("a descriptor"))
            .stdout(log)
            .spawn()
            .expect("it starts");
        Self(child)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut asked: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match asked() {
            Ok(()) => return,
            Err(said) if Instant::now() > end => panic!("not within a minute: {what}: {said}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

pub fn words<'a>(fixed: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    fixed
        .iter()
        .copied()
        .chain(more.iter().map(String::as_str))
        .collect()
}

fn copy_credentials(from: &Machine, to: &Machine, names: &[&str]) {
    let folder = "etc/wa-agent/credentials";
    // As scp would into a folder that somebody made by hand: setup makes it private.
    std::fs::create_dir_all(to.path(folder)).expect("made");
    for name in names {
        let name = format!("{folder}/{name}");
        std::fs::copy(from.path(&name), to.path(&name)).expect("copied");
    }
}

/// `0600`, `0700`.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

/// Secrets are private, and the password is in no configuration.
fn private(first: &Machine) -> String {
    let credentials = first.path("etc/wa-agent/credentials");
    assert_eq!(mode(&credentials), 0o700);
    for name in [
        "cluster-key",
        "webapp-key",
        "database-password",
        "upstream-token",
        "app-secret",
        "verify-token",
    ] {
        assert_eq!(mode(&credentials.join(name)), 0o600, "{name}");
    }
    let fragment = first.read("etc/wa-agent/conf.d/10-setup.toml");
    let password = first.read("etc/wa-agent/credentials/database-password");
    assert!(
        fragment.contains("mysql://wa@127.0.0.1") && !fragment.contains(password.trim()),
        "{fragment}"
    );
    password
}

/// The first machine; the password of its database user.
fn first_machine(first: &Machine, server: &Server) -> String {
    let admin = format!("mysql://root@127.0.0.1:{}", server.port);
    let secrets = first.secrets();
    // A dry run shows the files, no secret, and changes nothing.
    let fixed = [
        "--single",
        "--phone-number-id",
        "100200300",
        "--cluster",
        "shop",
        "--database-admin",
        &admin,
    ];
    let asked = words(&fixed, &secrets);
    let (code, said) = first.type_("setup", &[&asked[..], &["--dry-run"]].concat());
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("name = \"shop\"") && !said.contains("planted-"),
        "{said}"
    );
    assert!(!first.path("etc").exists(), "a dry run wrote something");

    let (code, said) = first.type_("setup", &asked);
    assert_eq!(code, 0, "{said}");
    for part in [
        "made database wa and user wa",
        "systemctl enable --now wa-host wa-master@1 wa-coreapp@1 wa-webapp@1",
        "0 bad",
        // Measured, with the figures of each profile.
        "the fastest that this machine sustains",
        "profile standard; another by",
        "curl -k -u admin:secret -X POST https://localhost:9090/v1/users/login",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let password = private(first);
    let fragment = first.read("etc/wa-agent/conf.d/10-setup.toml");
    // Again, by the same words and by none: nothing changes.
    for again in [&asked[..], &["--single"]] {
        let (code, said) = first.type_("setup", again);
        assert!(
            code == 0 && said.contains("everything is there already"),
            "{said}"
        );
    }
    assert_eq!(first.read("etc/wa-agent/conf.d/10-setup.toml"), fragment);
    password.trim().to_owned()
}

/// Until the first master has run there is no cluster to join; then it says how its key gets here.
fn not_yet(
    first: &Machine,
    second: &Machine,
    server: &Server,
    url: &str,
    password: &str,
) -> Master {
    // Joining before the first master has run is refused with the reason.
    let (code, said) = second.type_("setup", &["--join", url]);
    assert!(
        code == 1 && said.contains("holds no cluster yet") && !said.contains(password),
        "{said}"
    );

    // The first start makes the schema with the rights that the user got, and writes down whose database it is.
    let master = Master::start(first, "shop", "wa", server);
    until("the cluster is known", || {
        let (_, said) = second.type_("setup", &["--join", url]);
        // The database has a name before the master is entered in the list of nodes: then nobody knows whose key it is.
        let known = said.contains("cluster-key of this cluster is not here")
            && said.contains("scp 'root@127.0.0.1:/etc/wa-agent/credentials/cluster-key'");
        known.then_some(()).ok_or(said + &first.read("log"))
    });
    master
}

/// A key of another cluster is refused; the right one joins, and takes name and number from the database.
fn joined(first: &Machine, second: &Machine, url: &str) {
    copy_credentials(
        first,
        second,
        &["upstream-token", "app-secret", "verify-token"],
    );
    std::fs::write(
        second.path("etc/wa-agent/credentials/cluster-key"),
        "5a".repeat(32),
    )
    .expect("written");
    let (code, said) = second.type_("setup", &["--join", url]);
    assert!(
        code == 1 && said.contains("is not the key of cluster \"shop\""),
        "{said}"
    );
    copy_credentials(first, second, &["cluster-key"]);
    let (code, said) = second.type_("setup", &["--join", url, "--profile", "standard"]);
    assert_eq!(code, 0, "{said}");
    let fragment = second.read("etc/wa-agent/conf.d/10-setup.toml");
    assert!(
        fragment.contains("name = \"shop\"") && fragment.contains("100200300"),
        "{fragment}"
    );
}

/// Each role alone, and each pair: only what the role needs has to be brought, and the printed line starts what can start.
fn one_role_per_machine(first: &Machine, url: &str) {
    let webapp = ["webapp-key", "app-secret", "verify-token"];
    for (roles, brought, units) in [
        ("webapp", &webapp[..], "wa-webapp@1"),
        ("master", &["cluster-key"][..], "wa-host wa-master@1"),
        (
            "coreapp",
            &["cluster-key", "upstream-token"][..],
            "wa-host wa-coreapp@1",
        ),
        (
            "master,coreapp",
            &["cluster-key", "upstream-token"][..],
            "wa-host wa-master@1 wa-coreapp@1",
        ),
        (
            "master,webapp",
            &["cluster-key", "app-secret", "verify-token"][..],
            "wa-host wa-master@1 wa-webapp@1",
        ),
    ] {
        let machine = Machine::new();
        let words = ["--join", url, "--roles", roles, "--advertise", "127.0.0.1"];
        let (code, said) = machine.type_("setup", &words);
        let key = brought[0];
        assert!(
            code == 1 && said.contains(&format!("{key} of this cluster is not here")),
            "{roles}: {said}"
        );
        copy_credentials(first, &machine, brought);
        let (code, said) = machine.type_("setup", &words);
        assert_eq!(code, 0, "{roles}: {said}");
        let start = format!("Start it:\n  systemctl enable --now {units}\n");
        assert!((said.clone() + "\n").contains(&start), "{roles}: {said}");
        // Followed, not measured.
        let fragment = machine.read("etc/wa-agent/conf.d/10-setup.toml");
        assert!(fragment.contains("profile = \"standard\""), "{fragment}");
        let here = |name: &str| machine.path("etc/wa-agent/credentials").join(name).exists();
        assert_eq!(here("cluster-key"), roles != "webapp", "{roles}");
        if roles == "webapp" {
            let (_, examined) = machine.type_("doctor", &[]);
            let start = "systemctl enable --now wa-webapp@1";
            assert!(examined.contains(start), "{examined}");
        }
        // As the line to type would do.
        let wants = machine.path("etc/systemd/system/multi-user.target.wants");
        std::fs::create_dir_all(&wants).expect("made");
        for unit in units.split(' ') {
            std::fs::write(wants.join(format!("{unit}.service")), "").expect("written");
        }
        let (_, examined) = machine.type_("doctor", &[]);
        let speaks = |of: &str| said.contains(of) || examined.contains(of);
        assert_eq!(
            speaks("fence"),
            roles.contains("coreapp"),
            "{roles}: {said}{examined}"
        );
        assert_eq!(
            speaks("realtime"),
            roles != "webapp",
            "{roles}: {said}{examined}"
        );
        if roles == "webapp" {
            assert!(!speaks("coreapp") && !speaks("wa-host"), "{said}{examined}");
            // Nobody has logged in: whoever comes first takes the API.
            let first = "curl -k -u admin:secret -X POST https://localhost:9090/v1/users/login";
            assert!(examined.contains(first), "{examined}");
        }
    }
}

/// With the webapps' part of the key one looks; a verb that changes something says so; another key is told as such. None of
/// them is told that no master answers.
fn looking_from_a_webapp(first: &Machine, server: &Server) {
    let credential = |name: &str| first.path(&format!("etc/wa-agent/credentials/{name}"));
    std::fs::write(credential("other-key"), "5a".repeat(32)).expect("written");
    let config = |key: &Path| {
        let text = format!(
            "[cluster]\nname = \"shop\"\nkey_file = {key:?}\n[node]\nadvertise = \"127.0.0.1\"\n\
             [database]\nurls = [\"mysql://wa@127.0.0.1:{}/wa\"]\npassword_file = {:?}\n[upstream]\nphone_number_id = \"100200300\"\n\
             app_secret_file = {:?}\nverify_token_file = {:?}\n",
            server.port,
            credential("database-password"),
            credential("app-secret"),
            credential("verify-token"),
        );
        let file = first.path("look.toml");
        std::fs::write(&file, text).expect("written");
        file
    };
    let typed = |words: &[&str], file: &Path| {
        let mut command = wa_agent();
        command.args(words).arg("--config").arg(file);
        let output = command.output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let part = config(&credential("webapp-key"));
    until("the master answers who may look", || {
        let (code, said) = typed(&["status"], &part);
        // There is no coreapp yet, and it says so.
        let answered = code == Some(3) && said.contains("primary master core1:master-1");
        answered.then_some(()).ok_or(said)
    });
    for verb in [
        &["pause", "--for", "1m"][..],
        &["drain", "core1:coreapp-1"],
        &["switchover", "--shard", "0"],
        &["keys", "rotate"],
    ] {
        let (code, said) = typed(verb, &part);
        assert!(
            code == Some(1) && said.contains("only the webapps' part of the cluster key"),
            "{verb:?}: {said}"
        );
    }
    let other = config(&credential("other-key"));
    let refuses = "refuses the key of this machine";
    let unknown =
        "does not know the cluster key: it is no master of this cluster, or has another key";
    for (verb, why) in [
        (&["status"][..], refuses),
        (&["pause", "--for", "1m"], unknown),
        (&["switchover", "--shard", "0"], unknown),
    ] {
        let (code, said) = typed(verb, &other);
        let told = code == Some(69) && said.contains(why);
        assert!(told, "{verb:?}: {code:?} {said}");
    }
}

/// A second cluster, and a second number, on this database are refused: by setup, and by a master that starts all the same.
fn no_second_cluster(first: &Machine, second: &Machine, server: &Server, url: &str) {
    let third = Machine::new();
    for (name, number) in [("kiosk", "100200300"), ("shop", "999")] {
        let asked = [
            "--single",
            "--database",
            url,
            "--cluster",
            name,
            "--phone-number-id",
            number,
        ];
        let (code, said) = third.type_("setup", &asked);
        assert!(
            code == 1 && said.contains("this database belongs to"),
            "{said}"
        );
    }
    copy_credentials(first, second, &["database-password"]);
    let kiosk = Master::start(second, "kiosk", "wa", server);
    until("a master of another cluster is refused", || {
        let said = second.read("log");
        said.contains("this database belongs to cluster \\\"shop\\\"")
            .then_some(())
            .or_else(|| {
                said.contains("this database belongs to cluster \"shop\"")
                    .then_some(())
            })
            .ok_or(said)
    });
    drop(kiosk);
}

#[test]
fn two_machines_and_no_second_cluster() {
    if let Some(why) = mariadb::missing() {
        return crate::skipped("setup on MariaDB", &why);
    }
    let server = Server::start().expect("a server");
    let (first, second) = (Machine::new(), Machine::new());
    let password = first_machine(&first, &server);
    let url = format!("mysql://wa:{password}@127.0.0.1:{}/wa", server.port);
    let _master = not_yet(&first, &second, &server, &url, &password);
    joined(&first, &second, &url);
    one_role_per_machine(&first, &url);
    looking_from_a_webapp(&first, &server);
    no_second_cluster(&first, &second, &server, &url);
}

/// Goal: the socket of a local server is enough; a user that is there is not taken over; settings that void a promise and
/// open secrets are bad. Method: a private MariaDB whose root comes by its socket, as packages set it up.
#[test]
fn by_the_socket_of_a_local_server() {
    if let Some(why) = mariadb::missing() {
        return crate::skipped("setup by a socket", &why);
    }
    let more = vec!["--innodb-flush-log-at-trx-commit=2".to_owned()];
    let directory = mariadb::directory().expect("a directory");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
        .expect("set");
    let server = Server::start_in(directory, more).expect("a server");
    let socket = server.path("s").display().to_string();
    let machine = Machine::new();
    let secrets = machine.secrets();
    let fixed = [
        "--single",
        "--phone-number-id",
        "1",
        "--database-name",
        "wc",
        "--database-user",
        "wc",
        "--database-socket",
        &socket,
    ];
    let asked = words(&fixed, &secrets);
    let (code, said) = machine.type_("setup", &asked);
    assert_eq!(code, 3, "a setting that voids a promise is bad: {said}");
    assert!(
        said.contains(
            "innodb_flush_log_at_trx_commit=2: a power cut loses messages that were answered 2xx"
        ),
        "{said}"
    );
    assert!(said.contains("made database wc and user wc"), "{said}");

    // Who lost the password does not get the user's, unless it is asked for.
    std::fs::remove_file(machine.path("etc/wa-agent/credentials/database-password"))
        .expect("removed");
    let (code, said) = machine.type_("setup", &asked);
    assert!(
        code == 1 && said.contains("--reset-database-password"),
        "{said}"
    );
    let (code, said) = machine.type_(
        "setup",
        &[&asked[..], &["--reset-database-password"]].concat(),
    );
    assert_eq!(code, 3, "{said}");

    let key = machine.path("etc/wa-agent/credentials/cluster-key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("set");
    let (code, said) = machine.type_("doctor", &["--json"]);
    assert_eq!(code, 3, "{said}");
    let checks: Vec<serde_json::Value> = serde_json::from_str(said.trim()).expect("JSON");
    let open = checks
        .iter()
        .find(|check| check["area"] == "credentials")
        .expect("looked at");
    assert_eq!(open["verdict"], "bad");
    assert!(
        open["advice"]
            .as_str()
            .is_some_and(|advice| advice.starts_with("chmod 600")),
        "{open}"
    );
}

/// Goal: one machine without a server runs on the embedded database; a second machine is refused with the way on.
#[test]
fn the_embedded_database_is_for_one_machine() {
    let machine = Machine::new();
    let secrets = machine.secrets();
    let (code, said) = machine.type_(
        "setup",
        &words(&["--sqlite", "--phone-number-id", "1"], &secrets),
    );
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("The database is a file on this machine"),
        "{said}"
    );
    let (code, said) = machine.type_(
        "setup",
        &["--join", "sqlite:///var/lib/wa-agent/store/wa.db"],
    );
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("a file on one machine") && said.contains("--database-socket"),
        "{said}"
    );
}

/// Goal: what is missing is named with the flag that gives it, and nothing is written.
#[test]
fn what_is_missing_is_named() {
    let machine = Machine::new();
    let (code, said) = machine.type_("setup", &["--sqlite"]);
    assert!(code == 1 && said.contains("--phone-number-id"), "{said}");
    let (code, said) = machine.type_("setup", &["--sqlite", "--phone-number-id", "1"]);
    assert!(
        code == 1 && said.contains("--token-file FILE --app-secret-file FILE"),
        "{said}"
    );
    assert!(!machine.path("etc").exists());
    let (code, said) = machine.type_("setup", &["--join", "http://core1:9090"]);
    assert!(code == 1 && said.contains("is no database URL"), "{said}");
}

/// Goal: the installed package can be tried without a number: one flag answers for the simulated upstream, its unit is in the
/// line to type, and nothing of the trial is taken for real afterwards. Method: the real binary with a folder as root.
#[test]
fn a_trial_with_the_simulated_upstream() {
    let machine = Machine::new();
    let asked = ["--single", "--sqlite", "--roles", "master,coreapp,webapp"];
    let (code, said) = machine.type_("setup", &[&asked[..], &["--simulator"]].concat());
    assert_eq!(code, 0, "{said}");
    for part in [
        "systemctl enable --now wa-simulator wa-host wa-master@1 wa-coreapp@1 wa-webapp@1",
        "Nothing reaches anybody",
        "the simulator of this package",
        "0 bad",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(
        machine
            .read("etc/wa-agent/credentials/upstream-token")
            .trim(),
        "simulator-token"
    );
    let (code, said) = machine.type_("setup", &asked);
    assert!(code == 1 && said.contains("--phone-number-id"), "{said}");
    let real = [&asked[..], &["--phone-number-id", "555"]].concat();
    let (code, said) = machine.type_("setup", &real);
    assert!(
        code == 1 && said.contains("missing: upstream-token, app-secret"),
        "{said}"
    );
    let secrets = machine.secrets();
    let real = words(&real, &secrets);
    let (code, said) = machine.type_("setup", &[&real[..], &["--replace"]].concat());
    assert_eq!(code, 0, "{said}");
    let fragment = machine.read("etc/wa-agent/conf.d/10-setup.toml");
    assert!(
        !fragment.contains("9280") && !fragment.contains("best-effort") && fragment.contains("555"),
        "{fragment}"
    );
    assert!(!said.contains("simulator"), "{said}");
}
