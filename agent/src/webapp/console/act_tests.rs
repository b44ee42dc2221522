//! Acts of the console, as a browser does them, before a primary master that says what the test wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, NodeId};

use super::*;
use crate::api::act::Act as _;
use crate::api::control::{OperatorRequest, SwitchoverRequest, path};
use crate::api::parked;
use crate::net::deed::Taker;
use crate::net::keys::Keys;
use crate::net::server;
use crate::webapp::shard_map::Map;
use crate::webapp::tests::bench_set;

/// One call that reached the master: path, token, body.
type Heard = (String, String, Value);

/// A primary master of the test's.
struct Master {
    heard: Arc<Mutex<Vec<Heard>>>,
    says: Arc<Mutex<Vec<(StatusCode, Value)>>>,
    stop: CancellationToken,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn yes(message: &str) -> (StatusCode, Value) {
    let said = json!({"accepted": true, "elsewhere": false, "message": message, "from": "a:coreapp-1", "to": "a:coreapp-2",
        "epoch_before": 3, "done": 2, "more": false, "upto": 9});
    (StatusCode::OK, said)
}

impl Master {
    /// It is the primary master of this webapp from now on.
    async fn before(bench: &Bench) -> Self {
        let start = Incarnation {
            counter: 7,
            random: 9,
        };
        let keys = Keys::of(&bench.webapp.settings.cluster_key);
        let taker = Arc::new(Taker::new(&keys, &NodeId::new("a:master-1"), start));
        let (heard, says) = (
            Arc::<Mutex<Vec<Heard>>>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let nonces = Arc::clone(&taker);
        let (kept, said) = (Arc::clone(&heard), Arc::clone(&says));
        let act = move |request: axum::extract::Request| async move {
            let path = request.uri().path().to_owned();
            let Ok(((token, body), answering)) = taker.administrator(request).await else {
                panic!("no administrator's token came along");
            };
            let body = serde_json::from_slice(&body).expect("JSON");
            let token = token.expose_secret().to_owned();
            kept.lock().expect("whole").push((path, token, body));
            let next = said.lock().expect("whole").pop();
            let (status, body): (StatusCode, Value) = next.unwrap_or_else(|| yes("as it says"));
            answering.seal((status, Json(body)).into_response()).await
        };
        let status = serde_json::to_value(look("a:coreapp-1").status).expect("JSON");
        let router = Router::new()
            .route(path::STATUS, get(async move || Json(status)))
            .route(
                path::NONCE,
                get(async move |Query(asked): Query<HashMap<String, String>>| {
                    Json(nonces.nonce(&asked["challenge"]))
                }),
            )
            .route(OperatorRequest::PATH, post(act.clone()))
            .route(SwitchoverRequest::PATH, post(act.clone()))
            .route(parked::PATH, post(act));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, router, stop.clone()));
        bench.webapp.map.set(Map {
            count: 1,
            generation: 1,
            routes: Vec::new(),
            form: 1,
            master: Some((NodeId::new("a:master-1"), url.into())),
        });
        Self { heard, says, stop }
    }

    /// What it answers next.
    fn say(&self, status: StatusCode, body: Value) {
        self.says.lock().expect("whole").insert(0, (status, body));
    }

    /// What it was asked since it was last looked at.
    fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock().expect("whole"))
    }
}

