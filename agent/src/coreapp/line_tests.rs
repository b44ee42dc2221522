//! The line of messages that wait to be sent.

use super::*;
use crate::db::message::Finished;
use wa_core::hold::Sort;

fn route(recipient: &str) -> u32 {
    u32::from(recipient.as_bytes()[0])
}

fn message(id: &str, recipient: &str) -> Claimed {
    Claimed {
        seq: None,
        id: id.into(),
        recipient: recipient.into(),
        recipient_hash: i64::from(route(recipient)),
        form: 1,
        payload: String::new(),
        attempts: 0,
        age_ms: 0,
        doubt: 0,
        claimed: Instant::default(),
    }
}

/// Goal: one message at a time to a recipient, in order; others are not kept waiting.
#[test]
fn recipients_queue_behind_themselves_only() {
    let mut line = Line::new(80, 45, Arc::default());
    for (id, to) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")] {
        line.place(message(id, to));
    }
    let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&line), ["1", "3"]);
    line.ready.clear();
    line.next_of(route("a"));
    assert_eq!(ids(&line), ["2"]);
    line.next_of(route("b"));
    let left: Vec<String> = line.take_all().into_iter().map(|m| m.id).collect();
    assert_eq!(left, ["2", "4"]);
    line.next_of(route("a"));
    assert!(line.behind.is_empty());
}

/// Goal: a message whose file is on the way is overtaken by none of its customer's, and holds up nobody else; what is parked
/// has a bound. Method: one customer with a file and a text, another without; then many.
#[test]
fn a_parked_message_keeps_its_customers_line() {
    let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    let (now, later) = (
        Instant::from_millis(10),
        Instant::from_millis(10 + FILE_DELAY_MS),
    );
    let mut line = Line::new(80, 45, Arc::default());
    line.place(message("file", "a"));
    let file = line.ready.pop_front().expect("ready");
    line.park(now, file);
    line.place(message("text", "a"));
    line.place(message("other", "b"));
    assert_eq!(ids(&line), ["other"]);
    assert_eq!(line.unpark(now), Some(Duration::from_millis(FILE_DELAY_MS)));
    assert_eq!(ids(&line), ["other"]);
    assert_eq!(line.unpark(later), None);
    assert_eq!(ids(&line), ["other", "file"]);
    line.ready.clear();
    line.next_of(route("a"));
    assert_eq!(ids(&line), ["text"]);
    assert!(line.too_many_parked().is_empty());

    let mut line = Line::new(80, 45, Arc::default());
    line.place(message("file", "a"));
    let file = line.ready.pop_front().expect("ready");
    line.park(now, file);
    for n in 0..PARKED_MAX {
        line.place(message(&n.to_string(), "a"));
    }
    let back = line.too_many_parked();
    assert_eq!((back.len(), &*back[0].id), (PARKED_MAX + 1, "file"));
    line.place(message("next", "a"));
    assert_eq!(ids(&line), ["next"], "the line is free again");
    let file = line.ready.pop_front().expect("ready");
    line.park(now, file);
    assert_eq!(line.take_all().len(), 1, "a hold takes what is parked");
}

