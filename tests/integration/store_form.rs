//! Goal: the form of stored messages may change from one release to the next, and no message is lost, misread, or sent twice
//! over it (S3, S4). Method: rows as an earlier release left them, converted by the real migrations; repeated ids whose rows
//! are in another form; a form that this release does not know.

use serde_json::{Value, json};
use wa_agent::api::cloud::request;
use wa_agent::api::v1::message::media::{FileId, Source};
use wa_agent::api::v1::message::{Message, stored};
use wa_agent::db::Db;
use wa_agent::db::message::{Accepted, NewMessage};
use wa_core::id::{Incarnation, NodeId};

use crate::store::{Store, message, on_every_store};

on_every_store![
    unsent_messages_survive_their_conversion,
    a_conversion_that_was_cut_short_is_finished,
    a_repeated_id_is_compared_in_the_form_of_its_row,
    a_form_that_nobody_here_reads_is_seen,
    each_start_says_what_it_reads,
];

const FILE: &str = "f043afd0-0000-4000-8000-000000000001";

async fn run(store: &Store, sql: String) {
    let sql = sqlx::AssertSqlSafe(sql);
    match &store.db {
        Db::MySql(hosts) => drop(sqlx::raw_sql(sql).execute(&hosts.pool()).await.unwrap()),
        Db::Sqlite(pool) => drop(sqlx::raw_sql(sql).execute(pool).await.unwrap()),
    }
}

/// What the release before there were forms stored: the upstream's request, with a key of ours for a file.
fn of_before(id: &str, kind: &str, object: &Value) -> Value {
    let mut payload = json!({"messaging_product": "whatsapp", "recipient_type": "individual", "to": "447700900123",
                             "type": kind, kind: object, "biz_opaque_callback_data": id});
    if object["id"] == FILE {
        payload["x_wa_media"] = FILE.into();
    }
    payload
}

fn old_messages() -> Vec<(&'static str, Value)> {
    let text = |body: &str| json!({"preview_url": false, "body": body});
    let mut reply = of_before("reply", "text", &json!({"preview_url": true, "body": "hi"}));
    reply["context"] = json!({"message_id": "wamid.A="});
    vec![
        ("plain", of_before("plain", "text", &text("hi"))),
        (
            "odd",
            of_before(
                "odd",
                "text",
                &text("'\\ \"q\" \u{1} 😀 {\"a\":1} \u{202a}"),
            ),
        ),
        ("reply", reply),
        (
            "file",
            of_before(
                "file",
                "document",
                &json!({"id": FILE, "caption": "c", "filename": "f'\".pdf"}),
            ),
        ),
        (
            "link",
            of_before(
                "link",
                "image",
                &json!({"link": "https://files.example/a?b=\"c\""}),
            ),
        ),
    ]
}

fn quoted(db: &Db, text: &str) -> String {
    match db {
        Db::Sqlite(_) => text.replace('\'', "''"),
        Db::MySql(_) => text.replace('\\', "\\\\").replace('\'', "\\'"),
    }
}

/// Puts a row back to what it was before there were forms.
async fn make_old(store: &Store, id: &str, payload: &Value) {
    let payload = quoted(&store.db, &payload.to_string());
    run(
        store,
        format!("UPDATE message SET form=0, kind='text', payload='{payload}' WHERE id='{id}'"),
    )
    .await;
}

/// What a stored message becomes for the upstream, as the release before would have sent it.
fn sent(form: i64, payload: &str, id: &str) -> Value {
    let form = u16::try_from(form).unwrap();
    let message =
        stored::read(form, payload).unwrap_or_else(|error| panic!("{id}: {error}: {payload}"));
    let files = request::Files::from([(Source::Id(FileId(FILE.into())), FILE.to_owned())]);
    request::send(&message, &message.to, id, &files, message.named()).expect("its file is there")
}

async fn unsent_messages_survive_their_conversion(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    for (id, payload) in old_messages() {
        store
            .db
            .accept(&own, &[message(id, "x")], false)
            .await
            .unwrap();
        make_old(store, id, &payload).await;
    }
    run(store, "DELETE FROM schema_version WHERE version>21".into()).await;
    store.db.migrate().await.unwrap();
    let claimed = store.db.claim(&own, 1, 10).await.unwrap();
    assert_eq!(claimed.len(), old_messages().len());
    for (id, mut before) in old_messages() {
        before.as_object_mut().unwrap().remove("x_wa_media");
        let row = claimed.iter().find(|row| row.id == id).unwrap();
        assert_eq!(row.form, 1);
        assert_eq!(sent(row.form, &row.payload, id), before, "{id}");
    }
}

