//! The console through the router of a webapp, as a browser asks it: cookies, forms, pages, news.

mod number;
mod settings;

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;
use wa_core::alarm::Alarm;

use super::act::Act;
use super::sampler::Seen;
use crate::api::alarm::AlarmStatus;
use crate::api::control::{ClusterStatus, Explanation};
use crate::db::find::plant;
use crate::db::history::Record;
use crate::sys::clock;
use crate::webapp::tests::{Bench, whole};

#[path = "act_tests.rs"]
mod act;

/// Every page that somebody who is logged in may open.
const PAGES: [&str; 5] = [
    "/console",
    "/console/timeline",
    "/console/messages",
    "/console/number",
    "/console/settings",
];

/// A browser: it keeps the cookies that it is given.
struct Browser<'a> {
    bench: &'a Bench,
    cookie: String,
}

struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl<'a> Browser<'a> {
    fn new(bench: &'a Bench) -> Self {
        Self {
            bench,
            cookie: String::new(),
        }
    }

    async fn response(
        &mut self,
        request: axum::http::request::Builder,
        body: String,
    ) -> axum::response::Response {
        let here = SocketAddr::from(([127, 0, 0, 1], 40000));
        let request = request
            .header(header::COOKIE, &self.cookie)
            .extension(ConnectInfo(here))
            .body(Body::from(body))
            .expect("a request");
        let router = self.bench.router();
        let response = router.oneshot(request).await.expect("infallible");
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            let cookie = cookie.to_str().expect("plain");
            self.cookie = cookie.split(';').next().unwrap_or("").to_owned();
        }
        response
    }

    async fn send(&mut self, request: axum::http::request::Builder, body: String) -> Page {
        let response = self.response(request, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("whole").to_bytes();
        Page {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).expect("text"),
        }
    }

    async fn open(&mut self, path: &str) -> Page {
        self.send(Request::get(path), String::new()).await
    }

    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let body = body.extend_pairs(fields).finish();
        let kind = "application/x-www-form-urlencoded";
        let request = Request::post(path).header(header::CONTENT_TYPE, kind);
        self.send(request, body).await
    }

    async fn log_in(&mut self, username: &str, password: &str) -> Page {
        let fields = [("username", username), ("password", password)];
        self.submit("/console/login", &fields).await
    }
}

/// A browser in which the administrator is logged in.
async fn logged_in(bench: &Bench) -> Browser<'_> {
    bench.admin().await;
    let mut browser = Browser::new(bench);
    let page = browser.log_in("admin", "Abcdef1!").await;
    assert_eq!(
        (page.status, leads_to(&page)),
        (303, "/console"),
        "{}",
        page.text
    );
    browser
}