/// The hidden fields of the form that does the act.
fn hidden(page: &Page) -> Vec<(String, String)> {
    let (_, form) = page
        .text
        .split_once("method=\"post\" action=\"/console/act\"")
        .expect("a form");
    let (form, _) = form.split_once("</form>").expect("its end");
    let field = |part: &str| {
        let (name, rest) = part.split_once("\" value=\"")?;
        let (value, _) = rest.split_once('"')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let parts = form.split("type=\"hidden\" name=\"").skip(1);
    parts.filter_map(field).collect()
}

/// Sends the form of a page, with these fields beside its own.
async fn send(browser: &mut Browser<'_>, page: &Page, more: &[(&str, &str)]) -> Page {
    let own = hidden(page);
    let own = own.iter().map(|(name, value)| (&**name, &**value));
    let fields: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
    browser.submit("/console/act", &fields).await
}

/// Goal: an act says its consequence and shows the master's dry run first; it is done only with the form of that page, travels with the
/// administrator's own token, and leaves a line here. Method: a pause; forms without the page's word, and of another site.
#[tokio::test]
async fn an_act_is_shown_first_and_then_done() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let master = Master::before(&bench).await;
    let shown = browser.open("/console/act?act=pause").await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    for part in [
        "While the pause lasts, masters replace no owner",
        "as it says",
        "name=\"reason\"",
        "value=\"30\"",
    ] {
        assert!(shown.text.contains(part), "{part}: {}", shown.text);
    }
    let token = browser
        .cookie
        .split_once('=')
        .expect("a session")
        .1
        .to_owned();
    let heard = master.heard();
    let [(path, carried, body)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!((path.as_str(), carried), ("/control/operate", &token));
    assert_eq!(
        (&body["dry_run"], &body["by"]),
        (&json!(true), &json!("test:webapp-1"))
    );
    let fields = [("act", "pause"), ("minutes", "30"), ("form", "00")];
    let foreign = browser.submit("/console/act", &fields).await;
    assert_eq!(foreign.status, 403);
    assert!(
        foreign
            .text
            .contains("was not sent by a page of this session")
    );
    let body = format!("act=pause&minutes=30&form={}", form_of(&shown));
    let kind = "application/x-www-form-urlencoded";
    let request = Request::post("/console/act").header(header::CONTENT_TYPE, kind);
    let foreign = browser
        .send(request.header("sec-fetch-site", "cross-site"), body)
        .await;
    assert_eq!((foreign.status, master.heard().len()), (403, 0));
    let done = send(&mut browser, &shown, &[("reason", "switch <b>")]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(done.text.contains("as it says") && done.text.contains("role=\"alert\""));
    let heard = master.heard();
    let (_, _, body) = &heard[0];
    assert_eq!(
        (&body["dry_run"], &body["reason"]),
        (&json!(false), &json!("switch <b>"))
    );
    assert_eq!(body["verb"]["pause"]["for_ms"], json!(1_800_000));
    let lines = lines(&bench, "act by the console: pause minutes 30", 3).await;
    let count = |wanted: &str| lines.iter().filter(|line| line.starts_with(wanted)).count();
    assert_eq!((count("done"), count("refused (403")), (1, 2), "{lines:?}");
}

/// Goal: ROLE_USER sees no button, is refused with 403 on the page and on the form, reaches no master, and leaves a line. Method: the
/// pages and every act, as somebody who may only look; beside them the administrator's.
#[tokio::test]
async fn users_look_and_administrators_act() {
    let bench = whole().await;
    let admin = bench.admin().await;
    bench.user(&admin).await;
    let master = Master::before(&bench).await;
    bench.webapp.console.take(look("a:coreapp-1"));
    let mut browser = Browser::new(&bench);
    let page = browser.log_in("somebody", "Bcdefg1!").await;
    assert_eq!(leads_to(&page), "/console");
    for path in ["/console", "/console/messages"] {
        let page = browser.open(path).await;
        assert_eq!(page.status, 200);
        assert!(!page.text.contains("/console/act"), "{path}");
    }
    for act in Act::ALL {
        let path = format!(
            "/console/act?act={}&shard=0&node=x&user=admin&minutes=5",
            act.name()
        );
        let page = browser.open(&path).await;
        assert_eq!(page.status, 403, "{path}");
        assert!(page.text.contains("Only the administrator may do this"));
    }
    let page = browser.open("/console/messages").await;
    let fields = [
        ("act", "drain"),
        ("node", "a:coreapp-1"),
        ("form", form_of(&page)),
    ];
    assert_eq!(browser.submit("/console/act", &fields).await.status, 403);
    assert!(master.heard().is_empty());
    let told = lines(&bench, "act by the console: drain node a:coreapp-1", 1).await;
    assert_eq!(told, ["refused (403)"]);
    let mut browser = Browser::new(&bench);
    browser.log_in("admin", "Abcdef1!").await;
    bench.webapp.console.take(look("a:coreapp-1"));
    let page = browser.open("/console").await.text;
    for offered in [
        "act=pause",
        "act=drain&amp;node=a%3Acoreapp-1",
        "act=switchover&amp;shard=0",
    ] {
        assert!(page.contains(offered), "{offered}: {page}");
    }
    for not in ["act=failover", "act=forget", "act=adopt"] {
        assert!(!page.contains(not), "{not} takes all: {page}");
    }
    let messages = browser.open("/console/messages").await.text;
    assert!(messages.contains("act=retry-events") && !messages.contains("act=purge"));
}

/// Goal: each end of an act is said as what it is: refused by the master with its words, not known, no master. Method: answers of each kind.
#[tokio::test]
async fn each_end_of_an_act_is_said() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let master = Master::before(&bench).await;
    let drain = "/console/act?act=drain&node=a%3Acoreapp-1";
    let refusal =
        json!({"accepted": false, "elsewhere": false, "message": "there is <no> such node"});
    master.say(StatusCode::OK, refusal.clone());
    let shown = browser.open(drain).await;
    assert!(
        shown.text.contains("there is &lt;no&gt; such node"),
        "{}",
        shown.text
    );
    assert!(
        !shown
            .text
            .contains("method=\"post\" action=\"/console/act\""),
        "nothing to do"
    );
    let policy = json!({"code": 1005, "message": "[console] acts is \"none\" on this master", "primary": null});
    let unsure =
        json!({"code": 1011, "message": "whether it was done is not known: look", "primary": null});
    let elsewhere = json!({"accepted": false, "elsewhere": true, "message": "not primary"});
    for (status, body, code, said) in [
        (StatusCode::OK, refusal, 409, "&lt;no&gt; such node"),
        (
            StatusCode::FORBIDDEN,
            policy,
            409,
            "acts is &quot;none&quot; on this master",
        ),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            unsure,
            503,
            "whether it was done is not known",
        ),
        (
            StatusCode::OK,
            elsewhere,
            409,
            "Another master became primary",
        ),
        (
            StatusCode::OK,
            json!("rubbish"),
            503,
            "Whether it was done is not known",
        ),
    ] {
        let shown = browser.open(drain).await;
        master.say(status, body);
        let end = send(&mut browser, &shown, &[]).await;
        assert_eq!(end.status, code, "{}", end.text);
        assert!(end.text.contains(said), "{said}: {}", end.text);
    }
    let shown = browser.open(drain).await;
    let now = bench.webapp.map.now();
    bench.webapp.map.set(Map {
        master: None,
        ..Map::clone(&now)
    });
    let end = send(&mut browser, &shown, &[]).await;
    assert_eq!(end.status, 409, "{}", end.text);
    assert!(end.text.contains("No primary master is up") && end.text.contains("Nothing was done"));
    assert_eq!(browser.open(drain).await.status, 503);
}

