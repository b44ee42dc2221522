//! Sticker packs through the router: what is made is shown, changed and deleted, and what is not there is 404 with 1006.

use serde_json::{Value, json};

use crate::db::media::Medium;
use crate::webapp::tests::{Bench, bench, code};

const FILE: &str = "f043afd0-0000-4000-8000-000000000001";

/// A call of a user; its status and body.
async fn ask(bench: &Bench, bearer: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    bench
        .call(method, path, &[("authorization", bearer)], &body)
        .await
}

async fn with_file(bench: &Bench) {
    let medium = Medium {
        id: FILE.into(),
        mime: "image/webp".into(),
        bytes: 9,
        sha256: "00".into(),
    };
    bench.db.add_medium(&medium).await.expect("stored");
}

async fn made(bench: &Bench, bearer: &str) -> String {
    let body = json!({"publisher": "Example Ltd", "name": "Birds"});
    let (status, answer) = ask(bench, bearer, "POST", "/v1/stickerpacks", body).await;
    assert_eq!(status, 201, "{answer}");
    let id = answer["stickerpacks"][0]["id"].as_str();
    format!("/v1/stickerpacks/{}", id.expect("an id"))
}

/// Goal: a pack's life, each call with its documented shape.
#[tokio::test]
async fn a_pack_is_made_changed_and_deleted() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let path = made(&bench, &admin).await;
    let link = json!({"android_app_store_link": "https://a.example/1", "name": "More birds"});
    let (status, answer) = ask(&bench, &admin, "PATCH", &path, link).await;
    assert_eq!((status, answer["errors"].is_null()), (200, true));
    let (_, shown) = ask(&bench, &admin, "GET", &path, Value::Null).await;
    let pack = &shown["stickerpacks"][0];
    assert_eq!(pack["name"], "More birds", "{shown}");
    assert_eq!(pack["publisher"], "Example Ltd", "{shown}");
    assert_eq!(pack["android_app_store_link"], "https://a.example/1");
    let (_, all) = ask(&bench, &admin, "GET", "/v1/stickerpacks/", Value::Null).await;
    assert_eq!(all["stickerpacks"].as_array().map(Vec::len), Some(1));
    let theirs = "/v1/stickerpacks?namespace=whatsapp";
    let (status, none) = ask(&bench, &admin, "GET", theirs, Value::Null).await;
    assert_eq!((status, &none["stickerpacks"]), (200, &json!([])));
    assert_eq!(
        ask(&bench, &admin, "DELETE", &path, Value::Null).await.0,
        200
    );
    let (_, all) = ask(&bench, &admin, "GET", "/v1/stickerpacks", Value::Null).await;
    assert_eq!(all["stickerpacks"], json!([]));
}

