//! Sealed texts open in their own place and with their own key, and nowhere else; no text panics the reader.

use std::sync::LazyLock;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;
use crate::net::keys::{Keys, for_webapps};

const OLD: &[u8] = b"the key of yesterday, which is long";
const BOTH: &[u8] = b"the key of tomorrow, which is long\nthe key of yesterday, which is long";
const NEW: &[u8] = b"the key of tomorrow, which is long";

/// Derived once: a property asks for it in every case.
static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new(NEW));

fn place() -> Place<'static> {
    Place::setting("media-providers", "providers/cdn/sealed")
}

fn shown(opened: Result<Secret, SealError>) -> Result<Vec<u8>, SealError> {
    opened.map(|secret| secret.expose_secret().clone())
}

/// Goal: what is sealed comes back, for both sorts of readers, and never as the same text twice; it shows nothing. Method: a
/// secret there and back, its text, and `Debug` of all that holds it.
#[test]
fn a_secret_comes_back_and_is_not_shown() {
    let keys = Keys::new(NEW);
    for of in Seal::ALL {
        let sealed = keys.seal(of, &place(), b"word-1234").expect("sealed");
        assert!(sealed.starts_with("v1."), "{sealed}");
        assert_ne!(
            sealed,
            keys.seal(of, &place(), b"word-1234").expect("sealed")
        );
        let opened = keys.open(of, &place(), &sealed).expect("opened");
        assert_eq!(opened.expose_secret(), b"word-1234");
        assert!(!format!("{opened:?}").contains("word"));
        let parsed = Sealed::parse(&sealed).expect("its own form");
        assert_eq!(keys.reader_of(&parsed), Some(of));
        assert!(keys.sealed_newest(&parsed));
        assert_eq!(parsed.to_string(), sealed);
    }
    let key = SealKey::new([7; 32]);
    assert!(!format!("{key:?}").contains(&key.words()[..8]), "{key:?}");
    let none = keys.seal(Seal::Owner, &place(), b"").expect("sealed");
    assert_eq!(shown(keys.open(Seal::Owner, &place(), &none)), Ok(vec![]));
}

/// Goal: a text opens in its own place only, with its own sort of key only. Method: every other place that differs in one part,
/// and the other sort.
#[test]
fn another_place_or_reader_opens_nothing() {
    let keys = Keys::new(NEW);
    let sealed = keys.seal(Seal::Owner, &place(), b"word").expect("sealed");
    let others = [
        Place::setting("media-providers", "providers/cdn2/sealed"),
        Place::setting("pins", "providers/cdn/sealed"),
        Place {
            table: "other",
            ..place()
        },
    ];
    for other in others {
        let why = SealError::Changed {
            place: other.to_string(),
        };
        assert_eq!(shown(keys.open(Seal::Owner, &other, &sealed)), Err(why));
    }
    let error = keys
        .open(Seal::Webapp, &place(), &sealed)
        .expect_err("the other sort");
    assert!(matches!(error, SealError::UnknownKey { .. }), "{error}");
    let named = keys
        .open(Seal::Owner, &place(), "word")
        .expect_err("no sealed text");
    assert!(
        named
            .to_string()
            .contains("setting/media-providers/providers/cdn/sealed")
    );
}

/// Goal: in a rotation both keys open, new texts are under the new one, and afterwards the old text is named as one of an
/// unknown key. Method: the key files of before, in between, and after.
#[test]
fn a_rotation_opens_both_and_seals_with_the_new() {
    let [old, both, new] = [OLD, BOTH, NEW].map(Keys::new);
    let sealed = old.seal(Seal::Owner, &place(), b"word").expect("sealed");
    let parsed = Sealed::parse(&sealed).expect("its own form");
    assert_eq!(
        shown(both.open(Seal::Owner, &place(), &sealed)),
        Ok(b"word".to_vec())
    );
    assert!(!both.sealed_newest(&parsed));
    let again = both.seal(Seal::Owner, &place(), b"word").expect("sealed");
    assert!(both.sealed_newest(&Sealed::parse(&again).expect("its own form")));
    assert_eq!(
        shown(new.open(Seal::Owner, &place(), &again)),
        Ok(b"word".to_vec())
    );
    let why = SealError::UnknownKey {
        place: place().to_string(),
        id: parsed.key.clone(),
    };
    assert_eq!(shown(new.open(Seal::Owner, &place(), &sealed)), Err(why));
    assert_eq!(new.reader_of(&parsed), None);
}