/// Goal: one customer that is refused holds up nobody else, is tried seldom, and keeps its order. Method: 10,000 others and 100
/// messages to the one, an hour of the line's own time, with a store that gives back what is due.
#[test]
fn one_refused_customer_among_ten_thousand() {
    let mut line = Line::new(1000, 45, Arc::default());
    let mut store: Vec<(Instant, u32, Claimed)> = Vec::new();
    for n in 0..10_100u32 {
        // Every hundredth is for the one.
        let one = n % 100 == 0 && n / 100 < 100;
        let to = if one { "a" } else { "b" };
        let mut message = message(&format!("{n}"), to);
        if !one {
            message.recipient_hash = i64::from(1_000_000 + n);
        }
        store.push((Instant::ZERO, n, message));
    }
    let (mut others, mut tries, mut last) = (0, 0, 0);
    let mut order = Vec::new();
    for ms in 0..3_600_000u64 {
        let now = Instant::from_millis(1000 + ms);
        // As the claimer does: what is due, by its due time and its number.
        store.sort_by_key(|(due, seq, _)| (*due, *seq));
        let due = store.partition_point(|(due, ..)| *due <= now).min(256);
        for (_, _, message) in store.drain(..due) {
            line.place(message);
        }
        let mut back = Vec::new();
        while line.rate.wait(now, 1).is_none() {
            let Some(next) = line.ready.pop_front() else {
                break;
            };
            let one = next.recipient == "a";
            let message = match line.admit(now, next) {
                Ok(message) => message,
                Err(late) => {
                    back.extend(late);
                    continue;
                }
            };
            let _ = line.rate.take(now, 1);
            if !one {
                others += 1;
                last = ms;
                line.next_of(message.route());
                continue;
            }
            tries += 1;
            // The customer is refused for ten minutes.
            if ms < 600_000 {
                let (wait, late) = line.refused(now, &message);
                line.next_of(message.route());
                back.push((message, wait));
                back.extend(late);
            } else {
                line.pairs.taken(message.route());
                order.push(message.id.parse::<u32>().expect("a number"));
                line.next_of(message.route());
            }
        }
        for (message, wait) in back {
            let seq = message.id.parse().expect("a number");
            store.push((now + Duration::from_millis(wait), seq, message));
        }
        if store.is_empty() && line.ready.is_empty() {
            break;
        }
    }
    assert_eq!(others, 10_000);
    assert!(last < 11_500, "the others took {last} ms");
    assert!(tries < 110, "{tries} tries for 100 messages");
    assert_eq!(order.len(), 100);
    assert!(order.is_sorted(), "{order:?}");
}

/// Goal: later messages of a customer wait behind one of unknown fate, no longer than they must, and nobody else does; what waits
/// has a bound. Method: one that comes back, and one that does not.
#[test]
fn later_ones_wait_behind_one_of_unknown_fate() {
    let at = Instant::from_millis;
    let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    let mut line = Line::new(80, 45, Arc::default());
    line.place(message("1", "a"));
    line.place(message("2", "a"));
    let first = line.ready.pop_front().expect("ready");
    line.block(&first, at(5000));
    line.place(message("3", "a"));
    line.place(message("other", "b"));
    assert_eq!(ids(&line), ["other"]);
    line.ready.clear();
    assert_eq!(line.unblock(at(4000)), Some(Duration::from_millis(1000)));
    // It is sent again, and they go behind it.
    line.place(first.clone());
    assert_eq!(ids(&line), ["1"]);
    assert_eq!(line.unblock(at(9000)), None);
    line.ready.clear();
    line.next_of(route("a"));
    assert_eq!(ids(&line), ["2"]);
    // It does not come back.
    line.ready.clear();
    line.block(&message("2", "a"), at(9000));
    assert_eq!(line.unblock(at(9000)), None);
    assert_eq!(ids(&line), ["3"]);
    line.ready.clear();
    line.block(&message("3", "a"), at(9000));
    for n in 0..=PARKED_MAX {
        line.place(message(&format!("m{n}"), "a"));
    }
    let back = line.too_many_blocked(at(8000));
    assert_eq!((back.len(), back[0].1), (PARKED_MAX + 1, 1000));
    line.place(message("later", "a"));
    line.unblock(at(10_999));
    assert_eq!(line.ready.len(), 0, "those come first");
    line.unblock(at(11_000));
    let last = line.ready.pop_front().expect("no longer");
    assert_eq!(last.id, "later");
    line.next_of(route("a"));
    assert!(!line.behind.contains_key(&route("a")), "nothing is left");
}

