//! The upstream's webhook calls: no JSON panics what takes them apart; every item can be stored, read and told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wa_agent::api::cloud::SendAnswer;
use wa_agent::api::cloud::callback::{Attached, callback};
use wa_agent::api::cloud::event::{Event, Item, take};
use wa_agent::api::cloud::lenient::readable;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<SendAnswer>(bytes);
    for item in take(&readable(bytes), "1065").items {
        assert!(!item.key.is_empty());
        let stored = serde_json::to_string(&item).expect("plain data");
        let read: Item = serde_json::from_str(&stored).expect("what was written can be read");
        assert_eq!(read.raw, item.raw);
        let event = Event::of(item.raw);
        let again = Event::of(read.raw);
        assert_eq!(
            again.status_change().map(|c| c.1),
            event.status_change().map(|c| c.1)
        );
        let told = callback(event, Attached::Nothing).text();
        assert_eq!(callback(again, Attached::Nothing).text(), told);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert!(told.is_object());
    }
});
