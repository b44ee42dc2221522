//! What people do with the console, each story in a browser of its own.

use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::browser::{Scripts, breaking, story};
use crate::cluster::{CUSTOMER, FIRST, PASSWORD, World, world};

/// What the browser's console says of a login that was refused: its own word for the status.
const REFUSED: &str = "the server responded with a status of 401";

/// The first login of a new cluster: a wrong password is told, the documented one leads to a new one, and the new one in. Told once, before
/// all other stories, which need what it leaves.
pub fn first_login(world: &World) {
    story(world, "first-login", Scripts::Run, async |browser| {
        browser.go("/console").await;
        browser.is_at("/console/login").await;
        browser.log_in_with("wrong").await;
        let told = "return document.querySelector('[role=alert]')?.innerText ?? ''";
        let wrong = |words: &serde_json::Value| {
            words
                .as_str()
                .is_some_and(|words| words.contains("do not belong together"))
        };
        browser.until("told that it is wrong", told, wrong).await;
        browser.fill("password", FIRST).await;
        browser.click("button[type=submit]").await;
        browser
            .until(
                "asked for a new one",
                "return !!document.querySelector('input[name=new_password]')",
                |it| it == true,
            )
            .await;
        browser.fill("password", FIRST).await;
        browser.fill("new_password", PASSWORD).await;
        browser.click("button[type=submit]").await;
        browser.is_at("/console").await;
        assert_eq!(browser.words(".who bdi").await, "admin");
        // The second refusal is that of the first password, before there is a new one.
        browser.had_no_error_but(&[REFUSED, "/console/login"]).await;
    });
}

/// Goal: who knows the password comes in, who does not is told so, and who logged out is out. Method: all three in one browser, and the
/// address of a page afterwards.
#[test]
fn people_log_in_and_out() {
    let Some(world) = world("logging in") else {
        return;
    };
    story(world, "login", Scripts::Run, async |browser| {
        browser.log_in_with("wrong").await;
        browser.is_at("/console/login").await;
        assert!(
            browser
                .words("[role=alert]")
                .await
                .contains("Nobody was logged in")
        );
        browser.had_no_error_but(&[REFUSED]).await;
        browser.log_in().await;
        browser.go("/console/login").await;
        browser.is_at("/console").await;
        browser.log_out().await;
        browser.go("/console/messages").await;
        browser.is_at("/console/login").await;
        browser.had_no_error_but(&[]).await;
    });
}

/// Every label that is not data, as it is seen.
const LABELS: &str = "return [...document.querySelectorAll('h1, h2, thead th, dt, label, button, figcaption, nav.pages a, .skip, caption')]
    .filter((one) => !one.querySelector('code')).map((one) => one.textContent.trim()).filter((text) => text)";
/// Sentences that the cluster says are English everywhere, and say so; what is a name of somebody or something stands for itself.
const DIRECTION: &str = "return [document.documentElement.lang, document.documentElement.dir, getComputedStyle(document.querySelector('main')).direction]";

/// Tags that have one attribute twice: browsers ignore the second without a word, and it is in no document tree.
const TWICE: &str = r#"fetch(location, { headers: { accept: "text/html" } }).then((it) => it.text()).then((text) =>
    done((text.match(/<[a-z][^>]*>/g) ?? []).filter((tag) => / ([a-z-]+)="[^"]*"(?:.*) \1="/.test(tag))))"#;