/// Outcomes of what the audit tells so, once there are so many.
async fn lines(bench: &Bench, what: &str, count: usize) -> Vec<String> {
    let read = async {
        loop {
            let lines = bench.db.audit(None, 1000).await.expect("read");
            let lines = lines.into_iter().filter(|line| line.what.starts_with(what));
            let outcomes: Vec<String> = lines.map(|line| line.outcome).collect();
            if outcomes.len() >= count {
                return outcomes;
            }
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    read.expect("stored in time")
}

fn leads_to(page: &Page) -> &str {
    let to = page.headers.get(header::LOCATION);
    to.map_or("", |to| to.to_str().expect("plain"))
}

/// What a form of this page carries.
fn form_of(page: &Page) -> &str {
    let (_, rest) = page
        .text
        .split_once("name=\"form\" value=\"")
        .expect("a form");
    rest.split('"').next().expect("its end")
}

fn look(node: &str) -> Seen {
    let status: ClusterStatus = serde_json::from_value(json!({
        "node": "a:master-1", "version": "1.2.3", "primary": true, "primary_master": "a:master-1", "term": 4,
        "lease_margin_ms": 1234, "safe_ms": null, "database_error": null, "fence": "required", "heartbeat_interval_ms": 1,
        "unhealthy_interval_ms": 300, "settings_version": 1, "decisions": [], "problems": [],
        "judged": [{"kind": "no_standby", "grade": "weak", "about": "", "says": "no standby <b>", "remedy": "start one"}],
        "nodes": [{"node": node, "role": "coreapp", "address": "192.0.2.1:1", "zone": "z", "version": "", "heartbeat_age_ms": 17,
            "db_beat_age_ms": 1, "healthy": true, "shard": 0, "epoch": 3, "fence": "bpf", "health": ["database"]}],
        "shards": [{"shard": 0, "generation": 1, "phase": "active", "owner": node, "epoch": 3, "renewal_age_ms": 88,
            "unsettled": [], "diagnosis": null}],
    }))
    .expect("a status");
    let explained = Explanation {
        shard: 0,
        phase: "active".into(),
        owner: Some(node.to_owned()),
        epoch: 3,
        rule: String::new(),
        outcome: String::new(),
        evidence: Vec::new(),
        obstacles: Vec::new(),
        successor: None,
        worst_cases: Vec::new(),
    };
    Seen {
        at: Some(clock::now()),
        status: Some(status),
        explained: vec![explained],
        whole: true,
        ..Seen::default()
    }
}

/// Goal: nobody sees a page without a login; every answer forbids foreign scripts and frames. Method: every address of the console.
#[tokio::test]
async fn strangers_see_the_login_only() {
    let bench = whole().await;
    let mut browser = Browser::new(&bench);
    for page in PAGES
        .into_iter()
        .chain(["/console/timeline/1", "/console/act"])
    {
        let answer = browser.open(page).await;
        assert_eq!(
            (answer.status, leads_to(&answer)),
            (303, "/console/login"),
            "{page}"
        );
    }
    assert_eq!(browser.open("/console/live?page=cluster").await.status, 401);
    for form in ["/console/logout", "/console/act"] {
        assert_eq!(browser.submit(form, &[]).await.status, 303, "{form}");
    }
    for open in [
        "/console/login",
        "/console/console.css",
        "/console/console.js",
        "/console/icon.svg",
    ] {
        let answer = browser.open(open).await;
        assert_eq!(answer.status, 200, "{open}");
        let policy = answer.headers.get("content-security-policy");
        let policy = policy.map_or("", |policy| policy.to_str().expect("plain"));
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{open}"
        );
        assert!(
            !policy.contains("-inline") && !policy.contains("-eval"),
            "{policy}"
        );
        for inline in ["<style", "style=\"", " onclick", "<script>"] {
            assert!(
                !answer.text.contains(inline),
                "{open}: the policy forbids {inline}"
            );
        }
    }
}

/// Goal: the console takes the users of the API and nobody else; a wrong password, a form of a foreign page and half a form are told so;
/// each try leaves a line in the audit. Method: tries of each kind.
#[tokio::test]
async fn users_of_the_api_log_in() {
    let bench = whole().await;
    bench.admin().await;
    let mut browser = Browser::new(&bench);
    let wrong = browser.log_in("admin", "wrong").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("do not belong together") && wrong.text.contains("role=\"alert\""));
    assert!(wrong.headers.get(header::SET_COOKIE).is_none());
    assert_eq!(
        browser
            .submit("/console/login", &[("username", "admin")])
            .await
            .status,
        400
    );
    let foreign = Request::post("/console/login").header("sec-fetch-site", "cross-site");
    let foreign = browser
        .send(foreign, "username=admin&password=Abcdef1!".into())
        .await;
    assert_eq!(foreign.status, 403);
    let good = browser.log_in("admin", "Abcdef1!").await;
    assert_eq!((good.status, leads_to(&good)), (303, "/console"));
    let cookie = good.headers.get(header::SET_COOKIE).expect("a session");
    let cookie = cookie.to_str().expect("plain");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    bench.webapp.console.take(look("a:coreapp-1"));
    let page = browser.open("/console").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("admin"));
    let told = lines(&bench, "login to the console", 4).await;
    let mut done: Vec<bool> = told.iter().map(|outcome| outcome == "done").collect();
    done.sort_unstable();
    assert_eq!(done, [false, false, false, true], "{told:?}");
}

