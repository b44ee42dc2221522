//! Files of customers that the business does not want at once. Goal: each is told with an id, comes when somebody asks for it, once
//! and whole, also when its owner is killed over it, and is said to be gone when it is. Method: a whole cluster that downloads nothing,
//! two webapps, the upstream's own count.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::sync::PoisonError;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::disks::settled;
use super::registration::kill_node;
use crate::drill::{TURN, request};
use crate::media::{Bench, apply, have_curl};

/// A customer sends a photo; what the business is told of it.
fn told(bench: &Bench, from: &str, photo: &str) -> Value {
    let base64 = BASE64_STANDARD.encode(photo);
    let given =
        json!({"from": from, "media": {"kind": "image", "mime": "image/png", "base64": base64}});
    let head = "POST /admin/inbound HTTP/1.1";
    request([127, 0, 0, 1], bench.simulator, head, &given.to_string());
    let told = bench.upstream_until("told", "/admin/last-inbound", |told| {
        let message = &told["messages"][0];
        message["from"] == from && message["image"].is_object()
    });
    told["messages"][0]["image"].clone()
}

/// Our id of a photo that was not fetched.
fn undownloaded(bench: &Bench, from: &str, photo: &str) -> String {
    let image = told(bench, from, photo);
    assert_eq!(image["status"], "undownloaded", "{image}");
    assert_eq!(image.get("url"), None, "{image}");
    image["id"].as_str().expect("an id").to_owned()
}

/// Nothing is downloaded from now on.
fn download_nothing(bench: &Bench) {
    let url = format!("http://127.0.0.1:{}/business", bench.simulator);
    let settings = json!({"webhooks": {"url": url}, "media": {"auto_download": []}});
    apply(bench, &settings);
    for n in 0..1000 {
        let image = told(bench, &format!("44770091{n:04}"), "not yet");
        if image["status"] == "undownloaded" {
            return;
        }
    }
    panic!("the settings are not in force");
}

fn path(id: &str) -> String {
    format!("/v1/media/{id}")
}

/// How often the upstream gave the bytes of any file.
fn fetched(bench: &Bench) -> u64 {
    let shelf = bench.upstream("/admin/media");
    let files = shelf.as_object().into_iter().flatten();
    files
        .map(|(_, file)| file["fetched"].as_u64().expect("a count"))
        .sum()
}

#[test]
fn a_file_comes_when_somebody_asks_for_it() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let (owner, _) = settled(&bench.dev);
    download_nothing(&bench);
    let before = fetched(&bench);

    let first = undownloaded(&bench, "447700900456", "a picture");
    let message = json!({"to": "447700900123", "type": "image", "image": {"id": first}});
    let (code, refused) = bench.send(&message);
    assert_eq!(
        (code, &refused["errors"][0]["code"]),
        (404, &json!(1006)),
        "{refused}"
    );
    assert_eq!(fetched(&bench), before);
    let asked = |webapp| {
        let (api, path) = (bench.api_at(webapp), path(&first));
        std::thread::spawn(move || api.curl(&[], &path))
    };
    let both = [asked(1), asked(2)].map(|asked| asked.join().expect("an answer"));
    for (code, picture) in both {
        assert_eq!((code, picture.as_slice()), (200, b"a picture".as_slice()));
    }
    assert_eq!(fetched(&bench), before + 1, "once for both");
    let (_, head) = bench.curl(&["-I"], &path(&first));
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.contains("content-length: 9"), "{head}");
    assert_eq!(bench.send(&message).0, 201, "it is here now");

    // Whoever owns the shard next remembers it.
    let second = undownloaded(&bench, "447700900457", "another one");
    kill_node(&bench.dev, &owner);
    let (code, picture) = bench.api_at(2).curl(&[], &path(&second));
    let said = String::from_utf8_lossy(&picture).into_owned();
    assert_eq!((code, said.as_str()), (200, "another one"));

    what_is_gone_is_not_there(&bench);
}

fn what_is_gone_is_not_there(bench: &Bench) {
    let deleted = undownloaded(bench, "447700900458", "a third");
    assert_eq!(bench.curl(&["-X", "DELETE"], &path(&deleted)).0, 200);
    let forgotten = undownloaded(bench, "447700900459", "a fourth");
    let head = "POST /admin/media/forget HTTP/1.1";
    request([127, 0, 0, 1], bench.simulator, head, "{}");
    for gone in [deleted, forgotten] {
        let (code, answer) = bench.get(&path(&gone));
        let error: &Value = &answer["errors"][0]["code"];
        assert_eq!((code, error), (404, &json!(1006)), "{answer}");
    }
}