/// Goal: a form that is sent twice moves a shard once, and deletes nothing that came later: it names what the dry run named. Many parked
/// callbacks go in one act. Method: the forms of a switchover and of a retry.
#[tokio::test]
async fn forms_name_what_was_shown() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let master = Master::before(&bench).await;
    let shown = browser.open("/console/act?act=switchover&shard=0").await;
    let fields = hidden(&shown);
    assert!(
        fields.contains(&("node".into(), "a:coreapp-2".into())),
        "{fields:?}"
    );
    let later = browser
        .open("/console/act?act=switchover&shard=0&minutes=5")
        .await;
    assert!(
        !hidden(&later).iter().any(|(name, _)| name == "node"),
        "whoever is best then"
    );
    master.heard();
    send(&mut browser, &shown, &[]).await;
    let heard = master.heard();
    assert_eq!(heard[0].0, "/control/switchover");
    assert_eq!(heard[0].2["to"], json!("a:coreapp-2"));
    let shown = browser.open("/console/act?act=retry-callbacks").await;
    assert!(
        shown.text.contains("2 webhooks are delivered again"),
        "{}",
        shown.text
    );
    assert!(hidden(&shown).contains(&("upto".into(), "9".into())));
    master.heard();
    let more = json!({"accepted": true, "elsewhere": false, "message": "", "done": 500, "more": true, "upto": 9});
    master.say(StatusCode::OK, more);
    let end = send(&mut browser, &shown, &[]).await;
    assert!(
        end.text.contains("502 webhooks are delivered again"),
        "{}",
        end.text
    );
    let heard = master.heard();
    assert_eq!((heard.len(), &heard[1].2["upto"]), (2, &json!(9)));
    master.say(StatusCode::OK, json!({"accepted": true, "elsewhere": false, "message": "", "done": 0, "more": false, "upto": null}));
    let none = browser.open("/console/act?act=retry-callbacks").await;
    assert!(
        none.text.contains("there is nothing to do"),
        "{}",
        none.text
    );
}

