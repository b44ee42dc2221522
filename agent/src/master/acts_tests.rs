//! What a taken webapp could do with the console's acts, sentence by sentence (packaging/SECURITY.md): over real HTTP at the control port
//! of a master, with the webapps' part of the key, and tokens in a real database.

use axum::Router;
use axum::body::to_bytes;
use secrecy::SecretString;
use serde::Serialize;

use super::*;
use crate::api::act::{Act as _, risk_of};
use crate::api::control::{KeysPhase, KeysStep};
use crate::api::parked::{self, What, Wish};
use crate::db::user::User;
use crate::master::asker::token_hash;
use crate::net::keys::for_webapps;

const ADMIN: &str = "the administrator's token";
const USER: &str = "a token of ROLE_USER";
const ENDED: &str = "a token that was ended";
const STRANGE: &str = "guess";
/// As the audit names who acts.
const WHO: &str = "admin console at web:webapp-1 (127.0.0.1)";

/// A webapp's part of the cluster key, and nothing else.
fn part() -> Keys {
    Keys::new(for_webapps("5a".repeat(32).as_bytes()).as_bytes())
}

async fn bench(acts: Acts) -> Bench {
    let bench = Bench::with(acts).await;
    for (name, admin, tokens) in [("admin", 1, &[ADMIN, ENDED][..]), ("bot1", 0, &[USER][..])] {
        let user = User {
            username: name.into(),
            password_hash: "none".into(),
            admin,
            must_change: 0,
        };
        assert!(bench.control.db.create_user(&user).await.expect("stored"));
        for token in tokens {
            let hash = token_hash(token);
            let stored = bench.control.db.store_token(&hash, &user, 60_000);
            assert!(stored.await.expect("stored"));
        }
    }
    let ended = bench.control.db.revoke_token(&token_hash(ENDED)).await;
    ended.expect("ended");
    bench
}

fn operate(verb: Verb) -> OperatorRequest {
    OperatorRequest {
        verb,
        dry_run: false,
        reason: Some("new\ndisk".into()),
        by: Some("web:webapp-1".into()),
    }
}

fn pause() -> OperatorRequest {
    operate(Verb::Pause {
        shard: None,
        for_ms: Some(60_000),
    })
}

fn switchover() -> SwitchoverRequest {
    SwitchoverRequest {
        by: Some("web:webapp-1".into()),
        ..SwitchoverRequest::default()
    }
}

fn wish(what: What) -> Wish {
    Wish {
        what,
        ids: Vec::new(),
        upto: None,
        dry_run: false,
        reason: None,
        by: Some("web:webapp-1".into()),
    }
}

/// Every verb that a master knows.
fn verbs() -> Vec<Verb> {
    let node = || "a:coreapp-9".to_owned();
    vec![
        Verb::Failover { shard: 0, to: None },
        Verb::Drain {
            node: node(),
            on: true,
        },
        Verb::Drain {
            node: node(),
            on: false,
        },
        Verb::Pause {
            shard: None,
            for_ms: Some(60_000),
        },
        Verb::Pause {
            shard: None,
            for_ms: None,
        },
        Verb::Forget { node: node() },
        Verb::Ack { shard: 0 },
        Verb::AckServer,
        Verb::Adopt,
        Verb::RetryEvents { key: None },
        Verb::RevokeTokens {
            user: "bot1".into(),
            token: None,
        },
    ]
}

impl Bench {
    /// What a webapp, or whoever has its key, sends with this token.
    async fn act(
        &self,
        token: &str,
        path: &str,
        wish: &impl Serialize,
    ) -> Result<(StatusCode, String), DeedError> {
        self.act_at(&self.base, token, path, wish).await
    }