/// Goal: the documented first password leads to a new one and to nothing else. Method: a fresh installation.
#[tokio::test]
async fn the_first_password_is_changed_at_once() {
    let bench = whole().await;
    let mut browser = Browser::new(&bench);
    let first = browser.log_in("admin", "secret").await;
    assert_ne!(first.status, 303);
    assert!(
        first.text.contains("name=\"new_password\""),
        "{}",
        first.text
    );
    let fields = [
        ("username", "admin"),
        ("password", "secret"),
        ("new_password", "short"),
    ];
    let short = browser.submit("/console/login", &fields).await;
    assert_eq!(short.status, 400, "{}", short.text);
    let fields = [
        ("username", "admin"),
        ("password", "secret"),
        ("new_password", "Abcdef1!"),
    ];
    let changed = browser.submit("/console/login", &fields).await;
    assert_eq!(leads_to(&changed), "/console");
    assert_eq!(browser.open("/console/messages").await.status, 200);
}

/// Goal: only our own page logs somebody out, and the session is over then. Method: a form without, and one with what our page gave.
#[tokio::test]
async fn sessions_end() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let page = browser.open("/console/messages").await;
    browser.submit("/console/logout", &[("form", "00")]).await;
    assert_eq!(browser.open("/console/messages").await.status, 200);
    let kept = browser.cookie.clone();
    let out = browser
        .submit("/console/logout", &[("form", form_of(&page))])
        .await;
    assert_eq!(leads_to(&out), "/console/login");
    browser.cookie = kept;
    let after = browser.open("/console/messages").await;
    assert_eq!(
        leads_to(&after),
        "/console/login",
        "the token itself is over"
    );
}

/// Goal: a figure beyond its limit that no problem tells is on the page of the cluster with what to type, as in `status`; one that a problem
/// tells already is not told twice. Method: a look with one alarm of each sort, in each language.
#[tokio::test]
async fn figures_beyond_their_limits_are_shown() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let mut seen = look("a:coreapp-1");
    let title = "Figures beyond their limits";
    bench.webapp.console.take(look("a:coreapp-1"));
    assert!(!browser.open("/console").await.text.contains(title));
    let rings = [(Alarm::NoStandby, 1), (Alarm::DiskFull, 4)];
    let alarms = rings.map(AlarmStatus::from).to_vec();
    seen.status.as_mut().expect("a status").alarms = alarms;
    bench.webapp.console.take(seen);
    let page = browser.open("/console").await.text;
    for part in [
        title,
        "less than 10 percent are free",
        "df -h /var/lib/wa-agent",
        "wa:disk_free_percent is 4",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains(Alarm::NoStandby.row().says), "told above");
    browser.cookie.push_str("; wa-language=ar");
    let page = browser.open("/console").await.text;
    assert!(page.contains("قيم تجاوزت حدودها") && !page.contains(title));
}

/// Goal: the page of the cluster says what is wrong and what to do, and what nodes call themselves is text. Method: a look with markup.
#[tokio::test]
async fn the_cluster_is_shown() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    bench.webapp.console.take(look("<script>x:coreapp-1"));
    let page = browser.open("/console").await;
    assert!(!page.text.contains("<script>x"), "{}", page.text);
    for part in [
        "no standby &lt;b&gt;",
        "start one",
        "&lt;script&gt;x:coreapp-1",
        "1234 ms",
        "88 ms",
        "nobody can take over",
        "lang=\"en\" dir=\"ltr\"",
        "class=\"badge good\"",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    bench.webapp.console.take(Seen {
        status: None,
        ..look("a:coreapp-1")
    });
    let page = browser.open("/console").await;
    assert!(page.text.contains("no master answers"), "{}", page.text);
    assert!(
        !page.text.contains("a:coreapp-1"),
        "what is old is not shown"
    );
    assert_eq!(page.text.matches("class=\"panel\"").count(), 5);
    bench.webapp.console.take(Seen {
        status: None,
        refused: true,
        ..look("a:coreapp-1")
    });
    let page = browser.open("/console").await;
    assert!(page.text.contains("of an older release"), "{}", page.text);
    let arabic = browser.send(
        Request::get("/console").header("accept-language", "ar"),
        String::new(),
    );
    let arabic = arabic.await.text;
    assert!(arabic.contains("dir=\"rtl\"") && arabic.contains("المجموعة"));
}

