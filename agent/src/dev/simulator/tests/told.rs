//! What webhooks tell: stories of recipients, knobs, customers' messages.

use super::super::script::Script;
use super::super::{codes, script};
use super::*;

/// Goal: the webhooks of every recipient of the table are as the help says. Method: one send to each, and all that came.
#[tokio::test]
async fn every_story_is_told() {
    let bench = Bench::start().await;
    let usual = ["sent", "delivered", "read"];
    let table: [(u32, &[&str]); 10] = [
        (1, &[]),
        (2, &["sent"]),
        (3, &["sent", "read"]),
        (4, &["read", "delivered", "sent"]),
        (
            5,
            &["sent", "sent", "delivered", "delivered", "read", "read"],
        ),
        (6, &[]),
        (7, &usual),
        (8, &["sent", "delivered", "read", "played"]),
        (9, &["failed", "delivered"]),
        (10, &["sent", "delivered", "failed"]),
    ];
    bench.knobs(|knobs| knobs.single_webhooks = true);
    for (story, wanted) in table {
        let to = format!("15555{story:06}");
        assert!(matches!(script::of(&number(&to)), Some(Script::Story(_))));
        let id = format!("m{story}");
        let (status, _) = bench.send(&text(&to, &id)).await;
        assert_eq!(status, 200);
        if story == 7 {
            assert_eq!(bench.words(&id).len(), 3, "before the answer");
        }
        until(&format!("statuses of {story}"), || {
            bench.words(&id).len() >= wanted.len()
        })
        .await;
        let mut found = bench.words(&id);
        // Calls run side by side: only what came is compared, not when.
        found.sort_unstable();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{story}");
    }
    until("the strange ones", || {
        let statuses = bench.items("statuses");
        let strange = statuses
            .iter()
            .filter(|(_, s)| s["recipient_id"] == "155595000006");
        strange
            .filter(|(_, s)| s.get("biz_opaque_callback_data").is_none())
            .count()
            == 3
    })
    .await;
}

/// Goal: a failure by webhook carries its code, beside or instead of the answer. Method: all codes, both ways.
#[tokio::test]
async fn every_code_is_told() {
    let bench = Bench::start().await;
    for known in codes::CODES {
        for way in [1, 2] {
            let to = format!("1555{way}{:06}", known.code);
            let id = format!("{way}-{}", known.code);
            bench.send(&text(&to, &id)).await;
        }
    }
    let all = 2 * codes::CODES.len();
    until("failures", || bench.items("statuses").len() == all).await;
    for (_, status) in bench.items("statuses") {
        let id = status["biz_opaque_callback_data"].as_str().expect("ours");
        let (_, code) = id.split_once('-').expect("a code");
        assert_eq!(status["status"], "failed");
        assert_eq!(status["errors"][0]["code"].to_string(), code);
    }
}

#[tokio::test]
async fn knobs_disturb_webhooks() {
    let bench = Bench::start().await;
    bench.knobs(|knobs| knobs.lost_per_mille = 1000);
    bench.send(&text("447700900456", "lost")).await;
    bench.knobs(|knobs| (knobs.lost_per_mille, knobs.doubled_per_mille) = (0, 1000));
    bench.send(&text("447700900456", "twice")).await;
    until("doubled", || bench.words("twice").len() == 6).await;
    bench.knobs(|knobs| (knobs.doubled_per_mille, knobs.reordered_per_mille) = (0, 1000));
    bench.send(&text("447700900456", "backwards")).await;
    until("reordered", || bench.words("backwards").len() == 3).await;
    bench.knobs(|knobs| {
        knobs.reordered_per_mille = 0;
        (knobs.late_per_mille, knobs.late_ms) = (1000, 200);
        knobs.status_contacts = true;
        knobs.single_webhooks = true;
    });
    let began = clock::now();
    let calls = lock(&bench.told).len();
    bench.send(&text("447700900456", "late")).await;
    until("late", || bench.words("late").len() == 3).await;
    assert!(clock::now().since(began) >= Duration::from_millis(200));
    assert_eq!(lock(&bench.told).len(), calls + 3, "one event a call");
    let (value, _) = bench.items("statuses").pop().expect("one");
    assert_eq!(
        value["contacts"],
        json!([{"wa_id": "447700900456", "user_id": "GB.1000447700900456"}])
    );
    assert!(bench.words("lost").is_empty());
    assert_eq!(bench.simulator.report().webhooks_lost, 3);
}

/// Goal: customers' messages of every kind arrive in the documented envelope. Method: each option of the admin call.
#[tokio::test]
async fn customers_write() {
    let bench = Bench::start().await;
    let system = json!({"type": "system", "system": {"type": "user_changed_number", "body": "b", "wa_id": "447700900457"}});
    let button = json!({"type": "button", "button": {"payload": "p", "text": "t"}, "context": {"from": "1", "id": "wamid.A"}});
    for (n, inbound) in [
        json!({"from": "447700900456", "body": "hello"}),
        json!({"from": "447700900456", "no_number": true, "username": "ann", "profile": "Ann", "user_id": "GB.9"}),
        json!({"from": "447700900456", "message": button, "no_profile": true}),
        json!({"from": "447700900456", "message": system}),
        json!({"from": "447700900456", "no_contact": true}),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(bench.post("/admin/inbound", &inbound).await.0, 202, "{inbound}");
        until("a message", || bench.items("messages").len() == n + 1).await;
    }
    let messages = bench.items("messages");
    let (value, first) = &messages[0];
    assert_eq!(
        value["metadata"],
        json!({"display_phone_number": "447700900999", "phone_number_id": "100200300"})
    );
    let contact = json!({"profile": {"name": "Ann Lee"}, "wa_id": "447700900456", "user_id": "GB.1000447700900456"});
    assert_eq!(value["contacts"], json!([contact]));
    assert_eq!(
        (&first["from"], &first["text"]["body"]),
        (&json!("447700900456"), &json!("hello"))
    );
    let (value, hidden) = &messages[1];
    assert_eq!(
        value["contacts"],
        json!([{"profile": {"name": "Ann", "username": "ann"}, "user_id": "GB.9"}])
    );
    assert!(hidden.get("from").is_none() && hidden["from_user_id"] == "GB.9");
    let (value, pressed) = &messages[2];
    assert_eq!(pressed["context"]["id"], "wamid.A");
    assert!(value["contacts"][0].get("profile").is_none());
    for (value, _) in &messages[3..] {
        assert!(value.get("contacts").is_none(), "{value}");
    }
    let (status, _) = bench
        .post("/admin/inbound", &json!({"from": "1", "unknown": 1}))
        .await;
    assert_eq!(status, 422);
    let other = json!({"field": "account_update", "value": {"event": "ACCOUNT_RESTRICTION"}});
    assert_eq!(bench.post("/admin/webhook", &other).await.0, 202);
    until("the other event", || {
        lock(&bench.told)
            .iter()
            .any(|body| body["entry"][0]["changes"][0] == other)
    })
    .await;
}
