//! The calls beside sends: files, templates, the number.

use super::*;

/// The id that an upload gets, or the answer that refuses it.
async fn upload(bench: &Bench, mime: &str) -> Result<String, Value> {
    let form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n\
         --b\r\ncontent-disposition: form-data; name=\"type\"\r\n\r\n{mime}\r\n\
         --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\ncontent-type: {mime}\r\n\r\nbytes\r\n--b--\r\n"
    );
    let request = Request::post(format!(
        "http://127.0.0.1:{}/v25.0/100200300/media",
        bench.port
    ))
    .header("authorization", "Bearer simulator-token")
    .header("content-type", "multipart/form-data; boundary=b")
    .body(Full::new(Bytes::from(form)))
    .expect("a request");
    let answer = bench
        .client
        .call(request, Duration::from_secs(5))
        .await
        .expect("an answer");
    let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
    match body["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => Err(body),
    }
}

fn image(id: &str, ours: &str) -> Value {
    json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "image", "image": {"id": id},
        "biz_opaque_callback_data": ours})
}

/// Goal: a file lives as long as the vendor keeps it, and its address for five minutes. Method: the clock goes ahead; files
/// are deleted and forgotten.
#[tokio::test]
async fn files_live_and_are_forgotten() {
    let bench = Bench::start().await;
    let refused = async |id: &str| bench.send(&image(id, "m")).await.1["error"]["code"].clone();
    let ids = [
        upload(&bench, "image/png").await,
        upload(&bench, "image/png").await,
        upload(&bench, "image/png").await,
    ];
    let [a, b, c] = ids.map(|id| id.expect("an id"));
    assert_eq!(refused(&a).await, Value::Null);
    assert_eq!(refused("1").await, 131_053);
    let about = bench.get(&format!("/v25.0/{a}")).await;
    let url = about["url"].as_str().expect("an address").to_owned();
    let path = url
        .strip_prefix(&format!("http://127.0.0.1:{}", bench.port))
        .expect("ours");
    assert_eq!(bench.call("GET", path, &Value::Null).await.0, 200);
    assert_eq!(bench.get("/admin/media").await[&a]["fetched"], 1);
    let (bare, _) = path.split_once('=').expect("until when it is good");
    let made_up = format!("{bare}=99999999999");
    assert_eq!(
        bench.call("GET", &made_up, &Value::Null).await.0,
        404,
        "an address that was never said"
    );
    bench.knobs(|knobs| knobs.clock_ahead_s = 301);
    assert_eq!(
        bench.call("GET", path, &Value::Null).await.0,
        404,
        "five minutes"
    );

    assert_eq!(
        bench.post("/admin/media/forget", &json!({"id": a})).await.0,
        204
    );
    assert_eq!(
        bench.post("/admin/media/forget", &json!({"id": a})).await.0,
        404
    );
    assert_eq!(refused(&a).await, 131_053);
    let answer = bench
        .call("DELETE", &format!("/v25.0/{b}"), &Value::Null)
        .await;
    assert_eq!(answer, (200, json!({"success": true})));
    assert_eq!(refused(&b).await, 131_053);
    assert_eq!(
        bench
            .call("GET", &format!("/v25.0/{b}"), &Value::Null)
            .await
            .0,
        400
    );
    assert_eq!(refused(&c).await, Value::Null);
    bench.knobs(|knobs| knobs.clock_ahead_s = 30 * 24 * 3600 + 60);
    assert_eq!(refused(&c).await, 131_053, "30 days");

    bench.knobs(|knobs| knobs.media_refusal = super::super::knobs::MediaRefusal::Webhook);
    assert_eq!(bench.send(&image(&c, "by-webhook")).await.0, 200);
    until("no status", || !bench.words("by-webhook").is_empty()).await;
    assert_eq!(bench.words("by-webhook"), ["failed"]);
}

#[tokio::test]
async fn files_fit_their_use() {
    let bench = Bench::start().await;
    let refused = upload(&bench, "image/gif")
        .await
        .expect_err("not a type of the vendor");
    assert_eq!(refused["error"]["code"], 100);
    let refused = upload(&bench, "image/jpeg; charset=UTF-8").await;
    assert!(refused.is_err(), "a parameter that means nothing");
    let pdf = upload(&bench, "application/pdf").await.expect("an id");
    assert_eq!(
        bench.send(&image(&pdf, "m")).await.1["error"]["code"],
        131_053
    );
    let voice = upload(&bench, "audio/ogg; codecs=opus")
        .await
        .expect("an id");
    let mut body = image(&voice, "m");
    body["type"] = "audio".into();
    body["audio"] = json!({"id": voice, "voice": true});
    body.as_object_mut().expect("an object").remove("image");
    assert_eq!(bench.send(&body).await.0, 200);
}

