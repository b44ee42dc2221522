//! Goal: the documented answers, in both slash forms, and nothing asked of anybody for a request that is not valid. Method: the
//! router, with a master that lets everything in and an owner that does as it is told.

use serde_json::{Value, json};

use crate::webapp::tests::{Bench, bench, whole_with};

async fn post(bench: &Bench, admin: &str, path: &str, body: &Value) -> (u16, Value) {
    let headers = [("authorization", admin)];
    bench.call("POST", path, &headers, &body.to_string()).await
}

fn account() -> Value {
    json!({"cc": "44", "phone_number": "7700900999", "method": "sms", "cert": "AAAA"})
}

#[tokio::test]
async fn a_registration_has_its_documented_answers() {
    let bench = whole_with(false).await;
    let admin = bench.admin().await;
    for end in ["", "/"] {
        let path = format!("/v1/account{end}");
        let (status, body) = post(&bench, &admin, &path, &account()).await;
        assert_eq!(status, 202, "{body}");
        assert_eq!(body["account"], json!([{"vname": "Example Ltd 7"}]));
        assert!(body["meta"]["version"].is_string());
        let mut with_pin = account();
        with_pin["pin"] = json!("123456");
        let (status, body) = post(&bench, &admin, &path, &with_pin).await;
        assert_eq!(
            (status, body.as_object().map(|b| b.len())),
            (201, Some(1)),
            "{body}"
        );
        let path = format!("/v1/account/verify{end}");
        let (status, body) = post(&bench, &admin, &path, &json!({"code": "123-456"})).await;
        assert_eq!(
            (status, body.as_object().map(|b| b.len())),
            (201, Some(1)),
            "{body}"
        );
        let (status, body) = post(&bench, &admin, &path, &json!({"code": "000000"})).await;
        assert_eq!(
            (status, body["errors"][0]["code"].as_u64()),
            (429, Some(1015)),
            "{body}"
        );
        let details = body["errors"][0]["details"].as_str().expect("words");
        assert!(
            details.contains("133016") && details.contains("72 hours"),
            "{details}"
        );
        let path = format!("/v1/settings/account/two-step{end}");
        let (status, body) = post(&bench, &admin, &path, &json!({"pin": "123456"})).await;
        assert_eq!(status, 200, "{body}");
        let (status, body) = bench
            .call("DELETE", &path, &[("authorization", &admin)], "")
            .await;
        assert_eq!(
            (status, body["errors"][0]["code"].as_u64()),
            (403, Some(1005)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn what_is_not_valid_is_refused_before_anybody_is_asked() {
    // Nobody is there: a request that went on would be answered 503.
    let bench = bench().await;
    let admin = bench.admin().await;
    let other = json!({"cc": "44", "phone_number": "7700900123", "method": "sms"});
    for (path, body, code) in [
        ("/v1/account", json!({}), 1008),
        ("/v1/account", other, 1009),
        ("/v1/account", json!([1]), 1025),
        ("/v1/account/verify", json!({}), 1008),
        ("/v1/account/verify", json!({"code": "12"}), 1009),
        (
            "/v1/settings/account/two-step",
            json!({"pin": "12345"}),
            1009,
        ),
        ("/v1/settings/account/two-step", json!({}), 1008),
    ] {
        let (status, answer) = post(&bench, &admin, path, &body).await;
        let found = (status, answer["errors"][0]["code"].as_u64());
        assert_eq!(found, (400, Some(code)), "{path} {body}: {answer}");
    }
    let (status, body) = post(&bench, &admin, "/v1/account", &account()).await;
    assert_eq!(
        (status, body["errors"][0]["code"].as_u64()),
        (503, Some(1017)),
        "{body}"
    );
}
