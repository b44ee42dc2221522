//! Golden sequences (`tests/fixtures/v1/README.md`). Goal: what is told depends on what came before as the facts say. Method: the
//! values of webhook calls one after the other, and the callbacks to each, whole; what a cluster keeps in its store is kept here
//! in maps, over the same texts.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::cloud::callback::{Attached, callback};
use super::cloud::customer::{Known, Number, Sighting, fill, sightings};
use super::cloud::event::{Event, Item, items};
use super::cloud::told::{Row, Wants, hear, order};
use super::golden_tests::{
    OUR_ID, OURS, REFUSED_FOR, as_written, beside, cases, compare, folder, in_form, our_name,
};
use super::v1::callback::Callback;

/// What a cluster keeps.
#[derive(Default)]
struct Kept {
    customers: BTreeMap<String, Known>,
    told: HashMap<String, String>,
    now_ms: u64,
}

impl Kept {
    fn address(&self, user_id: &str) -> String {
        let known = self.customers.get(user_id);
        let number = known.and_then(|known| known.wa_id.clone());
        number.unwrap_or_else(|| user_id.to_owned())
    }

    fn learn(&mut self, seen: Vec<Sighting>) {
        for sighting in seen {
            let known = self.customers.entry(sighting.user_id.clone()).or_default();
            *known = known.after(&sighting, self.now_ms);
            let Number::Told(number) = &sighting.number else {
                continue;
            };
            for (user_id, other) in &mut self.customers {
                if *user_id != sighting.user_id && other.wa_id.as_ref() == Some(number) {
                    *other = other.lost();
                }
            }
        }
    }

    /// The callbacks to one webhook call.
    fn told(&mut self, value: &Value) -> Vec<Callback> {
        self.now_ms += 1;
        let call = json!({"entry": [{"changes": [{"field": "messages", "value": value}]}]});
        let call: Value = serde_json::from_str(&in_form(&call.to_string())).expect("JSON");
        let mut events = Vec::new();
        for item in items(&call) {
            // Rows of the inbox lie in between.
            let stored = serde_json::to_string(&item).expect("plain data");
            let item: Item = serde_json::from_str(&stored).expect("readable");
            let mut event = Event::of(item.raw);
            as_written(&mut event);
            event.rename(our_name);
            let seen = sightings(&event);
            if event.asks_row() == Some(OUR_ID) {
                event.complete(REFUSED_FOR, None);
            }
            fill(&mut event, |user_id| self.address(user_id));
            self.learn(seen);
            events.push(Some(event));
        }
        let order = order(&events);
        let events = order.into_iter().filter_map(|at| events[at].take());
        events.flat_map(|event| self.callbacks(event)).collect()
    }

    fn callbacks(&mut self, event: Event) -> Vec<Callback> {
        let status = match event {
            Event::Message(_) => {
                let ours = |id: String| Attached::Ours(format!("{OURS}{id:0>12}"));
                let file = event.file().map_or(Attached::Nothing, |f| ours(f.cloud_id));
                return vec![callback(event, file)];
            }
            Event::Status(status) => status,
            other @ (Event::Error(_) | Event::Account { .. } | Event::Unread { .. }) => {
                return vec![callback(other, Attached::Nothing)];
            }
        };
        let all = Wants {
            sent: true,
            delivered: true,
            read: true,
            late: false,
        };
        let ours = status.ours.clone();
        let column = ours.as_ref().and_then(|id| self.told.get(id));
        let mut row = Row::read(column.map_or("", String::as_str));
        let known = ours.is_some().then_some(&mut row);
        let (told, _) = hear(known, status, all);
        if let Some(id) = ours {
            self.told.insert(id, row.text());
        }
        let one = |status| callback(Event::Status(status), Attached::Nothing);
        told.into_iter().map(one).collect()
    }
}

#[test]
fn golden_sequences() {
    let mut wrong = Vec::new();
    let cases = cases(&folder().join("sequences"), ".cloud.json");
    for case in &cases {
        let text = std::fs::read(case).expect("a case");
        let calls: Vec<Value> = serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let mut kept = Kept::default();
        let told: Vec<_> = calls.iter().map(|value| kept.told(value)).collect();
        let found = serde_json::to_value(told).expect("plain data");
        compare(&beside(case, ".cloud.json", ".v1.json"), &found, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 10, "{} sequences", cases.len());
}
