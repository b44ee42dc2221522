//! Sealed texts and backups: no text panics what takes them apart; what is understood is written again as it was, asks for
//! bounded work, and opens nothing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wa_agent::api::v1::backup::Blob;
use wa_agent::net::keys::Keys;
use wa_agent::net::seal::{Place, Seal, Sealed};

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new(b"a key that sealed none of this"));

fuzz_target!(|text: &str| {
    if let Some(sealed) = Sealed::parse(text) {
        assert_eq!(sealed.to_string(), text);
    }
    let place = Place::setting("row", "field");
    for of in Seal::ALL {
        assert!(KEYS.open(of, &place, text).is_err());
    }
    if let Ok(blob) = Blob::parse(text) {
        assert_eq!(blob.to_string(), text);
        assert!(blob.cost.memory_kib <= 64 << 10 && blob.cost.passes <= 8 && blob.cost.lanes <= 4);
    }
});