    async fn act_at(
        &self,
        base: &str,
        token: &str,
        path: &str,
        wish: &impl Serialize,
    ) -> Result<(StatusCode, String), DeedError> {
        let at = At {
            base,
            node: Some("a:master-1"),
        };
        let (body, token) = (
            serde_json::to_vec(wish).expect("JSON"),
            SecretString::from(token),
        );
        let asked = (body, &token);
        let (status, body) = Doer::new(&part())
            .administrator(at, path, asked, WITHIN)
            .await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Nothing reached the loop, nothing was stored, nobody's token ended.
    async fn untouched(&self) {
        assert_eq!(
            (self.heard(), self.moved.lock().expect("whole").len()),
            (0, 0)
        );
        let history = self.control.db.decisions(10).await.expect("read");
        assert!(history.is_empty(), "{history:?}");
        let still = self.control.db.token_user(&token_hash(USER)).await;
        assert!(still.expect("read").is_some());
    }
}

/// Goal: a webapp's key alone does no act, nor does a token of ROLE_USER, one that has ended, or none: refused with a proof, nothing is
/// done, and the audit has a line, dry runs too. Method: each token at each path.
#[tokio::test]
async fn only_an_administrators_good_token_acts() {
    let bench = bench(Acts::All).await;
    let mut lines = 0;
    for (token, who, why) in [
        (
            USER,
            "bot1 console at web:webapp-1 (127.0.0.1) ",
            "Only the administrator",
        ),
        (ENDED, "- 127.0.0.1 an act by a console", "log in again"),
    ] {
        for dry_run in [false, true] {
            let asked = OperatorRequest { dry_run, ..pause() };
            let (status, said) = bench
                .act(token, path::OPERATE, &asked)
                .await
                .expect("proved");
            assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
            assert!(said.contains(why), "{said}");
            let written = bench.lines();
            lines += 1;
            assert_eq!(written.len(), lines, "{written:?}");
            let last = &written[lines - 1];
            assert!(
                last.starts_with(who) && last.contains("refused: "),
                "{last}"
            );
        }
    }
    for token in ["", STRANGE, USER] {
        let moved = bench.act(token, path::SWITCHOVER, &switchover()).await;
        assert_eq!(moved.expect("proved").0, StatusCode::FORBIDDEN);
        let parked = bench.act(token, parked::PATH, &wish(What::Purge)).await;
        assert_eq!(parked.expect("proved").0, StatusCode::FORBIDDEN);
    }
    bench.untouched().await;
}

/// Goal: this master's own `[console] acts` says what is done, verb by verb, whatever the webapp offers; a refusal names the setting, does
/// nothing, and leaves a line. Method: every verb and wish under each word, with an administrator's token.
#[tokio::test]
async fn this_masters_setting_says_which_acts_are_done() {
    for acts in [Acts::None, Acts::Safe, Acts::All] {
        let bench = bench(acts).await;
        let (mut done, mut refused) = (0, 0);
        for verb in verbs() {
            let allowed = acts.allow(risk_of(&verb));
            // A dry run: what the loop says to it is shown, and nothing is written.
            let asked = OperatorRequest {
                dry_run: true,
                ..operate(verb)
            };
            let (status, said) = bench
                .act(ADMIN, path::OPERATE, &asked)
                .await
                .expect("proved");
            if allowed {
                done += 1;
                assert_eq!(status, StatusCode::OK, "{said}");
            } else {
                refused += 1;
                assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
                assert!(
                    said.contains("[console] acts is") && said.contains("restart the masters"),
                    "{said}"
                );
            }
            assert_eq!(
                (bench.heard(), bench.lines().len()),
                (done, refused),
                "{said}"
            );
        }
        let wanted = SwitchoverRequest {
            dry_run: true,
            ..switchover()
        };
        let moved = bench.act(ADMIN, path::SWITCHOVER, &wanted);
        let expected = if acts == Acts::None {
            StatusCode::FORBIDDEN
        } else {
            StatusCode::OK
        };
        assert_eq!(moved.await.expect("proved").0, expected);
        for what in [What::Retry, What::Purge] {
            let wish = Wish {
                dry_run: true,
                ..wish(what)
            };
            let allowed = acts.allow(wish.risk());
            let (status, said) = bench.act(ADMIN, parked::PATH, &wish).await.expect("proved");
            assert_eq!(status == StatusCode::OK, allowed, "{acts} {what:?}: {said}");
        }
        let history = bench.control.db.decisions(10).await.expect("read");
        assert!(history.is_empty(), "{history:?}");
    }
}

/// Goal: an act is recorded like the verb: in the audit and in the history, with the administrator's name from the table of users, the
/// webapp's by its own word, and the reason. A webapp that was taken writes nobody else's name. Method: a pause, a switchover and a retry;
/// then one that says that it was typed by root.
#[tokio::test]
async fn an_act_is_recorded_like_the_verb() {
    let bench = bench(Acts::Safe).await;
    let (status, said) = bench
        .act(ADMIN, path::OPERATE, &pause())
        .await
        .expect("proved");
    assert_eq!(status, StatusCode::OK, "{said}");
    let by = "admin (console at web:webapp-1)";
    let heard = bench.heard.lock().expect("whole")[0].clone();
    assert_eq!(
        (heard.by.as_deref(), heard.reason.as_deref()),
        (Some(by), Some("new disk"))
    );
    let moved = bench.act(ADMIN, path::SWITCHOVER, &switchover()).await;
    assert_eq!(moved.expect("proved").0, StatusCode::OK);
    let parked = bench.act(ADMIN, parked::PATH, &wish(What::Retry)).await;
    assert_eq!(parked.expect("proved").0, StatusCode::OK);
    let mut forged = pause();
    forged.by = Some("root@core1.example".into());
    bench
        .act(ADMIN, path::OPERATE, &forged)
        .await
        .expect("proved");
    assert_eq!(
        bench.lines(),
        [
            format!("{WHO} pause failover of every shard for 60 s: done"),
            format!("{WHO} switchover of shard 0: done"),
            format!("{WHO} retry all parked webhooks: done"),
            "admin console at a webapp (127.0.0.1) pause failover of every shard for 60 s: done"
                .into(),
        ]
    );
    let history = bench.control.db.decisions(10).await.expect("read");
    let whats: Vec<&str> = history.iter().map(|one| one.what.as_str()).collect();
    assert_eq!(whats, ["pause", "switchover", "pause"]);
    let kept = bench
        .control
        .db
        .decision(history[0].id)
        .await
        .expect("read");
    let kept = format!("{kept:?}");
    assert!(kept.contains(by) && kept.contains("new disk"), "{kept}");
}

/// Goal: no administrator touches the cluster key by a webapp, whatever the setting, and none becomes an operator. Method: a step of a
/// rotation with an administrator's token under `all`; an operator's call with the webapps' part of the key.
#[tokio::test]
async fn keys_are_never_an_act() {
    let bench = bench(Acts::All).await;
    let step = KeysStep {
        from: "11".into(),
        to: "22".into(),
        phase: Some(KeysPhase::Accept),
        reason: None,
        by: None,
        dry_run: false,
    };
    let why = bench
        .act(ADMIN, path::KEYS, &step)
        .await
        .expect_err("refused");
    assert!(
        matches!(
            why,
            DeedError::Unproved {
                status: StatusCode::UNAUTHORIZED,
                ..
            }
        ),
        "{why}"
    );
    let at = At {
        base: &bench.base,
        node: None,
    };
    let body = serde_json::to_vec(&pause()).expect("JSON");
    let typed = Doer::new(&part())
        .operator(at, path::OPERATE, body, WITHIN)
        .await;
    assert!(matches!(typed, Err(DeedError::WebappKey)));
    let lines = bench.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("a verb at /control/keys: refused"),
        "{lines:?}"
    );
    bench.untouched().await;
}

