//! The page of the number as it is drawn, from what was asked.

use super::*;

const NOW_S: i64 = 1_900_000_000;

fn word() -> AccountWord {
    AccountWord {
        asked_ms: 1_898_609_366_000,
        version: "v25.0".into(),
        version_end_s: NOW_S + 400 * DAY_S,
        number: Ok(Number {
            status: "CONNECTED".into(),
            quality_rating: "GREEN".into(),
            name_status: "APPROVED".into(),
            verified_name: "Shop <b>".into(),
            display_phone_number: "+44 7700 900999".into(),
        }),
        limit: Ok("TIER_2K".into()),
        token: Ok(TokenWord {
            is_valid: true,
            missing: Vec::new(),
            expires_s: 0,
        }),
        subscription: Ok(SubscriptionWord {
            apps: vec!["7".into()],
            ours: Some(true),
        }),
    }
}

fn page(account: Asked) -> String {
    let standing = Standing {
        shards: vec![
            ShardWord {
                shard: 0,
                owner: Some("a:coreapp-1".into()),
                word: "unregistered".into(),
            },
            ShardWord {
                shard: 1,
                owner: None,
                word: String::new(),
            },
        ],
        account,
        templates: vec![Listed {
            name: "hello <i>".into(),
            language: "en".into(),
            status: "REJECTED".into(),
            age_ms: None,
        }],
        states: vec![("REJECTED".into(), 1)],
        news: Vec::new(),
    };
    let panels = draw(&standing, NOW_S, Tongue::English);
    panels
        .into_iter()
        .map(|panel| panel.body.into_string())
        .collect()
}

fn heard(change: impl FnOnce(&mut AccountWord)) -> String {
    let mut word = word();
    change(&mut word);
    page(Asked::Heard {
        node: "a:coreapp-1".into(),
        word: Box::new(word),
    })
}

/// Goal: what WhatsApp says is shown in words for people, and what others wrote is text. Method: a number without trouble.
#[test]
fn a_good_number_is_shown() {
    let page = heard(|_| ());
    for part in [
        "CONNECTED",
        "GREEN",
        "2,000",
        "Shop &lt;b&gt;",
        "+44 7700 900999",
        "does not end",
        "v25.0",
        "not registered",
        "no owner",
        "hello &lt;i&gt;",
        "changed since",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("Register it"), "{page}");
    // A second attribute of one name is none.
    assert!(page.contains("class=\"badge good\"") && !page.contains("class=\"badge\" class="));
}

/// Goal: each sort of trouble is told with what to do. Method: one change each.
#[test]
fn trouble_is_told() {
    type Change = fn(&mut AccountWord);
    let cases: [(Change, &str); 9] = [
        (
            |word| word.number = Err("it <did> not say".into()),
            "it <did> not say",
        ),
        (
            |word| word.number.as_mut().expect("good").status = "BANNED".into(),
            "appeal there",
        ),
        (
            |word| word.number.as_mut().expect("good").status = "PENDING".into(),
            "Register it",
        ),
        (
            |word| word.token.as_mut().expect("good").is_valid = false,
            "token_file",
        ),
        (
            |word| word.token.as_mut().expect("good").missing = vec!["to_send".into()],
            "permission to_send",
        ),
        (
            |word| word.token.as_mut().expect("good").expires_s = NOW_S + 29 * DAY_S,
            "make one that does not expire",
        ),
        (
            |word| word.version_end_s = NOW_S - 1,
            Alarm::VersionEnds.remedy(),
        ),
        (
            |word| word.subscription.as_mut().expect("good").apps.clear(),
            "no message of a customer arrives",
        ),
        (
            |word| word.subscription.as_mut().expect("good").ours = Some(false),
            "not among them",
        ),
    ];
    for (change, told) in cases {
        let page = heard(change);
        let told = html! { (told) }.into_string();
        assert!(page.contains(&told), "{told}: {page}");
    }
}

/// Goal: who cannot be asked is named, and the rest of the page stays. Method: an older owner, a silent one, none.
#[test]
fn who_cannot_be_asked_is_named() {
    for (asked, told) in [
        (Asked::Older("b:coreapp-1".into()), "older release"),
        (Asked::Silent("b:coreapp-1".into()), "did not say in time"),
        (Asked::NoOwner, "No coreapp owns a shard"),
    ] {
        let page = page(asked);
        assert!(page.contains(told) && page.contains("REJECTED"), "{page}");
    }
}

/// Goal: limits are numbers of customers; what is new is shown as it came.
#[test]
fn limits_are_numbers() {
    assert_eq!(customers("TIER_100K"), "100,000");
    assert_eq!(customers("TIER_7M"), "TIER_7M");
}