/// Goal: a wrong address or form is answered with what is wrong, and reaches no master. Method: a table.
#[tokio::test]
async fn wrong_addresses_are_told() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let master = Master::before(&bench).await;
    for (query, said) in [
        ("", "lacks act"),
        ("?act=%3Cb%3E", "There is no act &quot;&lt;b&gt;&quot;"),
        ("?act=drain", "lacks node"),
        ("?act=switchover&shard=x", "no number"),
        ("?act=pause&minutes=9999", "Write 1 to 1440"),
        ("?act=drain&act=drain", "lacks act"),
    ] {
        let page = browser.open(&format!("/console/act{query}")).await;
        assert_eq!(page.status, 400, "{query}: {}", page.text);
        assert!(page.text.contains(said), "{query}: {}", page.text);
    }
    assert_eq!(
        browser
            .submit("/console/act", &[("act", "drain")])
            .await
            .status,
        400
    );
    let half = Request::post("/console/act");
    assert_eq!(browser.send(half, "act".into()).await.status, 400);
    assert!(master.heard().is_empty());
}

/// Goal: `[console] acts = "none"` takes the buttons away, `all` brings all of them, and `serve = false` the whole console, with the way to
/// it. Method: webapps with these words.
#[tokio::test]
async fn the_settings_are_kept() {
    let bench = bench_set("[console]\nacts = \"none\"").await;
    let mut browser = logged_in(&bench).await;
    let master = Master::before(&bench).await;
    bench.webapp.console.take(look("a:coreapp-1"));
    let page = browser.open("/console").await;
    assert!(!page.text.contains("/console/act"), "{}", page.text);
    let refused = browser.open("/console/act?act=pause").await;
    assert_eq!((refused.status, master.heard().len()), (403, 0));
    assert!(
        refused
            .text
            .contains("write acts = &quot;safe&quot; in [console]"),
        "{}",
        refused.text
    );
    let bench = bench_set("[console]\nacts = \"all\"").await;
    let mut browser = logged_in(&bench).await;
    bench.webapp.console.take(look("a:coreapp-1"));
    assert!(browser.open("/console").await.text.contains("act=failover"));
    let bench = bench_set("[console]\nserve = false").await;
    bench.admin().await;
    let mut browser = Browser::new(&bench);
    for path in [
        "/console",
        "/console/login",
        "/console/act",
        "/console/console.css",
    ] {
        assert_eq!(browser.open(path).await.status, 404, "{path}");
    }
    let root = browser.send(
        Request::get("/").header("accept", "text/html"),
        String::new(),
    );
    assert!(!root.await.text.contains("/console"));
}