/// Goal: what lies on a webapp's machine opens the webapps' secrets and none of the owners'; with the line of an older release
/// it opens nothing, and says what to type. Method: the key file that a webapp's machine has, against texts of a master.
#[test]
fn a_webapps_file_opens_no_owners_secret() {
    let all = Keys::new(BOTH);
    let file = for_webapps(BOTH);
    let webapp = Keys::new(file.as_bytes());
    let tls = Place::setting("certificate", "key");
    let owners = all.seal(Seal::Owner, &place(), b"word").expect("sealed");
    let webapps = all.seal(Seal::Webapp, &tls, b"pem").expect("sealed");
    assert_eq!(
        shown(webapp.open(Seal::Webapp, &tls, &webapps)),
        Ok(b"pem".to_vec())
    );
    let own = webapp.seal(Seal::Webapp, &tls, b"pem 2").expect("sealed");
    assert_eq!(
        shown(all.open(Seal::Webapp, &tls, &own)),
        Ok(b"pem 2".to_vec())
    );
    for text in [&owners, &webapps] {
        let error = webapp
            .open(Seal::Owner, &place(), text)
            .expect_err("refused");
        assert!(matches!(error, SealError::NotForWebapps { .. }), "{error}");
    }
    assert!(webapp.seal(Seal::Owner, &place(), b"x").is_err());
    // Each of its words, taken for a key of any sort, opens nothing of the owners'.
    let parsed = Sealed::parse(&owners).expect("its own form");
    for word in file.split_ascii_whitespace() {
        let words = Keys::new(word.as_bytes());
        assert!(words.open(Seal::Owner, &place(), &owners).is_err());
        if let Ok(raw) = <[u8; 32]>::try_from(hex::decode(word).unwrap_or_default()) {
            let key = SealKey::new(raw);
            assert!(key.open(&place().to_string(), &parsed).is_none(), "{word}");
        }
    }
    assert!(!webapp.is_older_part() && !all.is_older_part());
    let older: String = file
        .lines()
        .map(|line| line.rsplit_once(' ').expect("four words").0.to_owned() + "\n")
        .collect();
    let older = Keys::new(older.as_bytes());
    assert_eq!(
        older.internal_header(),
        all.internal_header(),
        "an older line still works"
    );
    assert!(older.is_older_part());
    let error = older
        .open(Seal::Webapp, &tls, &webapps)
        .expect_err("refused");
    assert_eq!(error, SealError::OlderPart);
    assert!(
        error.to_string().contains("wa-agent keygen --webapp-of"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Goal: a text that was changed anywhere, or cut, does not open. Method: every bit that chance finds, and every cut.
    #[test]
    fn a_changed_text_does_not_open(secret in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index) {
        let keys = &*KEYS;
        let sealed = keys.seal(Seal::Owner, &place(), &secret).expect("sealed");
        prop_assert_eq!(shown(keys.open(Seal::Owner, &place(), &sealed)), Ok(secret));
        let mut changed = sealed.clone().into_bytes();
        changed[at.index(sealed.len())] ^= 1 << bit;
        if let Ok(changed) = String::from_utf8(changed) {
            prop_assert!(keys.open(Seal::Owner, &place(), &changed).is_err(), "{}", changed);
        }
        let short = &sealed[..cut.index(sealed.len())];
        prop_assert!(keys.open(Seal::Owner, &place(), short).is_err(), "{}", short);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    /// Goal: no text panics the reader, and what it understands it writes as it was.
    #[test]
    fn no_text_panics_the_reader(text in "(v[0-9]\\.)?[0-9a-f]{0,9}\\.?[A-Za-z0-9_=-]{0,40}\\.?[A-Za-z0-9_-]{0,40}\\.?", any in ".*") {
        for text in [text, any] {
            if let Some(sealed) = Sealed::parse(&text) {
                prop_assert_eq!(sealed.to_string(), text);
            }
        }
    }
}

/// Goal: what a run of the fuzzer found stays fixed. Method: every seed of its corpus; the first is of our own form.
#[test]
fn the_corpus_opens_nothing() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/sealed");
    let mut understood = 0;
    for entry in std::fs::read_dir(folder).expect("seeds").flatten() {
        let bytes = std::fs::read(entry.path()).expect("a seed");
        let text = String::from_utf8_lossy(&bytes);
        understood += usize::from(Sealed::parse(&text).is_some());
        for of in Seal::ALL {
            assert!(KEYS.open(of, &place(), &text).is_err());
        }
    }
    assert!(understood > 0);
}
