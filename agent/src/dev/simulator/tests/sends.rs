//! Answers to sends: recipients that make errors, limits, templates, old ids.

use super::super::codes::CODES;
use super::super::ids;
use super::*;

/// Goal: every recipient of the table is answered as the help says. Method: all codes in all ways, over HTTP.
#[tokio::test]
async fn every_code_is_answered() {
    let bench = Bench::start().await;
    for known in CODES {
        let of = |way: char| format!("1555{way}{:06}", known.code);
        let refused = (known.http, json!(known.code));
        for way in ['0', '2'] {
            let (status, body) = bench.send(&text(&of(way), "m")).await;
            assert_eq!((status, body["error"]["code"].clone()), refused, "{body}");
            let message = format!("(#{}) {}", known.code, known.title);
            assert_eq!(body["error"]["message"], message);
        }
        let id = format!("once-{}", known.code);
        let (status, body) = bench.send(&text(&of('4'), &id)).await;
        assert_eq!((status, body["error"]["code"].clone()), refused, "{body}");
        for way in ['4', '1'] {
            let (status, body) = bench.send(&text(&of(way), &id)).await;
            assert_eq!(status, 200, "{body}");
        }
    }
    let report = bench.get("/admin/report").await;
    assert_eq!(report["accepted"], 2 * CODES.len());
    assert_eq!(report["refused"]["131047"], 3);
}

#[tokio::test]
async fn odd_answers_are_odd() {
    let bench = Bench::start().await;
    let mut accepted = 0;
    for (code, wanted, out) in [
        (200, 200, true),
        (201, 200, false),
        (500, 500, false),
        (502, 502, true),
    ] {
        let (status, body) = bench.send(&text(&format!("15553{code:06}"), "m")).await;
        assert_eq!(status, wanted);
        assert!(
            body.get("messages").is_none() && body.get("error").is_none(),
            "{body}"
        );
        accepted += u64::from(out);
        assert_eq!(bench.simulator.report().accepted, accepted, "{code}");
    }
    for (code, out) in [(408, true), (409, false), (499, true)] {
        let request = Request::post(format!(
            "http://127.0.0.1:{}/v25.0/100200300/messages",
            bench.port
        ))
        .header("authorization", "Bearer simulator-token")
        .body(Full::new(Bytes::from(
            text(&format!("15553{code:06}"), "m").to_string(),
        )))
        .expect("a request");
        let answer = bench.client.call(request, Duration::from_millis(300)).await;
        assert!(answer.is_err(), "{code}");
        accepted += u64::from(out);
        assert_eq!(bench.simulator.report().accepted, accepted, "{code}");
    }
}

/// Goal: whoever the message is for is answered in the documented shape, and a user id in `to` is lost without a word.
/// Method: all kinds of recipients; the webhooks of the one that is sent last have come.
#[tokio::test]
async fn recipients_are_answered() {
    let bench = Bench::start().await;
    let contact = |body: &Value| body["contacts"][0].clone();
    let (status, lost) = bench.send(&text("GB.1234567890", "lost")).await;
    assert_eq!(status, 200);
    assert_eq!(
        contact(&lost),
        json!({"input": "GB.1234567890", "wa_id": "1234567890"})
    );
    assert!(lost["messages"][0]["id"].is_string(), "{lost}");
    let mut body = text("+44 7700 900456", "both");
    body["recipient"] = "GB.1234567890".into();
    let (_, both) = bench.send(&body).await;
    assert_eq!(
        contact(&both),
        json!({"input": "+44 7700 900456", "wa_id": "447700900456"})
    );
    let map = body.as_object_mut().expect("an object");
    map.remove("to");
    map.insert("biz_opaque_callback_data".into(), "user".into());
    let (_, user) = bench.send(&body).await;
    assert_eq!(
        contact(&user),
        json!({"input": "GB.1234567890", "user_id": "GB.1234567890"})
    );
    until("no statuses", || bench.words("user").len() == 3).await;
    assert!(bench.words("lost").is_empty());
    let report = bench.simulator.report();
    assert_eq!((report.accepted, report.never_delivered), (3, 1));
    let statuses = bench.items("statuses");
    let of_user = statuses
        .iter()
        .find(|(_, s)| s["biz_opaque_callback_data"] == "user");
    let (_, of_user) = of_user.expect("one");
    assert_eq!(of_user["recipient_user_id"], "GB.1234567890");
    assert!(of_user.get("recipient_id").is_none());
}

