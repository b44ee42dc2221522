//! Whether the gate stands: attached where it must be, still there for the next process, and found out when it is not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use wa_bpf::{Broken, Gate, Network, UnitMap};

use crate::actor::Actor;
use crate::on_a_rig;
use crate::rig::{Rig, Upstream, in_a_while, now_ns};

/// Nothing passes without an entry, nothing without a tenure, everything with one.
#[test]
fn a_unit_sends_under_a_tenure_and_not_otherwise() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let upstream = Upstream::new();
        let bare = rig.cgroup("bare");
        let mut actor = Actor::inside(&bare);
        actor.good("socket a 4 tcp");
        let connect = format!("connect a {}", upstream.address);
        assert_eq!(actor.tell(&connect), "EPERM");
        let (cgroup, id, mut map) = rig.unit("one");
        let mut actor = Actor::inside(&cgroup);
        actor.good("socket a 4 tcp");
        assert_eq!(actor.tell(&connect), "EPERM", "without a tenure");
        map.open(7, in_a_while()).unwrap();
        actor.good(&connect);
        actor.good("send a hello");
        let mut peer = upstream.accept();
        assert_eq!(crate::rig::drain(&mut peer).0, b"hello");
        assert_eq!(rig.gate.read_unit(id).unwrap().epoch, 7);
        map.shut();
        actor.good("send a more");
        assert_eq!(
            crate::rig::drain(&mut peer).0,
            b"",
            "after the tenure was shut"
        );
        map.open(8, now_ns() + 1_000_000_000_000).unwrap();
        actor.good("socket b 4 tcp");
        let far = format!("connect b {}", upstream.address);
        assert_eq!(
            actor.tell(&far),
            "EPERM",
            "the deadline is beyond the ceiling"
        );
    });
}

#[test]
fn the_next_process_finds_the_same_gate() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let (_, id, mut map) = rig.unit("one");
        map.open(3, in_a_while()).unwrap();
        let networks: Vec<Network> = ["10.0.0.0/8", "fd00::/8", "127.0.0.1"]
            .map(|n| n.parse().unwrap())
            .to_vec();
        rig.gate.set_exempt(&networks).unwrap();
        let before = rig.gate.attest(&rig.slice).expect("it stands");
        let mut second = Gate::open_or_load(&rig.pins).unwrap();
        assert_eq!(second.attest(&rig.slice).expect("it stands"), before);
        second.attach(&rig.slice).unwrap();
        assert_eq!(second.attest(&rig.slice).expect("it stands"), before);
        assert_eq!(second.units().unwrap(), [id]);
        let state = second.read_unit(id).unwrap();
        assert_eq!((state.epoch, state.seal), (3, 1));
        assert!(state.deadline_ns > now_ns());
        let mut sorted = networks.clone();
        sorted.sort_unstable();
        assert_eq!(second.exempt().unwrap(), sorted);
        second.set_exempt(&networks[..1]).unwrap();
        assert_eq!(rig.gate.exempt().unwrap(), networks[..1]);
        // The unit's map is the same memory for whoever opens it, and a new incarnation starts without a tenure.
        let mut again = UnitMap::map(second.make_unit(id, 4).unwrap()).unwrap();
        assert_eq!(map.read(), (3, 0));
        assert!(again.open(3, in_a_while()).is_err(), "spent");
        assert_eq!(second.seal(id, 2).unwrap(), 4, "a seal never goes down");
        second.remove_unit(id).unwrap();
        second.remove_unit(id).unwrap();
        assert!(second.unit(id).is_err());
        assert!(second.units().unwrap().is_empty());
    });
}

/// Attack 13: the slice was removed and made again. The pin is still there, the link is dead.
#[test]
fn a_slice_made_again_is_found_out_and_mended() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let upstream = Upstream::new();
        let pin = rig.pin("link/wa_egress");
        fs::remove_dir(&rig.slice).unwrap();
        fs::create_dir(&rig.slice).unwrap();
        assert!(pin.exists(), "what a naive check looks at");
        let cgroup = rig.cgroup("one");
        let mut actor = Actor::inside(&cgroup);
        actor.good("socket a 4 tcp");
        actor.good(&format!("connect a {}", upstream.address));
        actor.good("send a ungated");
        // The kernel lets go of a removed cgroup a little later; until then the link is one to another cgroup.
        let found = rig.gate.attest(&rig.slice);
        assert!(
            matches!(
                found,
                Err(Broken::DeadLink { .. } | Broken::ElsewhereLink { .. })
            ),
            "{found:?}"
        );
        assert!(crate::rig::wait(|| matches!(
            rig.gate.attest(&rig.slice),
            Err(Broken::DeadLink { .. })
        )));
        rig.gate.attach(&rig.slice).unwrap();
        rig.gate.attest(&rig.slice).expect("mended");
        actor.good("send a late");
        assert_eq!(crate::rig::drain(&mut upstream.accept()).0, b"ungated");
    });
}

