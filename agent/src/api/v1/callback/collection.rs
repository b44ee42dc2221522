//! Garbage collections in callbacks: what was deleted, by whom, and how it ended.

use serde::Serialize;

use crate::api::error::ErrorObject;

/// One entry of `services`: a collection that ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    Message(Collected),
    Media(Collected),
}

/// `{"gc":{…}}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Collected {
    gc: Gc,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Gc {
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_deleted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items_deleted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ErrorObject>,
}

impl Service {
    /// One coreapp's part of a collection of messages.
    pub fn messages(node: &str, deleted: u64) -> Self {
        Self::Message(Collected {
            gc: Gc {
                messages_deleted: Some(deleted),
                node: Some(node.to_owned()),
                status: "complete",
                ..Gc::default()
            },
        })
    }

    /// A collection of files, and why it failed, if it did.
    pub fn media(deleted: u64, error: Option<ErrorObject>) -> Self {
        Self::Media(Collected {
            gc: Gc {
                items_deleted: Some(deleted),
                status: if error.is_some() {
                    "failed"
                } else {
                    "complete"
                },
                errors: error.into_iter().collect(),
                ..Gc::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::callback::Callback;
    use crate::api::v1::code::Code;

    /// Goal: the shapes of the fixture, which was written from the documentation.
    #[test]
    fn collections_are_told_in_the_documented_shape() {
        let wanted: serde_json::Value = serde_json::from_str(include_str!(
            "../../../../../tests/fixtures/v1/services/callbacks.json"
        ))
        .expect("JSON");
        let error = ErrorObject::new(
            Code::NotReady,
            Some("The media directory is read-only".into()),
        );
        for (name, service) in [
            ("messages", Service::messages("core2.example:coreapp-1", 11)),
            ("standby", Service::messages("core3.example:coreapp-1", 0)),
            ("media", Service::media(7, None)),
            ("media failed", Service::media(2, Some(error))),
        ] {
            let text = Callback::of_service(service).text();
            let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(told, wanted[name], "{name}");
        }
    }
}
