//! The console without a mouse: everything can be reached, in order, and one sees where one is.

use std::collections::BTreeSet;

use crate::browser::{Browser, Scripts, story};
use crate::cluster::world;

const TAB: (&str, u8) = ("Tab", 9);
const ENTER: (&str, u8) = ("Enter", 13);
/// More stops than any page has.
const STOPS_MAX: usize = 400;

/// How a control is known again after its panel came fresh from the cluster.
const NAME: &str = "const name = (one) => [one.tagName, one.getAttribute('href'), one.getAttribute('name'), one.getAttribute('aria-label'),
    one.matches('a, button') ? one.textContent.trim() : ''].join('|');";
const CONTROLS: &str = "return [...document.querySelectorAll('a[href], button, select, textarea, input:not([type=hidden]), [tabindex=\"0\"]')]
    .filter((one) => one.checkVisibility({ visibilityProperty: true })).map(name)";
/// Where the focus is: its name, whether it is seen on the screen, and whether something shows that it is here.
const FOCUS: &str = "const one = document.activeElement;
    if (!one || one === document.body) return null;
    const [at, style] = [one.getBoundingClientRect(), getComputedStyle(one)];
    const inside = at.bottom > 0 && at.top < innerHeight && at.right > 0 && at.left < innerWidth;
    const marked = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    return [name(one), inside && marked ? 'seen' : `not seen: inside ${inside}, marked ${marked}`]";

/// Every stop of the tabulator on the open page, from its beginning to its end.
async fn stops(browser: &Browser) -> Vec<String> {
    let mut stops = Vec::new();
    let ask = format!("{NAME}\n{FOCUS}");
    for _ in 0..STOPS_MAX {
        browser.press(TAB).await;
        let focus = browser.ask(&ask).await;
        if focus.is_null() {
            return stops;
        }
        let (name, seen) = (focus[0].as_str().unwrap_or_default(), &focus[1]);
        assert_eq!(seen, "seen", "{name}");
        stops.push(name.to_owned());
    }
    panic!("the tabulator never comes to the end: {stops:?}");
}

/// Goal: who uses no mouse reaches every link, field, button and table in the order in which they stand there, and sees where he is, also
/// while panels are replaced under him. Method: the tabulator from the first to the last stop of every page.
#[test]
fn every_control_is_reached() {
    let Some(world) = world("the console by keyboard") else {
        return;
    };
    story(world, "keyboard", Scripts::Run, async |browser| {
        browser.size(1280, 900).await;
        browser.go("/console/login").await;
        let login = stops(browser).await;
        assert!(login.len() >= 4, "{login:?}");
        browser.log_in().await;
        for (name, path) in browser.all_pages().await {
            browser.go(&path).await;
            let before = browser.list(&format!("{NAME}\n{CONTROLS}")).await;
            let reached = stops(browser).await;
            let after = browser.list(&format!("{NAME}\n{CONTROLS}")).await;
            // What came or went meanwhile may be missed.
            let missed: BTreeSet<&String> = before
                .iter()
                .filter(|one| after.contains(one) && !reached.contains(one))
                .collect();
            assert!(missed.is_empty(), "{name}: {missed:#?} of {reached:#?}");
            let order: Vec<&String> = before.iter().filter(|one| reached.contains(one)).collect();
            let stays = reached.iter().filter(|one| before.contains(one));
            assert_eq!(
                stays.collect::<Vec<_>>(),
                order,
                "{name}: the order on the page"
            );
        }
    });
}

/// Goal: nobody has to go through the navigation on every page. Method: the first stop leads past it, is seen, and the next stop lies in the
/// content.
#[test]
fn the_first_stop_leads_past_the_navigation() {
    let Some(world) = world("the way past the navigation") else {
        return;
    };
    story(world, "skip", Scripts::Run, async |browser| {
        browser.size(1280, 900).await;
        browser.log_in().await;
        for path in browser.pages().await {
            browser.go(&path).await;
            browser.press(TAB).await;
            let first = browser.ask(&format!("{NAME}\n{FOCUS}")).await;
            assert!(
                first[0]
                    .as_str()
                    .is_some_and(|name| name.contains("#content")),
                "{first}"
            );
            assert_eq!(first[1], "seen");
            browser.press(ENTER).await;
            browser.press(TAB).await;
            let inside = "return document.activeElement.closest('nav.pages, .top') === null";
            assert_eq!(browser.ask(inside).await, true, "{path}");
        }
    });
}

/// Goal: a login and a logout need no mouse. Method: letters, tabulator and return only.
#[test]
fn a_login_needs_no_mouse() {
    let Some(world) = world("a login by keyboard") else {
        return;
    };
    story(world, "keys", Scripts::Run, async |browser| {
        browser.go("/console/login").await;
        for word in ["admin", crate::cluster::PASSWORD] {
            browser.press(TAB).await;
            browser
                .tool("Input.insertText", serde_json::json!({ "text": word }))
                .await;
        }
        browser.press(ENTER).await;
        browser.is_at("/console").await;
        browser
            .ask("document.querySelector('.top form button').focus()")
            .await;
        browser.press(ENTER).await;
        browser.is_at("/console/login").await;
    });
}
