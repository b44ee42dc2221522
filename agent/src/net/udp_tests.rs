//! Tests of the heartbeat socket: real sockets on loopback, keys that fit and keys that do not.
//! Goal of all of them: what is not authentic and fresh goes no further than a counter.

use super::*;
use socket2::SockRef;
use wa_core::id::Nonce;
use wa_core::wire::{Nudge, VERSION};

fn identity(role: Role, key: &[u8], cluster: u64) -> Identity {
    Identity {
        cluster,
        node: NodeId::new(&format!("t:{}-1", role.as_str())),
        role,
        incarnation: Incarnation {
            counter: 1,
            random: 2,
        },
        keys: Keys::new(key),
    }
}

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn address_of(h: &Heartbeats) -> SocketAddr {
    h.shared.socket.local_addr().expect("bound")
}

/// Lets everything through to the thread: some tests are about what it does with what the kernel keeps away.
fn without_filter(h: &Heartbeats) {
    until_true(|| h.standing().ready.load(Ordering::Acquire));
    SockRef::from(&h.shared.socket)
        .detach_filter()
        .expect("detached");
}

fn until_true(what: impl Fn() -> bool) {
    let end = clock::now() + Duration::from_secs(10);
    while !what() {
        assert!(clock::now() < end, "not within ten seconds");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Goal: a master's pings are answered by a coreapp's thread. Method: two real sockets, wait for the answer.
#[tokio::test]
async fn a_ping_is_answered_with_the_report() {
    let report = Arc::new(SharedReport::default());
    let (coreapp, _keep) = start(
        identity(Role::Coreapp, b"k", 7),
        local(),
        None,
        Arc::clone(&report),
    )
    .expect("bound");
    let interval = Some(Duration::from_millis(10));
    let (master, mut heard) = start(
        identity(Role::Master, b"k", 7),
        local(),
        interval,
        Arc::default(),
    )
    .expect("bound");
    master.set_targets(vec![Target {
        node: NodeId::new("t:coreapp-1"),
        address: address_of(&coreapp),
    }]);
    let answered = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(Heard::Answered { node, .. }) = heard.recv().await {
                break node;
            }
        }
    });
    assert_eq!(
        answered
            .await
            .expect("an answer within ten seconds")
            .as_str(),
        "t:coreapp-1"
    );
}

/// Goal: garbage, foreign clusters, wrong keys and wrong roles are counted and go no further.
#[tokio::test]
async fn what_is_not_authentic_is_counted_and_dropped() {
    let (master, mut heard) = start(
        named(Role::Master, "t:master-9"),
        local(),
        None,
        Arc::default(),
    )
    .expect("bound");
    without_filter(&master);
    let to = address_of(&master);
    let nudge = || Body::Nudge(Nudge::ShardMap);
    let raw = UdpSocket::bind("127.0.0.1:0").expect("bound");
    raw.send_to(b"GET / HTTP/1.1", to).expect("sent");
    let senders = [
        identity(Role::Master, b"other", 7),
        identity(Role::Master, b"k", 8),
        identity(Role::Webapp, b"k", 7),
        identity(Role::Master, b"k", 7),
    ];
    for sender in senders {
        let (handle, _keep) = start(sender, local(), None, Arc::default()).expect("bound");
        handle.send(to, nudge());
    }
    // Datagrams on loopback keep their order: the last one is the only good one.
    let good = tokio::time::timeout(Duration::from_secs(10), heard.recv())
        .await
        .expect("in time");
    assert!(matches!(
        good,
        Some(Heard::Body {
            role: Role::Master,
            body: Body::Nudge(_),
            ..
        })
    ));
    let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
    let d = master.drops();
    assert_eq!(
        (
            count(&d.malformed),
            count(&d.mac),
            count(&d.foreign),
            count(&d.role)
        ),
        (1, 1, 1, 1)
    );
    assert!(heard.try_recv().is_none());
}

/// A datagram as a node would send it, to be sent as often as the test likes.
fn signed(sender: &Identity, sequence: u64, body: Body) -> Vec<u8> {
    signed_in(VERSION, sender, sequence, body)
}

fn signed_in(version: u8, sender: &Identity, sequence: u64, body: Body) -> Vec<u8> {
    let voice = Voice::of(sender.role, &body);
    let datagram = Datagram {
        version,
        cluster: sender.cluster,
        key_id: sender.keys.id(),
        role: sender.role,
        sender: sender.node.clone(),
        incarnation: sender.incarnation,
        sequence,
        body,
    };
    let mut bytes = [0u8; DATAGRAM_LEN_MAX];
    let len = encode(&datagram, &mut bytes);
    let mac = sender.keys.mac(voice, &bytes[..len]);
    bytes[len..len + MAC_LEN].copy_from_slice(&mac);
    bytes[..len + MAC_LEN].to_vec()
}

