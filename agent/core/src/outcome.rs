//! What the answer to a send means for its message: which may be sent again by itself, which may have gone out already, which
//! waits because the account is refused, and which is over. Pure; `agent/src/api/cloud/code.rs` reads answers,
//! `coreapp/attempt.rs` acts on them.
//!
//! The line that carries weight runs between [`Outcome::Rejected`] and [`Outcome::Unknown`]. Only what the upstream refused
//! before it looked at the message is sent again at once. Whatever may have gone out waits for its receipt first.

use crate::guard::{Guard, on};
use crate::time::Duration;

/// What came back from one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Success in the documented shape: it names an id of the message.
    Accepted,
    /// An error object of the API.
    Refused(Refusal),
    /// An answer that is not the API's: success without an id, or the page of a proxy. It says nothing of the message.
    Foreign,
    /// No whole answer came, and bytes may have left.
    Lost,
}

/// An error object of the API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Status of the answer.
    pub status: u16,
    pub code: u32,
    pub subcode: u32,
}

/// What to do after one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The upstream has it and gave it an id.
    Sent,
    /// Refused before it was looked at: sent again by itself, after a pause.
    Rejected(Limit),
    /// It may have gone out: it waits for its receipt first.
    Unknown,
    /// The account is refused and no message: it is kept.
    Account(Account),
    /// Refused for hours: tried once more much later, never in a loop.
    WaitLong,
    /// Refused for good: reported `failed`.
    Failed,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The number's: all its messages slow down.
    Number,
    /// That of this number and this recipient: only they wait.
    Pair,
}

/// What the upstream refuses about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// The access token.
    Token,
    /// The app, or its access to the number.
    Denied,
    /// The account is locked.
    Locked,
    /// The number is not registered.
    Unregistered,
    /// It may be the account or the message: a question about the number tells.
    Suspected,
    /// Payment, for messages of this kind only.
    Payment,
}

impl Account {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Token,
        Self::Denied,
        Self::Locked,
        Self::Unregistered,
        Self::Suspected,
        Self::Payment,
    ];
}

/// What the upstream says to a question about the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Probe {
    /// It answers as documented.
    Good,
    /// It refuses this.
    Refused(Account),
    /// Nothing that could be understood.
    Nothing,
}

/// What an error object means (API facts, errors; numbers that nobody knows are final).
///
/// - 33 says that a parameter's value is wrong, and also that a number was deleted: a question about the number tells.
/// - 100 with subcode 33 says that the object of the call, which is our number, is not there or not ours. 100 alone speaks of a
///   parameter of this message and is final: a question would be asked for each bad message, and answered well.
/// - 130472 says that the customer is in an experiment of the upstream, and that the message is not delivered. It is final: the
///   upstream gives the same answer to every repetition while the experiment lasts, and other customers are not in it.
pub fn classify(refusal: Refusal) -> Outcome {
    let Refusal {
        status,
        code,
        subcode,
    } = refusal;
    match code {
        4 | 80_007 | 130_429 | 131_057 => Outcome::Rejected(Limit::Number),
        131_056 => Outcome::Rejected(Limit::Pair),
        1 | 2 | 131_000 | 131_016 | 133_004 => may_have_gone_out(),
        131_048 | 131_064 | 134_101 => Outcome::WaitLong,
        190 => Outcome::Account(Account::Token),
        3 | 131_005 => Outcome::Account(Account::Denied),
        368 | 131_031 => Outcome::Account(Account::Locked),
        133_010 => Outcome::Account(Account::Unregistered),
        131_042 => Outcome::Account(Account::Payment),
        _ if status == 401 => Outcome::Account(Account::Token),
        // A server's failure is no word on the account.
        0 | 10 | 33 | 200..=299 if status < 500 => Outcome::Account(Account::Suspected),
        100 if subcode == 33 && status < 500 => Outcome::Account(Account::Suspected),
        100 if subcode == 33 => may_have_gone_out(),
        _ if status >= 500 && !final_code(code) => may_have_gone_out(),
        _ => Outcome::Failed,
    }
}

