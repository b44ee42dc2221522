//! Per-role keys derived from the cluster key, and what each role may sign (promise S6).
//! A webapp faces the internet: its key signs nothing that decides.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use wa_core::id::Role;
use wa_core::wire::{Body, MAC_LEN};

/// The id of the key in use; rotation will bring a second one.
pub const KEY_ID: u8 = 1;

/// Keys of all roles: every node verifies every role, and signs only as its own.
#[derive(Clone)]
pub struct Keys {
    heartbeat: [[u8; 32]; 5],
    internal: String,
}

impl Keys {
    /// Derives all keys by HKDF-SHA-256.
    pub fn new(cluster_key: &[u8]) -> Self {
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
            heartbeat,
            internal: format!("wa-internal {}", hex::encode(expand("internal"))),
        }
    }

    /// The credential of calls between nodes.
    pub fn internal_header(&self) -> &str {
        &self.internal
    }

    /// The header is the credential of calls between nodes.
    pub fn internal_ok(&self, header: &[u8]) -> bool {
        self.internal.as_bytes().ct_eq(header).into()
    }

    /// MAC of a datagram under the sender role's key: HMAC-SHA-256 cut to 16 bytes.
    pub fn mac(&self, role: Role, bytes: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.heartbeat[role as usize])
            .expect("HMAC takes any key length");
        mac.update(bytes);
        let full = mac.finalize().into_bytes();
        let mut cut = [0u8; MAC_LEN];
        cut.copy_from_slice(&full[..MAC_LEN]);
        cut
    }

    /// The MAC is right.
    pub fn verify(&self, role: Role, bytes: &[u8], mac: &[u8]) -> bool {
        self.mac(role, bytes).ct_eq(mac).into()
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
