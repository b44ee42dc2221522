//! Envelopes: what a deed asks and what is answered, readable and writable for the two ends only.
//! Knows no verb and no header: `deed.rs` says what a call is bound to.
//!
//! Model: each call has two keys of its own, one for each direction, derived by HKDF from the key of deeds and the node's nonce. The
//! cipher is XChaCha20-Poly1305. What the call is bound to is its associated data: in another call, another direction or with another
//! status a text does not open.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

const NONCE_LEN: usize = 24;

/// HMAC-SHA-256, whole.
pub(super) fn hmac(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key);
    let mut mac = mac.expect("HMAC takes any key length");
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

/// Signs deeds, and leads to the keys of each call. Never travels; wiped from memory at its end.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DeedKey([u8; 32]);

impl DeedKey {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The MAC that the head of a deed shows.
    pub(super) fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        hmac(&self.0, bytes)
    }

    /// The envelopes of the call that this nonce is for.
    pub(super) fn envelopes(&self, nonce: &str) -> Envelopes {
        let hkdf = Hkdf::<Sha256>::new(Some(nonce.as_bytes()), &self.0);
        let expand = |info: &[u8]| {
            let mut key = [0; 32];
            hkdf.expand(info, &mut key)
                .expect("32 bytes are within HKDF's limit");
            key
        };
        Envelopes {
            asked: expand(b"wa-agent/deed/2/asked"),
            answered: expand(b"wa-agent/deed/2/answered"),
        }
    }
}

/// Which way a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Asked,
    Answered,
}

/// The keys of one call. Wiped from memory at their end.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Envelopes {
    asked: [u8; 32],
    answered: [u8; 32],
}

impl Envelopes {
    fn cipher(&self, way: Way) -> XChaCha20Poly1305 {
        let key = match way {
            Way::Asked => self.asked,
            Way::Answered => self.answered,
        };
        XChaCha20Poly1305::new(&Key::from(key))
    }

    /// Seals a text; `None` where the kernel gives no random bytes.
    pub(super) fn seal(&self, way: Way, bound: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload {
            msg: text,
            aad: bound,
        };
        let sealed = self.cipher(way).encrypt(&XNonce::from(nonce), payload);
        Some([&nonce[..], &sealed.ok()?].concat())
    }

    /// Opens a text; `None` where it was not sealed so, or was changed.
    pub(super) fn open(&self, way: Way, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let payload = Payload {
            msg: sealed,
            aad: bound,
        };
        let opened = self.cipher(way).decrypt(&XNonce::from(*nonce), payload);
        opened.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a text opens where it was sealed for, and nowhere else; nothing of it can be read or changed. Method: one text against
    /// another nonce, way, bound and key; each of its bytes changed; every shorter text.
    #[test]
    fn a_text_opens_where_it_was_sealed_for() {
        let key = DeedKey::new([7; 32]);
        let call = key.envelopes("nonce");
        let text = b"the words of a deed";
        let sealed = call.seal(Way::Asked, b"bound", text).expect("sealed");
        let open =
            |call: &Envelopes, way, bound: &[u8], sealed: &[u8]| call.open(way, bound, sealed);
        let right = open(&call, Way::Asked, b"bound", &sealed);
        assert_eq!(right.as_deref(), Some(&text[..]));
        assert!(!sealed.windows(5).any(|part| part == &text[..5]));
        assert_ne!(call.seal(Way::Asked, b"bound", text), Some(sealed.clone()));
        assert_eq!(open(&call, Way::Answered, b"bound", &sealed), None);
        assert_eq!(open(&call, Way::Asked, b"other", &sealed), None);
        let other = key.envelopes("other");
        assert_eq!(open(&other, Way::Asked, b"bound", &sealed), None);
        let other = DeedKey::new([8; 32]).envelopes("nonce");
        assert_eq!(open(&other, Way::Asked, b"bound", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&call, Way::Asked, b"bound", &changed), None, "{at}");
            assert_eq!(open(&call, Way::Asked, b"bound", &sealed[..at]), None);
        }
    }

    /// Goal: no key of a deed stays in memory. Method: the kinds that hold them, by their types.
    #[test]
    fn keys_of_deeds_are_wiped() {
        fn wipes_itself<T: ZeroizeOnDrop>(_: &T) {}
        let mut key = DeedKey::new([7; 32]);
        let mut call = key.envelopes("nonce");
        wipes_itself(&key);
        wipes_itself(&call);
        key.zeroize();
        call.zeroize();
        assert_eq!(
            (key.0, call.asked, call.answered),
            ([0; 32], [0; 32], [0; 32])
        );
    }
}
