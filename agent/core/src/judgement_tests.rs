//! The table "what is broken → what is said of it", over the pure judgement.

use super::*;

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn failing(seconds: u64, error: &str) -> Option<Failing> {
    Some(Failing {
        since: secs(seconds),
        error: error.into(),
    })
}

/// A cluster in which nothing is wrong.
fn sound() -> Evidence {
    let node = |node: &str, role| Node {
        node: node.into(),
        role,
        answers: true,
        twice: None,
    };
    Evidence {
        database: Some(Database {
            read_age: Some(Duration::from_millis(300)),
            fresh_for: secs(2),
            ..Database::default()
        }),
        master: Some(MasterLease {
            holder: Some("a:master-1".into()),
            own: false,
            unchanged: Some(Duration::from_millis(400)),
            over_after: secs(2),
        }),
        shards: vec![Shard {
            owner: Some("a:coreapp-1".into()),
            active: true,
            unchanged: Some(Duration::from_millis(500)),
            over_after: secs(2),
            mute_for: Some(secs(1)),
            standby: true,
            ..Shard::default()
        }],
        nodes: Some(vec![
            node("a:master-1", Role::Master),
            node("b:master-2", Role::Master),
            node("a:coreapp-1", Role::Coreapp),
            node("b:coreapp-2", Role::Coreapp),
        ]),
        words: vec![Word {
            node: "a:coreapp-1".into(),
            age: secs(1),
            ..Word::default()
        }],
        ..Evidence::default()
    }
}

type Case = (
    &'static str,
    fn(&mut Evidence),
    &'static [Kind],
    &'static [&'static str],
);

/// What is broken; how the evidence shows it; which kinds, the worst first; words of sentence and remedy.
const TABLE: &[Case] = &[
    ("nothing", |_| {}, &[], &[]),
    (
        "the disk of the database is full, at once",
        |e| {
            e.database.as_mut().expect("asked").writes = failing(3, "database or disk is full");
        },
        &[Kind::DatabaseTakesNoWrites],
        &["for 3.0s", "disk is full", "backup", "wa-agent doctor"],
    ),
    (
        "a write that failed once, and is tried again",
        |e| {
            e.database.as_mut().expect("asked").writes = failing(0, "busy");
            e.words[0].intake = failing(0, "busy");
        },
        &[],
        &[],
    ),
    (
        "a backup lock, after every lease has run out",
        |e| {
            e.database.as_mut().expect("asked").writes = failing(30, "no answer within 375ms");
            e.master.as_mut().expect("a row").unchanged = Some(secs(31));
            e.shards[0].unchanged = Some(secs(31));
        },
        &[
            Kind::DatabaseTakesNoWrites,
            Kind::NoMaster,
            Kind::OwnerLapsed,
        ],
        &[
            "no master holds a live lease: a:master-1",
            "has not renewed it for 31.0s",
            "a:coreapp-1 has not renewed its lease of shard 0",
            "journalctl -u wa-master@1",
        ],
    ),
    (
        "the database is away: what was read before is not present health, and no accusation either",
        |e| {
            let database = e.database.as_mut().expect("asked");
            database.read_age = Some(secs(90));
            database.read_error = Some("Connection refused".into());
            e.master.as_mut().expect("a row").unchanged = Some(secs(90));
            e.shards[0].unchanged = Some(secs(90));
        },
        &[Kind::DatabaseSilent],
        &["has not answered for 1m30s", "Connection refused"],
    ),
    (
        "the database never answered",
        |e| e.database.as_mut().expect("asked").read_age = None,
        &[Kind::DatabaseSilent],
        &["has never answered"],
    ),
    (
        "a copy of a machine runs beside it",
        |e| {
            let nodes = e.nodes.as_mut().expect("known");
            nodes[1].twice =
                Some("starts 5.07 and 6.0a, at 10.0.0.1:6250 and 10.0.0.9:6250".into());
        },
        &[Kind::NodeTwice],
        &[
            "runs twice (starts 5.07 and 6.0a, at 10.0.0.1:6250 and 10.0.0.9:6250)",
            "neither is given a shard",
            "systemctl stop 'wa-*'",
        ],
    ),
    (
        "both masters' processes are dead but for whoever judges",
        |e| {
            e.master.as_mut().expect("a row").holder = None;
            e.nodes.as_mut().expect("known")[0].answers = false;
        },
        &[Kind::NoMaster, Kind::NodeSilent, Kind::OneMaster],
        &["systemctl start wa-master@1", "wa-agent forget a:master-1"],
    ),
    (
        "the own lease counts by the own clock, whatever the row says",
        |e| {
            let lease = e.master.as_mut().expect("a row");
            (lease.own, lease.unchanged) = (true, Some(secs(90)));
        },
        &[],
        &[],
    ),
    (
        "a shard that is being moved",
        |e| e.shards[0].active = false,
        &[Kind::ShardWithoutOwner],
        &["no active owner", "wa-agent explain --shard 0"],
    ),
    (
        "an owner whose API hangs",
        |e| {
            e.shards[0].mute_for = Some(secs(21));
            e.words[0].age = secs(21);
        },
        &[Kind::OwnerMute],
        &["has not answered calls on its API port", "wa-coreapp@1"],
    ),
    (
        "an intake that refuses",
        |e| e.words[0].intake = failing(5, "Lock wait timeout"),
        &[Kind::IntakeRefuses],
        &["takes no messages for shard 0 for 5.0s: Lock wait timeout"],
    ),
    (
        "an upstream that refuses",
        |e| e.words[0].upstream = failing(70, "it answers 401 Unauthorized"),
        &[Kind::UpstreamRefuses],
        &["401", "token"],
    ),
    (
        "a refused token",
        |e| {
            let token = Why::Account(crate::outcome::Account::Token);
            e.words[0].held = Some((token, secs(70)));
            e.words[0].upstream = failing(70, "it answers 401 Unauthorized");
        },
        &[Kind::MessagesHeld],
        &[
            "access token",
            "1m10s",
            "are kept",
            "token_file",
            "systemctl reload wa-coreapp@1",
        ],
    ),
    (
        "payment for one kind of messages",
        |e| {
            let payment = Why::Account(crate::outcome::Account::Payment);
            e.words[0].held = Some((payment, secs(7)));
        },
        &[Kind::MessagesHeld],
        &["of that kind are kept", "payment method"],
    ),
    (
        "messages that wait for a person",
        |e| e.words[0].for_person = 3,
        &[Kind::FateUnknown],
        &[
            "3 messages",
            "ambiguity_sends_max",
            "systemctl restart wa-coreapp@1",
        ],
    ),
    (
        "callbacks that wait",
        |e| {
            e.words[0].callbacks = Callbacks {
                count: 17,
                oldest: secs(61),
                error: Some("answered 500".into()),
                parked: 0,
            };
        },
        &[Kind::CallbacksWait],
        &["17 callbacks", "1m1s", "answered 500", "webhooks.url"],
    ),
    (
        "callbacks that are not tried any more",
        |e| e.words[0].callbacks.parked = 3,
        &[Kind::CallbacksParked],
        &[
            "3 callbacks of shard 0",
            "park_after",
            "wa-agent webhooks retry --all",
        ],
    ),
    (
        "one callback that failed just now",
        |e| {
            e.words[0].callbacks = Callbacks {
                count: 1,
                oldest: secs(3),
                error: Some("answered 500".into()),
                parked: 0,
            };
        },
        &[],
        &[],
    ),
    (
        "old words say nothing about now",
        |e| {
            e.words[0].age = secs(11);
            e.words[0].intake = failing(60, "long over");
            e.words[0].upstream = failing(60, "long over");
        },
        &[],
        &[],
    ),
    (
        "no eligible standby",
        |e| {
            e.shards[0].standby = false;
            let why = "b:coreapp-2 cannot take it: NodeDiskRefuses";
            e.shards[0].unfit = vec![why.into(), why.into()];
        },
        &[Kind::NoStandby],
        &["no standby coreapp", "NodeDiskRefuses"],
    ),
    (
        "a webapp that answers 503",
        |e| e.refused = failing(4, "no owner"),
        &[Kind::RequestsRefused],
        &["503", "no owner"],
    ),
    (
        "what an operator switched off is no alarm",
        |e| e.told.push((Kind::Paused, "failover is paused".into())),
        &[Kind::Paused],
        &["failover is paused"],
    ),
];

