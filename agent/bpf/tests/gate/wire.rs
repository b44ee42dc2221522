//! What waits between the hook and the device for its neighbour's address: it must not leave when its tenure is over.
//! Method: a cable whose carrier goes and comes back; the queue is the kernel's own. Each step waits for a fact: the
//! carrier, the state of the neighbour, a packet's arrival or a counter.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use wa_bpf::{Broken, UnitMap};

use crate::actor::Actor;
use crate::on_a_rig;
use crate::rig::{Rig, drain, in_a_while, sh, wait};

/// Where a peer listens.
pub const PEER: &str = "10.77.2.2:7000";

/// The other end of a cable: a network of its own, and somebody who listens there.
pub struct Peer {
    listener: TcpListener,
    /// Nobody reads them, and no sender is told that nobody is there.
    _datagrams: UdpSocket,
    told: Option<SyncSender<&'static str>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Makes the cable `up0` between the calling thread's network and the peer's.
    pub fn new() -> Peer {
        let (told, tells) = sync_channel::<&str>(1);
        let (does, done) = sync_channel(1);
        let (name, named) = sync_channel(1);
        let (hands, sockets) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own");
            name.send(nix::unistd::gettid()).expect("somebody waits");
            for command in tells {
                sh(command);
                if command.contains("addr add") {
                    let address: SocketAddr = PEER.parse().expect("an address");
                    let listener = TcpListener::bind(address).expect("an address to listen on");
                    let datagrams = UdpSocket::bind(address).expect("an address to listen on");
                    hands.send((listener, datagrams)).expect("somebody waits");
                }
                does.send(()).expect("somebody waits");
            }
        });
        let other = named.recv().expect("a network");
        sh(&format!(
            "ip link add up0 type veth peer name up1 netns {other} && ip addr add 10.77.2.1/24 dev up0 && ip link set up0 up"
        ));
        told.send("ip addr add 10.77.2.2/24 dev up1 && ip link set up1 up")
            .expect("the peer listens");
        let (listener, datagrams) = sockets.recv().expect("the peer listens");
        Peer {
            listener,
            _datagrams: datagrams,
            told: Some(told),
            done,
            thread: Some(thread),
        }
        .finished()
    }

    fn finished(self) -> Peer {
        self.done.recv().expect("the peer does it");
        self
    }

    fn tell(&self, command: &'static str) {
        let told = self.told.as_ref().expect("it is not over");
        told.send(command).expect("the peer listens");
        self.done.recv().expect("the peer does it");
    }

    fn accept(&self) -> TcpStream {
        self.listener.accept().expect("somebody connected").0
    }

    /// Takes the carrier away, and waits until the kernel has forgotten the peer's address.
    fn unplug(&self) {
        self.tell("ip link set up1 down");
        assert!(wait(|| neighbour().is_none_or(|state| state == "FAILED")));
    }

    fn plug(&self) {
        self.tell("ip link set up1 up");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.told = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the kernel says of the peer's address; nothing: it has never heard of it.
fn neighbour() -> Option<String> {
    let output = Command::new("ip")
        .args(["neigh", "show", "10.77.2.2", "dev", "up0"])
        .output()
        .expect("iproute2 is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().last().map(str::to_owned)
}

/// A unit that is connected under epoch 1, and has sent.
fn connected(rig: &mut Rig, peer: &Peer) -> (Actor, u64, UnitMap, TcpStream) {
    let (cgroup, id, mut map) = rig.unit("one");
    map.open(1, in_a_while()).unwrap();
    let mut actor = Actor::inside(&cgroup);
    actor.good("socket a 4 tcp");
    actor.good(&format!("connect a {PEER}"));
    let mut stream = peer.accept();
    actor.good("send a early");
    assert_eq!(drain(&mut stream).0, b"early");
    (actor, id, map, stream)
}

fn at_wire(rig: &Rig) -> u64 {
    let counters = rig.gate.counters().expect("counters");
    counters.get("dropped_at_wire").expect("it has a counter")
}

/// Bytes that passed the hook under a live tenure wait for the peer's address; the tenure ends; the cable comes back.
/// Answers what the peer gets.
fn waited(rig: &mut Rig, over: impl FnOnce(&Rig, u64, &mut UnitMap)) -> Vec<u8> {
    let peer = Peer::new();
    assert_eq!(rig.gate.judge_devices().expect("devices"), []);
    rig.gate.attest(&rig.slice).expect("it stands");
    let (mut actor, id, mut map, mut stream) = connected(rig, &peer);
    peer.unplug();
    actor.good("send a STALE");
    assert!(
        wait(|| neighbour().as_deref() == Some("INCOMPLETE")),
        "the packet waits"
    );
    over(rig, id, &mut map);
    peer.plug();
    // Either it arrives, or the judge at the device says that it has stopped it.
    let mut got = Vec::new();
    assert!(wait(|| {
        got.extend(drain(&mut stream).0);
        !got.is_empty() || at_wire(rig) > 0
    }));
    got.extend(drain(&mut stream).0);
    got
}

#[test]
fn what_waited_for_its_neighbour() {
    on_a_rig(|| {
        let got = waited(&mut Rig::naive(&["NAIVE_NO_WIRE"]), |_, _, map| map.shut());
        assert_eq!(got, b"STALE", "the hole");
    });
    for filters in [false, true] {
        for sealed in [false, true] {
            on_a_rig(move || {
                let mut rig = Rig::loaded(None);
                if filters {
                    rig.gate.use_filters_only();
                }
                rig.gate.attach(&rig.slice).expect("it can be attached");
                let got = waited(&mut rig, |rig, id, map| {
                    if sealed {
                        assert_eq!(rig.gate.seal(id, 2).unwrap(), 2);
                    } else {
                        map.shut();
                    }
                });
                assert_eq!(got, b"", "filters {filters}, sealed {sealed}");
            });
        }
    }
}

/// The tenure lives: what waited arrives, and the judge at the device has stopped nothing.
#[test]
fn what_waited_under_a_live_tenure() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let got = waited(&mut rig, |_, _, _| {});
        assert_eq!((got.as_slice(), at_wire(&rig)), (b"STALE".as_slice(), 0));
    });
}

