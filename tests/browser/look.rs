//! Pictures of every page, at three widths, light and dark, below `target/console`, and a check that rejects what is not fit to be seen.
//! Contrast is judged in `axe.rs`.

use serde_json::{Value, json};

use crate::axe;
use crate::browser::{Browser, Scripts, breaking, story};
use crate::cluster::world;

/// A telephone, a notebook, a wall.
const WIDTHS: [u32; 3] = [360, 1280, 2560];
pub const SCHEMES: [&str; 2] = ["light", "dark"];
/// Runs in the page, and returns what is wrong, in words.
const LOOK: &str = include_str!("look.js");

/// What is wrong with the layout of the open page.
async fn complaints(browser: &Browser) -> Vec<String> {
    let found = browser.ask(LOOK).await;
    serde_json::from_value(found).expect("words")
}

/// Goal: no page at any width and in any scheme is wider than its window, has a text that leaves its box, or an empty panel; the
/// pictures are there for people to look at. Method: every page, at three widths, in both schemes; and from right to
/// left with the longest words of all, those of the pseudo-locale, at the smallest width.
#[test]
fn every_page_is_fit_to_be_seen() {
    let Some(world) = world("pictures of the console") else {
        return;
    };
    story(world, "pictures", Scripts::Run, async |browser| {
        browser.log_in().await;
        let mut wrong = Vec::new();
        let mut look = async |name: &str, width: u32| {
            browser.picture(name, width).await;
            let found = complaints(browser).await;
            wrong.extend(found.into_iter().map(|one| format!("{name}: {one}")));
        };
        let mut pages = browser.all_pages().await;
        pages.push(("login".to_owned(), "/console/login".to_owned()));
        for (name, path) in &pages {
            if name == "login" {
                browser.log_out().await;
            }
            browser.go(path).await;
            for scheme in SCHEMES {
                browser.scheme(scheme).await;
                for width in WIDTHS {
                    look(&format!("{name}-{width}-{scheme}"), width).await;
                }
            }
        }
        browser.log_in().await;
        for tongue in ["ar", "qps"] {
            browser.speak(tongue).await;
            for (name, path) in pages.iter().filter(|(name, _)| name != "login") {
                browser.go(path).await;
                look(&format!("{name}-{tongue}-360-dark"), 360).await;
            }
        }
        assert!(wrong.is_empty(), "see target/console: {wrong:#?}");
    });
}

/// Goal: the page is as fit to be seen, and to be used by everybody, when something is wrong: that is when people look. Method: no standby
/// that may take over, because it is drained.
#[test]
fn a_warning_is_fit_to_be_seen() {
    let what = "a warning on the console";
    let Some(world) = world(what) else { return };
    let axe = axe::script(what);
    breaking(world, "warning", async |browser| {
        browser.log_in().await;
        let standby = "return document.querySelector('#shards tbody tr td:nth-child(6) bdi')?.textContent ?? ''";
        let known = |name: &Value| name.as_str().is_some_and(|name| name.contains("coreapp"));
        let standby = browser.until("a standby", standby, known).await;
        let standby = standby.as_str().unwrap_or_default().to_owned();
        world
            .dev
            .verb(&["drain", &standby, "--reason", "a picture"]);
        let warned = "return document.querySelector('#verdict .judged li.warn')?.innerText ?? ''";
        let standby_less = |words: &Value| {
            words
                .as_str()
                .is_some_and(|words| words.contains("standby"))
        };
        browser.until("warned", warned, standby_less).await;
        let mut wrong = Vec::new();
        for scheme in SCHEMES {
            browser.scheme(scheme).await;
            for width in WIDTHS {
                browser
                    .picture(&format!("warned-{width}-{scheme}"), width)
                    .await;
                wrong.extend(complaints(browser).await);
            }
            if let Some(axe) = &axe {
                wrong.extend(axe::judged(browser, axe).await);
            }
        }
        world.dev.verb(&["undrain", &standby]);
        assert!(wrong.is_empty(), "{wrong:#?}");
        browser.is_well().await;
    });
}

/// A page that is bad in one way, made of a good one by a script.
const BAD: [(&str, &str); 6] = [
    (
        "px wide, its window",
        "const wide = document.createElement('div'); wide.style.width = '5000px'; wide.textContent = 'wide';
         document.querySelector('main').append(wide)",
    ),
    (
        "leaves its box",
        "const one = document.querySelector('#masters dd'); one.textContent = 'x'.repeat(400); one.style.overflowWrap = 'normal'",
    ),
    (
        "an empty panel",
        "for (const one of [...document.querySelector('#verdict').children].slice(1)) one.remove()",
    ),
    (
        "a fact without a value",
        "document.querySelector('#masters dd').textContent = ''",
    ),
    (
        "hard to read",
        "document.querySelector('#masters dd').style.fontSize = '9px'",
    ),
    (
        "lie on each other",
        "document.querySelector('.who').style.marginInlineStart = '-20rem'",
    ),
];

/// Goal: the check can fail. Method: a good page, spoilt in one way at a time; one of the six is always the reason, and the good page
/// has none.
#[test]
fn a_bad_page_is_rejected() {
    let Some(world) = world("a bad page") else {
        return;
    };
    story(world, "bad", Scripts::Run, async |browser| {
        browser.log_in().await;
        for (reason, spoil) in BAD {
            browser.go("/console").await;
            browser.size(1280, 900).await;
            // Both in one step: a panel that comes fresh from the cluster would mend the page in between.
            let look = format!("{spoil};\n{LOOK}");
            let good = complaints(browser).await;
            assert!(good.is_empty(), "{good:?}");
            let found = browser.ask(&look).await;
            let found: Vec<String> = serde_json::from_value(found).expect("words");
            assert!(
                found.iter().any(|one| one.contains(reason)),
                "{reason}: {found:?}"
            );
        }
    });
}

impl Browser {
    /// Logs out by the button, as people do.
    pub async fn log_out(&self) {
        self.go("/console").await;
        self.click(".top form button").await;
        self.is_at("/console/login").await;
    }

    /// Waits until the page says that nothing is wrong.
    pub async fn is_well(&self) {
        let verdict = "return document.querySelector('#verdict .good')?.innerText ?? ''";
        let good = |words: &Value| words == "Nothing is wrong";
        self.until("well again", verdict, good).await;
    }

    /// What a script finds, as a list of texts.
    pub async fn list(&self, script: &str) -> Vec<String> {
        let found: Value = self.ask(script).await;
        serde_json::from_value(found.clone())
            .unwrap_or_else(|error| panic!("{error}: {}", json!(found)))
    }
}