/// Goal: what went back into the store because too many waited keeps its order. Method: a customer with more than the bound behind a
/// message of unknown fate; one more is accepted before they come back.
#[test]
fn those_that_went_back_go_before_later_ones() {
    let at = Instant::from_millis;
    let mut line = Line::new(80, 45, Arc::default());
    line.block(&message("0", "a"), at(5000));
    let all = || (1..=PARKED_MAX + 1).map(|n| message(&n.to_string(), "a"));
    all().for_each(|message| line.place(message));
    let back = line.too_many_blocked(at(1000));
    assert_eq!((back.len(), back[0].1), (PARKED_MAX + 1, 4000));
    line.place(message("later", "a"));
    all().for_each(|message| line.place(message));
    let mut went = Vec::new();
    line.unblock(at(7000));
    while let Some(next) = line.ready.pop_front() {
        went.push(next.id);
        line.next_of(route("a"));
    }
    let mut wanted: Vec<String> = all().map(|message| message.id).collect();
    wanted.push("later".into());
    assert_eq!(went, wanted);
    assert!(line.behind.is_empty() && line.blocked.is_empty());
}

/// Goal: an answer that waits for a message cannot keep it from going. Method: the message was put off for longer than others wait
/// behind it; its answer is tried every few seconds meanwhile. Both go, the message first, and what came after them last.
#[test]
fn an_answer_lets_the_message_pass_that_it_names() {
    let at = Instant::from_millis;
    let longest = Duration::from_secs(6);
    let mut line = Line::new(80, 45, Arc::default());
    let (mut sent, mut due) = (Vec::new(), vec![(0, message("answer", "a"))]);
    due.push((3000, message("named", "a")));
    due.push((3500, message("later", "a")));
    for ms in (0..60_000).step_by(100) {
        line.unblock(at(ms));
        let (now_due, rest): (Vec<_>, Vec<_>) = due.into_iter().partition(|(at, _)| *at <= ms);
        due = rest;
        for (_, message) in now_due {
            line.place(message);
        }
        while let Some(next) = line.ready.pop_front() {
            if next.id == "answer" && !sent.contains(&"named".to_owned()) {
                line.block_once(at(ms), &next, longest, longest);
                due.push((ms + 4000, next));
            } else {
                line.found(&next.id);
                line.next_of(next.route());
                sent.push(next.id);
            }
        }
    }
    let place = |id: &str| sent.iter().position(|sent| sent == id);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!(place("named") < place("answer"), "{sent:?}");
    assert!(line.naming.is_empty() && line.behind.is_empty());
}

/// Goal: how often one message was tried says nothing of the number. Method: a message with many tries behind it is refused once.
#[test]
fn a_messages_past_is_not_the_numbers() {
    let mut line = Line::new(80, 45, Arc::default());
    let mut old = message("1", "a");
    old.attempts = 1000;
    let mut refused = Attempt::new(old, Finished::Retry { delay_ms: 60_000 });
    refused.came = Some((Sort::Other, Outcome::Rejected(Limit::Number)));
    let now = Instant::from_millis(1000);
    let pause = line.note(now, &refused, 0);
    assert_eq!(pause, Some(Duration::from_secs(1)));
    assert_eq!(line.rate.wait(now, 1), pause);
    refused.asked = Some(Duration::from_secs(5));
    assert_eq!(line.note(now, &refused, 0), refused.asked, "its own word");
}

/// Goal: who has written is answered in the next few turns, whatever is ready, and overtakes nothing of his own; the others get
/// on. Method: a campaign in hand; one who wrote before, one whose earlier message is ready, one whose is on its way.
#[test]
fn answers_go_before_a_campaign() {
    let replies = Arc::<Replies>::default();
    let mut line = Line::new(80, 45, Arc::clone(&replies));
    line.place(message("on its way", "c"));
    assert!(line.ready.pop_front().is_some_and(|m| m.id == "on its way"));
    for n in 0..500u32 {
        let mut other = message(&format!("o{n}"), "o");
        other.recipient_hash = i64::from(1000 + n);
        line.place(other);
    }
    line.place(message("b1", "b"));
    for who in ["a", "b", "c"] {
        replies.heard(route(who), Duration::ZERO);
    }
    for (id, to) in [("a1", "a"), ("a2", "a"), ("b2", "b"), ("c2", "c")] {
        line.place(message(id, to));
    }
    let mut order = Vec::new();
    for _ in 0..10 {
        let next = line.ready.pop_front().expect("many wait");
        line.next_of(next.route());
        if next.route() < 1000 {
            order.push(next.id);
        } else {
            order.push("other".to_owned());
        }
    }
    let wanted = ["a1", "b1", "a2", "other", "b2", "other", "other", "other"];
    assert_eq!(order[..8], wanted);
    line.next_of(route("c"));
    let next = line.ready.pop_front().expect("it is free now");
    assert_eq!(next.id, "c2");
}

