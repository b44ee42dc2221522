//! axe-core judges the pages: who sees little, or nothing, or uses no mouse, can use them. From npm, by lock file and hash, at the time of
//! the test: no build needs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::browser::{Browser, Scripts, story};
use crate::cluster::{locked, target, world};
use crate::look::SCHEMES;

/// Runs axe-core in the page; its answer: what is wrong, in words.
const JUDGE: &str = "
axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'], resultTypes: ['violations'] })
  .then((found) => done(found.violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.id}: ${node.target.join(' ')}: ${node.failureSummary}`))), (error) => done([String(error)]));";

/// The script of axe-core, fetched once and verified by npm each time; nothing, and said so, where npm or its registry is missing.
pub fn script(what: &str) -> Option<String> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = locked(&TURN);
    let folder = target("axe");
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(here.join(name), folder.join(name)).expect("copied");
    }
    let fetched = Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
            "--fetch-retries=1",
            "--fetch-timeout=20000",
        ])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    match fetched {
        Ok(output) if output.status.success() => {
            let file = folder.join("node_modules/axe-core/axe.min.js");
            Some(std::fs::read_to_string(file).expect("axe-core has its script"))
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // A file that is not the one of the lock is no reason to skip.
            assert!(!said.contains("EINTEGRITY"), "{said}");
            let why = said.lines().next().unwrap_or("npm ci failed").to_owned();
            crate::skipped(what, &format!("axe-core could not be fetched: {why}"));
            None
        }
        Err(_) => {
            crate::skipped(what, "npm is not installed");
            None
        }
    }
}

/// What axe-core says of the open page.
pub async fn judged(browser: &Browser, axe: &str) -> Vec<String> {
    browser.ask(axe).await;
    let found = browser.ask_later(JUDGE).await;
    serde_json::from_value(found).expect("words")
}

/// Goal: no page keeps anybody out: contrast, names, order, languages (WCAG 2.2 A and AA, and the good habits that axe-core knows).
/// Method: axe-core on every page in both schemes, on the login, on a narrow screen, and from right to left.
#[test]
fn no_page_keeps_anybody_out() {
    let what = "axe-core on the console";
    let Some(world) = world(what) else { return };
    let Some(axe) = script(what) else { return };
    story(world, "axe", Scripts::Run, async |browser| {
        let mut wrong = Vec::new();
        let mut judge = async |name: &str| {
            let found = judged(browser, &axe).await;
            wrong.extend(found.into_iter().map(|one| format!("{name}: {one}")));
        };
        browser.size(1280, 900).await;
        browser.log_in_with("wrong").await;
        judge("login").await;
        browser.log_in().await;
        let pages = browser.all_pages().await;
        for (name, path) in &pages {
            browser.go(path).await;
            for scheme in SCHEMES {
                browser.scheme(scheme).await;
                judge(&format!("{name} {scheme}")).await;
            }
        }
        browser.size(360, 900).await;
        for tongue in ["en", "ar"] {
            browser.speak(tongue).await;
            for (name, path) in pages
                .iter()
                .filter(|(name, _)| ["cluster", "timeline", "found"].contains(&&**name))
            {
                browser.go(path).await;
                judge(&format!("{name} {tongue} 360")).await;
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// Goal: the judge can say no. Method: a page with grey words on grey, an unnamed field and an unnamed button.
#[test]
fn a_page_that_keeps_people_out_is_seen() {
    let what = "axe-core on a bad page";
    let Some(world) = world(what) else { return };
    let Some(axe) = script(what) else { return };
    story(world, "axe-bad", Scripts::Run, async |browser| {
        browser.log_in().await;
        browser.go("/console/messages").await;
        let spoil = "document.querySelector('h1').style.color = '#ccc'; document.querySelector('h1').style.background = '#ddd';
            const more = document.createElement('div'); more.innerHTML = '<input name=bad><button></button>';
            document.querySelector('main').append(more)";
        browser.ask(spoil).await;
        let found = judged(browser, &axe).await.join("\n");
        for rule in ["color-contrast:", "label:", "button-name:"] {
            assert!(found.contains(rule), "{rule} {found}");
        }
    });
}
