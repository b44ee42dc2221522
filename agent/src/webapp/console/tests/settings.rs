//! The forms of the settings through the router: each good, bad, of another page, and of a user who is no administrator.

use super::*;
use crate::api::v1::setting::ApplicationSettings;
use crate::member::settings;
use crate::webapp::tests::bench_set;

/// A browser in which `somebody` is logged in, who is no administrator.
async fn user(bench: &Bench) -> Browser<'_> {
    let admin = bench.admin().await;
    bench.user(&admin).await;
    let mut browser = Browser::new(bench);
    let page = browser.log_in("somebody", "Bcdefg1!").await;
    assert_eq!(leads_to(&page), "/console", "{}", page.text);
    browser
}

async fn stored(bench: &Bench) -> ApplicationSettings {
    let stored = settings::read::<ApplicationSettings>(&bench.db).await;
    stored.expect("read").or_default()
}

/// What stands in a hidden field of a page.
fn hidden<'a>(page: &'a Page, name: &str) -> &'a str {
    let (_, rest) = page
        .text
        .split_once(&format!("name=\"{name}\" value=\""))
        .expect("the field");
    rest.split('"').next().expect("its end")
}

const SLOW: [(&str, &str); 2] = [("heartbeat_interval", "2"), ("unhealthy_interval", "9")];

/// Goal: the takeover of changed timers is shown before they are saved; what is saved is what was shown; each try to save leaves a line.
/// Method: a change that is shown, saved with other values, and saved as it was shown.
#[tokio::test]
async fn timers_are_shown_before_they_are_saved() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let to = "/console/settings/application";
    let page = browser.open("/console/settings").await;
    assert!(page.text.contains("Takeover at most"), "{}", page.text);
    assert!(!page.text.contains("value=\"save\""), "{}", page.text);
    let form = form_of(&page).to_owned();
    let with = |step: &'static str, more: &[(&'static str, &str)]| {
        let mut fields = vec![("form", form.clone()), ("step", step.to_owned())];
        fields.extend(SLOW.map(|(name, value)| (name, value.to_owned())));
        fields.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        fields
    };
    let shown = post(&mut browser, to, with("show", &[])).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    for part in [
        "Nothing is saved yet",
        "another one takes over within",
        "heartbeat_interval",
        "value=\"save\"",
        "value=\"9\"",
    ] {
        assert!(shown.text.contains(part), "{part}: {}", shown.text);
    }
    assert_eq!(stored(&bench).await.heartbeat_interval, None);
    let seal = hidden(&shown, "shown").to_owned();
    // Something else than what was shown is shown first.
    let other = with("save", &[("shown", &seal), ("log_level", "debug")]);
    let other = post(&mut browser, to, other).await;
    assert!(
        other.text.contains("Nothing is saved yet"),
        "{}",
        other.text
    );
    let unseen = post(&mut browser, to, with("save", &[])).await;
    assert!(unseen.text.contains("Nothing is saved yet"));
    assert_eq!(stored(&bench).await, ApplicationSettings::default());
    let saved = post(&mut browser, to, with("save", &[("shown", &seal)])).await;
    assert_eq!(
        leads_to(&saved),
        "/console/settings?done=settings",
        "{}",
        saved.text
    );
    let now = stored(&bench).await;
    assert_eq!(now.unhealthy_interval.expect("set").ms, 9_000);
    let again = post(&mut browser, to, with("show", &[])).await;
    assert!(
        again.text.contains("This changes nothing"),
        "{}",
        again.text
    );
    let after = browser.open(leads_to(&saved)).await;
    assert!(after.text.contains("The settings were saved"));
    let lines = lines(&bench, "PATCH /v1/settings/application", 3).await;
    assert_eq!(lines, ["done"; 3]);
}

async fn post(browser: &mut Browser<'_>, to: &str, fields: Vec<(&str, String)>) -> super::Page {
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    browser.submit(to, &fields).await
}

