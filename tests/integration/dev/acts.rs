//! An act of the console through the real processes. Goal: an administrator pauses failover in the browser, the primary master does it and
//! records it like the verb; a user who may only look, and an act that the masters' setting does not allow, are refused. Method: the
//! pages and forms as a browser sends them, then `status`, `history` and `audit`.

use super::{status_until, verb};
use crate::drill::TURN;
use crate::media::{Bench, have_curl};

/// A page of the console, as whoever has this token sees it.
fn page(bench: &Bench, token: &str, words: &[&str], path: &str) -> (u16, String) {
    let cookie = format!("Cookie: wa-console={token}");
    let mut all = vec!["-H", cookie.as_str()];
    all.extend_from_slice(words);
    let (status, body) = bench.curl(&all, path);
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// What the forms of a page carry.
fn form(page: &str) -> String {
    let (_, rest) = page
        .split_once("name=\"form\" value=\"")
        .expect("a form on the page");
    rest.split('"').next().expect("its end").to_owned()
}

#[test]
fn an_act_of_the_console_is_done_and_recorded() {
    if !have_curl() {
        return;
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::start();
    let admin = bench.token.clone();
    let (status, shown) = page(&bench, &admin, &[], "/console/act?act=pause&minutes=5");
    assert_eq!(status, 200, "{shown}");
    assert!(
        shown.contains("no owner of any shard is replaced on evidence"),
        "the dry run of the master: {shown}"
    );
    let form = form(&shown);
    let sent = format!("act=pause&minutes=5&reason=new+disk&form={form}");
    let (status, done) = page(&bench, &admin, &["-d", &sent], "/console/act");
    assert_eq!(status, 200, "{done}");
    status_until(&bench.dev, "paused", |status| {
        status["problems"].to_string().contains("pause")
    });
    let (_, history) = verb(&bench.dev, &["history", "--json"]);
    assert!(
        history.contains("\"pause\"") && history.contains("new disk"),
        "{history}"
    );
    let (_, audit) = verb(&bench.dev, &["audit"]);
    let line = audit.lines().find(|line| line.contains("console at "));
    let line = line.unwrap_or_else(|| panic!("no line of a master: {audit}"));
    assert!(
        line.contains("admin") && line.contains("pause failover") && line.contains("done"),
        "{line}"
    );

    let not = "/console/act?act=failover&shard=0";
    let (status, refused) = page(&bench, &admin, &[], not);
    assert_eq!(status, 403, "{refused}");
    assert!(refused.contains("in [console]"), "{refused}");
    let user = r#"{"username":"somebody","password":"Bcdefg1!"}"#;
    assert_eq!(bench.json(&["-d", user], "/v1/users").0, 201);
    let user = bench.login("somebody", "Bcdefg1!").expect("let in");
    let (status, refused) = page(&bench, &user, &["-d", &sent], "/console/act");
    assert_eq!(status, 403, "{refused}");
}
