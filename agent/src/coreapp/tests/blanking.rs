//! The content of finished messages beside another release. Goal: as long as a coreapp that does not know empty rows may take over,
//! it finds what callbacks repeat. Method: a coreapp that says of itself what the release before said, and goes again.

use wa_core::id::NodeId;

use super::*;
use crate::api::v1::message::stored::BLANKED;
use crate::db::node::Registration;

const BEFORE: &str = "t:coreapp-9";

/// A coreapp of the release before, which is there.
async fn of_before(cluster: &Cluster) {
    let start = Incarnation {
        counter: 9,
        random: 9,
    };
    let node = NodeId::new(BEFORE);
    let said = cluster.db.tell_form(&node, start, BLANKED - 1).await;
    said.expect("said");
    let row = Registration {
        node,
        role: Role::Coreapp,
        incarnation: start,
        machine: "m9".into(),
        zone: String::new(),
        address: "127.0.0.1".into(),
        port_heartbeat: 1,
        port_control: 2,
        port_api: 3,
        version: "0".into(),
        weight: 0,
        keys: Default::default(),
    };
    cluster.db.register(&row).await.expect("written");
}

/// Sends messages until the content of one is as wanted afterwards.
async fn until(cluster: &Cluster, name: &str, wanted: impl Fn(&str) -> bool) -> String {
    within(async {
        for n in 0.. {
            let id = format!("{name}{n}");
            let payload = json!({"to": {"phone": "447700900456"}, "callback_data": "order-77", "content": {"text": {"body": "secret"}}});
            let message = Message {
                form: Form::NEWEST.number(),
                payload: payload.to_string(),
                ..message(&id, "")
            };
            cluster.accept_owned(&request(vec![message])).await;
            cluster.state_of(&id, MessageState::Sent).await;
            let rows = cluster.db.rows_of(&[&id]).await.expect("read");
            let content = rows[&id].payload.clone();
            if wanted(&content) {
                return content;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("it has no end")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn content_stays_while_an_owner_may_not_know_that_it_goes() {
    let cluster = Cluster::start(json!({})).await;
    let whole = |content: &str| content.contains("secret");
    let gone = |content: &str| !whole(content);
    let left = until(&cluster, "alone", gone).await;
    assert!(left.contains("order-77"), "{left}");
    of_before(&cluster).await;
    until(&cluster, "beside", whole).await;
    // The sweep leaves it alone, too: it is due already.
    let due = cluster.db.bodies_due(0, 100).await.expect("read");
    assert!(!due.is_empty());
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    let leaves = sqlx::query("DELETE FROM node WHERE node=?").bind(BEFORE);
    leaves.execute(pool).await.expect("gone");
    until(&cluster, "after", gone).await;
}