/// Goal: stickers are counted from 0, and those behind a deleted one move up.
#[tokio::test]
async fn stickers_have_places() {
    let bench = bench().await;
    let admin = bench.admin().await;
    with_file(&bench).await;
    let pack = made(&bench, &admin).await;
    let stickers = format!("{pack}/stickers");
    for (n, emoji) in ["a", "b", "c"].iter().enumerate() {
        let body = json!({"image_data_id": FILE.to_uppercase(), "emojis": [emoji]});
        let (status, answer) = ask(&bench, &admin, "POST", &stickers, body).await;
        assert_eq!((status, &answer["stickers"]), (201, &json!([{"index": n}])));
    }
    let second = format!("{stickers}/1");
    assert_eq!(
        ask(&bench, &admin, "DELETE", &second, Value::Null).await.0,
        200
    );
    let (_, moved) = ask(&bench, &admin, "GET", &second, Value::Null).await;
    let wanted = json!([{"index": 1, "image_data_id": FILE, "emojis": ["c"]}]);
    assert_eq!(moved["stickers"], wanted);
    let body = json!({"emojis": ["d", "e"]});
    assert_eq!(ask(&bench, &admin, "PATCH", &second, body).await.0, 200);
    let (_, all) = ask(&bench, &admin, "GET", &stickers, Value::Null).await;
    assert_eq!(all["stickers"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all["stickers"][1]["emojis"], json!(["d", "e"]));
    assert_eq!(all["stickers"][1]["image_data_id"], FILE);
}

/// Goal: bad input changes nothing and is told in documented codes. Method: each call with what is absent or wrong.
#[tokio::test]
async fn what_is_absent_or_wrong_is_told() {
    let bench = bench().await;
    let admin = bench.admin().await;
    with_file(&bench).await;
    let pack = made(&bench, &admin).await;
    let sticker = json!({"image_data_id": FILE});
    let other = json!({"image_data_id": "f043afd0-0000-4000-8000-000000000009"});
    let (gone, all) = ("/v1/stickerpacks/nobody", "/v1/stickerpacks");
    let pack = pack.as_str();
    let (absent, nothing) = ((404, 1006), Value::Null);
    #[rustfmt::skip]
    let table = [
        ("GET", gone, "", nothing.clone(), absent),
        ("PATCH", gone, "", json!({"name": "x"}), absent),
        ("DELETE", gone, "", nothing.clone(), absent),
        ("GET", gone, "/stickers", nothing.clone(), absent),
        ("POST", gone, "/stickers", sticker, absent),
        ("GET", gone, "/stickers/0", nothing.clone(), absent),
        ("PATCH", gone, "/stickers/0", json!({}), absent),
        ("DELETE", gone, "/stickers/0", nothing.clone(), absent),
        ("GET", pack, "/stickers/0", nothing.clone(), absent),
        ("GET", pack, "/stickers/x", nothing.clone(), absent),
        ("PATCH", pack, "/stickers/0", json!({}), absent),
        ("DELETE", pack, "/stickers/-1", nothing, absent),
        ("POST", pack, "/stickers", other, (400, 1009)),
        ("POST", pack, "/stickers", json!({}), (400, 1008)),
        ("POST", all, "", json!({"name": "x"}), (400, 1008)),
        ("POST", all, "", json!([]), (400, 1025)),
        ("PATCH", pack, "", json!({"name": {}}), (400, 1009)),
    ];
    for (method, path, rest, body, wanted) in table {
        let path = format!("{path}{rest}");
        let (status, answer) = ask(&bench, &admin, method, &path, body.clone()).await;
        let found = (status, code(&answer));
        assert_eq!(found, wanted, "{method} {path} {body}: {answer}");
    }
    let (_, shown) = ask(&bench, &admin, "GET", pack, Value::Null).await;
    assert_eq!(shown["stickerpacks"][0]["name"], "Birds", "{shown}");
}

/// Goal: the tables cannot be filled without end, and writers at the same time lose nothing. Method: ten writers at once, then
/// as many as a pack takes, and one more.
#[tokio::test]
async fn a_pack_is_bounded() {
    let bench = bench().await;
    let admin = bench.admin().await;
    with_file(&bench).await;
    let pack = made(&bench, &admin).await;
    let stickers = format!("{pack}/stickers");
    let add = || {
        ask(
            &bench,
            &admin,
            "POST",
            &stickers,
            json!({"image_data_id": FILE}),
        )
    };
    let few = futures_util::future::join_all((0..4).map(|_| add())).await;
    assert!(few.iter().all(|(status, _)| *status == 201), "{few:?}");
    for _ in few.len()..super::STICKERS_MAX {
        assert_eq!(add().await.0, 201);
    }
    let (status, answer) = add().await;
    assert_eq!((status, code(&answer)), (400, 1009), "{answer}");
    for _ in 1..super::PACKS_MAX {
        let id = uuid::Uuid::new_v4().to_string();
        let made = bench.db.add_stickerpack(&id, "{}", super::PACKS_MAX);
        assert!(made.await.expect("stored"));
    }
    let body = json!({"publisher": "p", "name": "n"});
    let (status, answer) = ask(&bench, &admin, "POST", "/v1/stickerpacks", body).await;
    assert_eq!((status, code(&answer)), (400, 1009), "{answer}");
}

/// Goal: calls of groups are answered 404 with 1012 to users, whatever they send.
#[tokio::test]
async fn groups_are_gone() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let mut asked = 0;
    for call in crate::webapp::v1::calls::CALLS {
        if !call.path.starts_with("/v1/groups") {
            continue;
        }
        asked += 1;
        let path = call.path.replace("{id}", "447700900123-1893456000");
        let found = ask(&bench, &admin, call.method.as_str(), &path, json!("{")).await;
        assert_eq!(
            (found.0, code(&found.1)),
            (404, 1012),
            "{path}: {}",
            found.1
        );
        assert!(found.1["errors"][0]["details"].is_string());
    }
    assert_eq!(asked, 13);
}