/// Goal: a whole list of templates is read page by page. Method: pages of 5, then filters and fields.
#[tokio::test]
async fn templates_are_listed() {
    let bench = Bench::start().await;
    let list = "/v25.0/100200400/message_templates";
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = bench
            .get(&format!("{list}?limit=5&fields=name,status{after}"))
            .await;
        let data = page["data"].as_array().expect("a page").clone();
        assert!(data.len() <= 5);
        names.extend(data.iter().map(|t| (t["name"].clone(), t["id"].clone())));
        let Some(cursor) = page["paging"]["cursors"]["after"].as_str() else {
            break;
        };
        assert_eq!(
            page["paging"].get("next").is_some(),
            data.len() == 5 && names.len() < 23
        );
        if page["paging"].get("next").is_none() {
            break;
        }
        after = format!("&after={cursor}");
    }
    let all = bench.get("/admin/templates").await;
    assert_eq!(names.len(), all.as_array().expect("a list").len());
    let one = bench
        .get(&format!("{list}?name=order_update&language=de"))
        .await;
    assert_eq!(one["data"][0]["components"][1]["type"], "BODY");
    assert_eq!(one["data"].as_array().map(Vec::len), Some(1));
    for bad in ["?fields=colour", "?limit=0", "?after=x"] {
        let (status, body) = bench
            .call("GET", &format!("{list}{bad}"), &Value::Null)
            .await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!(100)),
            "{bad}"
        );
    }
    assert_eq!(
        bench
            .call("GET", "/v25.0/7/message_templates", &Value::Null)
            .await
            .0,
        400
    );
    bench.knobs(|knobs| knobs.management_per_hour = 1);
    let codes = [
        bench.call("GET", list, &Value::Null).await,
        bench.call("GET", list, &Value::Null).await,
    ];
    assert!(
        codes
            .iter()
            .any(|(_, body)| body["error"]["code"] == 80_007),
        "{codes:?}"
    );
}

#[tokio::test]
async fn templates_are_changed() {
    let bench = Bench::start().await;
    let mut template = json!({"name": "mine", "language": "en", "category": "UTILITY",
        "components": [{"type": "BODY", "text": "Hello {{1}}"}]});
    assert_eq!(bench.post("/admin/templates", &template).await.0, 204);
    let send = json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "template",
        "template": {"name": "mine", "language": {"code": "en"}}});
    let code = async || bench.send(&send).await.1["error"]["code"].clone();
    assert_eq!(code().await, 132_000);
    template["status"] = "PAUSED".into();
    assert_eq!(bench.post("/admin/templates", &template).await.0, 204);
    assert_eq!(code().await, 132_015);
    until("the change is told", || {
        let told = lock(&bench.told);
        told.iter().any(|body| {
            let change = &body["entry"][0]["changes"][0];
            change["field"] == "message_template_status_update"
                && change["value"]["event"] == "PAUSED"
        })
    })
    .await;
    let gone = bench
        .call("DELETE", "/admin/templates?name=mine", &Value::Null)
        .await;
    assert_eq!(gone.0, 204);
    assert_eq!(code().await, 132_001);
}

#[tokio::test]
async fn the_number_is_told() {
    let bench = Bench::start().await;
    let some = bench
        .get("/v25.0/100200300?fields=status,display_phone_number")
        .await;
    assert_eq!(
        some,
        json!({"id": "100200300", "status": "CONNECTED", "display_phone_number": "447700900999"})
    );
    assert_eq!(
        bench.get("/v25.0/100200300?fields=id").await,
        json!({"id": "100200300"})
    );
    let usual = bench.get("/v25.0/100200300").await;
    assert_eq!(usual["verified_name"], "Example Shop");
    assert_eq!(usual["throughput"]["level"], "STANDARD");
    bench.knobs(|knobs| knobs.throughput_high = true);
    let upgraded = bench.get("/v25.0/100200300?fields=throughput").await;
    assert_eq!(upgraded["throughput"]["level"], "HIGH");
    let health = bench.get("/v25.0/100200400?fields=health_status").await;
    assert_eq!(health["health_status"]["can_send_message"], "AVAILABLE");
    for bad in ["/v25.0/100200300?fields=colour", "/v25.0/7"] {
        let (status, body) = bench.call("GET", bad, &Value::Null).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!(100)),
            "{bad}"
        );
    }
}

/// Goal: the table of recipients is printed. Method: the help as a person reads it.
#[test]
fn help_has_the_table() {
    #[derive(clap::Parser)]
    #[command(name = "wa-agent")]
    struct Line {
        #[command(subcommand)]
        command: crate::cli::Command,
    }
    let mut line = <Line as clap::CommandFactory>::command();
    let simulator = line.find_subcommand_mut("simulator").expect("a command");
    let help = simulator.render_long_help().to_string();
    for part in [
        super::super::script::help().trim(),
        "--pair-limit",
        "--waba-id",
    ] {
        assert!(help.contains(part), "{help}");
    }
    let short = simulator.render_help().to_string();
    assert!(!short.contains("131047"), "{short}");
}
