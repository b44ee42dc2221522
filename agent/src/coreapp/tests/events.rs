//! Events that wait for more than their owner, over a whole coreapp. Goal: a status finds its message however late its id is
//! known; what is nobody's is told as the configuration says; nothing is dropped in silence. Method: the coreapp on the embedded
//! store, with rows as webapps write them.

use super::*;
use crate::config::{EventSettings, ForeignStatuses};
use crate::db::event::{KeptCounts, State as Standing};

const NUMBER: &str = "447700900456";
/// Somebody of another shard, if there were one, or another spelling.
const ELSEWHERE: &str = "5215512345678";

async fn start(events: EventSettings) -> Cluster {
    let hook = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let change = |settings: &mut Settings| settings.events = events;
    let cluster = Cluster::start_at(hook, outside().await, change).await;
    // The small business refuses the first call.
    cluster.seen.lock().expect("no panic before").webhook_calls = 1;
    cluster
}

/// Stores what a call brings, as a webapp does that knows nothing of the map of ids.
async fn store(cluster: &Cluster, call: &str) {
    let items = cloud::event::take(call, "number").items;
    let events = items.iter().map(|item| NewEvent {
        key: item.key.clone(),
        recipient_hash: recipient_hash(&item.customer),
        payload: serde_json::to_string(item).expect("plain JSON"),
        state: match &item.raw {
            cloud::event::Raw::Status(_) if item.recipient_hash.is_none() => Standing::Unplaced,
            cloud::event::Raw::Unread { .. } => Standing::Unread,
            _ => Standing::Pending,
        },
    });
    let events: Vec<NewEvent> = events.collect();
    let stored = cluster.db.store_events(&events).await.expect("stored");
    assert_eq!(stored as usize, events.len());
}

