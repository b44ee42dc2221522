//! Tests of `/v1/media` through the router: what is refused, and with which documented code.

use bytes::Bytes;
use serde_json::{Value, json};

use super::media::check;
use crate::api::owner::Settled;
use crate::api::v1::code::Code;
use crate::api::v1::message::Message;
use crate::db::Db;
use crate::db::media::Medium;
use crate::db::setting::MEDIA_PROVIDERS;
use crate::media::ogg::tests::opus;
use crate::webapp::tests::{Bench, code, refusing_files, whole_with};

/// Goal: bad uploads, unknown ids and messages with files that are not there get the documented codes; nothing is left
/// behind. Method: one webapp with a directory of its own.
#[tokio::test]
async fn bad_media_calls_get_documented_codes() {
    let bench = whole_with(true).await;
    let admin = bench.admin().await;
    let call = async |method: &str, path: &str, kind: Option<&str>, body: &str| {
        let mut headers = vec![("authorization", admin.as_str())];
        headers.extend(kind.map(|kind| ("content-type", kind)));
        let (status, answer): (u16, Value) = bench.call(method, path, &headers, body).await;
        (status, code(&answer))
    };
    let upload = async |kind, body| call("POST", "/v1/media", kind, body).await;
    assert_eq!(upload(None, "x").await, (400, 1008));
    assert_eq!(upload(Some("image"), "x").await, (400, 1009));
    assert_eq!(upload(Some("image/png"), "").await, (400, 1008));
    let nobody = "/v1/media/f043afd0-0000-4000-8000-000000000001";
    for path in [nobody, "/v1/media/..%2F..%2Fetc%2Fpasswd", "/v1/media/x"] {
        assert_eq!(call("GET", path, None, "").await, (404, 1006), "{path}");
        assert_eq!(call("DELETE", path, None, "").await, (404, 1006), "{path}");
    }
    let message = json!({"to": "447700900123", "type": "image", "image": {"id": "f043afd0-0000-4000-8000-000000000001"}});
    let sent = call("POST", "/v1/messages", None, &message.to_string()).await;
    assert_eq!(sent, (404, 1006));
    let link = json!({"to": "447700900123", "type": "image", "image": {"link": "https://files.example/a.png"}});
    let headers = [("authorization", admin.as_str())];
    let (sent, _) = bench
        .call("POST", "/v1/messages", &headers, &link.to_string())
        .await;
    assert_eq!(sent, 201);
    let (status, _) = bench.call("POST", "/v1/media", &[], "x").await;
    assert_eq!(status, 401);
}

/// Goal: a part of a file comes as RFC 9110 has it; what cannot be read, several parts, and `If-Range` are answered with the
/// whole file; what begins behind the end with 416. Method: ten bytes.
#[tokio::test]
async fn a_part_of_a_file_is_answered() {
    let bench = whole_with(true).await;
    let admin = bench.admin().await;
    let token = ("authorization", admin.as_str());
    let headers = [token, ("content-type", "image/png")];
    let (_, answer) = bench
        .call("POST", "/v1/media", &headers, "abcdefghij")
        .await;
    let path = format!(
        "/v1/media/{}",
        answer["media"][0]["id"].as_str().expect("an id")
    );
    for (range, wanted) in [
        ("bytes=2-4", (206, "cde")),
        ("bytes=7-", (206, "hij")),
        ("bytes=-2", (206, "ij")),
        ("bytes=0-0", (206, "a")),
        ("bytes=5-400", (206, "fghij")),
        ("bytes=-400", (206, "abcdefghij")),
        ("bytes=0-1,4-5", (200, "abcdefghij")),
        ("bytes=0-5,2-8,4-9", (200, "abcdefghij")),
        ("bytes=4-2", (200, "abcdefghij")),
        ("lines=1-2", (200, "abcdefghij")),
    ] {
        let (status, body) = bench
            .call("GET", &path, &[token, ("range", range)], "")
            .await;
        assert_eq!(
            (status, body.as_str().unwrap_or_default()),
            wanted,
            "{range}"
        );
    }
    let behind = [token, ("range", "bytes=10-")];
    let (status, answer) = bench.call("GET", &path, &behind, "").await;
    assert_eq!((status, code(&answer)), (416, 1009), "{answer}");
    let with_if = [token, ("range", "bytes=2-4"), ("if-range", "\"x\"")];
    assert_eq!(bench.call("GET", &path, &with_if, "").await.0, 200);
}

