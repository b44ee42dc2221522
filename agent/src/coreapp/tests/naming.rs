//! Messages that name others, and messages that are too old. Goal: an answer goes out behind what it answers and under the
//! upstream's id of it; what cannot be sent any more is told by the documented code. Method: the coreapp on the embedded store,
//! with an upstream that refuses once where a text asks for it, and rows that were made older.

use super::*;

/// Ids of the form that `POST /v1/messages` answers.
const FIRST: &str = "gBEGAAAAAAAAAAAAAAAAAAAAAA";
const SECOND: &str = "gBEGBBBBBBBBBBBBBBBBBBBBBB";

fn newest(id: &str, payload: Value) -> Message {
    Message {
        form: Form::NEWEST.number(),
        payload: payload.to_string(),
        ..message(id, "")
    }
}

fn to() -> Value {
    json!({"phone": "447700900456"})
}

fn reply(id: &str, named: &str) -> Message {
    newest(
        id,
        json!({"to": to(), "reply_to": named, "content": {"text": {"body": "as I said"}}}),
    )
}

fn reaction(id: &str, named: &str) -> Message {
    newest(
        id,
        json!({"to": to(), "content": {"reaction": {"message_id": named, "emoji": "x"}}}),
    )
}

async fn told(cluster: &Cluster, id: &str) -> Value {
    within(async {
        loop {
            let found = {
                let seen = cluster.seen.lock().expect("no panic before");
                let statuses = seen.webhooks.iter().map(|w| w["statuses"][0].clone());
                statuses.into_iter().find(|status| status["id"] == id)
            };
            match found {
                Some(status) => return status,
                None => clock::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

fn bodies(cluster: &Cluster) -> Vec<Value> {
    let seen = cluster.seen.lock().expect("no panic before");
    seen.bodies.clone()
}

fn hook() -> Value {
    json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_follows_what_it_answers() {
    let cluster = Cluster::start(json!({})).await;
    let first = message(FIRST, "busy once");
    let verdicts = cluster
        .accept_owned(&request(vec![first, reply(SECOND, FIRST)]))
        .await;
    assert_eq!(verdicts, [Acceptance::Accepted; 2]);
    cluster.state_of(SECOND, MessageState::Sent).await;
    let sent = bodies(&cluster);
    let texts: Vec<&str> = sent
        .iter()
        .filter_map(|body| body["text"]["body"].as_str())
        .collect();
    assert_eq!(texts, ["busy once", "busy once", "as I said"]);
    let opaque = sent[1]["biz_opaque_callback_data"].as_str().expect("ours");
    assert_eq!(
        sent[2]["context"]["message_id"],
        format!("wamid.{opaque}"),
        "the upstream's id"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_a_message_that_was_not_sent() {
    let cluster = Cluster::start(hook()).await;
    let others = [
        reply(SECOND, FIRST),
        reaction("r1", FIRST),
        reaction("r2", "wamid.of-a-customer"),
        reply("later", "gBEGCCCCCCCCCCCCCCCCCCCCCC"),
    ];
    let mut all = vec![message(FIRST, "refuse")];
    all.extend(others);
    cluster.accept_owned(&request(all)).await;
    cluster.state_of(SECOND, MessageState::Sent).await;
    cluster.state_of("r1", MessageState::Failed).await;
    cluster.state_of("r2", MessageState::Sent).await;
    cluster.state_of("later", MessageState::Sent).await;
    assert_eq!(told(&cluster, "r1").await["errors"][0]["code"], 1009);
    let sent = bodies(&cluster);
    let answers = sent
        .iter()
        .filter(|body| body["text"]["body"] == "as I said");
    assert!(answers.clone().count() == 2 && answers.clone().all(|body| body["context"].is_null()));
    let about = |body: &&Value| body["type"] == "reaction";
    let reactions: Vec<&Value> = sent.iter().filter(about).collect();
    assert_eq!(reactions.len(), 1);
    assert_eq!(
        reactions[0]["reaction"]["message_id"],
        "wamid.of-a-customer"
    );
}

/// A row as it would be if it had waited for so long.
async fn waited(cluster: &Cluster, id: &str, payload: Value, (ms, doubt): (i64, i64)) {
    let Db::Sqlite(pool) = &cluster.db else {
        panic!("the embedded store");
    };
    let sql = "INSERT INTO message (id, body_hash, recipient, recipient_hash, payload, form, state, next_ms, accepted_ms, doubt) \
               SELECT ?, body_hash, recipient, recipient_hash, ?, ?, 0, next_ms, accepted_ms-?, ? FROM message WHERE id='known'";
    let row = sqlx::query(sql)
        .bind(id)
        .bind(payload.to_string())
        .bind(i64::from(Form::NEWEST.number()));
    let done = row.bind(ms).bind(doubt).execute(pool).await;
    done.expect("inserted");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_waited_for_too_long_are_not_sent() {
    let cluster = Cluster::start(hook()).await;
    cluster
        .accept_owned(&request(vec![message("known", "hi")]))
        .await;
    let day = 24 * 3600 * 1000;
    let text = |ttl: Option<u64>| json!({"to": to(), "ttl_s": ttl, "callback_data": "order-77", "content": {"text": {"body": "late"}}});
    for (id, ttl, ms, doubt) in [
        ("ttl", Some(60), 61_000, 0),
        ("before", None, day + 1000, 0),
        ("doubt", Some(60), 61_000, 1),
        ("pending", Some(30 * 24 * 3600), 7 * day + 1000, 0),
        ("young", Some(3600), 61_000, 0),
    ] {
        waited(&cluster, id, text(ttl), (ms, doubt)).await;
    }
    for (id, code) in [("ttl", 410), ("doubt", 500), ("pending", 408)] {
        let status = told(&cluster, id).await;
        assert_eq!(status["errors"][0]["code"], code, "{id}: {status}");
        assert_eq!(status["biz_opaque_callback_data"], "order-77");
    }
    cluster.state_of("young", MessageState::Sent).await;
    // Time before this tenure does not count: nobody may have been there to send it.
    cluster.state_of("before", MessageState::Sent).await;
    let late = bodies(&cluster);
    let late = late.iter().filter(|body| body["text"]["body"] == "late");
    assert_eq!(late.count(), 2);
}

/// Goal: a number that the upstream spells otherwise leads to one customer. Method: an upstream that drops a digit.
#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_is_learnt_from_the_answer() {
    let cluster = Cluster::start(json!({})).await;
    let typed = "5512345678901";
    let payload = json!({"to": {"phone": typed}, "content": {"text": {"body": "spelt otherwise"}}});
    let there = Message {
        recipient_hash: recipient_hash(typed),
        payload: payload.to_string(),
        ..message("spelt", "")
    };
    cluster.accept_owned(&request(vec![there])).await;
    cluster.state_of("spelt", MessageState::Sent).await;
    let routes = cluster.db.routes(&["551234567890"]).await.expect("read");
    assert_eq!(routes["551234567890"].recipient_hash, recipient_hash(typed));
}
