//! Every kind of message, from the public API to the upstream and back, through the real processes. Goal: what the golden pairs
//! promise is what goes out, and nothing that was accepted is refused by an upstream that reads strictly. Method: the requests
//! of the pairs, templates of the simulator's account, a message that answers one of ours, and a customer who answers it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::drill::{TURN, request};
use crate::media::{Bench, have_curl, settings};

const PATIENCE: Duration = Duration::from_secs(60);
const KINDS: [&str; 8] = [
    "text",
    "image",
    "video",
    "document",
    "location",
    "contacts",
    "interactive",
    "audio",
];
/// What the upstream would refuse, or cannot know: files and providers that are not there, kinds of tomorrow, messages of others.
const NOT_HERE: [&str; 4] = ["-0000-4000-8000-", "\"provider\"", "gBEG", "wamid."];

/// Requests of golden pairs that go out.
fn requests() -> Vec<(PathBuf, String)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let mut found = Vec::new();
    for kind in KINDS {
        let folder = std::fs::read_dir(fixtures.join(kind)).expect("a folder of pairs");
        for path in folder.map(|entry| entry.expect("readable").path()) {
            let name = path.to_string_lossy().into_owned();
            let sent = name.replace(".json", ".cloud.json");
            if name.ends_with(".cloud.json") || !Path::new(&sent).exists() {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            let here = !name.contains("tomorrow") && !NOT_HERE.iter().any(|no| text.contains(no));
            if here {
                found.push((path, text));
            }
        }
    }
    found
}

fn id_of(answer: &Value) -> String {
    let id = answer["messages"][0]["id"].as_str();
    id.unwrap_or_else(|| panic!("no id: {answer}")).to_owned()
}

#[test]
fn every_kind_goes_out_and_an_answer_comes_back() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let url = format!("http://127.0.0.1:{}/business", bench.simulator);
    settings(&bench, &url);
    golden_requests_are_taken(&bench);
    templates_are_checked(&bench);
    answers_find_their_messages(&bench);
    let report = bench.upstream("/admin/report");
    assert_eq!(report["never_delivered"], 0, "{report}");
    assert_eq!(report["sent_twice"], 0, "{report}");
}

fn golden_requests_are_taken(bench: &Bench) {
    let mut wanted = BTreeSet::new();
    let requests = requests();
    assert!(requests.len() >= 70, "{} requests", requests.len());
    for (path, text) in requests {
        let (status, answer) = bench.send_text(&text);
        assert_eq!(status, 201, "{}: {answer}", path.display());
        wanted.insert(id_of(&answer));
    }
    bench.upstream_until("all taken", "/admin/ids", |ids| {
        let ids = ids.as_array().into_iter().flatten();
        let taken: BTreeSet<String> = ids.filter_map(|id| Some(id.as_str()?.to_owned())).collect();
        wanted.is_subset(&taken)
    });
}

fn template(name: &str, parameters: &[&str]) -> Value {
    let texts: Vec<Value> = parameters
        .iter()
        .map(|text| json!({"type": "text", "text": text}))
        .collect();
    json!({"to": "447700900321", "type": "template", "template": {"namespace": "x", "name": name,
           "language": {"policy": "deterministic", "code": "en_US"},
           "components": [{"type": "body", "parameters": texts}]}})
}

/// What the account's list says against a message is said before it is accepted; the list is read in the background.
fn templates_are_checked(bench: &Bench) {
    let (status, answer) = bench.send(&template("track_parcel", &["one"]));
    assert!(status == 201 || status == 400, "{status}: {answer}");
    for (message, refused) in [
        (template("hello_world", &["too many"]), (400, 2000)),
        (template("no_such_template", &[]), (404, 2001)),
        (template("paused_offer", &[]), (400, 2061)),
        (template("disabled_offer", &[]), (400, 2062)),
    ] {
        let until = Instant::now() + PATIENCE;
        loop {
            let (status, answer) = bench.send(&message);
            if (status, answer["errors"][0]["code"].as_u64()) == (refused.0, Some(refused.1)) {
                break;
            }
            assert_eq!(status, 201, "{message}: {answer}");
            assert!(Instant::now() < until, "not refused: {message}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let (status, answer) = bench.send(&template("hello_world", &[]));
    assert_eq!(status, 201, "{answer}");
    let id = id_of(&answer);
    bench.upstream_until("the template is taken", "/admin/ids", |ids| {
        ids.to_string().contains(&id)
    });
}

fn answers_find_their_messages(bench: &Bench) {
    let first = json!({"to": "447700900456", "text": {"body": "a question"}});
    let first = id_of(&bench.send(&first).1);
    let more = json!({"to": "447700900456", "context": {"message_id": first}, "text": {"body": "as I said"}});
    let more = id_of(&bench.send(&more).1);
    let emoji = json!({"to": "447700900456", "type": "reaction", "reaction": {"message_id": first, "emoji": "\u{1f44d}"}});
    let emoji = id_of(&bench.send(&emoji).1);
    bench.upstream_until("all sent", "/admin/ids", |ids| {
        let ids = ids.to_string();
        [&first, &more, &emoji].iter().all(|id| ids.contains(*id))
    });
    let (status, refused) = bench.send(
        &json!({"to": "447700900457", "context": {"message_id": first}, "text": {"body": "no"}}),
    );
    assert_eq!(
        (status, &refused["errors"][0]["code"]),
        (400, &json!(1009)),
        "{refused}"
    );
    let theirs = bench.upstream_id(&first);
    let reply = json!({"from": "447700900456", "message": {"from": "447700900456", "id": "wamid.reply", "timestamp": "1893456000", "type": "button",
        "button": {"payload": "p", "text": "Yes"}, "context": {"from": "447700900999", "id": theirs}}});
    let head = "POST /admin/inbound HTTP/1.1";
    request([127, 0, 0, 1], bench.simulator, head, &reply.to_string());
    let told = bench.upstream_until("told", "/admin/last-inbound", |told| {
        told["messages"][0]["type"] == "button"
    });
    assert_eq!(told["messages"][0]["context"]["id"], first, "{told}");
}
