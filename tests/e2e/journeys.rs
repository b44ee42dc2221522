//! From the old client to this one, and the days after: what the README tells an administrator to type, on a booted Debian 12.
//! One machine with a database server and a simulated upstream beside it in its network.

use std::time::Duration;

use serde_json::Value;

use crate::lan::Lan;
use crate::machine::{Layer, Machine, impossible};
use crate::network::Services;
use crate::{packages, program, skipped};

/// For anything that takes seconds when nothing else runs.
const LATE: Duration = Duration::from_secs(120);
/// Where the upstream's webhooks go.
const HERE: u8 = 31;

/// The old client's files as its guides show them, and its volume as the container engine left it.
const OLD_CLIENT: &str = r#"set -e
mkdir -p /srv/old /var/lib/docker/volumes/old_whatsappMedia/_data/shared
cd /srv/old
cat >db.env <<TEXT
WA_DB_ENGINE=MYSQL
WA_DB_HOSTNAME=10.77.0.41
WA_DB_PORT=3306
WA_DB_USERNAME=whatsapp
WA_DB_PASSWORD=old-secret
WA_API_KEY=twelve-and-more
TEXT
cat >prod-docker-compose.yml <<TEXT
version: '3'
volumes:
  whatsappMedia:
    driver: local
services:
  wacore:
    image: docker.whatsapp.biz/coreapp:v2.53.6
    env_file: [db.env]
    environment: {WA_CONFIG_ON_DB: 1, WA_APP_MULTICONNECT: '1', COREAPP_HOSTNAME: 10.77.0.31}
    ports: ["6250-6253:6250-6253"]
    volumes: ["whatsappMedia:/usr/local/wamedia"]
  master:
    image: docker.whatsapp.biz/coreapp:v2.53.6
    env_file: [db.env]
    environment: {WA_MASTER_NODE: 1, COREAPP_HOSTNAME: 10.77.0.31}
    ports: ["6254-6257:6250-6253"]
    volumes: ["whatsappMedia:/usr/local/wamedia"]
  waweb:
    image: docker.whatsapp.biz/web:v2.53.6
    env_file: [db.env]
    environment: {WEBAPP_HOSTNAME: 10.77.0.31}
    ports: ["9090:443"]
    volumes: ["whatsappMedia:/usr/local/wamedia"]
TEXT
sed 's:whatsappMedia.:/data/media\::; /^volumes/,/driver/d' prod-docker-compose.yml >bind.yml
mkdir -p /data/media
mkdir -m 700 /run/brought; cd /run/brought
printf simulator-token >token; printf simulator-app-secret >secret; printf simulator-verify >verify
# For an upstream without TLS.
printf '[cluster]\ndevelopment = true\n' >/etc/wa-agent/conf.d/20-here.toml"#;

/// After the import: the Cloud API's side, and the database that the old server is to make.
const SET_UP: &str = "cd /run/brought && wa-agent setup --single --no-input --database-admin mysql://whatsapp:old-secret@10.77.0.41:3306 \
    --reset-database-password --phone-number-id 100200300 --token-file token --app-secret-file secret \
    --verify-token-file verify --profile standard --base-url http://10.77.0.42:9280 --first-password secret --replace >/run/setup.log || { cat /run/setup.log; exit 1; }
$(grep -o 'systemctl enable --now wa-host .*' /run/setup.log)";