/// Goal: a hold gives back what stands behind a message on its way, and the recipient goes on afterwards.
#[test]
fn a_hold_leaves_only_what_is_on_its_way() {
    let mut line = Line::new(80, 45, Arc::default());
    line.place(message("1", "a"));
    line.place(message("2", "a"));
    line.ready.clear();
    assert_eq!(line.take_all().len(), 1);
    line.place(message("3", "a"));
    assert!(line.ready.is_empty());
    line.next_of(route("a"));
    assert_eq!(line.ready.len(), 1);
}

fn left(id: &str, recipient: &str, due_ms: Option<u64>) -> Left {
    Left {
        seq: 0,
        id: id.into(),
        route: route(recipient),
        due_in: due_ms.map(Duration::from_millis),
    }
}

/// Goal: what an earlier owner left goes before all others of its customer, one at a time, as it comes; the others wait no longer than
/// they must, and nobody else waits. Method: a customer with two messages of unknown fate and one that was put off, others between.
#[test]
fn what_an_earlier_owner_left_goes_first() {
    let at = Instant::from_millis;
    let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    let mut line = Line::new(80, 45, Arc::default());
    let all = [
        left("1", "a", None),
        left("2", "a", None),
        left("late", "a", Some(1000)),
        left("c1", "c", Some(900_000)),
    ];
    line.inherit(at(0), &all, Duration::from_secs(7));
    for (id, to) in [("new", "a"), ("other", "b"), ("c2", "c")] {
        line.place(message(id, to));
    }
    assert_eq!(ids(&line), ["other"]);
    line.ready.clear();
    line.place(message("late", "a"));
    assert_eq!(ids(&line), ["late"]);
    line.place(message("1", "a"));
    line.place(message("newer", "a"));
    assert_eq!(ids(&line), ["late"], "one at a time");
    line.ready.clear();
    line.next_of(route("a"));
    assert_eq!(ids(&line), ["1"]);
    line.ready.clear();
    // It is put off, and goes first all the same.
    line.block(&message("1", "a"), at(6000));
    assert_eq!(ids(&line), [""; 0]);
    line.place(message("1", "a"));
    assert_eq!(ids(&line), ["1"]);
    line.ready.clear();
    line.next_of(route("a"));
    assert_eq!(ids(&line), [""; 0], "another one is left");
    assert!(line.unblock(at(6999)).is_some());
    assert_eq!(ids(&line), [""; 0]);
    line.unblock(at(7000));
    let mut now = ids(&line);
    now.sort();
    assert_eq!(now, ["c2", "new"], "no longer");
    line.ready.clear();
    line.next_of(route("a"));
    assert_eq!(ids(&line), ["newer"]);
}

/// Goal: what was accepted before a message that an earlier owner left does not wait for it, nor go behind it. Method: seed 51041718:
/// the second of three was on its way when its owner died, and the first one had been given back.
#[test]
fn earlier_messages_do_not_wait_for_a_later_one() {
    let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    let numbered = |seq: i64| Claimed {
        seq: Some(seq),
        ..message(&seq.to_string(), "a")
    };
    for order in [[1, 2, 3], [1, 3, 2], [3, 1, 2]] {
        let mut line = Line::new(80, 45, Arc::default());
        let second = Left {
            seq: 2,
            ..left("2", "a", None)
        };
        line.inherit(Instant::ZERO, &[second], Duration::from_secs(7));
        for seq in order {
            line.place(numbered(seq));
        }
        for next in ["1", "2", "3"] {
            assert_eq!(ids(&line), [next], "{order:?}");
            line.ready.clear();
            line.next_of(route("a"));
        }
        assert!(line.behind.is_empty() && line.blocked.is_empty());
    }
}