fn call(value: &Value) -> String {
    json!({"entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]}).to_string()
}

fn status(id: &str) -> String {
    let status = json!({"id": id, "status": "delivered", "timestamp": "1893456000", "recipient_id": ELSEWHERE});
    call(&json!({"statuses": [status]}))
}

async fn told(cluster: &Cluster, wanted: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let found = {
                let seen = cluster.seen.lock().expect("no panic before");
                seen.webhooks.iter().find(|told| wanted(told)).cloned()
            };
            match found {
                Some(told) => return told,
                None => clock::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

async fn counts(cluster: &Cluster, wanted: KeptCounts) {
    within(async {
        while cluster.db.kept_counts().await.expect("read") != wanted {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Our id and recipient come back although the status has neither, and comes before its message is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_comes_before_its_id_is_known_finds_its_message() {
    let cluster = start(EventSettings::default()).await;
    store(&cluster, &status("wamid.early")).await;
    let unplaced = KeptCounts {
        unplaced: 1,
        ..KeptCounts::default()
    };
    assert_eq!(cluster.db.kept_counts().await.expect("read"), unplaced);
    cluster
        .accept_owned(&request(vec![message("early", "hello")]))
        .await;
    cluster.state_of("early", MessageState::Delivered).await;
    let told = told(&cluster, |told| told["statuses"][0]["id"] == "early").await;
    assert_eq!(told["statuses"][0]["recipient_id"], NUMBER, "{told}");
    counts(&cluster, KeptCounts::default()).await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    let placed = "SELECT recipient_hash FROM inbox";
    let (hash,): (i64,) = sqlx::query_as(placed).fetch_one(pool).await.expect("one");
    assert_eq!(
        hash,
        i64::from(recipient_hash(NUMBER)),
        "the message's own shard"
    );
}

/// An owner that died had recorded the answer to a send and not written its id into the map, and the database's clock has leapt an
/// hour since the status came: it finds its message all the same, once the new owner has filled the map.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_waits_for_what_an_earlier_owner_recorded() {
    let cluster = start(EventSettings::default()).await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    let left = "INSERT INTO message (id, body_hash, recipient, recipient_hash, payload, state, next_ms, wamid, accepted_ms, receipt, form) \
         VALUES ('left', 1, ?, ?, ?, 3, 0, 'wamid.left', 1, 1, 1)";
    let sent = sqlx::query(left)
        .bind(NUMBER)
        .bind(i64::from(recipient_hash(NUMBER)))
        .bind(message("left", "hello").payload);
    sent.execute(pool).await.expect("written");
    let items = cloud::event::take(&status("wamid.left"), "number").items;
    let early = "INSERT INTO inbox (event_key, recipient_hash, payload, received_ms, processed) VALUES (?, 1, ?, ?, 3)";
    let early = sqlx::query(early)
        .bind(&items[0].key)
        .bind(serde_json::to_string(&items[0]).expect("plain JSON"))
        .bind(i64::try_from(clock::wall_ms()).expect("small") - 3_600_000);
    early.execute(pool).await.expect("written");
    let told = told(&cluster, |told| told["statuses"][0]["id"] == "left").await;
    assert_eq!(told["statuses"][0]["status"], "delivered", "{told}");
    counts(&cluster, KeptCounts::default()).await;
}

/// Another system's data is its own: with a date behind a dot. Data in our exact form is ours, also where neither a row nor an id of
/// the message is left: its status is the only word of it. The one behind it has a row in the map of ids only.
#[tokio::test(flavor = "multi_thread")]
async fn data_of_others_is_not_taken_for_ours() {
    let cluster = start(EventSettings::default()).await;
    cluster
        .accept_owned(&request(vec![message("m", "hello")]))
        .await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    let map = "INSERT INTO message_id (upstream_id, our_id, recipient_hash, at_ms) VALUES ('wamid.first', ?, 7, 1)";
    let map = sqlx::query(map).bind(OURS).execute(pool).await;
    map.expect("written");
    for (id, data) in [
        ("wamid.date", "order.20261130".to_owned()),
        (
            "wamid.form",
            "gBEGAAAAAAAAAAAAAAAAAAAAAA.00000007".to_owned(),
        ),
        ("wamid.again", format!("{OURS}.00000007")),
    ] {
        let status = json!({"id": id, "status": "delivered", "timestamp": "1893456000", "recipient_id": NUMBER,
            "biz_opaque_callback_data": data});
        store(&cluster, &call(&json!({"statuses": [status]}))).await;
    }
    told(&cluster, |told| told["statuses"][0]["id"] == OURS).await;
    told(&cluster, |told| {
        told["statuses"][0]["id"] == "gBEGAAAAAAAAAAAAAAAAAAAAAA"
    })
    .await;
    let foreign = KeptCounts {
        foreign: 1,
        ..KeptCounts::default()
    };
    counts(&cluster, foreign).await;
    let seen = cluster.seen.lock().expect("no panic before");
    let statuses = seen
        .webhooks
        .iter()
        .filter(|told| told["statuses"].is_array());
    assert_eq!(statuses.count(), 2, "{:?}", seen.webhooks);
}

/// A status of a message that is not ours is kept and listed, or told.
#[tokio::test(flavor = "multi_thread")]
async fn statuses_of_others_are_told_as_the_configuration_says() {
    for foreign_statuses in [ForeignStatuses::Drop, ForeignStatuses::Tell] {
        let cluster = start(EventSettings {
            foreign_statuses,
            ..EventSettings::default()
        })
        .await;
        store(&cluster, &status("wamid.foreign")).await;
        match foreign_statuses {
            ForeignStatuses::Drop => {
                let foreign = KeptCounts {
                    foreign: 1,
                    ..KeptCounts::default()
                };
                counts(&cluster, foreign).await;
                let kept = cluster.db.kept_events(10).await.expect("read");
                assert_eq!((kept.len(), &*kept[0].key), (1, "wamid.foreign:delivered"));
                assert_eq!(cluster.db.webhook_depth().await.expect("read"), 0);
            }
            ForeignStatuses::Tell => {
                let told = told(&cluster, |told| {
                    told["statuses"][0]["id"] == "wamid.foreign"
                })
                .await;
                assert_eq!(told["statuses"][0]["recipient_id"], ELSEWHERE);
            }
        }
    }
}

/// What nobody could read is kept, holds up nothing, and is told once it can be read and somebody says so. What stays rubbish stays.
#[tokio::test(flavor = "multi_thread")]
async fn f04_what_could_not_be_read_is_told_when_it_can_be() {
    let cluster = start(EventSettings::default()).await;
    let text = json!({"from": NUMBER, "id": "wamid.later", "timestamp": "1893456000", "type": "text", "text": {"body": "x"}});
    let raw = cloud::event::Raw::Unread {
        call: call(&json!({"messages": [text]})),
        why: "this release is too old".into(),
    };
    let row = json!({"customer": "", "content": serde_json::to_value(&raw).expect("plain data")});
    let event = |key: &str, payload: String| NewEvent {
        key: key.into(),
        recipient_hash: 1,
        payload,
        state: Standing::Unread,
    };
    let rows = [
        event("unread:a", row.to_string()),
        event("unread:b", "{".into()),
    ];
    assert_eq!(cluster.db.store_events(&rows).await.expect("stored"), 2);
    store(&cluster, &call(&json!({"messages": ["rubbish", {"from": NUMBER, "id": "wamid.beside", "type": "text"}]}))).await;
    told(&cluster, |told| told["messages"][0]["id"] == "wamid.beside").await;
    let unread = |unread| KeptCounts {
        unread,
        ..KeptCounts::default()
    };
    counts(&cluster, unread(3)).await;
    assert_eq!(
        cluster
            .db
            .retry_events(Some("nothing"))
            .await
            .expect("done"),
        0
    );
    assert_eq!(cluster.db.retry_events(None).await.expect("done"), 3);
    told(&cluster, |told| told["messages"][0]["id"] == "wamid.later").await;
    counts(&cluster, unread(2)).await;
}

/// Errors that are about no message are told; news of the account are recorded, and told where they are wanted.
#[tokio::test(flavor = "multi_thread")]
async fn f21_errors_and_news_are_not_dropped() {
    for account_events in [false, true] {
        let cluster = start(EventSettings {
            account_events,
            ..EventSettings::default()
        })
        .await;
        let news = json!({"entry": [{"id": "1", "changes": [{"field": "account_update", "value": {"event": "ACCOUNT_RESTRICTION"}}]}]});
        store(&cluster, &news.to_string()).await;
        store(
            &cluster,
            &call(&json!({"errors": [{"code": 130429, "title": "Rate limit hit"}]})),
        )
        .await;
        let error = told(&cluster, |told| told["errors"].is_array()).await;
        assert_eq!(error["errors"][0]["code"], 429, "{error}");
        if account_events {
            let news = told(&cluster, |told| told["account_events"].is_array()).await;
            assert_eq!(news["account_events"][0]["field"], "account_update");
        }
        let recorded = within(async {
            loop {
                let all = cluster.db.decisions(10).await.expect("read");
                if let Some(found) = all.into_iter().find(|one| one.what == "account") {
                    return found;
                }
                clock::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_eq!(
            (&*recorded.subject, &*recorded.reason),
            ("account_update", "ACCOUNT_RESTRICTION")
        );
        counts(&cluster, KeptCounts::default()).await;
        let seen = cluster.seen.lock().expect("no panic before");
        let news = seen
            .webhooks
            .iter()
            .filter(|told| told["account_events"].is_array());
        assert_eq!(news.count(), usize::from(account_events));
    }
}