/// A login; the first one sets the password, later ones use it.
const LOG_IN: &str = r#"cd /run
login() { curl -skS -u "admin:$1" -X POST https://127.0.0.1:9090/v1/users/login -H 'content-type: application/json' -d "$2"; }
{ login secret '{"new_password":"Try-it-0ut!"}'; login 'Try-it-0ut!' '{}'; } | sed -n 's/.*"token":"\([^"]*\)".*/\1/p' | head -1 >token
test -s token"#;

/// Everything runs, and the media directory does.
fn serves(machine: &Machine) {
    machine.all_active("wa-master@1 wa-coreapp@1 wa-webapp@1 wa-host");
    machine.wait(
        LATE,
        "systemctl show -p StatusText wa-coreapp@1 | grep -q 'primary of shard 0'",
    );
    machine.wait(LATE, LOG_IN);
}

/// A text goes out whatever the media do.
#[track_caller]
fn text(machine: &Machine) {
    machine.wait(
        LATE,
        "curl -skSf -H \"Authorization: Bearer $(cat /run/token)\" -H 'content-type: application/json' https://127.0.0.1:9090/v1/messages \
         -d '{\"to\":\"447700900123\",\"type\":\"text\",\"text\":{\"body\":\"hello\"}}'",
    );
}

/// Uploads something; says its id.
fn upload(machine: &Machine, folder: &str) {
    machine.run("echo offer-of-today >/run/offer.pdf");
    machine.wait(
        LATE,
        "curl -skSf -H \"Authorization: Bearer $(cat /run/token)\" -H 'Content-Type: application/pdf' --data-binary @/run/offer.pdf \
         https://127.0.0.1:9090/v1/media",
    );
    machine.run(&format!("grep -rq offer-of-today {folder}"));
}

/// The old volume becomes the media directory; what it lacks, `wa-agent status` says with what to type.
fn volume_attached(machine: &Machine) {
    machine.run(OLD_CLIENT);
    let shown = machine.run(
        "cd /srv/old && wa-agent import --env db.env --compose prod-docker-compose.yml --dry-run",
    );
    for part in [
        "volumes/old_whatsappMedia/_data",
        "WA_DB_PASSWORD",
        "wa-master@1",
    ] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    assert!(!shown.contains("old-secret"), "{shown}");
    machine.run("test ! -e /etc/wa-agent/conf.d/05-import.toml");
    let says = machine
        .run("cd /srv/old && wa-agent import --env db.env --compose prod-docker-compose.yml");
    assert!(says.contains("wa-agent setup --single"), "{says}");
    mounted(machine, &says);
    machine.run(SET_UP);
    serves(machine);
    text(machine);
    // The engine's volumes belong to root: the sentence of the status says what to type.
    machine.wait(LATE, "wa-agent status | grep -q 'chgrp wa-media'");
    machine.run("$(wa-agent status | grep -o 'chgrp wa-media /[^;]*' | head -1); $(wa-agent status | grep -o 'chmod 2770 /[^`]*' | head -1)");
    machine.wait(LATE, "! wa-agent status | grep -q 'chgrp wa-media'");
    upload(machine, "/var/lib/docker/volumes/old_whatsappMedia/_data");
}

/// Types what the import says about the mount.
fn mounted(machine: &Machine, said: &str) {
    let line = said.lines().find_map(|line| line.split_once("type: "));
    let (_, line) = line.expect("it says what to type");
    machine.run(&format!("set -e\n{line}\nfindmnt /var/lib/wamedia/shared"));
}

/// Goal: a media directory that is not mounted stops no text and no start, and `systemctl status` says what is wrong and
/// what to type. Method: the mount is taken away, roles are started without it, it comes back.
fn unmounted(machine: &Machine) {
    machine.run("systemctl stop var-lib-wamedia-shared.mount");
    machine.run("systemctl restart wa-coreapp@1 wa-webapp@1");
    serves(machine);
    for unit in ["wa-coreapp@1", "wa-webapp@1", "wa-host"] {
        machine.wait(
            LATE,
            &format!("systemctl status --no-pager -n 0 {unit} | grep -q 'nothing is mounted on /var/lib/wamedia/shared: type'"),
        );
    }
    text(machine);
    let refused = machine.run(
        "curl -skS -H \"Authorization: Bearer $(cat /run/token)\" -H 'Content-Type: application/pdf' --data-binary @/run/offer.pdf \
         https://127.0.0.1:9090/v1/media",
    );
    assert!(
        refused.contains("\"code\":1005") || refused.contains("\"code\":1011"),
        "{refused}"
    );
    machine.run("test -z \"$(ls -A /var/lib/wamedia/shared)\"");
    machine.run("systemctl start var-lib-wamedia-shared.mount");
    machine.wait(
        LATE,
        "! systemctl show -p StatusText wa-coreapp@1 wa-webapp@1 wa-host | grep -q mounted",
    );
}

/// Goal: a reload makes nobody root. Method: each role's user plants links in every directory of its own, to a folder and
/// to a file that only root could write; all units are reloaded; nothing came there, and the secrets that were laid can be
/// read by their role alone, in a folder in which no role can make names.
fn links_planted(machine: &Machine) {
    machine.run("mkdir -p /etc/planted");
    for role in ["master", "coreapp", "webapp"] {
        machine.run(&format!(
            "find /run /var/lib -xdev -user wa-{role} -type d >/run/owned; \
             while read -r folder; do for name in cluster-key .cluster-key key; do \
             runuser -u wa-{role} -- ln -sfn /etc/planted \"$folder/$name\"; done; \
             runuser -u wa-{role} -- ln -sfn /etc/planted/file \"$folder/database-password\"; done </run/owned; \
             test -s /run/owned && ! grep -q ^/run/wa-agent-keys /run/owned"
        ));
    }
    machine.run("systemctl reload wa-master@1 wa-coreapp@1 wa-webapp@1 wa-host");
    assert_eq!(machine.run("find /etc/planted -mindepth 1"), "");
    let laid = machine.run("find /run/wa-agent-keys -name cluster-key -printf '%m %u %h\\n' | sed 's/[.][0-9a-f]*$//' | sort");
    assert_eq!(
        laid.lines().collect::<Vec<_>>(),
        [
            "400 root /run/wa-agent-keys/host-1",
            "400 wa-coreapp /run/wa-agent-keys/coreapp-1",
            "400 wa-master /run/wa-agent-keys/master-1",
            "400 wa-webapp /run/wa-agent-keys/webapp-1",
        ]
    );
    let (made, _) = machine.try_run(
        "for role in master coreapp webapp; do for folder in /run/wa-agent-keys /run/wa-agent-keys/*; do \
         runuser -u wa-$role -- touch $folder/x 2>/dev/null && exit 0; done; done; exit 1",
    );
    assert!(!made, "a role makes names where root writes");
    machine.run("find /var/lib/wa-agent -type l -delete; rm -r /etc/planted /run/owned");
}

/// Goal: a new cluster key is in force without a restart, although the manager's copy of a credential is as old as the
/// start. Method: the rotation as the README says; the same processes run, and all of them sign with the new key only.
fn key_rotated(machine: &Machine) {
    let pids = "systemctl show -p MainPID --value wa-master@1 wa-coreapp@1 wa-webapp@1 wa-host";
    let keys = || -> Value {
        let said = machine.run("wa-agent keys rotate --status --json");
        serde_json::from_str(&said).expect("JSON")
    };
    let (before, old) = (machine.run(pids), keys());
    let rotated = machine.run(
        "wa-agent keys rotate --reason smoke --distribute \"systemctl reload 'wa-*@*' 'wa-host*'\"",
    );
    let new = keys();
    for node in new["nodes"].as_array().expect("nodes") {
        let (sends, accepts) = (&node["sends"], node["accepts"].as_array().expect("ids"));
        assert_eq!(
            accepts.iter().collect::<Vec<_>>(),
            [sends],
            "{rotated}\n{new}"
        );
        let before = old["nodes"].as_array().expect("nodes").iter();
        assert!(
            before.clone().all(|node| node["sends"] != *sends),
            "{rotated}\n{new}"
        );
    }
    assert_eq!(machine.run(pids), before, "something was restarted");
    machine.run("wa-agent status | grep -q 'primary of shard 0\\|core1'");
    text(machine);
    // A restart reads the manager's new copy.
    machine.run("systemctl restart wa-coreapp@1");
    serves(machine);
}

/// Copies what a sentence says to copy: `scp 'root@FIRST:FOLDER/{A,B}' FOLDER/`. Says whether it names something.
fn brought(said: &str, from: &Machine, to: &Machine) -> bool {
    let Some((_, what)) = said.split_once("scp 'root@10.77.0.31:") else {
        return false;
    };
    let path = what
        .split('\'')
        .next()
        .expect("quoted")
        .trim_start_matches('/');
    let (folder, names) = path.rsplit_once('/').expect("a path");
    for name in names.trim_matches(['{', '}']).split(',') {
        let file = std::path::Path::new(folder).join(name);
        std::fs::copy(from.tree().join(&file), to.tree().join(&file)).expect("copied");
    }
    true
}

/// Goal: a further machine joins with one line, which says what has to be brought and is then typed again. Method: a
/// second machine; what `scp` would bring is copied; the first one sees it, and says so when it is to be reset alone.
fn joined(first: &Machine, lan: &Lan, layer: &Layer) {
    let second = Machine::boot_in(lan, layer, "core2", 32).expect("it boots");
    second.run("printf '[cluster]\ndevelopment = true\n' >/etc/wa-agent/conf.d/20-here.toml");
    let password = first.run("cat /etc/wa-agent/credentials/database-password");
    let join = format!(
        "wa-agent setup --join mysql://wa:{}@10.77.0.41:3306/wa --no-input --base-url http://10.77.0.42:9280 --profile standard",
        password.trim()
    );
    let (done, mut says) = second.try_run(&join);
    assert!(!done, "it joined without a key\n{says}");
    // The key, then the other secrets.
    for _ in 0..3 {
        if brought(&says, first, &second) {
            says = second.try_run(&join).1;
        }
    }
    let start = says
        .lines()
        .find(|line| line.contains("systemctl enable --now wa-host"));
    second.run(start.unwrap_or_else(|| panic!("no line to type in\n{says}")));
    second.all_active("wa-master@1 wa-coreapp@1 wa-webapp@1 wa-host");
    first.wait(
        LATE,
        "wa-agent status | grep -q core2:coreapp-1 && ! wa-agent status | grep -q 'no standby'",
    );
    first.run("systemctl stop 'wa-*'");
    let (done, says) = first.try_run("wa-agent reset --database --yes-i-mean wa");
    assert!(!done && says.contains("core2:coreapp-1"), "{says}");
    second.run("systemctl stop 'wa-*'");
    first.run("systemctl start wa-host wa-master@1 wa-coreapp@1 wa-webapp@1");
    serves(first);
}

/// Everything goes when the cluster's name was said: media too, but for the mark of the export and the directory itself.
fn reset(machine: &Machine) {
    let (done, says) = machine.try_run("wa-agent reset --media --yes-i-mean wa");
    assert!(!done && says.contains("still run here"), "{says}");
    machine.run("systemctl stop 'wa-*' && systemctl stop var-lib-wamedia-shared.mount");
    let (done, says) = machine.try_run("wa-agent reset --media --yes-i-mean wa");
    assert!(!done && says.contains("nothing is mounted"), "{says}");
    machine.run("systemctl start var-lib-wamedia-shared.mount && touch /var/lib/wamedia/shared/of-the-old-client");
    machine.run("wa-agent reset --state --media --database --yes-i-mean wa");
    let left = machine.run("ls -A /var/lib/docker/volumes/old_whatsappMedia/_data");
    assert_eq!(left.lines().count(), 1, "{left}");
    machine.run("mountpoint -q /var/lib/wamedia/shared && test ! -e /var/lib/wa-agent/coreapp-1");
    machine.run(
        "test -e /etc/wa-agent/conf.d/10-setup.toml -a -e /etc/wa-agent/credentials/cluster-key",
    );
}

/// A bind mount of the old client becomes the media directory in the same way.
fn bind_mount_attached(machine: &Machine) {
    machine.run("chgrp wa-media /data/media && chmod 2770 /data/media");
    let says =
        machine.run("cd /srv/old && wa-agent import --env db.env --compose bind.yml --replace");
    assert!(says.contains("/data/media"), "{says}");
    machine.run("systemctl stop var-lib-wamedia-shared.mount");
    mounted(machine, &says);
    machine.run(SET_UP);
    serves(machine);
    upload(machine, "/data/media");
}

/// Purge removes configuration, credentials and state, never media, nor what mounts them, nor a database.
fn purged(machine: &Machine) {
    machine.run("apt-get purge -y -q wa-agent");
    machine.run("grep -rq offer-of-today /data/media /var/lib/wamedia/shared && mountpoint -q /var/lib/wamedia/shared");
    machine.run("test -e /etc/systemd/system/var-lib-wamedia-shared.mount -a ! -e /etc/wa-agent");
    machine.run("test -z \"$(ls -A /var/lib/wa-agent 2>/dev/null)\" && ! find /etc/systemd/system -name 'wa*' | grep .");
}

/// Goal: somebody with the old client's files ends up with a machine that serves, from his own media, and what the README
/// says about the days after is true. Method: every line typed as it stands there.
#[test]
fn from_the_old_client() {
    let what = "from the old client on a booted Debian 12";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    for needed in ["dpkg-shlibdeps", "mariadbd"] {
        if program(needed).is_none() {
            return skipped(what, &format!("{needed} is not installed"));
        }
    }
    let lan = Lan::new().expect("a network");
    let layer = Layer::with_package(packages::deb()).expect("the package installs");
    let services = Services::start(&lan).expect("a database and an upstream");
    let machine = Machine::boot_in(&lan, &layer, "core1", HERE).expect("it boots");
    volume_attached(&machine);
    unmounted(&machine);
    links_planted(&machine);
    key_rotated(&machine);
    joined(&machine, &lan, &layer);
    reset(&machine);
    bind_mount_attached(&machine);
    purged(&machine);
    drop(services);
}