/// Goal: what breaks a rule is refused in words, with what was typed still there; a form of another page and one of a user change nothing
/// and leave a line. Method: one of each.
#[tokio::test]
async fn bad_settings_are_refused() {
    let bench = whole().await;
    let mut somebody = user(&bench).await;
    let mut admin = Browser::new(&bench);
    admin.log_in("admin", "Abcdef1!").await;
    let to = "/console/settings/application";
    let form = form_of(&admin.open("/console/settings").await).to_owned();
    let unfit = [
        ("form", &*form),
        ("step", "show"),
        ("heartbeat_interval", "5"),
        ("unhealthy_interval", "6"),
    ];
    let refused = admin.submit(to, &unfit).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(
        refused.text.contains("at least 3 times") && refused.text.contains("value=\"6\""),
        "{}",
        refused.text
    );
    let foreign = [("form", "00"), ("step", "save"), ("log_level", "debug")];
    let refused = admin.submit(to, &foreign).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(
        refused
            .text
            .contains("was not sent by a page of this session")
    );
    let page = somebody.open("/console/settings").await;
    assert!(page.text.contains("callback_persist") && !page.text.contains("name=\"log_level\""));
    let own = form_of(&page).to_owned();
    for step in ["show", "save"] {
        let fields = [("form", &*own), ("step", step), ("log_level", "debug")];
        assert_eq!(somebody.submit(to, &fields).await.status, 403);
    }
    assert_eq!(stored(&bench).await, ApplicationSettings::default());
    let lines = lines(&bench, "PATCH /v1/settings/application", 3).await;
    assert_eq!(lines, ["refused (403, 1005)"; 3]);
}

/// Goal: the administrator makes users; others, forms of other pages and bad passwords make none. Method: one of each.
#[tokio::test]
async fn users_are_made() {
    let bench = whole().await;
    let mut somebody = user(&bench).await;
    let mut admin = Browser::new(&bench);
    admin.log_in("admin", "Abcdef1!").await;
    let to = "/console/settings/users";
    let form = form_of(&admin.open("/console/settings").await).to_owned();
    let own = form_of(&somebody.open("/console/settings").await).to_owned();
    let fields = |form, password| {
        [
            ("form", form),
            ("username", "newcomer"),
            ("password", password),
        ]
    };
    let refused = somebody.submit(to, &fields(&own, "Cdefgh1!")).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert_eq!(admin.submit(to, &fields("", "Cdefgh1!")).await.status, 403);
    let short = admin.submit(to, &fields(&form, "short")).await;
    assert_eq!(short.status, 400, "{}", short.text);
    assert!(short.text.contains("8 to 64 characters"), "{}", short.text);
    assert!(bench.db.user("newcomer").await.expect("read").is_none());
    let made = admin.submit(to, &fields(&form, "Cdefgh1!")).await;
    assert_eq!(
        leads_to(&made),
        "/console/settings?done=user",
        "{}",
        made.text
    );
    let page = admin.open(leads_to(&made)).await.text;
    assert!(page.contains("<bdi>newcomer</bdi>") && page.contains("The user was created"));
    assert!(
        !somebody
            .open("/console/settings")
            .await
            .text
            .contains("newcomer")
    );
    // The helper of these tests made `somebody` over the API.
    assert_eq!(lines(&bench, "POST /v1/users", 5).await.len(), 5);
}

/// Goal: everybody changes his own password with the old one, the administrator those of others without. Method: each, with a wrong old
/// one, for somebody else, and from another page.
#[tokio::test]
async fn passwords_are_changed() {
    let bench = whole().await;
    let mut somebody = user(&bench).await;
    let to = "/console/settings/password";
    let own = form_of(&somebody.open("/console/settings").await).to_owned();
    let fields = |form, username, old, new| {
        [
            ("form", form),
            ("username", username),
            ("old_password", old),
            ("password", new),
        ]
    };
    for (fields, status) in [
        (fields("", "somebody", "Bcdefg1!", "Cdefgh1!"), 403),
        (fields(&own, "somebody", "wrong", "Cdefgh1!"), 403),
        (fields(&own, "somebody", "", "Cdefgh1!"), 400),
        (fields(&own, "admin", "Bcdefg1!", "Cdefgh1!"), 403),
    ] {
        let refused = somebody.submit(to, &fields).await;
        assert_eq!(refused.status, status, "{}", refused.text);
    }
    let good = fields(&own, "somebody", "Bcdefg1!", "Cdefgh1!");
    let changed = somebody.submit(to, &good).await;
    assert_eq!(
        leads_to(&changed),
        "/console/settings?done=password",
        "{}",
        changed.text
    );
    let mut admin = Browser::new(&bench);
    admin.log_in("admin", "Abcdef1!").await;
    let form = form_of(&admin.open("/console/settings").await).to_owned();
    let unproved = fields(&form, "admin", "", "Defghi1!");
    assert_eq!(admin.submit(to, &unproved).await.status, 400);
    let mut ending = fields(&form, "somebody", "", "Efghij1!").to_vec();
    ending.push(("revoke_tokens", "true"));
    let changed = admin.submit(to, &ending).await;
    assert_eq!(changed.status, 303, "{}", changed.text);
    let over = somebody.open("/console/settings").await;
    assert_eq!(leads_to(&over), "/console/login", "his tokens ended");
    assert_eq!(
        leads_to(&somebody.log_in("somebody", "Efghij1!").await),
        "/console"
    );
    let told = lines(&bench, "PUT /v1/users/somebody (new password", 2).await;
    assert_eq!(told, ["done"; 2]);
}