fn named(role: Role, name: &str) -> Identity {
    Identity {
        node: NodeId::new(name),
        ..identity(role, b"k", 7)
    }
}

async fn next(heard: &mut Inbox) -> Heard {
    tokio::time::timeout(Duration::from_secs(10), heard.recv())
        .await
        .expect("something within ten seconds")
        .expect("the thread runs")
}

async fn until(counter: &AtomicU64, at_least: u64) {
    let waited = async {
        while counter.load(Ordering::Relaxed) < at_least {
            clock::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited)
        .await
        .expect("counted within ten seconds");
}

/// Goal: a recorded opinion, quiesce or receipt is heard once. Method: the same bytes twice, then one of an earlier start.
#[tokio::test]
async fn a_recorded_datagram_is_heard_once() {
    let (node, mut heard) = start(
        identity(Role::Coreapp, b"k", 7),
        local(),
        None,
        Arc::default(),
    )
    .expect("bound");
    let to = address_of(&node);
    let raw = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let master = named(Role::Master, "t:master-1");
    let recorded = signed(&master, 5, Body::Nudge(Nudge::ShardMap));
    let mut earlier = master.clone();
    earlier.incarnation.counter = 0;
    for bytes in [
        &recorded,
        &recorded,
        &signed(&earlier, 9, Body::Nudge(Nudge::ShardMap)),
        &signed(&master, 6, Body::Nudge(Nudge::Settings)),
    ] {
        raw.send_to(bytes, to).expect("sent");
    }
    let first = next(&mut heard).await;
    assert!(matches!(
        first,
        Heard::Body {
            body: Body::Nudge(Nudge::ShardMap),
            ..
        }
    ));
    let second = next(&mut heard).await;
    assert!(matches!(
        second,
        Heard::Body {
            body: Body::Nudge(Nudge::Settings),
            ..
        }
    ));
    assert_eq!(node.drops().replay.load(Ordering::Relaxed), 2);
}

/// Goal: nobody without a key can use up a ping. Method: a ping that is sent on to another node and back to its
/// sender, whose answers come first, must not keep the right answer from counting.
#[tokio::test]
async fn a_ping_that_is_sent_on_is_still_answered() {
    let relay = UdpSocket::bind("127.0.0.1:0").expect("bound");
    relay
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    let interval = Some(Duration::from_secs(2));
    let (master, mut heard) = start(
        named(Role::Master, "t:master-1"),
        local(),
        interval,
        Arc::default(),
    )
    .expect("bound");
    let start_coreapp =
        |name| start(named(Role::Coreapp, name), local(), None, Arc::default()).expect("bound");
    let (right, _right) = start_coreapp("t:coreapp-1");
    let (wrong, _wrong) = start_coreapp("t:coreapp-2");
    let target = Target {
        node: NodeId::new("t:coreapp-1"),
        address: relay.local_addr().expect("bound"),
    };
    master.set_targets(vec![target]);
    let (mut ping, mut answer) = ([0u8; 512], [0u8; 512]);
    let len = relay.recv(&mut ping).expect("a ping");
    relay
        .recv(&mut answer)
        .expect("the same ping in the version before");
    // First to the master itself, then to the wrong node, last to the right one; every answer goes to the master.
    relay
        .send_to(&ping[..len], address_of(&master))
        .expect("sent");
    for node in [&wrong, &right] {
        relay.send_to(&ping[..len], address_of(node)).expect("sent");
        let answer_len = relay.recv(&mut answer).expect("an answer");
        relay
            .send_to(&answer[..answer_len], address_of(&master))
            .expect("sent");
        // And once more: the same answer counts once.
        relay
            .send_to(&answer[..answer_len], address_of(&master))
            .expect("sent");
    }
    until(&master.drops().replay, 4).await;
    let mut answers = 0;
    while let Some(heard) = heard.try_recv() {
        if let Heard::Answered { node, .. } = heard {
            assert_eq!(node.as_str(), "t:coreapp-1");
            answers += 1;
        }
    }
    assert_eq!(answers, 1);
}

/// Goal: rubbish of every length, and good datagrams with one bit turned, reach nobody and stop nothing.
#[tokio::test]
async fn rubbish_and_turned_bits_go_no_further() {
    let (node, mut heard) = start(
        identity(Role::Coreapp, b"k", 7),
        local(),
        None,
        Arc::default(),
    )
    .expect("bound");
    without_filter(&node);
    let to = address_of(&node);
    let raw = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let master = named(Role::Master, "t:master-1");
    let good = signed(&master, 1, Body::Nudge(Nudge::Settings));
    let mut sent = 0;
    let mut send = |bytes: &[u8]| {
        raw.send_to(bytes, to).expect("sent");
        sent += 1;
        // A short queue in the kernel must not drop what the test counts.
        if sent % 64 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    for len in (0..600).step_by(7) {
        send(&vec![b'W'; len]);
    }
    for bit in 0..good.len() * 8 {
        let mut turned = good.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        send(&turned);
    }
    send(&good);
    let first = next(&mut heard).await;
    assert!(
        matches!(&first, Heard::Body { from, .. } if from.as_str() == "t:master-1"),
        "{first:?}"
    );
    assert!(heard.try_recv().is_none());
    let d = node.drops();
    assert!(d.version.load(Ordering::Relaxed) > 0 && d.mac.load(Ordering::Relaxed) > 0);
    assert_eq!(d.sum(), sent - 1);
}

/// One body of each kind that the table of [`may_say`] tells apart.
fn words(kind: u8) -> Body {
    let (shard, epoch, grant) = (wa_core::id::ShardId(0), Epoch(1), Grant(2));
    match kind {
        0 => Body::Ended {
            shard,
            epoch,
            grant,
        },
        1 => Body::Quiesced {
            shard,
            epoch,
            grant,
        },
        2 => Body::Ask {
            shard,
            epoch,
            grant,
        },
        3 => Body::Quiesce {
            shard,
            epoch,
            grant,
            on: true,
        },
        4 => Body::Opinions {
            term: Term(1),
            lateness_ms: 0,
            heard: 1,
            of: 1,
            opinions: Vec::new(),
        },
        _ => Body::Nudge(Nudge::ShardMap),
    }
}

/// Goal: promise S6. Method: every role says every body; exactly what the table allows is heard.
#[tokio::test]
async fn each_role_is_heard_with_its_own_words_only() {
    let (node, mut heard) = start(
        named(Role::Master, "t:master-9"),
        local(),
        None,
        Arc::default(),
    )
    .expect("bound");
    let to = address_of(&node);
    let raw = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let mut allowed = Vec::new();
    for role in [Role::Master, Role::Coreapp, Role::Webapp, Role::Host] {
        let sender = named(role, &format!("t:{}-1", role.as_str()));
        for kind in 0..6 {
            raw.send_to(&signed(&sender, u64::from(kind) + 1, words(kind)), to)
                .expect("sent");
            let is_allowed = match role {
                Role::Master => kind >= 3,
                Role::Coreapp => kind < 3,
                Role::Webapp | Role::Host => false,
            };
            if is_allowed {
                allowed.push((role, words(kind)));
            }
        }
        // A key of one role under the name of another.
        let mut forged = sender.clone();
        forged.role = Role::Master;
        let mut bytes = signed(&forged, 99, words(0));
        if role != Role::Master {
            let at = bytes.len() - MAC_LEN;
            let mac = sender.keys.mac(Voice::Role(role), &bytes[..at]);
            bytes[at..].copy_from_slice(&mac);
            raw.send_to(&bytes, to).expect("sent");
        }
    }
    for expected in allowed {
        let Heard::Body { role, body, .. } = next(&mut heard).await else {
            panic!("only bodies were sent");
        };
        assert_eq!((role, body), expected);
    }
    until(&node.drops().mac, 3).await;
    assert!(heard.try_recv().is_none());
    assert_eq!(node.drops().role.load(Ordering::Relaxed), 4 * 6 - 6);
}

/// Goal: attack 28. Method: rounds every minute are changed to every 10 ms; they begin at once, not after the minute.
#[tokio::test]
async fn a_shorter_interval_holds_at_once() {
    let interval = Some(Duration::from_secs(60));
    let (master, mut heard) = start(
        identity(Role::Master, b"k", 7),
        local(),
        interval,
        Arc::default(),
    )
    .expect("bound");
    assert!(matches!(next(&mut heard).await, Heard::Round { .. }));
    master.set_interval(Duration::from_millis(10));
    for _ in 0..3 {
        assert!(matches!(next(&mut heard).await, Heard::Round { .. }));
    }
}

/// Goal: a live thread does not hide a hung process, and is not hung by it: the main loop holds the report's lock
/// for good, answers go on and their progress age grows.
#[allow(clippy::await_holding_lock)] // the hang under test
#[tokio::test]
async fn a_hung_main_loop_is_answered_for_and_shows() {
    let report = Arc::new(SharedReport::default());
    let (coreapp, _keep) = start(
        named(Role::Coreapp, "t:coreapp-1"),
        local(),
        None,
        Arc::clone(&report),
    )
    .expect("bound");
    let interval = Some(Duration::from_millis(10));
    let (master, mut heard) = start(
        named(Role::Master, "t:master-1"),
        local(),
        interval,
        Arc::default(),
    )
    .expect("bound");
    let _hung = report.report.try_lock().expect("free");
    master.set_targets(vec![Target {
        node: NodeId::new("t:coreapp-1"),
        address: address_of(&coreapp),
    }]);
    let old = async {
        loop {
            if let Heard::Answered { report, .. } = next(&mut heard).await
                && report.progress_age_ms >= 50
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), old)
        .await
        .expect("answers with their age");
}

/// Two threads that know each other: a master that pings this often, and a coreapp.
fn couple(interval: Duration) -> (Heartbeats, Inbox, Heartbeats, Inbox) {
    let (coreapp, of_coreapp) = start(
        named(Role::Coreapp, "t:coreapp-1"),
        local(),
        None,
        Arc::default(),
    )
    .expect("bound");
    let (master, heard) = start(
        named(Role::Master, "t:master-1"),
        local(),
        Some(interval),
        Arc::default(),
    )
    .expect("bound");
    master.set_targets(vec![Target {
        node: NodeId::new("t:coreapp-1"),
        address: address_of(&coreapp),
    }]);
    (master, heard, coreapp, of_coreapp)
}

async fn answers(heard: &mut Inbox, mut wanted: u32) {
    while wanted > 0 {
        if let Heard::Answered { .. } = next(heard).await {
            wanted -= 1;
        }
    }
}

/// Goal: neither a round, nor an answer, nor taking it calls the allocator: its lock may be held by a thread that does not
/// run. Method: the test build counts calls by thread; after the first answers the counters stand still for 1,000 more.
#[tokio::test]
async fn a_thousand_heartbeats_allocate_nothing() {
    let (master, mut heard, coreapp, _keep) = couple(Duration::from_millis(1));
    answers(&mut heard, 20).await;
    let calls = |h: &Heartbeats| h.standing().allocations.load(Ordering::Acquire);
    let before = (calls(&master), calls(&coreapp));
    assert!(before.0 > 0, "the counter counts");
    answers(&mut heard, 1000).await;
    assert_eq!((calls(&master), calls(&coreapp)), before);
}

/// Goal: peers may come and go under the pings, and an answer that is on its way still counts. Method: the list changes
/// before every answer.
#[tokio::test]
async fn targets_change_under_the_pings() {
    let (master, mut heard, coreapp, _keep) = couple(Duration::from_millis(5));
    for n in 0..100u16 {
        let mut targets = vec![Target {
            node: NodeId::new("t:coreapp-1"),
            address: address_of(&coreapp),
        }];
        targets.extend((0..n % 7).map(|m| Target {
            node: NodeId::new(&format!("t:absent-{m}")),
            address: "127.0.0.1:9".parse().expect("an address"),
        }));
        master.set_targets(targets);
        answers(&mut heard, 1).await;
    }
    assert!(
        master.drops().refused.load(Ordering::Relaxed) > 0,
        "ICMP is a diagnosis"
    );
    assert_eq!(master.drops().replay.load(Ordering::Relaxed), 0);
}

/// Goal: the kernel keeps away what cannot be ours, so that it costs the thread nothing. Method: with the filter in force,
/// only those with our prefix reach a counter, and a good one is heard.
#[tokio::test]
async fn the_kernel_keeps_rubbish_away() {
    let (node, mut heard) = start(
        named(Role::Coreapp, "t:coreapp-1"),
        local(),
        None,
        Arc::default(),
    )
    .expect("bound");
    until_true(|| node.standing().ready.load(Ordering::Acquire));
    let raw = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let to = address_of(&node);
    let master = named(Role::Master, "t:master-1");
    let good = signed(&master, 1, Body::Nudge(Nudge::Settings));
    let foreign = signed(
        &identity(Role::Master, b"k", 8),
        1,
        Body::Nudge(Nudge::Settings),
    );
    let far = signed(
        &identity(Role::Master, b"k", 7 << 40),
        1,
        Body::Nudge(Nudge::Settings),
    );
    let long = [&good[..], &[0; 480][..]].concat();
    for bytes in [
        b"GET / HTTP/1.1".as_slice(),
        &[b'W'; 200],
        &foreign,
        &far,
        &long,
        &good[..20],
        b"",
    ] {
        raw.send_to(bytes, to).expect("sent");
    }
    raw.send_to(&good, to).expect("sent");
    assert!(matches!(next(&mut heard).await, Heard::Body { .. }));
    assert_eq!(node.drops().sum(), 0);
    until_true(|| node.drops().kernel.load(Ordering::Relaxed) == 7);
}

/// Goal: a flood of forgeries shuts out its sender, not the nodes that are known, and strangers are heard again after it.
/// Method: forgeries with the right prefix until the thread says flood; pings are answered all the while; then a newcomer.
#[tokio::test]
async fn a_flood_shuts_out_strangers_only() {
    let (master, mut heard, coreapp, mut of_coreapp) = couple(Duration::from_millis(5));
    answers(&mut heard, 3).await;
    let raw = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let mut forged = signed(
        &named(Role::Master, "t:master-1"),
        9,
        Body::Nudge(Nudge::Settings),
    );
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let to = address_of(&coreapp);
    until_true(|| {
        for _ in 0..500 {
            raw.send_to(&forged, to).expect("sent");
        }
        coreapp.drops().floods.load(Ordering::Relaxed) > 0
    });
    answers(&mut heard, 20).await;
    let newcomer = named(Role::Master, "t:master-2");
    let mut sequence = 0;
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            sequence += 1;
            let nudge = signed(&newcomer, sequence, Body::Nudge(Nudge::ShardMap));
            raw.send_to(&nudge, to).expect("sent");
            let heard = tokio::time::timeout(Duration::from_millis(50), of_coreapp.recv());
            if let Ok(Some(Heard::Body { from, .. })) = heard.await {
                break from;
            }
        }
    });
    assert_eq!(
        told.await.expect("heard after the second").as_str(),
        "t:master-2"
    );
    assert_eq!(master.drops().sum(), 0);
}

