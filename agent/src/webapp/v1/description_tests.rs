//! The description is valid, complete, made once, and `agent/CALLS.md` is made of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use axum::body::Bytes;
use http_body_util::BodyExt as _;
use roas::v3_1::spec::Spec;
use roas::validation::{Options, Validate as _};
use serde_json::Value;

use super::call::{Body, Call, ServedBy};
use super::calls::{CALLS, describe};
use super::description::refusals;

/// What the upstream has no call for.
const NEVER_GOOD: [&str; 2] = [
    "DELETE_v1_settings_profile_photo",
    "DELETE_v1_settings_account_two-step",
];

/// As it is answered.
async fn text() -> Bytes {
    let body = describe().await.into_body().collect().await;
    body.expect("whole").to_bytes()
}

async fn described() -> Value {
    serde_json::from_slice(&text().await).expect("JSON")
}

fn operation_of<'a>(api: &'a Value, call: &Call) -> &'a Value {
    &api["paths"][call.path][call.method.as_str().to_lowercase()]
}

/// Goal: tools that read OpenAPI 3.1 can read this. Method: a validator of the whole document, which must also find a mistake
/// that is put in.
#[tokio::test]
async fn the_description_is_valid() {
    // Tags need no list of their own, and a schema that nobody refers to harms nobody.
    let judged = |text: &[u8]| -> Result<(), String> {
        let spec: Spec = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let judged = spec.validate(
            Options::IgnoreMissingTags | Options::IgnoreUnusedSchemas,
            None,
        );
        judged.map_err(|error| error.to_string())
    };
    let api = described().await;
    assert!(
        api["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    judged(&text().await).expect("valid");
    let mut nowhere = api.clone();
    nowhere["paths"]["/v1/messages"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        ["$ref"] = "#/components/schemas/Nobody".into();
    assert!(judged(nowhere.to_string().as_bytes()).is_err());
    let mut doubled = api;
    doubled["paths"]["/v1/users"]["post"]["operationId"] = "POST_v1_messages".into();
    assert!(judged(doubled.to_string().as_bytes()).is_err());
}

/// Goal: whoever writes a client from the description meets no answer that it does not name. Method: what the table says of
/// each call must be there: body, success, refusals with the error object.
#[tokio::test]
async fn every_call_is_described_whole() {
    let api = described().await;
    let mut lacks = Vec::new();
    let mut ids = BTreeSet::new();
    for call in CALLS {
        let operation = operation_of(&api, call);
        let mut need = |what: &str, there: bool| {
            if !there {
                lacks.push(format!("{} {}: {what}", call.method, call.path));
            }
        };
        need("summary", operation["summary"].is_string());
        let id = operation["operationId"].as_str().unwrap_or_default();
        need("operationId", ids.insert(id.to_owned()));
        let body = &operation["requestBody"]["content"];
        let schemas = body.as_object().is_some_and(|kinds| {
            !kinds.is_empty() && kinds.values().all(|kind| kind.get("schema").is_some())
        });
        need("requestBody", (call.body != Body::Nothing) == schemas);
        let responses = operation["responses"].as_object().expect("responses");
        for (status, _) in refusals(call) {
            need(status, responses.contains_key(status));
        }
        for (status, response) in responses {
            need(
                status,
                response["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
            );
            if status.starts_with(['4', '5']) {
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                need(status, *schema == "#/components/schemas/ErrorBody");
            }
        }
        let success = responses.iter().any(|(status, _)| status.starts_with('2'));
        let label = call.label();
        let refused = call.by == ServedBy::Nobody || NEVER_GOOD.contains(&&*label);
        need("a success", success || refused);
    }
    assert!(lacks.is_empty(), "{}", lacks.join("\n"));
}

#[tokio::test]
async fn it_is_made_once() {
    assert_eq!(text().await.as_ptr(), text().await.as_ptr());
}

/// What differs from the reference, as the handler says it behind these words.
const DIFFERS: &str = "Differs from the reference: ";

/// The calls as a document.
async fn document() -> String {
    let api = described().await;
    let mut out = String::from(
        "# The calls\n\n\
         Every documented call of the public API: who may make it, who serves it, and what differs from the reference client. \
         Written anew from the table (`agent/src/webapp/v1/calls.rs`) and the handlers' own words by\n\
         `UPDATE_FIXTURES=1 cargo test -p wa-agent --lib calls_document`. Each has both slash forms. Bodies, answers and codes: \
         `GET /v1/openapi.json`.\n\n\
         *Who*: `open` everybody · `basic` name and password · `user` any login · `admin` the administrator · `monitor` any login, \
         or the API key · `signed` the upstream.\n\
         *Served by*: `webapp` itself with the database · `owner` the coreapp that owns a shard, which may ask the Cloud API · \
         `master` the primary master · `nodes` every node is asked · `gone` nobody: 404.\n\n\
         | call | who | served by | what | differs from the reference |\n|---|---|---|---|---|\n",
    );
    for call in CALLS {
        let operation = operation_of(&api, call);
        let text = |name: &str| {
            operation[name]
                .as_str()
                .unwrap_or_default()
                .replace(['\n', '|'], " ")
        };
        let what = text("summary");
        let all = format!("{what} {}", text("description"));
        let differs = differs(call, &all).unwrap_or("–");
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "| `{} {}` | {} | {} | {} | {} |",
            call.method,
            call.path,
            call.access.as_str(),
            call.by.as_str(),
            what.split(DIFFERS).next().unwrap_or_default().trim(),
            differs
        );
    }
    out += &served(&api);
    out
}

/// What differs from the reference, and why; `None`: nothing.
fn differs<'a>(call: &Call, said: &'a str) -> Option<&'a str> {
    match call.by {
        ServedBy::Nobody => Some("404, because the Cloud API has nothing like these groups."),
        ServedBy::Webapp | ServedBy::Owner | ServedBy::Master | ServedBy::Nodes => {
            said.split(DIFFERS).nth(1).map(str::trim)
        }
    }
}

/// Calls of our own: no document of the reference has them.
const OWN: [&str; 4] = [
    "GET_",
    "GET_v1_openapi.json",
    "GET_cloud_webhook",
    "POST_cloud_webhook",
];

/// How many of the documented calls are served, and how many of them otherwise than by the reference.
fn served(api: &Value) -> String {
    let documented: Vec<&Call> = CALLS
        .iter()
        .filter(|call| !OWN.contains(&&*call.label()))
        .collect();
    assert_eq!(CALLS.len() - documented.len(), OWN.len());
    let (gone, served): (Vec<&Call>, Vec<&Call>) = documented
        .iter()
        .copied()
        .partition(|call| call.by == ServedBy::Nobody);
    let other = served.iter().filter(|call| {
        let text = |name: &str| operation_of(api, call)[name].as_str().unwrap_or_default();
        let said = format!("{} {}", text("summary"), text("description"));
        differs(call, &said).is_some()
    });
    format!(
        "\n## Served\n\nDocumented are {} calls, each method and path counted once. {} of them are served, and {} of these differ in \
         something: what, and why, stands in the last column. {} are gone: the groups, which the Cloud API does not have. The other \
         {} calls are our own: the root for load balancers, this description, and the two that the upstream makes.\n\n\
         What differs in all calls: `meta.version` is a setting, and tokens are random texts. Fields that are accepted and ignored, \
         each with its reason, stand in the README (In front of it, Messages). Timers, statistics and identities have their tables and paragraphs there.\n",
        documented.len(),
        served.len(),
        other.count(),
        gone.len(),
        OWN.len()
    )
}

/// Goal: no difference is told without its reason. Method: what every handler says.
#[tokio::test]
async fn every_difference_has_its_reason() {
    let api = described().await;
    let mut count = 0;
    for call in CALLS {
        let text = |name: &str| operation_of(&api, call)[name].as_str().unwrap_or_default();
        let said = format!("{} {}", text("summary"), text("description"));
        let Some(differs) = differs(call, &said) else {
            continue;
        };
        count += 1;
        assert!(differs.contains("because"), "{}: {differs}", call.label());
    }
    assert!(count > 30, "{count} differences");
}

/// Goal: people read what the program does. `UPDATE_FIXTURES=1 cargo test -p wa-agent --lib calls_document` writes it anew.
#[tokio::test]
async fn calls_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/CALLS.md");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, document().await).expect("written");
    }
    let stored = std::fs::read_to_string(&path).expect("agent/CALLS.md");
    assert_eq!(stored, document().await, "if right: UPDATE_FIXTURES=1");
}
