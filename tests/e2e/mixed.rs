//! The release before and this one side by side on a booted machine: messages are stored in a form of ours (design 9), and the
//! release before reads the first one only.

use std::time::Duration;

use wa_agent::api::v1::message::stored::Form;

use crate::install::{other, owner, started};
use crate::machine::{Machine, impossible};
use crate::{packages, program, skipped, traffic};

/// For a takeover and the start of the next standby, when much else runs.
const LATE: Duration = Duration::from_secs(120);

/// From here on the unit's process is of the newer release.
fn of_this_release(machine: &Machine, unit: &str) {
    let (role, instance) = unit
        .trim_start_matches("wa-")
        .split_once('@')
        .expect("an instance");
    machine.run(&format!(
        "mkdir -p /run/systemd/system/{unit}.service.d
         printf '[Service]\\nExecStart=\\nExecStart=/srv/new/usr/bin/wa-agent {role} --instance {instance}\\n' \
            >/run/systemd/system/{unit}.service.d/newer.conf
         systemctl daemon-reload && systemctl restart {unit}"
    ));
}

/// How many messages the store holds in a form.
fn stored_in(machine: &Machine, form: u16) -> i64 {
    let file = machine.tree().join("var/lib/wa-agent/store/wa.db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        use sqlx::{ConnectOptions as _, Connection as _};
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(file)
            .read_only(true);
        let mut connection = options.connect().await.expect("the store opens");
        let row: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM message WHERE form=?")
            .bind(i64::from(form))
            .fetch_one(&mut connection)
            .await
            .expect("read");
        connection.close().await.expect("closed");
        row.0
    })
}

/// Sends message `traffic-N` of the traffic again, with another text or the same; the status of the answer.
fn again(machine: &Machine, n: u32, body: &str) -> String {
    machine.run(&format!(
        "TOKEN=$(systemctl show -P Environment traffic | sed 's/.*TOKEN=//')
         curl -s -o /dev/null -w '%{{http_code}}' -X POST http://127.0.0.1:9090/v1/messages \
            -H \"authorization: Bearer $TOKEN\" -H 'idempotency-key: traffic-{n}' -H 'content-type: application/json' \
            -d '{{\"to\":\"49170000{n}\",\"type\":\"text\",\"text\":{{\"body\":\"{body}\"}}}}'"
    ))
}

/// The release before and this one, as packages on the machine.
fn both_packages(machine: &Machine) {
    let previous: &[&str] = &["deb", "--version", "0.0.1", "--features", "previous"];
    for (name, arguments) in [
        ("old", previous),
        ("new", &["deb", "--version", "0.1.1"] as &[&str]),
    ] {
        let package = packages::xtask(arguments, &packages::folder(&format!("{name}er")), None);
        std::fs::copy(package, machine.tree().join(format!("srv/{name}.deb"))).expect("copied");
    }
}

/// Goal: while two releases serve one cluster, nothing is written that an owner cannot read, and no message is lost, refused or
/// sent twice, also when the owner dies in the middle; a repeated id is known over the change (S4). Method: the release before
/// as a package; then master, webapps and the standby of this one, under traffic; the old owner is killed; last the other
/// coreapp. The store is looked into after each step.
#[test]
fn two_releases_serve_one_cluster() {
    let what = "two releases side by side on a booted Debian 12";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if program("dpkg-shlibdeps").is_none() {
        return skipped(what, "dpkg-dev is not installed");
    }
    let machine = Machine::boot("core1").expect("it boots");
    both_packages(&machine);
    machine.run("apt-get install -y -q /srv/old.deb && dpkg-deb -x /srv/new.deb /srv/new");
    started(&machine);
    traffic::start(&machine);

    for unit in ["wa-master@1", "wa-webapp@1", "wa-webapp@2"] {
        of_this_release(&machine, unit);
    }
    let old = owner(&machine);
    let standby = other(&old);
    of_this_release(&machine, standby);
    machine.wait(LATE, "! wa-agent status | grep -q 'no standby'");
    let before = traffic::sent(&machine).len();
    machine.wait(
        LATE,
        &format!("test $(wc -l </run/traffic.log) -gt {}", before + 50),
    );
    let newest = Form::NEWEST.number();
    assert_eq!(
        stored_in(&machine, newest),
        0,
        "the old owner cannot read that"
    );

    // The middle: messages of the old owner are the new one's.
    machine.run(&format!(
        "kill -KILL $(systemctl show -p MainPID --value {old})"
    ));
    machine.wait(
        LATE,
        &format!("systemctl show -p StatusText {standby} | grep -q 'primary of shard 0'"),
    );
    assert_eq!(
        stored_in(&machine, newest),
        0,
        "the old coreapp is still a member"
    );
    of_this_release(&machine, &old);
    machine.wait(LATE, "! wa-agent status | grep -q 'no standby'");
    machine.wait(
        LATE,
        "before=$(wc -l </run/traffic.log); until test $(wc -l </run/traffic.log) -gt $((before + 50)); do sleep 0.1; done",
    );
    assert!(
        stored_in(&machine, newest) > 0,
        "everybody reads the newer form"
    );
    assert!(stored_in(&machine, 1) > 0);
    assert_eq!(again(&machine, 10, "hello 10"), "201");
    assert_eq!(again(&machine, 10, "another"), "409");
    assert_eq!(traffic::failed(&machine), [], "requests failed");
    machine.run("systemctl stop traffic");
    nothing_lost_or_doubled(&machine);
}

/// A message that was on its way when the client ended may have been accepted, and was not written down.
pub fn nothing_lost_or_doubled(machine: &Machine) {
    let sent = traffic::sent(machine);
    let accepted = sent.iter().filter(|request| request.good()).count();
    let report = "curl -sS http://10.78.0.9:9280/admin/report";
    let all = format!("{report} | grep -o '\"unique\":[0-9]*' | cut -d: -f2");
    machine.wait(LATE, &format!("test $({all}) -ge {accepted}"));
    for word in ["double_primary\":0", "banned\":false", "sent_twice\":0"] {
        machine.run(&format!("{report} | grep -qE '\"{word}[,}}]'"));
    }
}
