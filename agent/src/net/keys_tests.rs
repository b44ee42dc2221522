//! What each role may sign, seal and show, and what it may not.

use super::*;

/// Goal: derived keys do not stay in memory. Method: the kinds that hold them wipe themselves, by their types, and what is wiped is
/// empty.
#[test]
fn derived_keys_are_wiped() {
    fn wipes_itself<T: ZeroizeOnDrop>(_: &T) {}
    let mut derived = Derived::new(b"the key of this cluster, which is long");
    wipes_itself(&derived);
    let deciding = derived.deciding.as_mut().expect("a cluster key");
    wipes_itself(deciding);
    deciding.zeroize();
    assert!(deciding.operator.is_empty());
    assert_eq!((deciding.deed, deciding.heartbeat), ([0; 32], [[0; 32]; 5]));
    derived.zeroize();
    assert!(derived.internal.is_empty() && derived.look.is_empty());
    assert_eq!(derived.nudge, [0; 32]);
}

const HOST: Voice = Voice::Role(Role::Host);
const MASTER: Voice = Voice::Role(Role::Master);

/// One takes what another signs as such a caller.
fn takes(one: &Keys, of: Caller, another: &Keys) -> bool {
    let mac = another.deed_key(of).expect("it has it").mac(b"x");
    one.deed_key_of(of, b"x", &mac).is_some()
}

/// Goal: the credential of looks opens looks and nothing else, also one that follows from a webapps' part of a release before.
/// Method: it at everything that takes a credential; the parts of both releases.
#[test]
fn a_look_opens_looks_only() {
    let all = Keys::new(b"cluster key");
    let look = all.look_header();
    assert!(all.look_ok(look.as_bytes()));
    assert!(!all.internal_ok(look.as_bytes()) && !all.operator_ok(look.as_bytes()));
    assert!(!Keys::new(b"another").look_ok(look.as_bytes()));
    assert!(
        all.look_ok(all.internal_header().as_bytes()),
        "releases before look so"
    );
    let newest = for_webapps(b"cluster key");
    let older = newest.trim().rsplit_once(' ').expect("four words").0;
    assert_eq!(Keys::new(older.as_bytes()).look_header(), look);
    assert!(
        Keys::new(older.as_bytes())
            .deed_key(Caller::Administrator)
            .is_none()
    );
    let secret = |header: &str| header.split(' ').next_back().expect("two words").to_owned();
    assert_ne!(secret(&look), secret(&all.internal_header()));
}

/// Goal: promise S6. Method: everything that the webapp's file allows, against nodes with the cluster key.
#[test]
fn a_webapps_file_decides_nothing() {
    let all = Keys::new(b"cluster key\nthe next one");
    let file = for_webapps(b"cluster key\nthe next one");
    assert_eq!(file.lines().count(), 2);
    let part = Keys::new(file.as_bytes());
    assert_eq!(part.id(), all.id());
    assert!(all.internal_ok(part.internal_header().as_bytes()));
    assert!(part.verify(all.id(), Voice::Nudge, b"x", &all.mac(Voice::Nudge, b"x")));
    for role in [Role::Master, Role::Coreapp, Role::Webapp, Role::Host] {
        let voice = Voice::Role(role);
        assert!(
            !all.verify(part.id(), voice, b"x", &part.mac(voice, b"x")),
            "{role:?}"
        );
        assert!(
            !part.verify(part.id(), voice, b"x", &part.mac(voice, b"x")),
            "{role:?}"
        );
    }
    assert!(part.deed_key(Caller::Operator).is_none());
    assert!(!takes(&part, Caller::Operator, &all));
    assert!(takes(&all, Caller::Administrator, &part));
    assert_eq!(part.look_header(), all.look_header());
    assert!(!all.operator_ok(part.internal_header().as_bytes()));
    let former = all.former_operator_header().expect("it has it");
    assert!(all.operator_ok(former.as_bytes()) && !all.internal_ok(former.as_bytes()));
    assert_eq!(
        for_webapps(file.as_bytes()),
        file,
        "a part of the part is the same"
    );
}

/// Goal: a rotation, node by node, at no step has two nodes that do not understand each other.
#[test]
fn a_rotation_never_parts_two_nodes() {
    let steps =
        ["old\n", "old\nnew\n", "new\nold\n", "new\n"].map(|file| Keys::new(file.as_bytes()));
    for neighbours in steps.windows(2) {
        for (a, b) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
            let (from, to) = (&neighbours[a], &neighbours[b]);
            assert!(to.verify(from.id(), HOST, b"x", &from.mac(HOST, b"x")));
            assert!(to.internal_ok(from.internal_header().as_bytes()));
            assert!(takes(to, Caller::Operator, from));
            assert!(takes(to, Caller::Administrator, from));
            assert!(to.look_ok(from.look_header().as_bytes()));
            assert!(to.vouched(b"x", &from.vouch(b"x")));
        }
    }
    let (first, last) = (&steps[0], &steps[3]);
    assert!(!last.verify(first.id(), HOST, b"x", &first.mac(HOST, b"x")));
    assert!(!last.internal_ok(first.internal_header().as_bytes()));
    assert!(!takes(last, Caller::Operator, first));
    assert!(!last.look_ok(first.look_header().as_bytes()));
    assert!(!last.vouched(b"x", &first.vouch(b"x")));
}

/// Goal: a file that is read again changes every clone in the running process, phase by phase. Method: two parties that
/// change one after the other, as a rotation does it.
#[test]
fn replaced_files_are_in_force_at_once() {
    let source = ClusterKey::new(b"old".to_vec());
    let (keys, clone) = (Keys::of(&source), Keys::of(&source).clone());
    let old = Keys::new(b"old");
    assert_eq!(keys.ids().0, id_of(b"old"));
    for (file, sends) in [("old\nnew", "old"), ("new\nold", "new"), ("new", "new")] {
        assert!(source.replace(file.as_bytes()));
        assert_eq!(clone.ids().0, id_of(sends.as_bytes()), "{file}");
        assert_eq!(keys.ids(), clone.ids());
        let taken = keys.verify(old.id(), HOST, b"x", &old.mac(HOST, b"x"));
        assert_eq!(taken, file.contains("old"), "{file}");
    }
}

/// Goal: keys of roles differ, and differ from the credential.
#[test]
fn a_role_cannot_sign_as_another() {
    let keys = Keys::new(b"k");
    assert_ne!(
        keys.mac(Voice::Role(Role::Webapp), b"x"),
        keys.mac(MASTER, b"x")
    );
    assert!(!keys.verify(
        keys.id(),
        MASTER,
        b"x",
        &keys.mac(Voice::Role(Role::Webapp), b"x")
    ));
    assert!(!keys.verify(keys.id(), MASTER, b"x", &[]));
    assert!(!keys.internal_ok(b""));
}