/// Goal: every page opens in each language and from right to left, whole, with no label forgotten, and the browser has nothing to complain
/// about. Method: all pages in English, Arabic and the pseudo-locale, whose labels stand in brackets.
#[test]
fn every_page_opens_in_every_language() {
    let Some(world) = world("the pages in all languages") else {
        return;
    };
    story(world, "languages", Scripts::Run, async |browser| {
        browser.log_in().await;
        let pages = browser.all_pages().await;
        for (tag, direction) in [("en", "ltr"), ("ar", "rtl"), ("qps", "rtl")] {
            browser.speak(tag).await;
            for (name, path) in &pages {
                browser.go(path).await;
                assert_eq!(
                    browser.list(DIRECTION).await,
                    [tag, direction, direction],
                    "{name}"
                );
                let panels = "return document.querySelectorAll('section.panel h2').length";
                assert!(browser.ask(panels).await.as_u64() > Some(0), "{name}");
                let labels = browser.list(LABELS).await;
                let forgotten = |label: &&String| match tag {
                    "ar" => !label.chars().any(|c| ('\u{600}'..='\u{6ff}').contains(&c)),
                    "qps" => !label.contains("~]"),
                    _ => label.contains("~]"),
                };
                let forgotten: Vec<&String> = labels.iter().filter(forgotten).collect();
                assert!(forgotten.is_empty(), "{name} in {tag}: {forgotten:?}");
                // What the browser says of the page that is missing may be read with the one behind it.
                let expected = &["/timeline/999999999"];
                browser.had_no_error_but(expected).await;
                if tag == "en" {
                    let twice = browser.ask_later(TWICE).await;
                    assert_eq!(twice, serde_json::json!([]), "{name}");
                }
            }
        }
        browser.go("/console").await;
        browser.click("nav.languages a[hreflang=ar]").await;
        browser
            .until("Arabic", "return document.documentElement.lang", |tag| {
                tag == "ar"
            })
            .await;
    });
}

/// The owner of shard 0, as the open page shows it.
pub const OWNER: &str =
    "return document.querySelector('#shards tbody tr td bdi')?.textContent ?? ''";

/// Goal: who looks at the cluster while its owner is killed sees the new owner without reloading the page, and does not lose his place;
/// the timeline has the decision. Method: kill -9 of the process that the page names, with the focus on the table of the shards, and
/// a second page open on the timeline.
#[test]
fn an_open_page_follows_a_failover() {
    let Some(world) = world("an open page in a failover") else {
        return;
    };
    breaking(world, "failover", async |browser| {
        browser.log_in().await;
        browser
            .until(
                "live",
                "return document.getElementById('live').className",
                |class| class == "live on",
            )
            .await;
        let before = browser.ask(OWNER).await;
        let owner = before.as_str().expect("an owner");
        browser
            .ask("window.open_since_then = true; document.querySelector('#shards .scroll').focus()")
            .await;
        let process = world
            .dev
            .process(owner)
            .unwrap_or_else(|| panic!("the process of {owner}"));
        let killed = Instant::now();
        kill(Pid::from_raw(process), Signal::SIGKILL).expect("killed");
        let other = |now: &serde_json::Value| {
            now.as_str()
                .is_some_and(|now| now.contains("coreapp") && now != owner)
        };
        browser.until("another owner", OWNER, other).await;
        println!("shown after {} ms", killed.elapsed().as_millis());
        let same = browser.ask("return window.open_since_then === true").await;
        assert_eq!(same, true, "the page was loaded again");
        let place = "return document.activeElement.closest('#shards') !== null";
        assert_eq!(browser.ask(place).await, true, "the focus was taken away");
        browser.is_well().await;
        browser.had_no_error_but(&[]).await;
        browser.go("/console/timeline").await;
        let decisions = browser.words("#decisions tbody").await;
        assert!(decisions.contains(owner), "{decisions}");
    });
}

/// Goal: an open timeline shows a decision that comes, keeps to its filter, and one decision tells what was known. Method: a pause while
/// the page is open, with a filter that takes it, then the link.
#[test]
fn an_open_timeline_follows() {
    let Some(world) = world("an open timeline") else {
        return;
    };
    breaking(world, "timeline", async |browser| {
        browser.log_in().await;
        browser.go("/console/timeline").await;
        browser.fill("what", "pause").await;
        browser.click("form.filter button").await;
        browser
            .until("filtered", "return location.search", |it| {
                it.as_str().is_some_and(|it| it.contains("what=pause"))
            })
            .await;
        let count = "return document.querySelectorAll('#decisions tbody tr').length";
        let before = browser.ask(count).await.as_u64();
        world
            .dev
            .verb(&["pause", "--for", "5m", "--reason", "a story"]);
        browser
            .until("one more", count, |now| now.as_u64() > before)
            .await;
        world.dev.verb(&["resume"]);
        let others = "return [...document.querySelectorAll('#decisions tbody tr')].filter((row) => !row.innerText.includes('pause')).length";
        assert_eq!(browser.ask(others).await, 0, "the filter is kept");
        browser.click("#decisions tbody a").await;
        browser
            .until(
                "one decision",
                "return document.querySelector('#decision')?.innerText ?? ''",
                |words| words.as_str().is_some_and(|words| words.contains("pause")),
            )
            .await;
        browser.go("/console").await;
        browser.is_well().await;
        browser.had_no_error_but(&[]).await;
    });
}

