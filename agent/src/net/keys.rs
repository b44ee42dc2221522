//! Per-role keys derived from the cluster key, and what each role may sign (promise S6).
//! A webapp faces the internet: its key signs nothing that decides.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use wa_core::id::Role;
use wa_core::wire::{Body, MAC_LEN};

/// Most cluster keys at a time: the one in use, and one that comes or goes.
pub const KEYS_MAX: usize = 2;

/// What one cluster key leads to.
#[derive(Clone)]
struct Derived {
    /// Tells keys apart on the wire; says nothing about the key.
    id: u8,
    heartbeat: [[u8; 32]; 5],
    internal: String,
}

impl Derived {
    fn new(cluster_key: &[u8]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(b"wa-agent/1"), cluster_key);
        let expand = |info: &str| {
            let mut key = [0u8; 32];
            hkdf.expand(info.as_bytes(), &mut key)
                .expect("32 bytes are within HKDF's limit");
            key
        };
        let mut heartbeat = [[0u8; 32]; 5];
        for role in [Role::Master, Role::Coreapp, Role::Webapp, Role::Host] {
            heartbeat[role as usize] = expand(&format!("heartbeat/{}", role.as_str()));
        }
        Self {
            id: expand("id")[0],
            heartbeat,
            internal: format!("wa-internal {}", hex::encode(expand("internal"))),
        }
    }

    fn mac(&self, role: Role, bytes: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.heartbeat[role as usize])
            .expect("HMAC takes any key length");
        mac.update(bytes);
        let full = mac.finalize().into_bytes();
        let mut cut = [0u8; MAC_LEN];
        cut.copy_from_slice(&full[..MAC_LEN]);
        cut
    }
}

/// Keys of all roles: every node verifies every role, and signs only as its own.
///
/// Rotation, one node after the other each time: add the new key as a second line of the key file everywhere (all
/// accept both), move it to the first line everywhere (all sign with it), remove the old one.
#[derive(Clone)]
pub struct Keys {
    signing: Derived,
    accepted_too: Vec<Derived>,
}

impl Keys {
    /// Derives all keys by HKDF-SHA-256. The first line signs; further lines are accepted as well.
    pub fn new(cluster_keys: &[u8]) -> Self {
        let lines = cluster_keys.split(|byte| *byte == b'\n');
        let mut keys = lines
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .take(KEYS_MAX)
            .map(Derived::new);
        Self {
            // The configuration refuses an empty key; tests that use one get a key of their own.
            signing: keys.next().unwrap_or_else(|| Derived::new(&[])),
            accepted_too: keys.collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Derived> {
        std::iter::once(&self.signing).chain(&self.accepted_too)
    }

    /// The id of the key that signs.
    pub fn id(&self) -> u8 {
        self.signing.id
    }

    /// The credential of calls between nodes.
    pub fn internal_header(&self) -> &str {
        &self.signing.internal
    }

    /// The header is a credential of calls between nodes.
    pub fn internal_ok(&self, header: &[u8]) -> bool {
        self.all()
            .any(|key| key.internal.as_bytes().ct_eq(header).into())
    }

    /// MAC of a datagram under the sender role's key: HMAC-SHA-256 cut to 16 bytes.
    pub fn mac(&self, role: Role, bytes: &[u8]) -> [u8; MAC_LEN] {
        self.signing.mac(role, bytes)
    }

    /// The MAC is right under the key of this id.
    pub fn verify(&self, key_id: u8, role: Role, bytes: &[u8], mac: &[u8]) -> bool {
        let mut named = self.all().filter(|key| key.id == key_id);
        named.any(|key| key.mac(role, bytes).ct_eq(mac).into())
    }
}

/// What a role may say.
pub fn may_say(role: Role, body: &Body) -> bool {
    match body {
        Body::Ping { .. }
        | Body::Opinions { .. }
        | Body::Fence { .. }
        | Body::Quiesce { .. }
        | Body::Nudge(_) => role == Role::Master,
        Body::Answer { .. } => matches!(role, Role::Master | Role::Coreapp | Role::Host),
        Body::Receipt(_) => role == Role::Host,
        Body::Ended { .. } | Body::Quiesced { .. } | Body::Ask { .. } => role == Role::Coreapp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a rotation, node by node, at no step has two nodes that do not understand each other.
    #[test]
    fn a_rotation_never_parts_two_nodes() {
        let steps =
            ["old\n", "old\nnew\n", "new\nold\n", "new\n"].map(|file| Keys::new(file.as_bytes()));
        for neighbours in steps.windows(2) {
            for (a, b) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
                let (from, to) = (&neighbours[a], &neighbours[b]);
                assert!(to.verify(from.id(), Role::Host, b"x", &from.mac(Role::Host, b"x")));
                assert!(to.internal_ok(from.internal_header().as_bytes()));
            }
        }
        let (first, last) = (&steps[0], &steps[3]);
        assert!(!last.verify(first.id(), Role::Host, b"x", &first.mac(Role::Host, b"x")));
        assert!(!last.internal_ok(first.internal_header().as_bytes()));
    }

    /// Goal: keys of roles differ, and differ from the credential.
    #[test]
    fn a_role_cannot_sign_as_another() {
        let keys = Keys::new(b"k");
        assert_ne!(keys.mac(Role::Webapp, b"x"), keys.mac(Role::Master, b"x"));
        assert!(!keys.verify(keys.id(), Role::Master, b"x", &keys.mac(Role::Webapp, b"x")));
        assert!(!keys.verify(keys.id(), Role::Master, b"x", &[]));
        assert!(!keys.internal_ok(b""));
    }
}
