//! `PUT /v1/services/…/gc`: the answers that a garbage collection is under way. How it ended is told by callbacks
//! (`callback/collection.rs`).

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Meta;

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct GcAnswer {
    pub services: GcServices,
    pub meta: Meta,
}

/// What is collected.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GcServices {
    Message(GcService),
    Media(GcService),
}

/// `{"gc":{…}}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GcService {
    pub gc: Gc,
}

/// One word, or one for each coreapp where there are several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Gc {
    One(Processing),
    Each(BTreeMap<String, Processing>),
}

/// `{"status":"processing"}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Processing {
    #[schema(example = "processing")]
    pub status: String,
}

impl Processing {
    fn now() -> Self {
        Self {
            status: "processing".to_owned(),
        }
    }
}

impl GcAnswer {
    /// Messages are collected by these coreapps.
    pub fn messages(nodes: Vec<String>) -> Self {
        let gc = match nodes.len() {
            0 | 1 => Gc::One(Processing::now()),
            _ => Gc::Each(
                nodes
                    .into_iter()
                    .map(|node| (node, Processing::now()))
                    .collect(),
            ),
        };
        Self {
            services: GcServices::Message(GcService { gc }),
            meta: Meta::default(),
        }
    }

    /// Files are collected.
    pub fn media() -> Self {
        let gc = Gc::One(Processing::now());
        Self {
            services: GcServices::Media(GcService { gc }),
            meta: Meta::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the shapes of the fixture, which was written from the documentation.
    #[test]
    fn the_answers_have_the_documented_shapes() {
        let wanted: serde_json::Value = serde_json::from_str(include_str!(
            "../../../../tests/fixtures/v1/services/answers.json"
        ))
        .expect("JSON");
        let node = |n: u8| format!("core{n}.example:coreapp-1");
        for (name, answer) in [
            ("one coreapp", GcAnswer::messages(vec![node(1)])),
            ("many coreapps", GcAnswer::messages(vec![node(1), node(2)])),
            ("media", GcAnswer::media()),
        ] {
            let shown = serde_json::to_value(answer).expect("plain data");
            assert_eq!(shown["services"], wanted[name]["services"], "{name}");
        }
    }
}