#[test]
fn whatever_is_wrong_has_a_name() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        rig.gate.attest(&rig.slice).expect("it stands");
        let link = rig.pin("link/wa_connect6");
        fs::remove_file(&link).unwrap();
        let found = rig.gate.attest(&rig.slice);
        assert!(
            matches!(
                found,
                Err(Broken::NoLink {
                    name: "wa_connect6"
                })
            ),
            "{found:?}"
        );
        rig.gate.attach(&rig.slice).unwrap();
        rig.gate.attest(&rig.slice).expect("mended");
        // Attached to another slice: the pins are those of the other one.
        let other = rig.cgroup("other");
        rig.gate.attach(&other).unwrap();
        let found = rig.gate.attest(&rig.slice);
        assert!(
            matches!(found, Err(Broken::ElsewhereLink { .. })),
            "{found:?}"
        );
        rig.gate.attach(&rig.slice).unwrap();
        rig.gate.attest(&rig.slice).expect("mended");
        let found = rig.gate.attest(&rig.slice.join("nowhere"));
        assert!(matches!(found, Err(Broken::NoSlice(_))), "{found:?}");
    });
}

/// An upgrade: another build's programs take the place of the attached ones, over the same maps, by the same links.
#[test]
fn another_build_replaces_the_programs_without_a_gap() {
    on_a_rig(|| {
        let mut rig = Rig::naive(&["NAIVE_NO_RST"]);
        let (cgroup, _, mut map) = rig.unit("one");
        let upstream = Upstream::new();
        map.open(5, in_a_while()).unwrap();
        let mut actor = Actor::inside(&cgroup);
        actor.good("socket a 4 tcp");
        actor.good(&format!("connect a {}", upstream.address));
        let before = rig.gate.attest(&rig.slice).expect("it stands");
        let mut new = Gate::open_or_load(&rig.pins).unwrap();
        assert!(matches!(
            new.attest(&rig.slice),
            Err(Broken::WrongProgram {
                name: "wa_egress",
                ..
            })
        ));
        new.attach(&rig.slice).unwrap();
        let after = new.attest(&rig.slice).expect("it stands");
        assert_ne!(before.digest(), after.digest());
        for (old, new) in before.programs.iter().zip(&after.programs) {
            assert_eq!(old.link, new.link, "the link stays");
        }
        // The stamp of the connection has survived.
        actor.good("send a still-here");
        assert_eq!(crate::rig::drain(&mut upstream.accept()).0, b"still-here");
    });
}

/// All that the host agent asks of the kernel.
pub fn host(pins: &Path, slice: &Path) -> Result<String, wa_bpf::Error> {
    let mut gate = Gate::open_or_load(pins)?;
    gate.set_max_ttl(Duration::from_secs(60))?;
    gate.set_exempt(&["10.0.0.0/8".parse().expect("a network")])?;
    gate.attach(slice)?;
    let found = gate.attest(slice).expect("it stands");
    let fd = gate.make_unit(7, 1)?;
    drop(fd);
    assert_eq!(gate.seal(7, 3)?, 3);
    assert_eq!(gate.read_unit(7)?.seal, 3);
    assert_eq!(gate.units()?, [7]);
    gate.remove_unit(7)?;
    gate.counters()?;
    Ok(found.programs.len().to_string())
}

/// The host agent gets by with two capabilities, also on top of what somebody else has loaded; a coreapp with none.
#[test]
fn rights_that_it_takes() {
    const TWO: [&str; 2] = [
        "--inh-caps=-all,+bpf,+net_admin",
        "--bounding-set=-all,+bpf,+net_admin",
    ];
    const NONE: [&str; 6] = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
    ];
    on_a_rig(|| {
        let mut rig = Rig::loaded(None);
        Gate::remove(&rig.pins).unwrap();
        let command = format!("host {} {}", rig.pins.display(), rig.slice.display());
        assert_eq!(Actor::humble(&TWO).good(&command), "7", "from nothing");
        rig.gate = Gate::open_or_load(&rig.pins).unwrap();
        rig.gate.attest(&rig.slice).expect("it stands");
        assert_eq!(Actor::humble(&TWO).good(&command), "7", "once more");
        let cgroup = rig.cgroup("one");
        let id = wa_bpf::cgroup_id(&cgroup).unwrap();
        let fd = rig.gate.make_unit(id, 1).unwrap();
        assert_eq!(Actor::humble(&NONE).lend("unit 4", &fd), "4");
        assert_eq!(rig.gate.read_unit(id).unwrap().epoch, 4);
    });
}