/// Plays a peer: answers pings of one version, or none, until a round of pings came in exactly the versions wanted.
fn play(peer: &UdpSocket, node: &Identity, answered: Option<u8>, wanted: &[u8]) {
    let mut bytes = [0u8; DATAGRAM_LEN_MAX];
    let mut round: (Nonce, Vec<u8>) = (Nonce(0), Vec::new());
    for sequence in 0..500 {
        let (len, from) = peer.recv_from(&mut bytes).expect("a ping in time");
        let ping = wa_core::wire::decode(&bytes[..len - MAC_LEN]).expect("ours");
        let Body::Ping { nonce, .. } = ping.body else {
            continue;
        };
        if nonce != round.0 {
            if round.1 == wanted {
                return;
            }
            round = (nonce, Vec::new());
        }
        round.1.push(ping.version);
        if answered == Some(ping.version) {
            let body = Body::Answer {
                nonce,
                sent_at_ns: 0,
                report: NO_REPORT,
            };
            let number = clock::now().0 + sequence;
            let answer = signed_in(ping.version, node, number, body);
            peer.send_to(&answer, from).expect("sent");
        }
    }
    panic!("never asked in {wanted:?}, last in {:?}", round.1);
}

/// Goal: a node of the release before, which knows only its own version, is asked in it; one that speaks the newest is
/// asked in that alone, and in both again once it does not. Method: a peer played by the test.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_the_release_before_is_asked_in_its_own_version() {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("bound");
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    let interval = Some(Duration::from_millis(10));
    let (master, mut heard) = start(
        identity(Role::Master, b"k", 7),
        local(),
        interval,
        Arc::default(),
    )
    .expect("bound");
    let node = named(Role::Coreapp, "t:coreapp-1");
    master.set_targets(vec![Target {
        node: node.node.clone(),
        address: peer.local_addr().expect("bound"),
    }]);
    let both = [VERSION, VERSION_BEFORE];
    play(&peer, &node, None, &both);
    play(&peer, &node, Some(VERSION_BEFORE), &both);
    loop {
        if let Heard::Answered { node, .. } = next(&mut heard).await {
            assert_eq!(node.as_str(), "t:coreapp-1");
            break;
        }
    }
    play(&peer, &node, Some(VERSION_BEFORE), &both);
    play(&peer, &node, Some(VERSION), &[VERSION]);
    play(&peer, &node, None, &both);
}
