//! A tenure alone, against a database of the test's own making.

use std::time::Duration;

use wa_core::id::{Epoch, Generation, Grant, Incarnation, NodeId, Nonce, ShardId};
use wa_core::shard_map::{Phase, ShardRow};
use wa_core::tenure::{Action, Config, Event, Tenure};
use wa_core::time::{Drift, Instant};

const TTL: Duration = Duration::from_millis(3000);
const ME: Incarnation = Incarnation {
    counter: 1,
    random: 1,
};

fn config() -> Config {
    Config {
        node: NodeId::new("c1:coreapp-1"),
        incarnation: ME,
        ttl: TTL,
        drift: Drift(100),
        margin: Duration::from_millis(20),
        quiesce_max: Duration::from_secs(2),
        stop_max: Duration::from_secs(10),
        seed: 7,
    }
}

/// The shard's row, active, with this node as its owner.
fn row(epoch: u64) -> ShardRow {
    ShardRow {
        shard: ShardId(0),
        generation: Generation(1),
        phase: Phase::Active,
        owner: Some(config().node),
        incarnation: ME,
        epoch: Epoch(epoch),
        grant: Grant(1),
        ttl: TTL,
        nonce: Nonce(0),
        previous: Vec::new(),
    }
}

/// Runs until `until`, with a database that answers within a millisecond and takes no release; when they were tried.
fn releases(tenure: &mut Tenure, epoch: u64, from: Instant, until: Instant) -> Vec<u64> {
    let (mut now, mut tried) = (from, Vec::new());
    let mut events = vec![Event::Tick];
    while now < until {
        let mut actions = Vec::new();
        for event in std::mem::take(&mut events) {
            tenure.step(now, event, &mut actions);
        }
        for action in actions {
            match action {
                Action::Read => events.push(Event::Rows {
                    begun: now,
                    rows: vec![row(epoch)],
                }),
                Action::Release(_) => {
                    tried.push(now.as_millis());
                    events.push(Event::ReleaseDone);
                }
                Action::TryDisk(_) => events.push(Event::DiskTried { stored: true }),
                other => panic!("not of this test: {other:?}"),
            }
        }
        let next = now + Duration::from_millis(1);
        now = if events.is_empty() {
            events.push(Event::Tick);
            tenure.deadline().max(next)
        } else {
            next
        };
    }
    tried
}

/// Goal (F20): a grant that is over here is given back at once, but not at the speed of the database when that does not take
/// it. Method: every release comes to nothing for a minute; then another grant, which is given back at once as well.
#[test]
fn f20_a_release_that_cannot_be_written_is_tried_with_pauses() {
    let start = Instant::from_millis(1000);
    let mut tenure = Tenure::new(start, config(), Epoch(5));
    let minute = start + Duration::from_secs(60);
    let tried = releases(&mut tenure, 5, start, minute);
    assert!(tried[0] < 1010, "the first one at once: {}", tried[0]);
    let pause = u64::try_from(TTL.as_millis()).expect("small") / 8;
    assert!(
        tried.windows(2).all(|two| two[1] - two[0] >= pause),
        "{} in a minute",
        tried.len()
    );
    assert!(tried.len() >= 50, "it goes on: {}", tried.len());
    let tried = releases(&mut tenure, 4, minute, minute + Duration::from_secs(2));
    assert!(
        !tried.is_empty() && tried[0] - minute.as_millis() < 1010,
        "{tried:?}"
    );
}
