//! What a master tells, from a view that a test made: no loop, no database, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wa_core::id::{Incarnation, NodeId, Role, ShardId};
use wa_core::judgement::Failing;
use wa_core::master::Master;
use wa_core::time::Instant;

use super::fresh::Pauses;
use super::table::{Heard, Table, Words};
use super::view::View;
use super::watch::Watch;
use super::{core_config, evidence, explain, moves, operate, status};
use crate::api::control::{ClusterStatus, OperatorRequest, SwitchoverRequest, Verb};
use crate::config::{self, Settings};
use crate::db::node::{Registered, Registration};
use crate::sys::state::NumbersFile;

fn settings(directory: &std::path::Path) -> Settings {
    // Secrets lie in it.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory, closed).expect("closed");
    let file = directory.join("wa-agent.toml");
    let secret = |name: &str, value: &str| {
        let file = directory.join(name);
        std::fs::write(&file, value).expect("written");
        file
    };
    let (key, word) = (secret("key", &"5a".repeat(32)), secret("word", "w"));
    let text = format!(
        "[cluster]\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nstate_directory = {directory:?}\n\
         [database]\nurls = [\"sqlite://{}/wa.db\"]\n[upstream]\nphone_number_id = \"1\"\nphone_number = \"+447700900999\"\n\
         token_file = {word:?}\napp_secret_file = {word:?}\nverify_token_file = {word:?}\n",
        directory.display()
    );
    std::fs::write(&file, text).expect("written");
    let loaded = config::load(Role::Master, 1, Some(&file)).expect("a valid configuration");
    loaded.settings
}

fn coreapp(start: Incarnation) -> Registered {
    Registered {
        beat_ms: 0,
        clock_ms: 0,
        beat_age_ms: 1500,
        draining: false,
        registration: Registration {
            node: NodeId::new("a:coreapp-1"),
            role: Role::Coreapp,
            incarnation: start,
            machine: "a".into(),
            zone: "a".into(),
            address: "192.0.2.1".into(),
            port_heartbeat: 6250,
            port_control: 0,
            port_api: 6252,
            version: "0".into(),
            weight: 0,
            keys: Default::default(),
        },
    }
}

fn one_mute_coreapp(start: Incarnation, now: Instant) -> Table {
    let heard = Heard {
        start: start.to_string(),
        asked: now - Duration::from_secs(4),
        answer: None,
    };
    Table {
        nodes: Arc::new(vec![coreapp(start)]),
        words: Arc::new(Words::from([("a:coreapp-1".to_owned(), heard)])),
        ..Table::default()
    }
}

fn of_a_mute_database(shown: &ClusterStatus) {
    assert!(!shown.primary && shown.primary_master.is_none());
    assert_eq!(shown.database_error.as_deref(), Some("no answer"));
    assert_eq!((shown.settings_version, shown.shards.len()), (7, 0));
    let [node] = &shown.nodes[..] else {
        panic!("{:?}", shown.nodes)
    };
    assert_eq!(node.db_beat_age_ms, Some(1500));
    assert!(!node.healthy && node.heartbeat_age_ms.is_none());
    let alarms: Vec<&str> = shown.alarms.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(alarms, ["WaDiskFull", "WaDatabaseSlow"]);
}

/// Goal: whoever asks a master that knows next to nothing is told just that, and is sent to the primary. Method: a view of a
/// fresh core whose reads fail, of one registered node that was asked and never answered, and of one pause.
#[test]
fn a_view_is_all_that_answers_are_made_of() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = settings(place.path());
    let start = Incarnation {
        counter: 3,
        random: 9,
    };
    let seen = NumbersFile::new(place.path(), "seen");
    let config = core_config(&settings, start, &seen);
    let begun = Instant::ZERO + Duration::from_secs(1000);
    let core = Master::new(begun, config);
    let now = begun + Duration::from_secs(10);
    let table = one_mute_coreapp(start, now);
    let pauses = Pauses::from([(Some(ShardId(0)), now + Duration::from_secs(60))]);
    let failing = Failing {
        since: Duration::from_secs(9),
        error: "no answer".into(),
    };
    let mut watch = Watch::default();
    watch.read_begins(now - Duration::from_secs(1));
    let view = View {
        now,
        core: &core,
        settings: &settings,
        incarnation: start,
        voided: &[],
        table: Arc::new(table),
        pauses: &pauses,
        planned: &[],
        registration: None,
        certificate: None,
        decisions: &VecDeque::new(),
        settings_version: 7,
        lateness_ms: 0,
        reads: Some(failing),
        writes: None,
        rewound: None,
        watch: &watch,
        disk_free_percent: Some(9),
    };
    let shown = status::of(&view);
    of_a_mute_database(&shown);
    let problems = shown.problems.join("\n");
    assert!(
        problems.contains("failover of shard 0 is paused for another 1m"),
        "{problems}"
    );
    assert_eq!(
        evidence::problems(&view).len(),
        shown.judged.len(),
        "one judgement, whoever asks"
    );
    assert_eq!(
        view.table.mute_for("a:coreapp-1", now),
        Some(Duration::from_secs(4))
    );
    assert!(explain::all(&view).is_empty(), "no map, no shards");
    assert!(moves::switchover(&view, &SwitchoverRequest::default()).elsewhere);
    let wish = OperatorRequest {
        verb: Verb::Adopt,
        dry_run: false,
        reason: None,
        by: None,
    };
    let (answer, command) = operate::answer(&view, &wish);
    assert!(answer.elsewhere && command.is_none());
}