async fn a_conversion_that_was_cut_short_is_finished(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    for (id, payload) in old_messages() {
        store
            .db
            .accept(&own, &[message(id, "x")], false)
            .await
            .unwrap();
        make_old(store, id, &payload).await;
    }
    // Texts are converted, and the number of that was not written any more; then everything once again, twice.
    for version in [24, 23, 21] {
        run(
            store,
            format!("DELETE FROM schema_version WHERE version>{version}"),
        )
        .await;
        store.db.migrate().await.unwrap();
    }
    let claimed = store.db.claim(&own, 1, 10).await.unwrap();
    for row in &claimed {
        assert_eq!(sent(row.form, &row.payload, &row.id)["to"], "447700900123");
    }
    assert_eq!(claimed.len(), old_messages().len());
}

fn read(text: &str) -> Message {
    Message::parse(text.as_bytes(), None).expect("well-formed")
}

fn new(form: u16, id: &str, body: &str, hashes: &[u16]) -> NewMessage {
    let message = read(&format!(
        r#"{{"to":"447700900123","text":{{"body":"{body}"}}}}"#
    ));
    let known = stored::hashes(&message);
    NewMessage {
        form,
        hashes: known
            .into_iter()
            .filter(|(of, _)| hashes.contains(of))
            .collect(),
        ..crate::store::message(id, body)
    }
}

async fn a_repeated_id_is_compared_in_the_form_of_its_row(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    for (first, again) in [(1, 2), (2, 1)] {
        let id = format!("from{first}");
        let accepted = db
            .accept(&own, &[new(first, &id, "hi", &[1, 2])], false)
            .await
            .unwrap();
        assert_eq!(accepted, [Accepted::New]);
        let group = [
            new(again, &id, "hi", &[1, 2]),
            new(again, &id, "ho", &[1, 2]),
        ];
        let repeated = db.accept(&own, &group, false).await.unwrap();
        assert_eq!(
            repeated,
            [Accepted::Duplicate, Accepted::Conflict],
            "{first} then {again}"
        );
    }
    // Finished before there were forms: it bears the hash of the first one.
    run(
        store,
        "UPDATE message SET form=0, state=3 WHERE id='from1'".into(),
    )
    .await;
    let group = [
        new(2, "from1", "hi", &[1, 2]),
        new(2, "from1", "ho", &[1, 2]),
    ];
    let repeated = db.accept(&own, &group, false).await.unwrap();
    assert_eq!(repeated, [Accepted::Duplicate, Accepted::Conflict]);
    // A node of the release before cannot compare: it says neither, of that one alone.
    let group = [new(1, "from2", "hi", &[1]), new(1, "other", "hi", &[1])];
    let repeated = db.accept(&own, &group, false).await.unwrap();
    assert_eq!(repeated, [Accepted::Unsettled, Accepted::New]);
    // A message of a type that came later is no repetition of a row in an older form.
    let later = [new(3, "from1", "hi", &[3])];
    let conflict = db.accept(&own, &later, false).await.unwrap();
    assert_eq!(conflict, [Accepted::Conflict]);
}

async fn a_form_that_nobody_here_reads_is_seen(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.accept(&own, &[new(1, "a", "hi", &[1, 2])], false)
        .await
        .unwrap();
    assert!(!db.newer_form(2).await.unwrap());
    run(store, "UPDATE message SET form=3".into()).await;
    assert!(db.newer_form(2).await.unwrap());
    // What is finished is read by nobody any more.
    run(store, "UPDATE message SET state=3".into()).await;
    assert!(!db.newer_form(2).await.unwrap());
}

async fn each_start_says_what_it_reads(store: &Store) {
    store.cluster(1).await;
    let start = |counter| Incarnation {
        counter,
        random: u64::MAX >> 1,
    };
    let node = NodeId::new("c1.example:coreapp-1");
    store.db.tell_form(&node, start(1), 1).await.unwrap();
    store.db.tell_form(&node, start(2), 2).await.unwrap();
    let forms = store.db.forms().await.unwrap();
    // A start of another release under the same name is not believed to read what this one does.
    assert_eq!(forms.get(&(node.clone(), start(2))), Some(&2));
    assert_eq!(forms.get(&(node, start(1))), None);
}
