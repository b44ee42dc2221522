//! Secrets of the cluster through the real processes. Goal: what one webapp is told is in force in every coreapp and webapp
//! within two seconds, secrets go where they are meant to and are shown nowhere, and a restore ends the tokens that it has to.
//! Method: a server behind a link that notes what it is shown; a backup through one webapp, restored through the other.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::verb;
use crate::drill::TURN;
use crate::media::{Bench, have_curl};

/// A 2xx means that everybody applies it within this time.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
const PROVIDERS: &str = "/v1/settings/application/media/providers";
const APPLICATION: &str = "/v1/settings/application";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest of a picture";

/// What each request for a link showed: its path and `Authorization`.
type Shown = Arc<Mutex<Vec<(String, String)>>>;

/// A server of links. Answers everybody, and notes who showed what.
fn files() -> (u16, Shown) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let shown = Shown::default();
    let noted = Arc::clone(&shown);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default();
            let path = path.split(' ').nth(1).unwrap_or_default().to_owned();
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let of = |line: &String| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("authorization")
                    .then(|| value.to_owned())
            };
            let authorization = head.iter().find_map(of).unwrap_or_default();
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.push((path, authorization));
            drop(noted);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                PNG.len()
            );
            let _ = (&stream).write_all(&[head.as_bytes(), PNG].concat());
        }
    });
    (port, shown)
}

fn until_shown(shown: &Shown, path: &str, authorization: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let all = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let here: Vec<&(String, String)> = all.iter().filter(|(found, _)| found == path).collect();
        if let Some((_, found)) = here.first() {
            assert_eq!(found, authorization, "{path}");
            return;
        }
        assert!(Instant::now() < until, "{path} was not fetched: {all:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn code(answer: &Value) -> u64 {
    answer["errors"][0]["code"].as_u64().unwrap_or_default()
}

#[test]
fn a_link_is_fetched_with_its_providers_credentials() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let (port, shown) = files();
    let (elsewhere, strangers) = files();
    let image = |port: u16, path: &str| {
        json!({"to": "447700900123", "type": "image",
            "image": {"link": format!("http://127.0.0.1:{port}{path}"), "provider": {"name": "cdn"}}})
    };
    let (status, answer) = bench.send(&image(port, "/before"));
    assert_eq!((status, code(&answer)), (400, 1009), "{answer}");
    let hosts = format!("http://127.0.0.1:{port}");
    let one = json!([{"name": "cdn", "type": "www", "config": {"bearer": "token-one"}, "hosts": [hosts]}]);
    let (status, answer) = bench.json(&["-d", &one.to_string()], PROVIDERS);
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = bench.send(&image(port, "/one"));
    assert_eq!(status, 201, "{answer}");
    until_shown(&shown, "/one", "Bearer token-one");
    // Another origin that a client names never sees them.
    let (status, answer) = bench.send(&image(elsewhere, "/stolen"));
    assert_eq!((status, code(&answer)), (400, 1009), "{answer}");

    let list = bench.json_at(2, &[], PROVIDERS).1;
    let list = &list["settings"]["application"]["media"]["providers"];
    let masked =
        json!([{"name": "cdn", "type": "www", "config": {"bearer": "****"}, "hosts": [hosts]}]);
    assert_eq!(*list, masked);
    // As it was shown, through the other webapp, with a slash at the end.
    let (status, answer) = bench.json_at(2, &["-d", &list.to_string()], &format!("{PROVIDERS}/"));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(bench.send(&image(port, "/kept")).0, 201);
    until_shown(&shown, "/kept", "Bearer token-one");
    let basic = json!({"name": "cdn", "config": {"basic": {"username": "u", "password": "p"}}});
    assert_eq!(
        bench.json_at(2, &["-d", &basic.to_string()], PROVIDERS).0,
        200
    );
    assert_eq!(bench.send(&image(port, "/basic")).0, 201);
    until_shown(&shown, "/basic", "Basic dTpw");
    let database = std::fs::read(bench.dev.directory().join("wa.db")).expect("the store");
    let log = std::fs::read(bench.dev.directory().join("wa.db-wal")).unwrap_or_default();
    for stored in [database, log] {
        let found = stored.windows(9).any(|bytes| bytes == b"token-one");
        assert!(!found, "a secret stands readable in the store");
    }

    let path = format!("{PROVIDERS}/cdn");
    assert_eq!(bench.json(&["-X", "DELETE"], &path).0, 200);
    let (status, answer) = bench.json_at(2, &["-X", "DELETE"], &path);
    assert_eq!((status, code(&answer)), (404, 1006), "{answer}");
    let (status, answer) = bench.send(&image(port, "/after"));
    assert_eq!((status, code(&answer)), (400, 1009), "{answer}");
    let stolen = strangers.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(stolen.is_empty(), "{stolen:?}");
}