/// Goal: tokens are ended one by one or all at once, and each time it is shown first what would end; users end their own only. Each end and
/// each refusal is in the audit. Method: each kind, a token that is none, and a form of another page; all of them shown and sent.
#[tokio::test]
async fn tokens_are_ended() {
    let bench = whole().await;
    let mut somebody = user(&bench).await;
    let mut admin = Browser::new(&bench);
    admin.log_in("admin", "Abcdef1!").await;
    let to = "/console/settings/tokens";
    let page = admin.open("/console/settings").await;
    assert!(page.text.contains("this session"), "{}", page.text);
    let form = form_of(&page).to_owned();
    let own = form_of(&somebody.open("/console/settings").await).to_owned();
    let shown = |form, username, token| [("form", form), ("username", username), ("token", token)];
    let sure = |form, username, token| {
        let [form, username, token] = shown(form, username, token);
        [form, username, token, ("sure", "true")]
    };
    for (form, username, token, status) in [
        ("", "somebody", "", 403),
        (&*form, "somebody", "x", 400),
        (&form, "somebody", "0123456789ab", 404),
        (&form, "a b", "", 400),
        (&form, "nobody", "", 404),
    ] {
        let refused = admin.submit(to, &shown(form, username, token)).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        let refused = admin.submit(to, &sure(form, username, token)).await;
        assert_eq!(refused.status, status, "{}", refused.text);
    }
    for fields in [&shown(&own, "admin", "")[..], &sure(&own, "admin", "")] {
        assert_eq!(somebody.submit(to, fields).await.status, 403);
    }
    let tokens = async || bench.db.tokens(Some("somebody"), 9).await.expect("read");
    let before = tokens().await;
    assert_eq!(before.len(), 2);
    for token in &before {
        assert!(page.text.contains(&token.fingerprint));
    }
    let one = &*before[0].fingerprint;
    for (token, said) in [
        (one, format!("The token {one} of somebody would end")),
        ("", "All 2 tokens of somebody would end".to_owned()),
    ] {
        let asked = admin.submit(to, &shown(&form, "somebody", token)).await;
        assert_eq!(asked.status, 200, "{}", asked.text);
        assert!(
            asked.text.contains(&said) && asked.text.contains("name=\"sure\""),
            "{said}: {}",
            asked.text
        );
        assert!(!asked.text.contains("This session of yours"), "{token}");
    }
    let asked = somebody.submit(to, &shown(&own, "somebody", "")).await;
    assert!(asked.text.contains("This session of yours would end"));
    assert_eq!(tokens().await, before, "shown, and nothing done");
    let ended = admin.submit(to, &sure(&form, "somebody", one)).await;
    assert_eq!(
        leads_to(&ended),
        "/console/settings?done=tokens",
        "{}",
        ended.text
    );
    assert_eq!(tokens().await.len(), 1);
    let ended = admin.submit(to, &sure(&form, "somebody", "")).await;
    assert_eq!(ended.status, 303);
    assert_eq!(leads_to(&somebody.open("/console").await), "/console/login");
    let told = lines(&bench, "POST /console/settings/tokens", 14).await;
    let done = told.iter().filter(|line| *line == "done").count();
    assert_eq!((told.len(), done), (14, 2), "{told:?}");
}

/// Goal: where masters end tokens for a console, the button leads to the act, which asks them first, wants a reason and is in the history.
/// Method: the page of the administrator and of a user under `acts = "all"`, and under the default.
#[tokio::test]
async fn where_masters_end_tokens_the_act_does() {
    let act = "/console/act?act=revoke-tokens&amp;user=";
    for (acts, by_act) in [("safe", false), ("all", true)] {
        let bench = bench_set(&format!("[console]\nacts = \"{acts}\"")).await;
        let mut somebody = user(&bench).await;
        let page = somebody.open("/console/settings").await.text;
        assert!(
            !page.contains(act) && page.contains("End all tokens"),
            "{page}"
        );
        let mut admin = Browser::new(&bench);
        admin.log_in("admin", "Abcdef1!").await;
        let page = admin.open("/console/settings").await.text;
        assert_eq!(page.contains(&format!("{act}somebody")), by_act, "{page}");
        assert_eq!(page.contains("End all tokens: somebody"), !by_act, "{page}");
    }
}

