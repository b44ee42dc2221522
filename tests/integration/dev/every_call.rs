//! Every call of the description, made over the network against the real processes. Goal: what the description lists is there,
//! answers with a status that the description names, and does what it says. Method: the description is fetched from a webapp and
//! every call of it is made, most of them so that they succeed; at the end the webapp's own count of calls
//! (`wa_api_calls_total`) must be above zero for each of them, and the sum of good answers for each that can succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use serde_json::{Value, json};

use crate::drill::{TURN, request};
use crate::media::{Bench, have_curl};

/// The smallest photo that is one by its first bytes.
const PHOTO: &[u8] = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00 a photo";

/// Calls that nobody can make succeed here, and why.
const NEVER_GOOD: &[(&str, &str)] = &[
    (
        "DELETE_v1_settings_account_two-step",
        "the Cloud API has no call for it",
    ),
    (
        "DELETE_v1_settings_profile_photo",
        "the Cloud API has no call for it",
    ),
    (
        "POST_cloud_webhook",
        "the upstream signs it, and may call another webapp",
    ),
    ("GET_cloud_webhook", "the word is the upstream's"),
    (
        "POST_v1_account_verify",
        "no code was asked for: dev::registration and dev::documented",
    ),
    (
        "POST_v1_certificates_external",
        "the webapps of dev speak no TLS: dev::edge",
    ),
    (
        "GET_v1_certificates_external_ca",
        "the webapps of dev speak no TLS: dev::edge",
    ),
    (
        "GET_v1_certificates_webhooks_ca",
        "none was sent: dev::edge and dev::documented",
    ),
    (
        "POST_v1_certificates_webhooks_ca",
        "what is sent is no certificate: dev::edge and dev::documented",
    ),
    (
        "GET_v1_contacts_wa_id_identity",
        "nobody's identity is known: dev::who and dev::documented",
    ),
    (
        "PUT_v1_contacts_wa_id_identity",
        "nobody's identity is known: dev::who and dev::documented",
    ),
];

/// One description, and what was made of it.
struct Calls<'a> {
    bench: &'a Bench,
    api: Value,
    /// Calls that were made, by method and path of the description.
    made: BTreeSet<(String, String)>,
    wrong: Vec<String>,
}

impl Calls<'_> {
    /// The path of the description that a path is one of.
    fn template(&self, method: &str, path: &str) -> Option<String> {
        let path = path.split('?').next().unwrap_or_default();
        let fits = |template: &str| {
            let (parts, names) = (path.split('/'), template.split('/'));
            parts.clone().count() == names.clone().count()
                && parts
                    .zip(names)
                    .all(|(part, name)| name.starts_with('{') || part == name)
        };
        let paths = self.api["paths"].as_object().expect("paths");
        // An exact one wins over one with a name in it.
        let exact = paths.keys().find(|template| *template == path);
        let template = exact.or_else(|| {
            paths
                .iter()
                .find(|(template, item)| {
                    fits(template) && item.get(method.to_lowercase()).is_some()
                })
                .map(|(path, _)| path)
        });
        template.cloned()
    }

    /// Makes a call, and looks whether the description names its answer.
    fn make(&mut self, method: &str, path: &str, words: &[&str]) -> (u16, Value) {
        let words: Vec<&str> = ["-X", method].iter().chain(words).copied().collect();
        let (status, body) = self.bench.json(&words, path);
        let Some(template) = self.template(method, path) else {
            self.wrong
                .push(format!("{method} {path} is not in the description"));
            return (status, body);
        };
        let responses = &self.api["paths"][&template][method.to_lowercase()]["responses"];
        if responses.get(status.to_string()).is_none() {
            self.wrong.push(format!(
                "{method} {path}: {status} is not in the description: {body}"
            ));
        }
        self.made.insert((method.to_owned(), template));
        (status, body)
    }

    fn json(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        self.make(
            method,
            path,
            &[
                "-H",
                "content-type: application/json",
                "--data-binary",
                &body,
            ],
        )
        .1
    }

    fn get(&mut self, path: &str) -> Value {
        self.make("GET", path, &[]).1
    }
}

fn users(calls: &mut Calls<'_>) {
    calls.json(
        "POST",
        "/v1/users",
        &json!({"username": "bot1", "password": "Bcdefg1!"}),
    );
    calls.get("/v1/users/bot1");
    calls.json("PUT", "/v1/users/bot1", &json!({"password": "Cdefgh1!"}));
    calls.make("POST", "/v1/users/login", &["-u", "bot1:Cdefgh1!"]);
    calls.make("DELETE", "/v1/users/bot1", &[]);
}

