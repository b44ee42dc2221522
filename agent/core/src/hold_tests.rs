//! Goal: a refused account costs no message, and all go on by themselves. Method: the course of a hold, event by event, with the
//! actions and the pace after each, as a text that can be read.

use super::*;
use crate::outcome::Limit;

const S: fn(u64) -> Duration = Duration::from_secs;
const AT: fn(u64) -> Instant = |s| Instant::from_millis(s * 1000);
const TOKEN: Outcome = Outcome::Account(Account::Token);
const UNPAID: Outcome = Outcome::Account(Account::Payment);

fn came(outcome: Outcome) -> Event {
    Event::Came(Sort::Other, outcome)
}

/// Plays events at their seconds; each line: second, actions, pace after it.
fn play(hold: &mut Hold, events: &[(u64, Event)]) -> Vec<(u64, Vec<Action>, Pace)> {
    let mut seen = Vec::new();
    for (at, event) in events {
        let mut actions = Vec::new();
        hold.step(AT(*at), *event, &mut actions);
        seen.push((*at, actions, hold.pace()));
    }
    seen
}

#[test]
fn f05_a_refused_token_holds_until_it_is_taken_again() {
    let why = Why::Account(Account::Token);
    let mut hold = Hold::default();
    let seen = play(
        &mut hold,
        &[
            (0, came(Outcome::Sent)),
            (1, came(TOKEN)),
            // On their way when the first was refused.
            (1, came(TOKEN)),
            (1, came(Outcome::Sent)),
            (6, Event::Time),
            (6, Event::Probed(Probe::Refused(Account::Token))),
            (16, Event::Time),
            (16, Event::Probed(Probe::Nothing)),
            (20, Event::Nudged),
            (20, Event::Probed(Probe::Good)),
            (21, came(Outcome::Sent)),
            (22, came(Outcome::Sent)),
            (23, Event::Drained),
        ],
    );
    assert_eq!(
        seen,
        [
            (0, vec![], Pace::Full),
            (1, vec![Action::Tell(why)], Pace::None),
            (1, vec![], Pace::None),
            (1, vec![], Pace::None),
            (6, vec![Action::Probe], Pace::None),
            (6, vec![], Pace::None),
            (16, vec![Action::Probe], Pace::None),
            (16, vec![], Pace::None),
            (20, vec![Action::Probe], Pace::None),
            (20, vec![], Pace::One),
            (21, vec![Action::TellAgain(why)], Pace::Half),
            (22, vec![], Pace::Half),
            (23, vec![], Pace::Full),
        ]
    );
    assert_eq!(hold.why(), None);
}

/// Goal: an account that answers questions and refuses messages meets one message after each pause, and the pauses grow to their
/// bound. Method: a locked account for an hour.
#[test]
fn f05_a_locked_account_meets_few_messages() {
    let mut hold = Hold::default();
    let mut actions = Vec::new();
    let locked = came(Outcome::Account(Account::Locked));
    hold.step(AT(0), locked, &mut actions);
    let (mut messages, mut longest, mut last) = (0, Duration::ZERO, AT(0));
    while let Some(at) = hold.deadline().filter(|at| *at < AT(3600)) {
        hold.step(at, Event::Time, &mut actions);
        hold.step(at, Event::Probed(Probe::Good), &mut actions);
        assert_eq!(hold.pace(), Pace::One);
        hold.step(at, locked, &mut actions);
        assert_eq!(hold.pace(), Pace::None);
        messages += 1;
        (longest, last) = (longest.max(at.since(last)), at);
    }
    assert!((55..=65).contains(&messages), "{messages}");
    assert_eq!(longest, S(60));
    let told = actions.iter().filter(|a| matches!(a, Action::Tell(_)));
    assert_eq!(told.count(), 1, "told once");
    assert_eq!(hold.why(), Some((Why::Account(Account::Locked), AT(0))));
}

/// Goal: a question that nobody answers is asked again.
#[test]
fn a_lost_question_is_asked_again() {
    let mut hold = Hold::default();
    let mut actions = Vec::new();
    hold.step(AT(0), came(TOKEN), &mut actions);
    for n in 0..3 {
        actions.clear();
        hold.step(AT(5 + 30 * n), Event::Time, &mut actions);
        assert_eq!(actions, [Action::Probe], "{n}");
    }
}

