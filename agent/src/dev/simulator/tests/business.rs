//! The calls about the business: what is documented is taken and shown again, and nothing else.

use super::*;

const PROFILE: &str = "/v25.0/100200300/whatsapp_business_profile";
const BLOCK: &str = "/v25.0/100200300/block_users";

fn of(fields: Value) -> Value {
    let mut body = fields;
    body["messaging_product"] = "whatsapp".into();
    body
}

#[tokio::test]
async fn the_profile_is_kept_and_shown_in_both_forms() {
    let bench = Bench::start().await;
    assert_eq!(
        bench.get(PROFILE).await,
        json!({"data": [{"messaging_product": "whatsapp"}]})
    );
    let body = of(
        json!({"about": "Hi", "vertical": "RETAIL", "websites": ["https://a.example/"], "email": "a@b.example"}),
    );
    assert_eq!(
        bench.post(PROFILE, &body).await,
        (200, json!({"success": true}))
    );
    assert_eq!(bench.post(PROFILE, &of(json!({"email": ""}))).await.0, 200);
    let path = format!("{PROFILE}?fields=about,email,vertical");
    let flat = bench.get(&path).await["data"][0].clone();
    assert_eq!(
        flat,
        json!({"about": "Hi", "vertical": "RETAIL", "messaging_product": "whatsapp"})
    );
    bench.knobs(|knobs| knobs.profile_deeper = true);
    assert_eq!(bench.get(&path).await["data"][0]["business_profile"], flat);
    for wrong in [
        of(json!({"about": ""})),
        of(json!({"about": "x".repeat(140)})),
        of(json!({"vertical": "Automotive"})),
        of(json!({"websites": "https://a.example/"})),
        of(json!({"websites": ["a.example"]})),
        of(json!({"websites": ["https://a.example", "https://b.example", "https://c.example"]})),
        of(json!({"address": 7})),
        of(json!({"nobody": 1})),
        of(json!({})),
        of(json!({"profile_picture_handle": "4:nothing"})),
        json!({"about": "Hi"}),
    ] {
        assert_eq!(bench.post(PROFILE, &wrong).await.0, 400, "{wrong}");
    }
    assert_eq!(
        bench
            .call("GET", &format!("{PROFILE}?fields=name"), &Value::Null)
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn compliance_information_is_kept() {
    let bench = Bench::start().await;
    let path = "/v25.0/100200300/business_compliance_info";
    assert_eq!(bench.get(path).await, json!({"data": []}));
    let body = of(
        json!({"entity_name": "E", "is_registered": true, "customer_care_details": {"email": "a@b.example"}}),
    );
    assert_eq!(bench.post(path, &body).await.0, 200);
    assert_eq!(bench.get(path).await, json!({ "data": [body] }));
    for wrong in [
        of(json!({"is_registered": "true"})),
        of(json!({"customer_care_details": {"name": "x"}})),
    ] {
        assert_eq!(bench.post(path, &wrong).await.0, 400, "{wrong}");
    }
}

/// Sends bytes to an upload.
async fn part(
    bench: &Bench,
    id: &str,
    offset: Option<usize>,
    scheme: &str,
    bytes: &'static [u8],
) -> (u16, Value) {
    let mut request = Request::post(format!("http://127.0.0.1:{}/v25.0/{id}", bench.port))
        .header("authorization", format!("{scheme} simulator-token"));
    if let Some(offset) = offset {
        request = request.header("file_offset", offset);
    }
    let request = request
        .body(Full::new(Bytes::from_static(bytes)))
        .expect("a request");
    let answer = bench
        .client
        .call(request, Duration::from_secs(5))
        .await
        .expect("an answer");
    let body = serde_json::from_slice(answer.body()).unwrap_or_default();
    (answer.status().as_u16(), body)
}

/// Goal: a photo comes by a resumable upload, in parts that fit, and nobody needs a token to see it. Method: two parts with
/// wrong ones between them.
#[tokio::test]
async fn a_photo_comes_in_parts() {
    let bench = Bench::start().await;
    let begin = |app: &str, rest: &str| format!("/v25.0/{app}/uploads?file_name=a.jpg&{rest}");
    let good = begin("100200500", "file_length=6&file_type=image/jpeg");
    for wrong in [
        begin("1", "file_length=6&file_type=image/jpeg"),
        begin("100200500", "file_length=6&file_type=image/gif"),
        begin("100200500", "file_length=0&file_type=image/jpeg"),
        begin("100200500", "file_type=image/jpeg"),
    ] {
        assert_eq!(bench.post(&wrong, &Value::Null).await.0, 400, "{wrong}");
    }
    let (status, body) = bench.post(&good, &Value::Null).await;
    assert_eq!(status, 200, "{body}");
    let id = body["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("upload:") && id.contains("?sig="), "{id}");
    let unsigned = id.split('?').next().expect("a part").to_owned();
    assert_eq!(
        part(&bench, &unsigned, Some(0), "OAuth", b"abc").await.0,
        400
    );
    assert_eq!(part(&bench, &id, Some(0), "Bearer", b"abc").await.0, 401);
    assert_eq!(part(&bench, &id, None, "OAuth", b"abc").await.0, 400);
    assert_eq!(part(&bench, &id, Some(1), "OAuth", b"abc").await.0, 400);
    assert_eq!(
        part(&bench, &id, Some(0), "OAuth", b"abc").await.1["file_offset"],
        3
    );
    assert_eq!(part(&bench, &id, Some(3), "OAuth", b"defg").await.0, 400);
    let (status, body) = part(&bench, &id, Some(3), "OAuth", b"def").await;
    assert_eq!(status, 200, "{body}");
    let shown = of(json!({"profile_picture_handle": body["h"]}));
    assert_eq!(bench.post(PROFILE, &shown).await.0, 200);
    let about = bench
        .get(&format!("{PROFILE}?fields=profile_picture_url"))
        .await;
    let url = about["data"][0]["profile_picture_url"]
        .as_str()
        .expect("an address")
        .to_owned();
    let request = Request::get(&url)
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let answer = bench
        .client
        .call(request, Duration::from_secs(5))
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.body()[..]),
        (200, &b"abcdef"[..])
    );
    let path = url.split_once("/picture").expect("a path").1;
    assert_eq!(
        bench
            .call("GET", &format!("/picture{path}"), &Value::Null)
            .await
            .0,
        400,
        "with a token"
    );
}

/// Goal: only who wrote lately is blocked, every user is answered for, and a blocked one gets nothing. Method: lists of good
/// and bad users; the clock goes ahead.
#[tokio::test]
async fn users_are_blocked_one_by_one() {
    let bench = Bench::start().await;
    let wrote = json!({"from": "447700900456", "body": "x"});
    assert_eq!(bench.post("/admin/inbound", &wrote).await.0, 202);
    let users = |users: Value| of(json!({ "block_users": users }));
    let both = users(json!([{"user": "+447700900456"}, {"user": "447700900457"}]));
    let (status, body) = bench.post(BLOCK, &both).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (200, &json!(139_100)),
        "{body}"
    );
    assert_eq!(
        body["block_users"]["added_users"],
        json!([{"input": "+447700900456", "wa_id": "447700900456"}])
    );
    assert_eq!(
        body["block_users"]["failed_users"][0]["errors"][0]["code"],
        131_047
    );
    let (status, body) = bench
        .post(BLOCK, &users(json!([{"user": "447700900457"}])))
        .await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!(139_100)));
    assert_eq!(
        bench.send(&text("447700900456", "m")).await.1["error"]["code"],
        130_403
    );
    bench.knobs(|knobs| knobs.clock_ahead_s = 25 * 3600);
    let one = users(json!([{"user": "447700900456"}]));
    assert_eq!(bench.post(BLOCK, &one).await.0, 200, "already");
    for _ in 0..2 {
        let (status, body) = bench.call("DELETE", BLOCK, &one).await;
        assert_eq!(
            (status, &body["block_users"]["removed_users"][0]["wa_id"]),
            (200, &json!("447700900456"))
        );
    }
    assert_eq!(
        bench.get(BLOCK).await,
        json!({"data": [{"block_users": []}]})
    );
    assert_eq!(bench.post(BLOCK, &one).await.0, 400, "25 hours");
    let many: Vec<Value> = (0..1001)
        .map(|n| json!({"user": format!("4477009{n:05}")}))
        .collect();
    for wrong in [
        users(json!([])),
        users(many.into()),
        users(json!([{"user_id": "US.ENT.1349"}])),
        users(json!([{"user": "nobody"}])),
        users(json!([{"user": "447700900456", "user_id": "GB.1"}])),
        json!({"block_users": [{"user": "447700900456"}]}),
    ] {
        assert_eq!(bench.post(BLOCK, &wrong).await.0, 400);
    }
    assert_eq!(
        bench
            .post(BLOCK, &users(json!([{"user": "447700900999"}])))
            .await
            .1["block_users"]["failed_users"][0]["errors"][0]["code"],
        100
    );
}

#[tokio::test]
async fn the_list_of_the_blocked_has_an_end() {
    let bench = Bench::start().await;
    let now_s = bench.simulator.now_s();
    {
        let mut business = lock(&bench.simulator.business);
        business.blocked = (0..64_000).map(|n| format!("4477{n:08}")).collect();
        business.wrote("447700900456", now_s);
    }
    let one = of(json!({"block_users": [{"user": "447700900456"}]}));
    let (_, body) = bench.post(BLOCK, &one).await;
    assert_eq!(
        body["block_users"]["failed_users"][0]["errors"][0]["code"],
        139_101
    );
}

#[tokio::test]
async fn knobs_refuse_calls() {
    let bench = Bench::start().await;
    bench.knobs(|knobs| knobs.calls_refused = [("profile".into(), 131_000)].into());
    let (status, body) = bench.call("GET", PROFILE, &Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (500, &json!(131_000)));
    assert_eq!(bench.get(BLOCK).await["data"][0]["block_users"], json!([]));
}