/// Waits until every webapp answers this status to this token.
fn all_answer(bench: &Bench, token: &str, user: &str, status: u16, since: Instant) {
    for webapp in [1, 2] {
        loop {
            let found = bench
                .with_token(webapp, token, &[], &format!("/v1/users/{user}"))
                .0;
            if found == status {
                break;
            }
            assert!(
                since.elapsed() < IN_FORCE_WITHIN,
                "webapp {webapp} answers {user} with {found}, not {status}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn made(bench: &Bench, user: &str, password: &str) {
    let body = json!({"username": user, "password": password}).to_string();
    let (status, answer) = bench.json(&["-d", &body], "/v1/users");
    assert_eq!(status, 201, "{answer}");
}

#[test]
fn a_restore_is_in_force_everywhere() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let (before, after) = ("Bot-before-1!", "Bot-after-2!");
    for user in ["same", "changed"] {
        made(&bench, user, before);
    }
    let provider = json!([{"name": "cdn", "config": {"bearer": "token-one"}}]).to_string();
    assert_eq!(bench.json(&["-d", &provider], PROVIDERS).0, 200);
    let settings = |ms: u64| json!({"callback_backoff_delay_ms": ms}).to_string();
    assert_eq!(
        bench
            .json(&["-X", "PATCH", "-d", &settings(4000)], APPLICATION)
            .0,
        200
    );
    let password = json!({"password": "the password of the backup"}).to_string();
    let (status, backup) = bench.json(&["-d", &password], "/v1/settings/backup");
    assert_eq!(status, 200, "{backup}");
    let data = backup["settings"]["data"].as_str().expect("a backup");
    assert!(data.starts_with("wa-agent-backup.v1."), "{data}");

    assert_eq!(
        bench
            .json(&["-X", "PATCH", "-d", &settings(5000)], APPLICATION)
            .0,
        200
    );
    assert_eq!(
        bench.json(&["-X", "DELETE"], &format!("{PROVIDERS}/cdn")).0,
        200
    );
    let new = json!({"password": after}).to_string();
    assert_eq!(
        bench
            .json(&["-X", "PUT", "-d", &new], "/v1/users/changed")
            .0,
        200
    );
    made(&bench, "newer", after);
    let [same, changed, newer] = [("same", before), ("changed", after), ("newer", after)]
        .map(|(user, password)| bench.login(user, password).expect("a token"));
    let now = Instant::now();
    for (token, user) in [(&same, "same"), (&changed, "changed"), (&newer, "newer")] {
        all_answer(&bench, token, user, 200, now);
    }

    strange_ones_are_refused(&bench, data);
    all_answer(&bench, &newer, "newer", 200, Instant::now());
    let (status, answer) = restored(&bench, "the password of the backup", data);
    assert_eq!(status, 200, "{answer}");
    let since = Instant::now();
    all_answer(&bench, &changed, "changed", 401, since);
    all_answer(&bench, &newer, "newer", 401, since);
    all_answer(&bench, &same, "same", 200, Instant::now());
    what_was_is_back(&bench);
    assert!(bench.login("changed", after).is_none() && bench.login("newer", after).is_none());
    assert!(bench.login("changed", before).is_some());
    let (_, history) = verb(&bench.dev, &["history", "--json"]);
    for what in ["backup", "restore"] {
        assert!(
            history.contains(&format!("\"what\":\"{what}\"")),
            "{history}"
        );
    }
}

fn restored(bench: &Bench, password: &str, data: &str) -> (u16, Value) {
    let body = json!({"password": password, "data": data}).to_string();
    bench.json_at(2, &["-d", &body], "/v1/settings/restore/")
}

fn strange_ones_are_refused(bench: &Bench, data: &str) {
    for (password, data) in [
        ("the password of another", data),
        ("the password of the backup", "AAAA"),
        ("the password of the backup", &data[..200]),
    ] {
        let (status, answer) = restored(bench, password, data);
        assert_eq!((status, code(&answer)), (400, 1009), "{answer}");
    }
}

fn what_was_is_back(bench: &Bench) {
    for webapp in [1, 2] {
        let (status, found) = bench.json_at(webapp, &[], APPLICATION);
        assert_eq!(status, 200, "the login of whoever asked stays");
        assert_eq!(
            found["settings"]["application"]["callback_backoff_delay_ms"], 4000,
            "{found}"
        );
        let (_, list) = bench.json_at(webapp, &[], PROVIDERS);
        let list = &list["settings"]["application"]["media"]["providers"];
        assert_eq!(list[0]["name"], "cdn", "{list}");
    }
}