fn account(calls: &mut Calls<'_>) {
    let number = json!({"cc": "44", "phone_number": "7700900999", "method": "sms", "cert": "x", "pin": "123456"});
    calls.json("POST", "/v1/account", &number);
    calls.json(
        "POST",
        "/v1/account/verify",
        &json!({"code": "123456", "pin": "123456"}),
    );
    let shards = calls.get("/v1/account/shards")["account"]["shards"].clone();
    let mut same = number;
    same["shards"] = shards;
    calls.json("POST", "/v1/account/shards", &same);
    calls.json(
        "POST",
        "/v1/settings/account/two-step",
        &json!({"pin": "123456"}),
    );
    calls.make("DELETE", "/v1/settings/account/two-step", &[]);
}

fn settings(calls: &mut Calls<'_>) {
    let application = "/v1/settings/application";
    calls.get(application);
    calls.json(
        "PATCH",
        application,
        &json!({"callback_backoff_delay_ms": "4000"}),
    );
    calls.make("DELETE", application, &[]);
    let providers = "/v1/settings/application/media/providers";
    let provider = json!([{"name": "cdn", "type": "www", "config": {"bearer": "secret"}}]);
    calls.json("POST", providers, &provider);
    calls.get(providers);
    calls.make("DELETE", &format!("{providers}/cdn"), &[]);
    let password = json!({"password": "Bcdefg1!"});
    let data = calls.json("POST", "/v1/settings/backup", &password)["settings"]["data"].clone();
    let back = json!({"password": "Bcdefg1!", "data": data});
    calls.json("POST", "/v1/settings/restore", &back);
}

fn business(calls: &mut Calls<'_>, photo: &str) {
    let profile = json!({"address": "12 High Street", "vertical": "Shopping and Retail", "websites": ["https://a.example/"]});
    calls.json("POST", "/v1/settings/business/profile", &profile);
    let shown = calls.get("/v1/settings/business/profile");
    assert_eq!(
        shown["settings"]["business"]["profile"]["vertical"], "RETAIL",
        "{shown}"
    );
    for path in [
        "/v1/settings/business/compliance_info",
        "/v1/settings/business/profile/compliance_info",
    ] {
        calls.json(
            "POST",
            path,
            &json!({"entity_name": "Example", "is_registered": true}),
        );
        calls.get(path);
    }
    calls.json(
        "PATCH",
        "/v1/settings/profile/about",
        &json!({"text": "Open all day"}),
    );
    let shown = calls.get("/v1/settings/profile/about");
    assert_eq!(
        shown["settings"]["profile"]["about"]["text"], "Open all day",
        "{shown}"
    );
    let path = "/v1/settings/profile/photo";
    assert_eq!(calls.make("GET", path, &[]).0, 404);
    calls.make(
        "POST",
        path,
        &["-H", "content-type: image/jpeg", "--data-binary", photo],
    );
    let (status, shown) = calls.bench.curl(&[], path);
    assert!(
        status == 200 && shown == PHOTO,
        "{status}, {} bytes",
        shown.len()
    );
    let link = calls.get(&format!("{path}?format=link"));
    assert!(
        link["settings"]["profile"]["photo"]["link"].is_string(),
        "{link}"
    );
    calls.make("DELETE", path, &[]);
}

fn messages(calls: &mut Calls<'_>, file: &str) {
    calls.json(
        "POST",
        "/v1/contacts",
        &json!({"contacts": ["+44 7700 900123"]}),
    );
    calls.json(
        "POST",
        "/v1/messages",
        &json!({"to": "447700900123", "text": {"body": "hi"}}),
    );
    let wrote = json!({"from": "16315551000", "body": "hi"}).to_string();
    let head = "POST /admin/inbound HTTP/1.1";
    request([127, 0, 0, 1], calls.bench.simulator, head, &wrote);
    calls.json("PUT", "/v1/messages/wamid.A", &json!({"status": "read"}));
    let contact = "/v1/contacts/+16315551000";
    calls.json(
        "POST",
        &format!("{contact}/block"),
        &json!({"reason": "spam"}),
    );
    calls.make("POST", &format!("{contact}/unblock"), &[]);
    calls.get("/v1/contacts/16315551000/identity");
    calls.json(
        "PUT",
        "/v1/contacts/16315551000/identity",
        &json!({"hash": "x"}),
    );
    let kind = "content-type: application/pdf";
    let media = calls
        .make("POST", "/v1/media", &["-H", kind, "--data-binary", file])
        .1;
    let media = format!(
        "/v1/media/{}",
        media["media"][0]["id"].as_str().unwrap_or("none")
    );
    calls.make("GET", &media, &[]);
    calls.make("DELETE", &media, &[]);
}

fn monitoring(calls: &mut Calls<'_>) {
    for path in [
        "/",
        "/v1/openapi.json",
        "/v1/health",
        "/v1/support",
        "/v1/metrics",
        "/metrics",
        "/v1/stats/app",
        "/v1/stats/app/internal",
        "/v1/stats/db",
        "/v1/stats/db/internal",
        "/cloud/webhook",
        "/v1/certificates/external/ca",
        "/v1/certificates/webhooks/ca",
    ] {
        calls.get(path);
    }
    calls.make("POST", "/cloud/webhook", &["-d", "{}"]);
    for path in ["/v1/services/message/gc", "/v1/services/media/gc"] {
        calls.make("PUT", path, &[]);
    }
}

