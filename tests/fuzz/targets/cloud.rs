//! The upstream's webhook calls: no JSON panics what takes them apart; every event can be stored, read and told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wa_agent::api::cloud::{Event, SendAnswer, events, status_change, to_callback};

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<SendAnswer>(bytes);
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    for event in events(&body) {
        assert!(!event.key.is_empty() && event.key.len() <= 190);
        assert!(to_callback(&event).is_object());
        let stored = serde_json::to_string(&event).expect("plain data");
        let read: Event = serde_json::from_str(&stored).expect("what was written can be read");
        assert_eq!(status_change(&read).map(|c| c.1), status_change(&event).map(|c| c.1));
        assert_eq!(to_callback(&read), to_callback(&event));
    }
});