/// Nothing of a tenure leaves by a device that has no judge yet; what is exempt does.
#[test]
fn a_device_without_a_judge_is_closed() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let peer = Peer::new();
        let (cgroup, _, mut map) = rig.unit("one");
        map.open(1, in_a_while()).unwrap();
        let mut actor = Actor::inside(&cgroup);
        actor.good("socket a 4 tcp");
        let before = rig.gate.counters().unwrap();
        assert_ne!(actor.tell(&format!("connect a {PEER}")), "ok");
        let counted = rig.gate.counters().unwrap().since(&before);
        assert!(counted.get("dropped_no_wire") > Some(0), "{counted:?}");
        assert_eq!(counted.passed(), 0, "{counted:?}");
        rig.gate
            .set_exempt(&["10.77.2.0/24".parse().unwrap()])
            .unwrap();
        actor.good("socket b 4 tcp");
        actor.good(&format!("connect b {PEER}"));
        rig.gate.set_exempt(&[]).unwrap();
        assert_eq!(rig.gate.judge_devices().unwrap(), []);
        actor.good("socket c 4 tcp");
        actor.good(&format!("connect c {PEER}"));
        drop(peer);
    });
}

/// Takes the judge away from `up0`, whichever way it is attached there.
fn take_away(rig: &Rig, filters: bool) {
    if filters {
        sh("tc qdisc del dev up0 clsact");
        return;
    }
    let folder = rig.pin("link");
    let pins = std::fs::read_dir(folder).expect("pins");
    for pin in pins.map(|pin| pin.expect("a pin").path()) {
        if pin.to_string_lossy().contains("wa_wire") {
            std::fs::remove_file(pin).expect("removed");
        }
    }
}

/// A judge that was there and is lost is said, and mended by attaching; a device that goes is nothing to say.
#[test]
fn a_lost_judge_is_found_out() {
    for filters in [false, true] {
        on_a_rig(move || {
            let mut rig = Rig::loaded(None);
            if filters {
                rig.gate.use_filters_only();
            }
            rig.gate.attach(&rig.slice).unwrap();
            let peer = Peer::new();
            rig.gate.judge_devices().unwrap();
            rig.gate.attest(&rig.slice).expect("it stands");
            take_away(&rig, filters);
            let found = rig.gate.attest(&rig.slice);
            assert!(
                matches!(&found, Err(Broken::LostDevice { device }) if device == "up0"),
                "{found:?}"
            );
            // A look alone does not hide it.
            rig.gate.judge_devices().unwrap();
            assert!(rig.gate.attest(&rig.slice).is_err());
            assert_eq!(rig.gate.attach(&rig.slice).unwrap(), []);
            rig.gate.attest(&rig.slice).expect("mended");
            // Another process finds the same, by whatever way it attaches itself.
            let mut second = wa_bpf::Gate::open_or_load(&rig.pins).unwrap();
            second.attest(&rig.slice).expect("it stands");
            second.judge_devices().unwrap();
            sh("ip link del up0");
            rig.gate.attest(&rig.slice).expect("a device that is gone");
            rig.gate.judge_devices().unwrap();
            rig.gate.attest(&rig.slice).expect("it stands");
            drop(peer);
        });
    }
}

/// What is taken away for good leaves nothing at the devices.
#[test]
fn removal_leaves_no_judge() {
    for filters in [false, true] {
        on_a_rig(move || {
            let mut rig = Rig::loaded(None);
            if filters {
                rig.gate.use_filters_only();
            }
            let peer = Peer::new();
            rig.gate.attach(&rig.slice).unwrap();
            let shown = "tc filter show dev up0 egress | grep -q wa_wire";
            if filters {
                sh(shown);
            }
            wa_bpf::Gate::remove(&rig.pins).unwrap();
            sh(&format!("! {shown}"));
            let index = nix::net::if_::if_nametoindex("up0").unwrap();
            assert_eq!(
                wa_bpf::syscall::at_device(index, 47).unwrap(),
                [] as [u32; 0]
            );
            drop(peer);
        });
    }
}