/// Numbers that are final under every status: the number says more than the status.
fn final_code(code: u32) -> bool {
    matches!(code, 100 | 130_403..=130_497 | 131_008..=131_009 | 131_021..=131_063 | 132_000..=132_099 | 135_000 | 137_000)
}

/// The one place that calls a message one of unknown fate for what the upstream said.
fn may_have_gone_out() -> Outcome {
    match on(Guard::MayHaveGoneOut) {
        true => Outcome::Unknown,
        false => Outcome::Rejected(Limit::Number),
    }
}

impl Answer {
    /// What it means for the message.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Accepted => Outcome::Sent,
            Self::Refused(refusal) => classify(refusal),
            Self::Foreign | Self::Lost => may_have_gone_out(),
        }
    }
}

/// What becomes of a message whose refusal may be the account's, once the number was asked after. `None`: nobody knows yet, and
/// the message waits for a moment.
pub fn suspected(probe: Probe) -> Option<Outcome> {
    match probe {
        Probe::Good => Some(Outcome::Failed),
        Probe::Refused(account) => Some(Outcome::Account(account)),
        Probe::Nothing => None,
    }
}

/// A message that was refused for hours is tried once more after so long.
pub const LONG_WAIT: Duration = Duration::from_secs(900);

/// How long a message waits after [`Outcome::WaitLong`]; `None`: it has waited so once, and is over.
pub fn wait_long(waited: bool) -> Option<Duration> {
    (!waited).then_some(LONG_WAIT)
}

/// What becomes of a message of unknown fate whose receipt did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    /// Sent again after this pause: it may arrive twice.
    Again(Duration),
    /// Reported as failed: it may have arrived all the same.
    Report,
    /// It stays until a person decides.
    Person,
}

/// What is done with messages of unknown fate, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Send again after the window; `false`: report at once.
    pub resend: bool,
    /// Sends of unknown outcome that a message may have.
    pub sends_max: u32,
    /// After so many it is reported; `false`: it waits for a person.
    pub then_report: bool,
    /// The window: what pauses are measured by.
    pub window: Duration,
}