#[tokio::test]
async fn limits_are_played() {
    let bench = Bench::start().await;
    let code = async |to: &str| bench.send(&text(to, "m")).await.1["error"]["code"].clone();
    bench.knobs(|knobs| knobs.maintenance = true);
    assert_eq!(code("447700900456").await, 131_057);
    bench.knobs(|knobs| {
        *knobs = Knobs {
            rate_per_second: 1,
            ..Knobs::default()
        }
    });
    let codes = [
        code("447700900456").await,
        code("447700900456").await,
        code("447700900456").await,
    ];
    assert!(codes.contains(&json!(130_429)), "{codes:?}");
    bench.knobs(|knobs| {
        *knobs = Knobs {
            pair_limit: true,
            latency_ms: 0,
            ..Knobs::default()
        }
    });
    for n in 0..45 {
        assert_eq!(code("447700900457").await, Value::Null, "{n}");
    }
    assert_eq!(code("447700900457").await, 131_056);
    assert_eq!(code("447700900458").await, Value::Null);
    bench.knobs(|knobs| {
        *knobs = Knobs {
            token: "another".into(),
            ..Knobs::default()
        }
    });
    assert_eq!(code("447700900456").await, 190);
    let (status, _) = bench
        .post("/v25.0/1/messages", &text("447700900456", "m"))
        .await;
    assert_eq!(status, 401);
}

/// Goal: what is older than 30 days can neither be read nor be reacted to. Method: the simulator's clock goes ahead.
#[tokio::test]
async fn messages_grow_old() {
    let bench = Bench::start().await;
    let (_, sent) = bench.send(&text("447700900456", "m")).await;
    let id = sent["messages"][0]["id"].clone();
    assert!(ids::made_at_s(id.as_str().expect("an id")).is_some());
    let read = json!({"messaging_product": "whatsapp", "status": "read", "message_id": id});
    let reaction = |ours: &str| {
        json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "reaction",
            "reaction": {"message_id": id, "emoji": "👍"}, "biz_opaque_callback_data": ours})
    };
    assert_eq!(bench.send(&read).await, (200, json!({"success": true})));
    assert_eq!(bench.send(&reaction("young")).await.0, 200);
    bench.knobs(|knobs| knobs.clock_ahead_s = 30 * 24 * 3600 + 60);
    assert_eq!(bench.send(&read).await.1["error"]["code"], 131_009);
    assert_eq!(bench.send(&reaction("late")).await.0, 200);
    until("no status", || !bench.words("late").is_empty()).await;
    assert_eq!(bench.words("young"), ["sent"]);
    assert_eq!(bench.words("late"), ["failed"]);
    let foreign =
        json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A/b+c="});
    assert_eq!(bench.send(&foreign).await.0, 200);
}

#[tokio::test]
async fn templates_are_answered() {
    let bench = Bench::start().await;
    let mut body = json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "template",
        "template": {"name": "login_code", "language": {"code": "en_US"}, "components": [
            {"type": "body", "parameters": [{"type": "text", "text": "123456"}]},
            {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "123456"}]}]}});
    let (_, answer) = bench.send(&body).await;
    assert_eq!(answer["messages"][0]["message_status"], "accepted");
    bench.knobs(|knobs| knobs.message_status = "held_for_quality_assessment".into());
    let (_, answer) = bench.send(&body).await;
    assert_eq!(
        answer["messages"][0]["message_status"],
        "held_for_quality_assessment"
    );
    until("no statuses", || bench.items("statuses").len() == 6).await;
    assert_eq!(
        bench.items("statuses")[0].1["pricing"]["category"],
        "authentication"
    );
    let map = body.as_object_mut().expect("an object");
    map.remove("to");
    map.insert("recipient".into(), "GB.1234".into());
    assert_eq!(bench.send(&body).await.1["error"]["code"], 131_062);
    body["template"]["name"] = "nothing".into();
    let (status, answer) = bench.send(&body).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!(132_001)));
}
