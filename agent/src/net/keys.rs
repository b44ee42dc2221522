//! Per-role keys derived from the cluster key, and what each role may sign (promise S6).
//! A webapp faces the internet: its key signs nothing that decides.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hkdf::Hkdf;
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use wa_core::id::Role;
use wa_core::wire::{Body, MAC_LEN};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::envelope::{DeedKey, hmac};
use super::seal::{Place, Seal, SealError, SealKey, Sealed, Secret};
use crate::config::ClusterKey;

/// Most cluster keys at a time: the one in use, and one that comes or goes.
pub const KEYS_MAX: usize = 2;

/// How a line with the keys of a webapp begins.
const WEBAPP_WORD: &str = "webapp-key";

/// In whose name a datagram is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// A role's own key: what it says decides something.
    Role(Role),
    /// Nudges have a key that every role knows: forged, they make a node read again, and nothing else.
    Nudge,
}

impl Voice {
    /// The voice of a body.
    pub fn of(role: Role, body: &Body) -> Self {
        if matches!(body, Body::Nudge(_)) {
            Self::Nudge
        } else {
            Self::Role(role)
        }
    }
}

/// What one cluster key leads to, or the part of it that a webapp may know. Wiped from memory at its end, as each key is.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Derived {
    /// Tells keys apart on the wire; says nothing about the key.
    id: u8,
    /// `None` where only a webapp's part is known.
    deciding: Option<Deciding>,
    nudge: [u8; 32],
    internal: String,
    /// Opens looks and nothing else.
    look: String,
    /// `None` where the line of a webapp is of an older release.
    #[zeroize(skip)]
    seal_webapp: Option<SealKey>,
}

/// The keys that a webapp must not have.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Deciding {
    heartbeat: [[u8; 32]; 5],
    /// What operators' verbs of the releases before showed: known from the wire, so it opens nothing that changes something.
    operator: String,
    /// Signs and seals operators' deeds, and never travels.
    deed: [u8; 32],
    /// Wipes itself.
    #[zeroize(skip)]
    seal_owner: SealKey,
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
            deciding: Some(Deciding {
                heartbeat,
                operator: credential(&expand("operator")),
                deed: expand("deed"),
                seal_owner: SealKey::new(expand(Seal::Owner.info())),
            }),
            nudge: expand("nudge"),
            internal: credential(&expand("internal")),
            look: look_of(&expand("internal")),
            seal_webapp: Some(SealKey::new(expand(Seal::Webapp.info()))),
        }
    }

    /// A line of a key file: a cluster key, or `webapp-key ID INTERNAL NUDGE SEAL` in hexadecimal. Older releases wrote no
    /// SEAL: what such a line opens is nothing that is sealed.
    fn of_line(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).unwrap_or_default();
        let Some(part) = text.strip_prefix(WEBAPP_WORD) else {
            return Some(Self::new(line));
        };
        let words: Vec<Vec<u8>> = part
            .split_ascii_whitespace()
            .map(hex::decode)
            .collect::<Result<_, _>>()
            .ok()?;
        let (id, internal, nudge, seal) = match &words[..] {
            [id, internal, nudge] => (id, internal, nudge, None),
            [id, internal, nudge, seal] => (id, internal, nudge, Some(seal)),
            _ => return None,
        };
        let key = |word: &Vec<u8>| <[u8; 32]>::try_from(&word[..]).ok();
        let seal_webapp = match seal {
            Some(seal) => Some(SealKey::new(key(seal)?)),
            None => None,
        };
        let internal = key(internal)?;
        Some(Self {
            id: *id.first().filter(|_| id.len() == 1)?,
            deciding: None,
            nudge: key(nudge)?,
            internal: credential(&internal),
            look: look_of(&internal),
            seal_webapp,
        })
    }

    /// The line for a webapp's machine.
    fn webapp_line(&self) -> String {
        let internal = self.internal.split(' ').next_back().unwrap_or_default();
        let nudge = hex::encode(self.nudge);
        let seal = self.seal_webapp.as_ref();
        let seal = seal.map_or_else(String::new, |key| format!(" {}", key.words()));
        format!("{WEBAPP_WORD} {:02x} {internal} {nudge}{seal}", self.id)
    }

    /// The key of these deeds, where it is known.
    fn deeds(&self, of: Caller) -> Option<DeedKey> {
        match of {
            Caller::Operator => self.deciding.as_ref().map(|d| DeedKey::new(d.deed)),
            Caller::Administrator => {
                let seal = self.seal_webapp.as_ref()?;
                Some(DeedKey::new(seal.derive("deed/asked")))
            }
        }
    }

    /// The key that seals for these readers, where it is known.
    fn sealing(&self, of: Seal) -> Option<&SealKey> {
        match of {
            Seal::Owner => self.deciding.as_ref().map(|deciding| &deciding.seal_owner),
            Seal::Webapp => self.seal_webapp.as_ref(),
        }
    }

    fn mac(&self, voice: Voice, bytes: &[u8]) -> Option<[u8; MAC_LEN]> {
        let key = match voice {
            Voice::Role(role) => &self.deciding.as_ref()?.heartbeat[role as usize],
            Voice::Nudge => &self.nudge,
        };
        let full = hmac(key, bytes);
        let mut cut = [0u8; MAC_LEN];
        cut.copy_from_slice(&full[..MAC_LEN]);
        Some(cut)
    }
}

