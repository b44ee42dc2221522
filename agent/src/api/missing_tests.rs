//! Goal: every field of an event may be missing, or be of another type: nothing panics, no event is dropped, and whatever stands
//! beside it is told (issues of other receivers: one missing `profile` stopped all events for days). Method: each webhook call of
//! the golden pairs, with each of its fields taken out or replaced, one at a time.

use serde_json::{Value, json};

use super::cloud::callback::{Attached, callback};
use super::cloud::event::{Event, Item, take};
use super::golden_tests::{cases, folder};

/// Pointers to everything within.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let within: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(at, value)| (at.to_string(), value))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, value) in within {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places(value, &place, found);
        found.push(place);
    }
}

/// Takes out what stands there.
fn without(call: &Value, place: &str) -> Value {
    let mut call = call.clone();
    let (parent, key) = place.rsplit_once('/').expect("a place");
    let parent = match parent.is_empty() {
        true => &mut call,
        false => call.pointer_mut(parent).expect("it is there"),
    };
    match parent {
        Value::Object(map) => drop(map.remove(&key.replace("~1", "/").replace("~0", "~"))),
        Value::Array(list) => drop(list.remove(key.parse().expect("a number"))),
        other => panic!("{other}"),
    }
    call
}

/// Within an item: what the item is does not hang on it.
fn within_an_item(place: &str) -> bool {
    let lists = ["messages", "statuses", "errors"];
    let mut parts = place.split('/').skip_while(|part| *part != "value").skip(1);
    let list = parts.next().is_some_and(|part| lists.contains(&part));
    list && parts.count() > 1
}

/// What is told of it; the row of the inbox lies in between.
fn told(item: Item) -> Value {
    let stored = serde_json::to_string(&item).expect("plain data");
    let item: Item = serde_json::from_str(&stored).expect("readable");
    let event = Event::of(item.raw);
    let _ = (event.status_change(), event.names().len(), event.file());
    let callback = callback(event, Attached::Nothing);
    serde_json::to_value(callback).expect("plain data")
}

#[test]
fn no_field_is_needed() {
    let odd = [
        json!(null),
        json!(7),
        json!("x"),
        json!([]),
        json!({}),
        json!([{}]),
    ];
    let mut count = 0;
    for case in cases(&folder().join("callbacks"), ".cloud.json") {
        let text = std::fs::read(&case).expect("a case");
        let Ok(call) = serde_json::from_slice::<Value>(&text) else {
            continue;
        };
        if call.get("entry").is_none() {
            continue;
        }
        let whole = take(&call.to_string(), "");
        let all = whole.items.len();
        let mut found = Vec::new();
        places(&call, "", &mut found);
        for place in found {
            let changed = std::iter::once(without(&call, &place)).chain(odd.iter().map(|odd| {
                let mut call = call.clone();
                *call.pointer_mut(&place).expect("it is there") = odd.clone();
                call
            }));
            for call in changed {
                count += 1;
                let taken = take(&call.to_string(), "");
                let name = case.display();
                let kept = taken.items.len();
                if within_an_item(&place) && whole.echoes == 0 {
                    assert_eq!(kept, all, "{name} {place}: {call}");
                }
                for item in taken.items {
                    let unread = matches!(item.raw, super::cloud::item::Raw::Unread { .. });
                    let told = told(item);
                    let empty = told.as_object().is_none_or(serde_json::Map::is_empty);
                    assert_eq!(empty, unread, "{name} {place}: {told}");
                }
            }
        }
    }
    assert!(count > 5000, "{count}");
}
