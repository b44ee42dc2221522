//! What an administrator does to the cluster in a browser, and who or what refuses it: each act is shown first, done by a form, and
//! looked for afterwards where operators look, which is the page, `status`, the timeline and the audit.

use std::time::Instant;

use serde_json::{Value, json};

use crate::browser::{Browser, PATIENCE, Scripts, breaking, story};
use crate::cluster::{CUSTOMER, PASSWORD, World, world};
use crate::stories::OWNER;

/// Somebody who may only look.
const SOMEBODY: (&str, &str) = ("looker", "Only-l00k!");
/// The form that does the act, and what the primary master said to it.
const SENT: &str = "form.act[method=post] button";
const SAID: &str = "#act .verdict";

/// `wa-agent status` says that failover is paused.
fn is_paused(world: &World) -> bool {
    let status = world.dev.status();
    let judged = status["judged"].as_array().expect("what is judged");
    judged.iter().any(|one| one["kind"] == "paused")
}

fn owner(world: &World) -> String {
    let status = world.dev.status();
    status["shards"][0]["owner"]
        .as_str()
        .expect("an owner")
        .to_owned()
}

/// The lines of the audit that tell of this.
fn audit(world: &World, what: &str) -> Vec<String> {
    let all = world.dev.verb(&["audit"]);
    let lines = all.lines().filter(|line| line.contains(what));
    lines.map(str::to_owned).collect()
}

/// Waits until the page has this link, and follows it to the page of the act.
async fn choose(browser: &Browser, link: &str) {
    let there = format!("return !!document.querySelector({link:?})");
    browser.until(link, &there, |it| it == true).await;
    browser.click(link).await;
    browser.is_at("/console/act").await;
}

/// Gives the reason, sends the form, and waits for what came of it.
async fn confirm(browser: &Browser, reason: &str) -> String {
    browser.fill("reason", reason).await;
    browser.click(SENT).await;
    let alert = "return document.querySelector('#act [role=alert]')?.innerText ?? ''";
    let came = browser
        .until("what came of it", alert, |words| words != "")
        .await;
    came.as_str().unwrap_or_default().to_owned()
}

/// Waits for these words in a part of the open page.
async fn shows(browser: &Browser, css: &str, wanted: &str) {
    let script = format!("return document.querySelector({css:?})?.innerText ?? ''");
    let found = |words: &Value| words.as_str().is_some_and(|words| words.contains(wanted));
    browser.until(wanted, &script, found).await;
}

/// The newest decision of this kind says who decided it, and why. A page that was asked for a moment before may lack it.
async fn is_in_the_timeline(browser: &Browser, what: &str, reason: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        browser.go(&format!("/console/timeline?what={what}")).await;
        let newest = "return document.querySelector('#decisions tbody a')?.pathname";
        let newest = browser.ask(newest).await;
        if let Some(path) = newest.as_str() {
            browser.go(path).await;
        }
        let words = browser.words("#decision").await;
        if words.contains(reason) {
            assert!(words.contains("admin (console at "), "{words}");
            return;
        }
        assert!(Instant::now() < until, "{what} is not told: {words}");
    }
}

/// Goal: an administrator pauses failover by buttons: he reads what it means and what would happen before anything is done, it is done when
/// he confirms, and his name stands in the records; the resume likewise. Method: buttons and forms, each time with a look at the cluster
/// before and after the form.
#[test]
fn an_administrator_pauses_and_resumes() {
    let Some(world) = world("a pause in a browser") else {
        return;
    };
    breaking(world, "act", async |browser| {
        browser.log_in().await;
        choose(browser, "#masters a[href*='act=pause']").await;
        assert!(
            browser
                .words("main")
                .await
                .contains("masters replace no owner that fails: its messages wait")
        );
        browser.fill("minutes", "7").await;
        browser.click("form.act[method=get] button").await;
        shows(browser, SAID, "for 7m no owner of any shard is replaced").await;
        assert!(!is_paused(world), "looking changes nothing");
        let reason = "a disk is changed";
        let came = confirm(browser, reason).await;
        assert!(came.contains("for 7m"), "{came}");
        assert!(is_paused(world));
        browser.click("#act a").await;
        browser.is_at("/console").await;
        shows(browser, "#verdict", "paused").await;
        is_in_the_timeline(browser, "pause", reason).await;

        browser.go("/console").await;
        choose(browser, "#verdict a[href*='act=resume']").await;
        shows(browser, SAID, "failover of every shard goes on").await;
        assert!(is_paused(world));
        confirm(browser, "the disk is in").await;
        assert!(!is_paused(world));
        is_in_the_timeline(browser, "resume", "the disk is in").await;
        for (what, by_form) in [("pause failover", "pause"), ("resume failover", "resume")] {
            let by_master = audit(world, " admin from console at ");
            let by_master = by_master.iter().filter(|line| line.contains(what));
            assert!(by_master.count() > 0, "{what}");
            let by_form = audit(world, &format!("act by the console: {by_form}"));
            assert!(by_form.iter().all(|line| line.contains(": done")) && !by_form.is_empty());
        }
        browser.had_no_error_but(&[]).await;
    });
}