/// Who has a master change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on a machine with the cluster key.
    Operator,
    /// An administrator of the public API, by a webapp: its part of the key is enough.
    Administrator,
}

fn credential(key: &[u8; 32]) -> String {
    format!("wa-internal {}", hex::encode(key))
}

/// The credential of looks. It follows from that of calls between nodes, which does not follow from it: so a webapps' part of any
/// release is enough to look.
fn look_of(internal: &[u8; 32]) -> String {
    let mut key = [0u8; 32];
    Hkdf::<Sha256>::new(Some(b"wa-agent/1"), internal)
        .expand(b"look", &mut key)
        .expect("32 bytes are within HKDF's limit");
    let look = format!("wa-look {}", hex::encode(key));
    key.zeroize();
    look
}

/// The lines of a key file that hold something.
fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
}

/// The key file for machines that run webapps only: what is needed to call coreapps and to be nudged.
pub fn for_webapps(file: &[u8]) -> String {
    let lines = lines(file).filter_map(Derived::of_line);
    lines.map(|key| key.webapp_line() + "\n").collect()
}

/// The file holds the webapps' part of a key: it can sign nothing that decides.
pub fn is_for_webapps(file: &[u8]) -> bool {
    lines(file).any(|line| line.starts_with(b"webapp-key"))
}

/// A short print of each key of a file, alike for a cluster key and the webapps' part of it: two machines compare them
/// through the database. Nothing of the key can be learnt from it.
pub fn prints(file: &[u8]) -> Vec<String> {
    let keys = lines(file).take(KEYS_MAX).filter_map(Derived::of_line);
    let print = |key: Derived| hex::encode(&hmac(&key.nudge, b"wa-agent/print")[..8]);
    keys.map(print).collect()
}

/// Keys of all roles: every node verifies every role, and signs only as its own. A webapp's machine can do with its own
/// part of them, which signs and verifies nothing that decides.
///
/// Rotation (`wa-agent keys rotate`), one node after the other each time: the new key is added as a second line of the key
/// file everywhere (all accept both), becomes the first line everywhere (all sign with it), the old one is removed.
#[derive(Clone)]
pub struct Keys {
    source: ClusterKey,
    set: Arc<ArcSwap<Set>>,
}

/// What one text of the key file leads to.
struct Set {
    of: Arc<SecretBox<Vec<u8>>>,
    signing: Derived,
    accepted_too: Vec<Derived>,
}