/// What went through the relay: its header and its body.
type Kept = Arc<Mutex<Vec<(String, bytes::Bytes)>>>;

/// Goal: who stands between cannot have an act done twice, nor read the token. Method: a relay that keeps what it hands on, and sends it
/// once more.
#[tokio::test]
async fn an_act_that_was_heard_is_not_done_again() {
    let bench = bench(Acts::Safe).await;
    let kept = Kept::default();
    let (to, client) = (bench.base.clone(), InternalClient::of_looks(&part()));
    let relay = {
        let (kept, client, to) = (Arc::clone(&kept), client.clone(), to.clone());
        Router::new().fallback(async move |request: Request| {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1 << 20).await.expect("whole");
            let header = parts.headers.get("authorization");
            let header = header.map(|value| value.to_str().expect("plain").to_owned());
            if let Some(header) = &header {
                kept.lock()
                    .expect("whole")
                    .push((header.clone(), body.clone()));
            }
            let url = format!("{to}{}", parts.uri);
            let sent = client.show(parts.method, &url, header.as_deref(), body.to_vec(), WITHIN);
            let (status, answer) = sent.await.expect("answered");
            (status, answer).into_response()
        })
    };
    let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = listener.await.expect("bound");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let stop = CancellationToken::new();
    tokio::spawn(server::serve(listener, relay, stop.clone()));
    let (status, said) = bench
        .act_at(&base, ADMIN, path::OPERATE, &pause())
        .await
        .expect("proved");
    assert_eq!((status, bench.heard()), (StatusCode::OK, 1), "{said}");
    let (header, body) = kept.lock().expect("whole").pop().expect("the call");
    let token = ADMIN.as_bytes();
    assert!(!body.windows(token.len()).any(|part| part == token));
    assert!(!header.contains(ADMIN));
    let url = format!("{to}{}", path::OPERATE);
    let again = client.show(Method::POST, &url, Some(&header), body.to_vec(), WITHIN);
    let (status, said) = again.await.expect("answered");
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(String::from_utf8_lossy(&said).contains("not done twice"));
    assert_eq!(bench.heard(), 1);
    let lines = bench.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[1].contains("refused: this very call came before"),
        "{lines:?}"
    );
    stop.cancel();
}