/// Goal: a message between two that an earlier owner left waits for the first of them, and goes before the second. Method: the first is
/// of unknown fate and comes late, the second was put off; once more, the first never comes.
#[test]
fn one_between_two_waits_for_the_first() {
    let at = Instant::from_millis;
    let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    let numbered = |seq: i64| Claimed {
        seq: Some(seq),
        ..message(&seq.to_string(), "a")
    };
    for comes in [true, false] {
        let mut line = Line::new(80, 45, Arc::default());
        let all = [(5, None), (9, Some(60_000))].map(|(seq, due)| Left {
            seq,
            ..left(&seq.to_string(), "a", due)
        });
        line.inherit(at(0), &all, Duration::from_secs(7));
        line.place(numbered(6));
        line.place(numbered(12));
        assert!(line.ready.is_empty(), "the fate of 5 is not known");
        if comes {
            line.place(numbered(5));
            for next in ["5", "6"] {
                assert_eq!(ids(&line), [next]);
                line.ready.clear();
                line.next_of(route("a"));
            }
            assert!(line.ready.is_empty(), "9 comes yet");
        }
        line.unblock(at(7000));
        let rest: &[&str] = if comes { &["12"] } else { &["6", "12"] };
        for next in rest {
            assert_eq!(ids(&line), [*next], "{comes}");
            line.ready.clear();
            line.next_of(route("a"));
        }
        assert!(line.behind.is_empty() && line.blocked.is_empty());
    }
}

/// Goal: a hold in the middle loses nothing, and those that an earlier owner left still go first afterwards. Method: one is ready,
/// one has come, one is still away.
#[test]
fn a_hold_keeps_what_goes_first() {
    let at = Instant::from_millis;
    let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    let mut line = Line::new(80, 45, Arc::default());
    let all = ["1", "2", "3"].map(|id| left(id, "a", None));
    line.inherit(at(0), &all, Duration::from_secs(7));
    for id in ["new", "1", "2"] {
        line.place(message(id, "a"));
    }
    let back: Vec<String> = line.take_all().into_iter().map(|m| m.id).collect();
    assert_eq!(back, ["1", "2", "new"]);
    assert!(line.take_all().is_empty());
    for id in ["1", "2", "new"] {
        line.place(message(id, "a"));
    }
    for id in ["1", "2"] {
        assert_eq!(ids(&line), [id]);
        line.ready.clear();
        line.next_of(route("a"));
    }
    assert!(line.ready.is_empty());
    line.place(message("3", "a"));
    for id in ["3", "new"] {
        assert_eq!(ids(&line), [id]);
        line.ready.clear();
        line.next_of(route("a"));
    }
    assert!(line.behind.is_empty() && line.blocked.is_empty());
}

/// Goal: what is waited for has a bound, and customers beyond it go on.
#[test]
fn not_all_customers_wait() {
    let mut line = Line::new(80, 45, Arc::default());
    let count = u32::try_from(BLOCKED_MAX).expect("few") + 1;
    let all = (0..count).map(|route| Left {
        route,
        ..left("1", "a", None)
    });
    let all: Vec<Left> = all.collect();
    line.inherit(Instant::ZERO, &all, Duration::from_secs(7));
    for (route, ready) in [(count - 2, 0), (count - 1, 1)] {
        let mut next = message("2", "a");
        next.recipient_hash = i64::from(route);
        line.place(next);
        assert_eq!(line.ready.len(), ready);
    }
}