/// The longest pause between two sends of a message of unknown fate.
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// What becomes of a message whose window is over. `sends`: how often it was sent with unknown outcome, at least once. The first
/// repeat comes at once, since mostly a sender died; later ones after pauses that double, from twelve windows on.
pub fn after_window(sends: u32, policy: Policy) -> Next {
    if !policy.resend {
        return Next::Report;
    }
    if sends >= policy.sends_max.max(1) && on(Guard::UnknownHasAnEnd) {
        return match policy.then_report {
            true => Next::Report,
            false => Next::Person,
        };
    }
    let doublings = sends.saturating_sub(2).min(8);
    match sends {
        0 | 1 => Next::Again(Duration::ZERO),
        _ => Next::Again((policy.window * 12 * (1 << doublings)).min(AGAIN_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: u32, subcode: u32) -> Outcome {
        let refusal = Refusal {
            status,
            code,
            subcode,
        };
        Answer::Refused(refusal).outcome()
    }

    /// Goal: every number means what the facts say. Method: the classes of the facts as a table; what is in none is final.
    #[test]
    fn every_number_has_its_class() {
        use Account as A;
        for (outcome, codes) in [
            (
                Outcome::Rejected(Limit::Number),
                &[4, 80_007, 130_429, 131_057][..],
            ),
            (Outcome::Rejected(Limit::Pair), &[131_056]),
            (Outcome::Unknown, &[1, 2, 131_000, 131_016, 133_004]),
            (Outcome::WaitLong, &[131_048, 131_064, 134_101]),
            (Outcome::Account(A::Token), &[190]),
            (Outcome::Account(A::Denied), &[3, 131_005]),
            (Outcome::Account(A::Locked), &[368, 131_031]),
            (Outcome::Account(A::Unregistered), &[133_010]),
            (Outcome::Account(A::Payment), &[131_042]),
            (Outcome::Account(A::Suspected), &[0, 10, 33, 200, 250, 299]),
            (
                Outcome::Failed,
                &[
                    100,
                    130_403,
                    130_472,
                    130_497,
                    131_008,
                    131_009,
                    131_021,
                    131_026,
                    131_030,
                    131_045,
                    131_047,
                    131_049,
                    131_050,
                    131_051,
                    131_053,
                    131_062,
                    132_001,
                    132_015,
                    133_016,
                    137_000,
                    999_999,
                    u32::MAX,
                ],
            ),
        ] {
            for code in codes {
                assert_eq!(of(400, *code, 0), outcome, "{code}");
            }
        }
        assert_eq!(of(400, 100, 33), Outcome::Account(A::Suspected));
        assert_eq!(of(401, 999_999, 0), Outcome::Account(A::Token));
    }

    /// Goal: a status says something only where the number does not. Method: numbers of each sort under 503.
    #[test]
    fn a_number_says_more_than_the_status() {
        assert_eq!(of(503, 130_429, 0), Outcome::Rejected(Limit::Number));
        assert_eq!(of(500, 131_026, 0), Outcome::Failed);
        assert_eq!(of(500, 999_999, 0), Outcome::Unknown);
        assert_eq!(of(503, 131_005, 0), Outcome::Account(Account::Denied));
        assert_eq!(Answer::Foreign.outcome(), Outcome::Unknown);
        assert_eq!(Answer::Lost.outcome(), Outcome::Unknown);
        assert_eq!(Answer::Accepted.outcome(), Outcome::Sent);
    }

    /// Goal (S4): a server's failure is no word on the account: the message may have gone out. Method: every status of a failure with
    /// every number that could be the account's or the message's; below 500 they are a suspicion.
    #[test]
    fn a_servers_failure_is_no_suspicion() {
        let suspects = [0, 10, 33]
            .into_iter()
            .chain(200..=299)
            .map(|code| (code, 0));
        for (code, subcode) in suspects.chain([(100, 33)]) {
            for status in 500..=599 {
                let found = of(status, code, subcode);
                assert_eq!(found, Outcome::Unknown, "{status} {code}/{subcode}");
            }
            let found = of(403, code, subcode);
            assert_eq!(found, Outcome::Account(Account::Suspected), "{code}");
        }
        assert_eq!(of(500, 100, 0), Outcome::Failed);
    }

    #[test]
    fn a_suspicion_is_settled_by_a_question() {
        assert_eq!(suspected(Probe::Good), Some(Outcome::Failed));
        let token = Outcome::Account(Account::Token);
        assert_eq!(suspected(Probe::Refused(Account::Token)), Some(token));
        assert_eq!(suspected(Probe::Nothing), None);
    }

    /// Goal: what is refused for hours is tried once more and no oftener.
    #[test]
    fn a_long_wait_is_waited_once() {
        assert_eq!(wait_long(false), Some(LONG_WAIT));
        assert_eq!(wait_long(true), None);
    }

    /// Goal (F07): repeats have pauses that grow, and an end. Method: every number of sends, both settings.
    #[test]
    fn f07_repeats_grow_and_end() {
        let s = Duration::from_secs;
        let policy = Policy {
            resend: true,
            sends_max: 3,
            then_report: true,
            window: s(5),
        };
        assert_eq!(after_window(1, policy), Next::Again(Duration::ZERO));
        assert_eq!(after_window(2, policy), Next::Again(s(60)));
        assert_eq!(after_window(3, policy), Next::Report);
        let wait = Policy {
            then_report: false,
            ..policy
        };
        assert_eq!(after_window(3, wait), Next::Person);
        let many = Policy {
            sends_max: 100,
            ..policy
        };
        let mut before = Duration::ZERO;
        for sends in 2..100 {
            let Next::Again(pause) = after_window(sends, many) else {
                panic!("{sends}");
            };
            assert!(pause >= before && pause <= s(300), "{sends}: {pause:?}");
            before = pause;
        }
        assert_eq!(before, s(300));
        let report = Policy {
            resend: false,
            ..many
        };
        assert_eq!(after_window(1, report), Next::Report);
    }
}