/// Goal: a test message is taken as the API takes it, leads to its life, and goes out once however often the form is sent; others send
/// none; nothing shows its text. Method: each kind of form.
#[tokio::test]
async fn a_test_message_is_sent() {
    let bench = whole().await;
    let mut somebody = user(&bench).await;
    let mut admin = Browser::new(&bench);
    admin.log_in("admin", "Abcdef1!").await;
    let to = "/console/settings/send";
    let page = admin.open("/console/settings").await;
    let (form, once) = (form_of(&page).to_owned(), hidden(&page, "once").to_owned());
    let page = somebody.open("/console/settings").await;
    assert!(!page.text.contains("name=\"once\""));
    let own = form_of(&page).to_owned();
    let text = "what the message says";
    let fields = |form, to| [("form", form), ("once", &*once), ("to", to), ("text", text)];
    assert_eq!(
        somebody
            .submit(to, &fields(&own, "+44 7700 900123"))
            .await
            .status,
        403
    );
    assert_eq!(
        admin
            .submit(to, &fields("", "+44 7700 900123"))
            .await
            .status,
        403
    );
    let refused = admin.submit(to, &fields(&form, "nobody")).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(!refused.text.contains(text) && refused.text.contains("This was refused"));
    let sent = admin.submit(to, &fields(&form, "+44 7700-900123")).await;
    let at = leads_to(&sent).to_owned();
    assert!(
        at.starts_with("/console/settings?sent=gBEK"),
        "{at}: {}",
        sent.text
    );
    let again = admin.submit(to, &fields(&form, "+44 7700-900123")).await;
    assert_eq!(leads_to(&again), at, "the same message");
    let page = admin.open(&at).await.text;
    let id = at.rsplit('=').next().expect("an id");
    assert!(
        page.contains(&format!("/console/messages?find={id}")),
        "{page}"
    );
    let told = lines(&bench, "POST /console/settings/send", 5).await;
    assert_eq!(
        told.iter().filter(|outcome| *outcome == "done").count(),
        2,
        "{told:?}"
    );
    for line in bench.db.audit(None, 1000).await.expect("read") {
        assert!(!line.what.contains(text), "{}", line.what);
    }
    assert_eq!(
        leads_to(&admin.open(to).await),
        "/console/settings",
        "an address that was typed"
    );
    let forged = admin
        .open("/console/settings?sent=your-account&done=%3Cb%3E")
        .await
        .text;
    assert!(!forged.contains("was accepted"), "{forged}");
}

/// Goal: no page shows a secret, to nobody. Method: secrets of each kind are there; every page of both users is looked through.
#[tokio::test]
async fn no_page_shows_a_secret() {
    let bench = whole().await;
    let mut somebody = user(&bench).await;
    let mut admin = Browser::new(&bench);
    admin.log_in("admin", "Abcdef1!").await;
    let url = "https://u:hush-password@shop.example/in?key=hush-query";
    let text = json!({"webhooks": {"url": url}}).to_string();
    bench
        .db
        .store_setting("application", 0, &text)
        .await
        .expect("stored");
    plant(&bench.db, "gBEG-one", "447700900123", "hush-message").await;
    let hashes = bench.db.users().await.expect("read");
    let mut secrets: Vec<String> = hashes.into_iter().map(|user| user.password_hash).collect();
    let planted = [
        "hush",
        "Abcdef1!",
        "Bcdefg1!",
        "app-secret",
        "0123456789abcdef",
        "5a5a5a5a",
    ];
    secrets.extend(planted.map(str::to_owned));
    for browser in [&admin, &somebody] {
        let token = browser.cookie.split('=').nth(1).expect("a token");
        secrets.extend([token.to_owned(), crate::webapp::tokens::token_hash(token)]);
    }
    for (browser, address) in [(&mut admin, true), (&mut somebody, false)] {
        let form = form_of(&browser.open("/console/settings").await).to_owned();
        let fields = [("form", &*form), ("step", "show"), ("log_level", "debug")];
        let mut pages = vec![
            browser
                .submit("/console/settings/application", &fields)
                .await,
        ];
        for page in PAGES.into_iter().chain(["/console/messages?find=gBEG-one"]) {
            pages.push(browser.open(page).await);
        }
        let shown = pages.iter().any(|page| page.text.contains("***"));
        assert_eq!(shown, address, "the address is the administrator's to see");
        for page in pages {
            for secret in &secrets {
                assert!(!page.text.contains(secret), "{secret}: {}", page.text);
            }
        }
    }
}
