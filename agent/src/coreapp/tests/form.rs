//! Forms of messages that this release does not read.

use super::*;

/// Goal: what this release cannot read is neither accepted, nor failed, nor sent as something else. Method: a request in a
/// newer form, and a row in one that was there before; then a release that reads it is played by rewriting the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_too_new_is_left_alone() {
    let cluster = Cluster::start(json!({})).await;
    assert!(
        !cluster
            .accept_owned(&request(vec![message("known", "hi")]))
            .await
            .is_empty()
    );
    let newer = Message {
        form: 9,
        ..message("newer", "hi")
    };
    // It holds up nobody who came with it.
    let both = request(vec![newer, message("known", "hi")]);
    let verdicts = vec![Acceptance::Unsettled, Acceptance::Duplicate];
    assert_eq!(
        cluster.accept(&both).await,
        OwnerAnswer::Settled(Settled::Accepted { verdicts })
    );
    cluster.state_of("known", MessageState::Sent).await;
    let Db::Sqlite(pool) = &cluster.db else {
        panic!("the embedded store");
    };
    let sql = "INSERT INTO message (id, body_hash, recipient, recipient_hash, payload, form, state, next_ms, accepted_ms) \
               SELECT 'row', body_hash, recipient, recipient_hash, ?, ?, 0, accepted_ms, accepted_ms FROM message WHERE id='known'";
    let content = message("known", "hi").payload;
    let done = sqlx::query(sql).bind(content).bind(9).execute(pool).await;
    done.expect("inserted");
    assert!(
        cluster
            .db
            .newer_form(Form::NEWEST.number())
            .await
            .expect("read")
    );
    // It was looked at and put off.
    within(async {
        let tried = "SELECT COUNT(*) FROM message WHERE id='row' AND state=0 AND attempts>0";
        loop {
            let row: (i64,) = sqlx::query_as(tried).fetch_one(pool).await.expect("read");
            if row.0 > 0 {
                break;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let done = sqlx::query("UPDATE message SET form=1, next_ms=0 WHERE id='row'");
    done.execute(pool).await.expect("written");
    cluster.state_of("row", MessageState::Sent).await;
    let ids: Vec<String> = cluster
        .db
        .message_states()
        .await
        .expect("read")
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}