fn certificates(calls: &mut Calls<'_>, pem: &str) {
    for path in ["/v1/certificates/external", "/v1/certificates/webhooks/ca"] {
        calls.make(
            "POST",
            path,
            &["-H", "content-type: text/plain", "--data-binary", pem],
        );
    }
    calls.get("/v1/certificates/webhooks/ca");
    calls.make("DELETE", "/v1/certificates/webhooks/ca", &[]);
}

fn stickers(calls: &mut Calls<'_>, file: &str) {
    let packs = "/v1/stickerpacks";
    let pack = json!({"publisher": "Example", "name": "Cats", "ios_app_store_link": "", "android_app_store_link": ""});
    let made = calls.json("POST", packs, &pack);
    let id = made["stickerpacks"][0]["id"].as_str().unwrap_or("none");
    calls.get(packs);
    let pack = format!("{packs}/{id}");
    calls.get(&pack);
    calls.json("PATCH", &pack, &json!({"name": "Dogs"}));
    let kind = "content-type: image/webp";
    let media = calls
        .make("POST", "/v1/media", &["-H", kind, "--data-binary", file])
        .1;
    let sticker = json!({"image_data_id": media["media"][0]["id"], "emojis": ["\u{1f431}"]});
    let stickers = format!("{pack}/stickers");
    calls.json("POST", &stickers, &sticker);
    calls.get(&stickers);
    let first = format!("{stickers}/0");
    calls.get(&first);
    calls.json("PATCH", &first, &json!({"emojis": ["\u{1f436}"]}));
    calls.make("DELETE", &first, &[]);
    calls.make("DELETE", &pack, &[]);
}

/// Groups are gone: each of their calls says so.
fn groups(calls: &mut Calls<'_>) {
    let paths = calls.api["paths"].as_object().expect("paths").clone();
    for (path, item) in paths
        .iter()
        .filter(|(path, _)| path.starts_with("/v1/groups"))
    {
        for method in item.as_object().expect("an item").keys() {
            let (status, _) = calls.make(
                &method.to_uppercase(),
                &path.replace("{id}", "1"),
                &["-d", "{}"],
            );
            assert_eq!(status, 404, "{method} {path}");
        }
    }
}

/// How often each call was answered, and how often well, as the webapp counts.
fn counted(text: &str) -> BTreeMap<String, (u64, u64)> {
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("wa_api_calls_total{"))
    {
        let word = |name: &str| {
            line.split(&format!("{name}=\""))
                .nth(1)
                .and_then(|rest| rest.split('"').next())
        };
        let count = line
            .rsplit(' ')
            .next()
            .and_then(|count| count.parse::<u64>().ok());
        if let (Some(call), Some(answer), Some(count)) = (word("call"), word("answer"), count) {
            let sums = found.entry(call.to_owned()).or_default();
            sums.0 += count;
            sums.1 += if answer == "2xx" { count } else { 0 };
        }
    }
    found
}

#[test]
fn every_call_of_the_description_is_made() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let file = |name: &str, bytes: &[u8]| {
        let path = bench.dev.state.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        format!("@{}", path.display())
    };
    let photo = file("photo.jpg", PHOTO);
    let any = file("any", b"RIFF\x04\0\0\0WEBP any bytes");
    let (_, api) = bench.json(&[], "/v1/openapi.json");
    let mut calls = Calls {
        bench: &bench,
        api,
        made: BTreeSet::new(),
        wrong: Vec::new(),
    };
    users(&mut calls);
    account(&mut calls);
    messages(&mut calls, &any);
    business(&mut calls, &photo);
    settings(&mut calls);
    certificates(&mut calls, &any);
    stickers(&mut calls, &any);
    groups(&mut calls);
    monitoring(&mut calls);
    let counts = counted(&String::from_utf8_lossy(
        &bench.curl(&[], "/metrics?format=prometheus").1,
    ));
    calls.make("POST", "/v1/users/logout", &[]);
    for (path, item) in calls.api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let label = operation["operationId"].as_str().expect("an id");
            let (all, good) = counts.get(label).copied().unwrap_or_default();
            // The last call ends the login that asks for the counts.
            let made = all > 0 || label == "POST_v1_users_logout";
            if !made || !calls.made.contains(&(method.to_uppercase(), path.clone())) {
                calls.wrong.push(format!("{label} was never made"));
            }
            let gone = operation["x-served-by"] == "gone"
                || NEVER_GOOD.iter().any(|(name, _)| *name == label);
            if !gone && good == 0 && label != "POST_v1_users_logout" {
                calls.wrong.push(format!("{label} never had a good answer"));
            }
        }
    }
    assert!(calls.wrong.is_empty(), "{}", calls.wrong.join("\n"));
}