/// Goal (F07): an upstream that answers nothing to be understood makes few messages ones of unknown fate. Method: unknown
/// outcomes with and without another answer between them.
#[test]
fn f07_trouble_stops_the_queue() {
    let mut hold = Hold::default();
    let mut actions = Vec::new();
    for _ in 0..20 {
        for _ in 0..7 {
            hold.step(AT(0), came(Outcome::Unknown), &mut actions);
        }
        hold.step(AT(0), came(Outcome::Rejected(Limit::Pair)), &mut actions);
    }
    assert_eq!((hold.pace(), actions.len()), (Pace::Full, 0));
    for _ in 0..8 {
        hold.step(AT(0), came(Outcome::Unknown), &mut actions);
    }
    assert_eq!(actions, [Action::Tell(Why::Trouble)]);
    assert_eq!(hold.pace(), Pace::None);
    hold.step(AT(5), Event::Time, &mut actions);
    hold.step(AT(5), Event::Probed(Probe::Good), &mut actions);
    hold.step(AT(5), came(Outcome::Unknown), &mut actions);
    assert_eq!(hold.pace(), Pace::None, "one message showed it");
    assert_eq!(hold.deadline(), Some(AT(15)), "and the pause is longer");
}

/// Goal: what is not paid for holds its own sort, and one message of it is tried after each pause.
#[test]
fn f05_payment_holds_its_own_sort() {
    let why = Why::Account(Account::Payment);
    let mut hold = Hold::default();
    let mut actions = Vec::new();
    let template = |outcome| Event::Came(Sort::Template, outcome);
    hold.step(AT(0), template(UNPAID), &mut actions);
    hold.step(AT(0), came(Outcome::Sent), &mut actions);
    assert_eq!(actions, [Action::Tell(why)]);
    assert_eq!(hold.pace(), Pace::Full);
    assert_eq!(hold.admit(AT(10), Sort::Template), Some(S(50)));
    assert_eq!(hold.admit(AT(10), Sort::Other), None);
    assert_eq!(hold.admit(AT(60), Sort::Template), None, "one is tried");
    assert_eq!(
        hold.admit(AT(60), Sort::Template),
        Some(S(60)),
        "and no other"
    );
    hold.step(AT(61), template(UNPAID), &mut actions);
    assert!(hold.admit(AT(62), Sort::Template).is_some());
    assert_eq!(hold.why(), Some((why, AT(0))));
    hold.step(AT(300), template(Outcome::Sent), &mut actions);
    assert_eq!(hold.admit(AT(300), Sort::Template), None);
    assert_eq!(actions, [Action::Tell(why), Action::TellAgain(why)]);
    assert_eq!(hold.why(), None);
}

/// Goal: nodes and people have words for every reason.
#[test]
fn every_reason_has_its_words() {
    for account in Account::ALL {
        let why = Why::Account(*account);
        assert_eq!(Why::of(why.as_str()), Some(why));
        assert!(!why.says().is_empty() && !why.remedy("wa-coreapp@1").is_empty());
    }
    assert_eq!(Why::of(Why::Trouble.as_str()), Some(Why::Trouble));
    assert_eq!(Why::of("newer"), None);
}

/// Goal: one message that is refused in the words of the account does not hold up all others for ever. Method: it is refused
/// again and again, while others are taken, and while none is.
#[test]
fn a_message_that_is_refused_itself_is_found() {
    let mut hold = Hold::default();
    let mut actions = Vec::new();
    for _ in 0..9 {
        assert!(!hold.itself("m"), "nobody else was taken");
    }
    hold.step(AT(1), came(Outcome::Sent), &mut actions);
    assert!(!hold.itself("m"));
    assert!(!hold.itself("m"));
    hold.step(AT(2), came(Outcome::Sent), &mut actions);
    assert!(!hold.itself("other"));
    assert!(hold.itself("m"));
    assert!(!hold.itself("m"), "and forgotten");
}

/// Goal: the rare try of a hold for payment is spent by a call only. Method: a try that is given back, one that is refused, and a
/// try that nobody took.
#[test]
fn a_try_without_a_call_is_given_back() {
    let mut hold = Hold::default();
    play(&mut hold, &[(0, came(UNPAID))]);
    hold.give_back(AT(1), Sort::Other);
    assert_eq!(hold.admit(AT(1), Sort::Other), Some(S(59)), "none was out");
    assert_eq!(hold.admit(AT(60), Sort::Other), None);
    assert!(hold.admit(AT(61), Sort::Other).is_some(), "one is out");
    hold.give_back(AT(62), Sort::Other);
    assert_eq!(hold.admit(AT(62), Sort::Other), None, "the next one");
    play(&mut hold, &[(63, came(UNPAID))]);
    let pause = S(63 + 120).saturating_sub(S(64));
    assert_eq!(hold.admit(AT(64), Sort::Other), Some(pause), "it was spent");
    assert!(hold.unpaid_sort(Sort::Other) && !hold.unpaid_sort(Sort::Template));
}