impl Set {
    /// Derives all keys by HKDF-SHA-256. The first line signs; further lines are accepted as well.
    fn derive(of: Arc<SecretBox<Vec<u8>>>) -> Self {
        let mut keys = lines(of.expose_secret())
            .take(KEYS_MAX)
            .filter_map(Derived::of_line);
        // The configuration refuses an empty key; tests that use one get a key of their own.
        let signing = keys.next().unwrap_or_else(|| Derived::new(&[]));
        let accepted_too = keys.collect();
        Self {
            of,
            signing,
            accepted_too,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Derived> {
        std::iter::once(&self.signing).chain(&self.accepted_too)
    }
}

/// The id of the key in one line of a key file, as people see it.
pub fn id_of(line: &[u8]) -> String {
    Derived::of_line(line).map_or_else(String::new, |key| format!("{:02x}", key.id))
}

impl Keys {
    /// The keys of a file that never changes.
    pub fn new(file: &[u8]) -> Self {
        Self::of(&ClusterKey::new(file.to_vec()))
    }

    /// The keys as they are in force: who replaces the cluster key changes them.
    pub fn of(source: &ClusterKey) -> Self {
        Self {
            source: source.clone(),
            set: Arc::new(ArcSwap::from_pointee(Set::derive(source.current()))),
        }
    }

    /// Derived once for each text of the file, at the first use after the change.
    fn set(&self) -> arc_swap::Guard<Arc<Set>> {
        let current = self.source.current();
        let set = self.set.load();
        if Arc::ptr_eq(&set.of, &current) {
            return set;
        }
        self.set.store(Arc::new(Set::derive(current)));
        self.set.load()
    }

    /// The id of the key that signs.
    pub fn id(&self) -> u8 {
        self.set().signing.id
    }

    /// Ids for people and for the node table: of the key that signs, and of those that are taken.
    pub fn ids(&self) -> (String, String) {
        let set = self.set();
        let all: Vec<String> = set.all().map(|key| format!("{:02x}", key.id)).collect();
        (format!("{:02x}", set.signing.id), all.join(" "))
    }

    /// The credential of calls between nodes.
    pub fn internal_header(&self) -> String {
        self.set().signing.internal.clone()
    }

    /// The header is a credential of calls between nodes.
    pub fn internal_ok(&self, header: &[u8]) -> bool {
        self.set()
            .all()
            .any(|key| key.internal.as_bytes().ct_eq(header).into())
    }

    /// What operators' verbs of the releases before showed.
    #[cfg(test)]
    pub fn former_operator_header(&self) -> Option<String> {
        let set = self.set();
        set.signing.deciding.as_ref().map(|d| d.operator.clone())
    }

    /// The credential of looks.
    pub fn look_header(&self) -> String {
        self.set().signing.look.clone()
    }

    /// The header is a credential of looks, or a stronger one: releases before looked with those.
    pub fn look_ok(&self, header: &[u8]) -> bool {
        let set = self.set();
        let mut looks = set.all().map(|key| key.look.as_bytes().ct_eq(header));
        looks.any(Into::into) || self.internal_ok(header) || self.operator_ok(header)
    }

    /// The key for deeds of such callers; `None` on a webapp's machine for operators' deeds, or where its part of the key is too old.
    pub fn deed_key(&self, of: Caller) -> Option<DeedKey> {
        self.set().signing.deeds(of)
    }

    /// The key under which this is the MAC of a deed of such callers, among those that are known.
    pub fn deed_key_of(&self, of: Caller, bytes: &[u8], mac: &[u8]) -> Option<DeedKey> {
        let set = self.set();
        let mut known = set.all().filter_map(|key| key.deeds(of));
        known.find(|key| key.mac(bytes).ct_eq(mac).into())
    }

    /// Shows to every node that this one knows the cluster key, or the webapps' part of it.
    pub fn vouch(&self, bytes: &[u8]) -> [u8; 32] {
        hmac(&self.set().signing.nudge, bytes)
    }

    /// It was shown so, under any key that is known.
    pub fn vouched(&self, bytes: &[u8], proof: &[u8]) -> bool {
        let set = self.set();
        set.all()
            .any(|key| hmac(&key.nudge, bytes).ct_eq(proof).into())
    }

    /// The header is what operators' verbs of the releases before showed. They may look with it, and be told why their deeds are
    /// not done.
    pub fn operator_ok(&self, header: &[u8]) -> bool {
        let set = self.set();
        let mut operators = set.all().filter_map(|key| key.deciding.as_ref());
        operators.any(|d| d.operator.as_bytes().ct_eq(header).into())
    }

    /// MAC of a datagram: HMAC-SHA-256 cut to 16 bytes. Zeros where the key is not known: nobody takes them.
    pub fn mac(&self, voice: Voice, bytes: &[u8]) -> [u8; MAC_LEN] {
        self.set().signing.mac(voice, bytes).unwrap_or_default()
    }

    /// Seals a secret for the place where it will stand, under the key that signs.
    ///
    /// # Errors
    /// [`SealError`]; on a webapp's machine for what is not for webapps, or where its part of the key is too old.
    pub fn seal(&self, of: Seal, place: &Place<'_>, secret: &[u8]) -> Result<String, SealError> {
        let set = self.set();
        let key = set.signing.sealing(of);
        key.ok_or_else(|| absent(of, place))?.seal(place, secret)
    }

    /// Whether this machine can seal for these readers.
    ///
    /// # Errors
    /// As [`Self::seal`] would say.
    pub fn can_seal(&self, of: Seal, place: &Place<'_>) -> Result<(), SealError> {
        let set = self.set();
        set.signing
            .sealing(of)
            .map_or_else(|| Err(absent(of, place)), |_| Ok(()))
    }

    /// Opens a secret that was sealed for this place, under any key that is known.
    ///
    /// # Errors
    /// [`SealError`], which names the place.
    pub fn open(&self, of: Seal, place: &Place<'_>, sealed: &str) -> Result<Secret, SealError> {
        let set = self.set();
        let place_text = place.to_string();
        let form = || SealError::Form {
            place: place_text.clone(),
        };
        let sealed = Sealed::parse(sealed).ok_or_else(form)?;
        let mut known = set.all().filter_map(|key| key.sealing(of)).peekable();
        if known.peek().is_none() {
            return Err(absent(of, place));
        }
        let mut named = known.filter(|key| key.id() == sealed.key).peekable();
        if named.peek().is_none() {
            return Err(SealError::UnknownKey {
                place: place_text,
                id: sealed.key,
            });
        }
        named
            .find_map(|key| key.open(&place_text, &sealed))
            .ok_or(SealError::Changed { place: place_text })
    }

    /// Whom a sealed text is for, by the key that it names; `None` where that key is not known here.
    pub fn reader_of(&self, sealed: &Sealed) -> Option<Seal> {
        let set = self.set();
        let knows = |of: &Seal| {
            let mut keys = set.all().filter_map(|key| key.sealing(*of));
            keys.any(|key| key.id() == sealed.key)
        };
        Seal::ALL.into_iter().find(knows)
    }

    /// The text is sealed under the key that signs: a rotation has nothing to do to it.
    pub fn sealed_newest(&self, sealed: &Sealed) -> bool {
        let set = self.set();
        let mut keys = Seal::ALL
            .into_iter()
            .filter_map(|of| set.signing.sealing(of));
        keys.any(|key| key.id() == sealed.key)
    }

    /// What is sealed for webapps cannot be opened: see [`super::seal::older_part`].
    pub fn is_older_part(&self) -> bool {
        self.set().all().any(|key| key.seal_webapp.is_none())
    }

    /// The MAC is right under the key of this id.
    pub fn verify(&self, key_id: u8, voice: Voice, bytes: &[u8], mac: &[u8]) -> bool {
        let set = self.set();
        let named = set.all().filter(|key| key.id == key_id);
        let mut macs = named.filter_map(|key| key.mac(voice, bytes));
        macs.any(|right| right.ct_eq(mac).into())
    }
}

/// Why a machine has no key of this sort.
fn absent(of: Seal, place: &Place<'_>) -> SealError {
    match of {
        Seal::Owner => SealError::NotForWebapps {
            place: place.to_string(),
        },
        Seal::Webapp => SealError::OlderPart,
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
#[path = "keys_tests.rs"]
mod tests;
