//! The registration of the number, as the vendor has it.

use super::*;

fn code(answer: &(u16, Value)) -> u64 {
    answer.1["error"]["code"].as_u64().unwrap_or_default()
}

impl Bench {
    async fn change(&self, call: &str, body: &Value) -> (u16, Value) {
        self.post(&format!("/v25.0/100200300/{call}"), body).await
    }

    async fn put_number(&self, number: &Value) {
        let put = self
            .post("/admin/number", &json!({ "number": number }))
            .await;
        assert_eq!(put.0, 204, "{put:?}");
    }
}

/// Goal: a number is registered by a code and a pin, and sends are refused before. Method: the whole way, with each mistake.
#[tokio::test]
async fn a_number_is_registered_by_code_and_pin() {
    let bench = Bench::start().await;
    bench
        .put_number(&json!({"status": "PENDING", "code_verification_status": "NOT_VERIFIED", "platform_type": "NOT_APPLICABLE", "pin": "111222"}))
        .await;
    let send = text("447700900456", "m1");
    assert_eq!(code(&bench.send(&send).await), 133_010);
    let pin = json!({"messaging_product": "whatsapp", "pin": "111222"});
    assert_eq!(code(&bench.change("register", &pin).await), 133_006);
    assert_eq!(
        code(
            &bench
                .change("verify_code", &json!({"code": "123456"}))
                .await
        ),
        136_025
    );
    let ask = json!({"code_method": "SMS", "language": "en_US"});
    assert_eq!(
        bench.change("request_code", &ask).await,
        (200, json!({"success": true}))
    );
    assert_eq!(
        code(
            &bench
                .change("verify_code", &json!({"code": "000000"}))
                .await
        ),
        136_025
    );
    assert_eq!(
        bench
            .change("verify_code", &json!({"code": "123456"}))
            .await
            .0,
        200
    );
    let wrong = json!({"messaging_product": "whatsapp", "pin": "999999"});
    assert_eq!(code(&bench.change("register", &wrong).await), 133_005);
    assert_eq!(bench.change("register", &pin).await.0, 200);
    assert_eq!(bench.send(&send).await.0, 200);
    let number = bench
        .get("/v25.0/100200300?fields=status,platform_type")
        .await;
    assert_eq!(
        (&number["status"], &number["platform_type"]),
        (&json!("CONNECTED"), &json!("CLOUD_API"))
    );
    assert_eq!(code(&bench.change("request_code", &ask).await), 136_024);
    let shown = bench.get("/admin/number").await;
    assert_eq!(
        (&shown["calls"]["register"], &shown["done"]["register"]),
        (&json!(3), &json!(1))
    );
}

/// Goal: what is not documented is refused, and ten registrations in 72 hours are the most. Method: bad bodies, then eleven.
#[tokio::test]
async fn calls_are_read_strictly_and_limited() {
    let bench = Bench::start().await;
    for (call, body) in [
        (
            "request_code",
            json!({"code_method": "sms", "language": "en_US"}),
        ),
        ("request_code", json!({"code_method": "SMS"})),
        (
            "request_code",
            json!({"code_method": "SMS", "language": "english"}),
        ),
        ("verify_code", json!({"code": 123456})),
        ("verify_code", json!({"code": "123456", "pin": "1"})),
        ("register", json!({"pin": "123456"})),
        (
            "register",
            json!({"messaging_product": "whatsapp", "pin": 123456}),
        ),
        (
            "register",
            json!({"messaging_product": "whatsapp", "pin": "123456", "backup": {"data": "x"}}),
        ),
        (
            "register",
            json!({"messaging_product": "whatsapp", "pin": "123456", "cert": "x"}),
        ),
    ] {
        assert_eq!(code(&bench.change(call, &body).await), 100, "{call} {body}");
    }
    let set = |pin: Value| json!({ "pin": pin });
    let path = "/v25.0/100200300";
    assert_eq!(code(&bench.post(path, &set(json!("12345"))).await), 100);
    assert_eq!(
        bench.post(path, &set(json!("123456"))).await,
        (200, json!({"success": true}))
    );
    let pin = json!({"messaging_product": "whatsapp", "pin": "123456"});
    for _ in 0..9 {
        assert_eq!(bench.change("register", &pin).await.0, 200);
    }
    assert_eq!(bench.change("deregister", &json!({})).await.0, 200);
    assert_eq!(code(&bench.change("register", &pin).await), 133_016);
    bench.knobs(|knobs| knobs.clock_ahead_s = 72 * 3600 + 1);
    assert_eq!(bench.change("register", &pin).await.0, 200);
}

/// Goal: each call can be made to fail once. Method: the knob, then the call twice.
#[tokio::test]
async fn a_call_fails_once() {
    let bench = Bench::start().await;
    let faults = json!({"fail": {"register": 133_015}});
    assert_eq!(bench.post("/admin/number/faults", &faults).await.0, 204);
    let pin = json!({"messaging_product": "whatsapp", "pin": "123456"});
    assert_eq!(code(&bench.change("register", &pin).await), 133_015);
    assert_eq!(bench.change("register", &pin).await.0, 200);
}