#[tokio::test]
async fn without_a_directory_media_calls_say_so() {
    let bench = whole_with(false).await;
    let admin = bench.admin().await;
    let headers = [
        ("authorization", admin.as_str()),
        ("content-type", "image/png"),
    ];
    let (status, answer) = bench.call("POST", "/v1/media", &headers, "x").await;
    assert_eq!((status, code(&answer)), (503, 1011));
    assert!(answer.to_string().contains("require"), "{answer}");
}

/// A row as an owner leaves it of a file that only the upstream has.
async fn remember(bench: &Bench) -> String {
    let id = uuid::Uuid::new_v4().hyphenated().to_string();
    let Db::Sqlite(pool) = &bench.db else {
        unreachable!("embedded");
    };
    let row = "INSERT INTO media (id, mime, bytes, sha256, created_ms, cloud_id, cloud_ms) \
               VALUES (?, 'image/png', 0, '', 1, 'cloud', 0-CAST(unixepoch('subsec') * 1000 AS INTEGER))";
    let done = sqlx::query(row).bind(&id).execute(pool).await;
    done.expect("written");
    id
}

/// Goal: a file that only the upstream has is asked for at the owner, whose words the client gets; it is sent by nobody before it
/// is here, and can be deleted without an owner. Method: owners that answer in each way, and none.
#[tokio::test]
async fn a_file_that_is_not_here_is_the_owners() {
    let refused = |code| Settled::Refused {
        code,
        details: "why".into(),
    };
    for (settled, wanted) in [
        (refused(Code::NotFound), (404, 1006)),
        (refused(Code::NotReady), (503, 1011)),
        (Settled::Unreachable, (503, 1011)),
        // It was deleted between this answer and the look for it.
        (Settled::Done, (404, 1006)),
    ] {
        let said = format!("{settled:?}");
        let bench = refusing_files(settled).await;
        let (admin, id) = (bench.admin().await, remember(&bench).await);
        let (path, token) = (format!("/v1/media/{id}"), ("authorization", &*admin));
        for method in ["GET", "HEAD"] {
            let (status, answer) = bench.call(method, &path, &[token], "").await;
            assert_eq!(status, wanted.0, "{said}");
            assert!(method == "HEAD" || code(&answer) == wanted.1, "{answer}");
        }
    }
    let bench = whole_with(true).await;
    let (admin, id) = (bench.admin().await, remember(&bench).await);
    let (path, token) = (format!("/v1/media/{id}"), ("authorization", &*admin));
    let message = json!({"to": "447700900123", "type": "image", "image": {"id": id}}).to_string();
    let (status, answer) = bench.call("POST", "/v1/messages", &[token], &message).await;
    assert_eq!((status, code(&answer)), (404, 1006));
    assert!(answer.to_string().contains("GET /v1/media/"), "{answer}");
    bench.lose_owner();
    let (status, answer) = bench.call("GET", &path, &[token], "").await;
    assert_eq!((status, code(&answer)), (503, 1018), "{answer}");
    let deleted = bench.call("DELETE", &path, &[token], "").await;
    assert_eq!(deleted.0, 200, "{}", deleted.1);
    let (status, answer) = bench.call("GET", &path, &[token], "").await;
    assert_eq!((status, code(&answer)), (404, 1006), "{answer}");
}

/// What is answered to a message with this object; 0: nothing is wrong with its files.
async fn judged(bench: &Bench, kind: &str, object: Value) -> (u16, String) {
    let body = json!({"to": "447700900123", "type": kind, kind: object}).to_string();
    let message = Message::parse(body.as_bytes(), None).expect("well-formed");
    match check(&bench.webapp, &message.content).await {
        Ok(()) => (0, String::new()),
        Err(error) => (error.code.number(), error.details.unwrap_or_default()),
    }
}