/// Goal: each thing that can be broken is said, as what it is, with what to type, and nothing else is. Method: a sound
/// cluster, and one change at a time.
#[test]
fn f03_what_is_broken_is_said_and_nothing_else() {
    for (broken, change, kinds, words) in TABLE {
        let mut evidence = sound();
        change(&mut evidence);
        let problems = judge(&evidence);
        let found: Vec<Kind> = problems.iter().map(|p| p.kind).collect();
        assert_eq!(found, *kinds, "{broken}: {problems:#?}");
        let text: Vec<String> = problems.iter().map(Problem::line).collect();
        let text = text.join("\n");
        for word in *words {
            assert!(text.contains(word), "{broken}: {word:?} is not in {text}");
        }
        let calm = problems.iter().all(|p| p.kind.grade() == Grade::Remark);
        assert_eq!(remark(&problems).is_none(), calm, "{broken}");
    }
}

/// Goal: no kind is forgotten in the table. Method: every kind that the judgement finds by itself is shown above.
#[test]
fn every_kind_is_in_the_table_or_told_by_another_room() {
    let told = [
        Kind::MastersMute,
        Kind::ShardBlocked,
        Kind::Unregistered,
        Kind::TimersByApi,
        Kind::RegistrationStopped,
        Kind::RegistrationRuns,
        Kind::Restored,
        Kind::Rewound,
        Kind::ServerChanged,
        Kind::Voided,
        Kind::Ungated,
        Kind::OddNumber,
        Kind::Media,
        Kind::Late,
        Kind::Drained,
        Kind::CertificateEnds,
        Kind::CertificateEndsSoon,
        Kind::EventsUnread,
        Kind::AccountNews,
        Kind::OlderNode,
        Kind::Spread,
        Kind::TimersByApi,
    ];
    let shown = |kind: &Kind| TABLE.iter().any(|(_, _, kinds, _)| kinds.contains(kind));
    for kind in Kind::ALL {
        assert!(shown(kind) != told.contains(kind), "{kind:?}");
    }
}

/// Goal: whoever knows little says little. Method: no evidence at all.
#[test]
fn what_is_not_known_is_no_problem() {
    assert_eq!(judge(&Evidence::default()), []);
    let mute = Evidence {
        masters_mute: true,
        ..Evidence::default()
    };
    assert_eq!(judge(&mute)[0].kind, Kind::MastersMute);
}

#[test]
fn units_are_named_as_systemd_names_them() {
    assert_eq!(unit_of("core1.example:coreapp-2"), "wa-coreapp@2");
    assert_eq!(unit_of("core1.example:host-1"), "wa-host");
    assert_eq!(unit_of("a:b:master-10"), "wa-master@10");
    assert_eq!(unit_of("core1.example:host"), "wa-host");
}