/// Goal: decisions are listed, filtered and told one by one, and one that is not there is said so. Method: two in the history.
#[tokio::test]
async fn the_timeline_is_shown() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let mut ids = Vec::new();
    for (what, shard) in [("handover", 0), ("fence", 1)] {
        let evidence = json!({"sentence": "because <i>", "evidence": ["it was silent"]});
        let record = Record {
            node: "a:master-1".into(),
            shard,
            what: what.into(),
            subject: "a:coreapp-1".into(),
            reason: "SilentOwner".into(),
            evidence: evidence.to_string(),
        };
        ids.push(bench.db.record(&record).await.expect("kept"));
    }
    let all = browser.open("/console/timeline").await.text;
    assert!(all.contains("handover") && all.contains("fence"));
    let some = browser
        .open("/console/timeline?what=hand&shard=0")
        .await
        .text;
    assert!(
        some.contains(">handover<") && !some.contains(">fence<"),
        "{some}"
    );
    let one = browser.open(&format!("/console/timeline/{}", ids[0])).await;
    assert!(one.text.contains("because &lt;i&gt;") && one.text.contains("it was silent"));
    assert_eq!(browser.open("/console/timeline/999999").await.status, 404);
    assert_eq!(browser.open("/console/timeline/x").await.status, 400);
}

/// Goal: a message is found by its id, however people type the number by its customer, and one that is not there is said so; nothing
/// of what it says is shown. Method: one accepted message.
#[tokio::test]
async fn messages_are_found() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    bench.webapp.console.take(look("a:coreapp-1"));
    plant(&bench.db, "gBEG-one", "447700900123", "what it says").await;
    for find in ["gBEG-one", "%2B44+7700+900123", "447700900123"] {
        let page = browser
            .open(&format!("/console/messages?find={find}"))
            .await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(
            page.text.contains("<bdi>gBEG-one</bdi>") && page.text.contains("2030-03-01"),
            "{find}"
        );
        assert!(!page.text.contains("what it says"));
    }
    let none = browser.open("/console/messages?find=%3Cb%3E").await.text;
    assert!(
        none.contains("There is no message with this id") && !none.contains("<b>"),
        "{none}"
    );
}

/// Goal: an open page learns what changed, and no more once the session is over; no number of pages is too many for the webapp.
/// Method: a stream, looks that differ, a logout, and more streams than there may be.
#[tokio::test]
async fn open_pages_learn_what_changed() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let asked = Request::get("/console/live?page=cluster");
    let mut stream = browser.response(asked, String::new()).await.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(Duration::from_secs(5), stream.frame()).await;
        let frame = frame.expect("in time")?.expect("no error");
        let data = frame.into_data().expect("data");
        Some(String::from_utf8(data.to_vec()).expect("text"))
    };
    bench.webapp.console.take(look("a:coreapp-1"));
    let first = next().await.expect("a panel");
    assert!(
        first.starts_with("event: panel") && first.contains("verdict"),
        "{first}"
    );
    for _ in 0..4 {
        next().await.expect("the other panels");
    }
    bench.webapp.console.take(look("a:coreapp-1"));
    assert!(next().await.expect("news").starts_with("event: same"));
    bench.webapp.console.take(look("a:coreapp-2"));
    assert!(next().await.expect("news").contains("a:coreapp-2"));
    let limit = super::sampler::STREAMS_OF_ONE_MAX;
    let mut open = Vec::new();
    for _ in 1..limit {
        let asked = Request::get("/console/live?page=timeline");
        open.push(browser.response(asked, String::new()).await);
    }
    let more = browser.open("/console/live?page=cluster").await;
    assert_eq!(more.status, 503);
    drop(open);
    assert_eq!(browser.open("/console/live?page=none").await.status, 404);
    let page = browser.open("/console/messages").await;
    browser
        .submit("/console/logout", &[("form", form_of(&page))])
        .await;
    while let Some(event) = next().await {
        assert!(!event.contains("a:coreapp-3"), "{event}");
        bench.webapp.console.take(look("a:coreapp-3"));
    }
}