/// Goal: a shard moves by a button to the node that the page named before, and the page of the cluster shows the new owner. What the
/// masters refuse, because the standby was drained since, and what no console may do under `acts = "safe"`, is said in words on the page, and
/// the owner stays. Method: the button of a shard, sent once with a standby and once without; then the addresses of a forced failover.
#[test]
fn a_shard_moves_or_the_page_says_why_not() {
    let Some(world) = world("a switchover in a browser") else {
        return;
    };
    breaking(world, "moves", async |browser| {
        browser.log_in().await;
        let before = owner(world);
        choose(browser, "#shards a[href*='act=switchover']").await;
        assert!(browser.words("main").await.contains("none is lost"));
        let to = "return document.querySelector('form.act[method=post] input[name=node]').value";
        let to = browser.ask(to).await;
        let to = to.as_str().expect("a node").to_owned();
        assert_ne!(to, before);
        shows(browser, SAID, &to).await;
        confirm(browser, "by hand").await;
        browser.click("#act a").await;
        browser.is_at("/console").await;
        browser
            .until("another owner", OWNER, |now| now == to.as_str())
            .await;
        assert_eq!(owner(world), to);
        browser.is_well().await;
        browser.had_no_error_but(&[]).await;

        // Good when it was shown, and not when it is sent.
        choose(browser, "#shards a[href*='act=switchover']").await;
        world.dev.verb(&["drain", &before, "--reason", "meanwhile"]);
        let why = confirm(browser, "too late").await;
        assert!(why.contains("cannot take shard 0 now"), "{why}");
        let status = "return performance.getEntriesByType('navigation')[0].responseStatus";
        assert_eq!(browser.ask(status).await, 409);
        // Shown again, nothing is offered.
        browser.go("/console/act?act=switchover&shard=0").await;
        shows(browser, SAID, "no coreapp can take shard 0 now").await;
        let sent = format!("return document.querySelector({SENT:?})");
        assert!(browser.ask(&sent).await.is_null(), "nothing to confirm");
        world.dev.verb(&["undrain", &before]);
        browser.had_no_error_but(&["status of 409"]).await;

        browser.go("/console/act?act=failover&shard=0").await;
        let why = browser.words("#mistake [role=alert]").await;
        assert!(
            why.contains("[console] acts is \"safe\" on this webapp")
                && why.contains("Nothing was"),
            "{why}"
        );
        let (status, said) = forged(browser, "act=failover&shard=0").await;
        assert!(
            status == 403 && said.contains("is &quot;safe&quot;"),
            "{said}"
        );
        assert_eq!(owner(world), to);
        browser.go("/console").await;
        browser.is_well().await;
        browser.had_no_error_but(&["status of 403"]).await;
    });
}

/// What a script in the page of who is logged in sends, with his cookie and the word that forms of this page carry: the status, and the page
/// that answers.
async fn forged(browser: &Browser, act: &str) -> (u64, String) {
    let script = format!(
        "const form = document.querySelector('input[name=form]').value;
         const body = new URLSearchParams({act:?}); body.set('form', form);
         fetch('/console/act', {{ method: 'POST', body }}).then(async (it) => done([it.status, await it.text()]))"
    );
    let answer = browser.ask_later(&script).await;
    let said = answer[1].as_str().unwrap_or_default();
    (answer[0].as_u64().unwrap_or_default(), said.to_owned())
}

/// Goal: who may only look sees no button on any page, is told so in words when he opens the address of an act, and a form that he makes
/// himself does nothing and is in the audit. Method: a user of the API in a browser of his own, every page, and both kinds of tries.
#[test]
fn who_may_only_look_changes_nothing() {
    let Some(world) = world("a user without acts") else {
        return;
    };
    let token = world.dev.token((PASSWORD, &json!({})));
    let (name, password) = SOMEBODY;
    world.dev.user(&token, name, password);
    story(world, "looker", Scripts::Run, async |browser| {
        browser.log_in_as(name, password).await;
        browser.is_at("/console").await;
        let offered =
            "return document.querySelectorAll('.act-link, a[href*=\"/console/act\"]').length";
        for page in browser.pages().await {
            browser.go(&page).await;
            assert_eq!(browser.ask(offered).await, 0, "{page}");
        }
        let found = format!("/console/messages?find={CUSTOMER}");
        browser.go(&found).await;
        assert_eq!(browser.ask(offered).await, 0, "{found}");
        browser.had_no_error_but(&[]).await;

        let only =
            "Only the administrator may do this. Nothing was done. Log in as the administrator.";
        browser.go("/console/act?act=pause&minutes=5").await;
        assert_eq!(browser.words("#mistake [role=alert]").await, only);
        let (status, said) = forged(browser, "act=pause&minutes=5&reason=mine").await;
        assert!(status == 403 && said.contains(only), "{status}: {said}");
        browser.had_no_error_but(&["status of 403"]).await;
        assert!(!is_paused(world));
        let tries = audit(world, "act by the console: pause minutes 5");
        let told = |line: &String| {
            line.contains(&format!(" {name} from ")) && line.contains("refused (403")
        };
        assert!(tries.iter().any(told), "{tries:?}");
    });
}