/// Goal: nobody waits for a page because he has seen others: a browser has six connections for one server, and keeps pages that were left.
/// Method: twice through all pages, and how long the browser waited for each, by its own measure; then the way back, which is live again.
#[test]
fn no_page_waits_for_those_before() {
    let Some(world) = world("many pages in a row") else {
        return;
    };
    story(world, "walk", Scripts::Run, async |browser| {
        browser.log_in().await;
        let pages = browser.pages().await;
        for path in pages.iter().cycle().take(12) {
            browser.go(path).await;
            let waited = "return performance.getEntriesByType('navigation')[0].responseEnd";
            let waited = browser.ask(waited).await.as_f64();
            assert!(waited < Some(10_000.0), "{path}: {waited:?} ms");
        }
        browser.ask("history.go(-1)").await;
        let live = "return document.getElementById('live').className";
        browser
            .until("live again", live, |class| class == "live on")
            .await;
    });
}

/// Goal: the page of the messages counts what the cluster did. Method: the messages that were sent before all stories.
#[test]
fn messages_are_counted() {
    let Some(world) = world("the traffic on the console") else {
        return;
    };
    story(world, "traffic", Scripts::Run, async |browser| {
        // The owner of another story may have ended, and what it counted with it.
        world.dev.some_messages();
        browser.log_in().await;
        browser.go("/console/messages").await;
        for nth in [1, 2] {
            let count = format!(
                "return parseInt(document.querySelector('#traffic dl div:nth-child({nth}) dd').textContent)"
            );
            let counted = |count: &serde_json::Value| count.as_u64() >= Some(3);
            browser.until("counted", &count, counted).await;
        }
    });
}

/// Goal: with scripts forbidden every page is whole: what live pages have, they have; forms and links work. Method: a browser that runs no
/// script, the panels of each page beside those of one that does, a filter, a search, a language, and a logout.
#[test]
fn the_console_works_without_a_script() {
    let Some(world) = world("the console without a script") else {
        return;
    };
    let panels = "return [...document.querySelectorAll('section.panel')].map((one) => one.id + (one.innerText.length > 30 ? '' : ' is empty'))";
    let mut live = Vec::new();
    story(world, "panels", Scripts::Run, async |browser| {
        browser.log_in().await;
        for (name, path) in browser.all_pages().await {
            browser.go(&path).await;
            live.push((name, path, browser.list(panels).await));
        }
    });
    story(
        world,
        "without-a-script",
        Scripts::Forbidden,
        async |browser| {
            browser.log_in().await;
            for (name, path, wanted) in &live {
                browser.go(path).await;
                assert_eq!(&browser.list(panels).await, wanted, "{name}");
                assert_eq!(
                    browser.words("#live").await,
                    "",
                    "{name} says that it is live"
                );
            }
            browser.go("/console/timeline").await;
            browser.fill("what", "handover").await;
            browser.click("form.filter button").await;
            browser
                .until("filtered", "return location.search", |it| {
                    it.as_str().is_some_and(|it| it.contains("what=handover"))
                })
                .await;
            assert!(!browser.words("#decisions tbody").await.contains("activate"));
            browser.go("/console/messages").await;
            browser.fill("find", &format!("+{CUSTOMER}")).await;
            browser.click("form.filter button").await;
            browser
                .until(
                    "found",
                    "return document.querySelectorAll('#found tbody tr').length",
                    |it| it.as_u64() >= Some(3),
                )
                .await;
            browser.click("nav.languages a[hreflang=ar]").await;
            browser
                .until("Arabic", "return document.documentElement.dir", |dir| {
                    dir == "rtl"
                })
                .await;
            browser.log_out().await;
            browser.had_no_error_but(&["status of 404"]).await;
        },
    );
}