async fn store(bench: &Bench, mime: &str, bytes: Vec<u8>) -> String {
    let id = uuid::Uuid::new_v4().hyphenated().to_string();
    let created = bench.webapp.files.create(&id, 1 << 20).await;
    let mut file = created.expect("made");
    file.write(Bytes::from(bytes)).await.expect("written");
    let (bytes, sha256) = file.finish().await.expect("stored");
    let medium = Medium {
        id: id.clone(),
        mime: mime.into(),
        bytes,
        sha256,
    };
    let db = bench.webapp.db().expect("connected");
    db.add_medium(&medium).await.expect("stored");
    id
}

/// Goal: a voice message is Opus of one channel in Ogg, or refused before it is accepted; types and sizes hold wherever a file
/// stands. Method: files of each sort in the directory.
#[tokio::test]
async fn a_voice_message_is_looked_into() {
    let bench = whole_with(true).await;
    for (mime, bytes, kind, code, words) in [
        ("audio/ogg; codecs=opus", opus(1), "voice", 0, ""),
        ("audio/ogg", opus(1), "voice", 0, ""),
        (
            "audio/ogg",
            opus(2),
            "voice",
            1009,
            "voice.id has 2 channels",
        ),
        (
            "audio/ogg",
            b"OggS and no more".to_vec(),
            "voice",
            1009,
            "voice.id is not Opus",
        ),
        (
            "audio/mpeg",
            b"ID3".to_vec(),
            "voice",
            1009,
            "voice.id is a file of type audio/mpeg",
        ),
        ("audio/ogg", opus(2), "audio", 0, ""),
        (
            "image/png",
            b"png".to_vec(),
            "sticker",
            1009,
            "sticker.id is a file of type image/png",
        ),
    ] {
        let id = store(&bench, mime, bytes).await;
        let (found, why) = judged(&bench, kind, json!({"id": id})).await;
        assert_eq!(found, code, "{kind} {mime}: {why}");
        assert!(why.contains(words), "{why}");
    }
}

/// Goal: a provider that nobody configured is refused before the message is accepted. Method: the row without it, with it, and
/// in a form that this release cannot read, which the owner judges.
#[tokio::test]
async fn an_unknown_provider_is_refused_at_once() {
    let bench = whole_with(false).await;
    let ask = || {
        judged(
            &bench,
            "image",
            json!({"link": "https://files.example/a.png", "provider": {"name": "cdn"}}),
        )
    };
    let (found, why) = ask().await;
    assert_eq!(
        (found, why.as_str()),
        (
            1009,
            "image.provider.name is not the name of a media provider"
        )
    );
    let db = bench.webapp.db().expect("connected");
    let rows = [
        r#"{"providers":{"cdn":{"bearer":"word"}}}"#,
        "sealed by a newer release",
    ];
    for (version, row) in rows.iter().enumerate() {
        let stored = db.store_setting(MEDIA_PROVIDERS, version as u64, row).await;
        assert!(stored.expect("stored"));
        assert_eq!(ask().await.0, 0, "{row}");
    }
}

/// Goal: a user who has as many uploads as are free is told to come again, and it is counted; another user gets in. Method: places that are
/// taken, and one upload more.
#[tokio::test]
async fn a_user_without_a_place_is_told_so() {
    let bench = whole_with(true).await;
    let admin = bench.admin().await;
    let headers = [
        ("authorization", admin.as_str()),
        ("content-type", "image/png"),
    ];
    let user = "admin".into();
    let uploads = &bench.webapp.uploads;
    let held: Vec<_> = std::iter::from_fn(|| uploads.enter(&user)).collect();
    let (status, answer) = bench.call("POST", "/v1/media", &headers, "x").await;
    assert_eq!((status, code(&answer)), (503, 1016));
    let metrics = &bench.webapp.metrics;
    assert_eq!(metrics.uploads_refused.get(), 1);
    assert_eq!(
        metrics.uploads.get(),
        i64::try_from(held.len()).expect("few")
    );
    assert!(uploads.enter(&"other".into()).is_some());
    drop(held);
    let (status, _) = bench.call("POST", "/v1/media", &headers, "x").await;
    assert_eq!((status, metrics.uploads.get()), (201, 0));
}
