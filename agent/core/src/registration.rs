//! The registration of the number at the upstream: the intent that is stored for it, and the errand of the owner who makes
//! the calls. No call is made twice by itself, whoever dies when: the upstream takes ten registrations in 72 hours.
//! Makes no call and stores nothing: the primary master admits, `coreapp/registration` carries the errand out.
//!
//! The intent is one row with a version. A master admits a wish in it, one at a time. The owner of shard 0 claims a call in it
//! under its epoch before the first byte leaves, and writes the outcome. A successor that finds a claim makes it unknown:
//! only a person may ask again then. A claim needs the attempt that a master admitted, so that a request which arrives twice,
//! or late, finds its attempt used up.

use crate::id::{Epoch, Grant};

/// Somebody who was admitted and is not heard of any more gives way to the next one after so long.
pub const ADMITTED_FOR_MS: u64 = 30_000;
/// A pin is kept for so long.
pub const PIN_FOR_MS: u64 = 24 * 3600 * 1000;
/// What came of an attempt is told for so long: as long as the upstream counts.
const TOLD_FOR_MS: u64 = 72 * 3600 * 1000;
/// A time that is further ahead than this is from before the clock was set back.
const AHEAD_MAX_MS: u64 = 60_000;
/// The upstream's number for a pin that is not the number's.
const WRONG_PIN: u32 = 133_005;

/// A call of the upstream that uses something up, or changes what customers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// It sends a code by SMS or voice.
    RequestCode,
    VerifyCode,
    Register,
}

impl Call {
    /// As the upstream calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestCode => "request_code",
            Self::VerifyCode => "verify_code",
            Self::Register => "register",
        }
    }
}

/// What a person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// `POST /v1/account`: register, or ask for a code.
    Ask,
    /// `POST /v1/account/verify`.
    Verify,
}

/// The tenure that claimed a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    pub epoch: Epoch,
    pub grant: Grant,
}

/// Where the registration stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Step {
    /// Nobody asked through this cluster.
    #[default]
    Idle,
    /// A master let it in; no owner has begun it.
    Admitted { wish: Wish },
    /// An owner is making a call, or died in it.
    Calling { call: Call, by: Claim },
    /// A code is on its way to the number.
    CodeSent,
    /// The number is registered.
    Done,
    /// The upstream refused a call, with this number; 0: whoever answered was not its API.
    Refused { call: Call, vendor: u32 },
    /// A call was not made, and nothing was used up.
    NotMade { call: Call },
    /// Nobody knows what became of a call.
    Unknown { call: Call },
}

/// A pin as it is kept: sealed, and since when by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pin {
    pub sealed: String,
    pub at_ms: u64,
}

/// The stored intent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Intent {
    /// Counts the admissions.
    pub attempt: u64,
    pub step: Step,
    /// When it came to this step, by the database's clock.
    pub at_ms: u64,
    pub pin: Option<Pin>,
}

/// `at_ms` is at most `span_ms` ago, or so little ahead that two clocks may differ by it.
fn lately(at_ms: u64, now_ms: u64, span_ms: u64) -> bool {
    match now_ms.checked_sub(at_ms) {
        Some(age) => age < span_ms,
        None => at_ms - now_ms < AHEAD_MAX_MS,
    }
}

impl Intent {
    /// The same at another step.
    fn at(&self, step: Step, now_ms: u64) -> Self {
        Self {
            step,
            at_ms: now_ms,
            ..self.clone()
        }
    }

    /// A call is being made, or is about to be.
    pub fn runs(&self, now_ms: u64) -> bool {
        match self.step {
            Step::Admitted { .. } => lately(self.at_ms, now_ms, ADMITTED_FOR_MS),
            // Until its owner, or the next one, says what became of it.
            Step::Calling { .. } => true,
            Step::Idle
            | Step::CodeSent
            | Step::Done
            | Step::Refused { .. }
            | Step::NotMade { .. }
            | Step::Unknown { .. } => false,
        }
    }

    /// The intent once a master has let a wish in; `None`: another one runs.
    pub fn admit(&self, wish: Wish, now_ms: u64) -> Option<Self> {
        (!self.runs(now_ms)).then(|| Self {
            attempt: self.attempt + 1,
            ..self.at(Step::Admitted { wish }, now_ms)
        })
    }

    /// The intent as an owner leaves it that has no call in hand: a claim is of an owner that died, or of an errand that was
    /// dropped. `None`: it stays as it is.
    pub fn orphaned(&self, now_ms: u64) -> Option<Self> {
        match self.step {
            Step::Calling { call, .. } => Some(self.at(Step::Unknown { call }, now_ms)),
            Step::Idle
            | Step::Admitted { .. }
            | Step::CodeSent
            | Step::Done
            | Step::Refused { .. }
            | Step::NotMade { .. }
            | Step::Unknown { .. } => None,
        }
    }

    /// The intent without a pin that is too old; `None`: it stays as it is.
    pub fn without_old_pin(&self, now_ms: u64) -> Option<Self> {
        match self.kept_pin(now_ms) {
            None => self.without_pin(now_ms),
            Some(_) => None,
        }
    }

    /// The intent without its pin, because the number has another one; `None`: it stays as it is.
    pub fn without_pin(&self, now_ms: u64) -> Option<Self> {
        (self.pin.is_some() && !self.runs(now_ms)).then(|| Self {
            pin: None,
            ..self.clone()
        })
    }

    /// The pin that may still be used.
    pub fn kept_pin(&self, now_ms: u64) -> Option<&Pin> {
        let pin = self.pin.as_ref()?;
        lately(pin.at_ms, now_ms, PIN_FOR_MS).then_some(pin)
    }
}

/// What the upstream says of the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number {
    /// It is in service on the Cloud API.
    pub registered: bool,
    /// It was verified by a code.
    pub verified: bool,
    /// A new name was approved, and shows once it is registered again.
    pub new_name: bool,
}

impl Number {
    /// The call that it needs, if any.
    fn next(self, has_pin: bool) -> Option<Call> {
        match (self.registered, has_pin) {
            (true, true) if self.new_name => Some(Call::Register),
            (true, _) => None,
            (false, true) if self.verified => Some(Call::Register),
            (false, _) => Some(Call::RequestCode),
        }
    }
}

/// What became of a write of the intent, which names its version and the tenure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Another version is there, or another owner: this errand is over.
    Lost,
    /// The database did not say.
    Unknown,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    Refused(u32),
    /// Not one byte of it left.
    NotMade,
    Unknown,
}

/// What an errand is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `None`: the upstream did not say.
    Number(Option<Number>),
    Written(Written),
    Answered(Answer),
}

/// What an errand asks for, one after the other; each comes back as an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the upstream about the number: changes nothing there.
    Look,
    /// Store the intent, if the version is still the one that the errand knows and the tenure lives. `must`: again until the
    /// database has said what became of it, or the tenure is over.
    Write {
        intent: Intent,
        must: bool,
    },
    /// Make a call, once.
    Make(Call),
    End(End),
}

/// How an errand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Registered,
    CodeSent,
    Refused {
        call: Call,
        vendor: u32,
    },
    /// Nothing was used up.
    NotMade(Call),
    Unknown(Call),
    /// There is no pin, and every registration needs one.
    PinMissing,
    /// Another attempt took its place.
    Superseded,
}

/// Where an errand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Looking,
    /// This call is being claimed.
    Claiming(Call),
    Making(Call),
    /// The last write; then it ends like this.
    Ending(End),
}

/// The way of one attempt through the upstream's calls, as the owner walks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    own: Claim,
    intent: Intent,
    has_pin: bool,
    at: At,
}

impl Errand {
    /// Begins an attempt, and says what to do first. `pin`: what came with the request, sealed. `other_pin`: there is one that
    /// needs no keeping. `None`: this attempt is not admitted (any more); nothing is to be done.
    pub fn begin(
        own: Claim,
        intent: Intent,
        (attempt, wish): (u64, Wish),
        (pin, other_pin): (Option<Pin>, bool),
        now_ms: u64,
    ) -> Option<(Self, Action)> {
        if intent.attempt != attempt || intent.step != (Step::Admitted { wish }) {
            return None;
        }
        let kept = intent.kept_pin(now_ms).cloned();
        let intent = Intent {
            pin: pin.or(kept),
            ..intent
        };
        let mut errand = Self {
            own,
            has_pin: other_pin || intent.pin.is_some(),
            intent,
            at: At::Looking,
        };
        let action = match wish {
            Wish::Ask => Action::Look,
            Wish::Verify if errand.has_pin => errand.claim(Call::VerifyCode, now_ms),
            Wish::Verify => {
                let call = Call::VerifyCode;
                errand.end(Step::NotMade { call }, End::PinMissing, now_ms)
            }
        };
        Some((errand, action))
    }

    /// The intent as this errand wrote it last, or is writing it.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// What to do next.
    pub fn step(&mut self, event: Event, now_ms: u64) -> Action {
        match (self.at, event) {
            (At::Looking, Event::Number(number)) => self.looked(number, now_ms),
            (At::Claiming(call), Event::Written(Written::Done)) => {
                self.at = At::Making(call);
                Action::Make(call)
            }
            // Whether the claim is there is not known: the owner that looks for orphans says so in the row.
            (At::Claiming(call), Event::Written(Written::Unknown)) => {
                Action::End(End::NotMade(call))
            }
            (At::Making(call), Event::Answered(answer)) => self.answered(call, answer, now_ms),
            (At::Ending(end), Event::Written(_)) => Action::End(end),
            (At::Claiming(_), Event::Written(Written::Lost)) => Action::End(End::Superseded),
            // Nothing else was asked for.
            (
                At::Looking | At::Claiming(_) | At::Making(_) | At::Ending(_),
                Event::Number(_) | Event::Written(_) | Event::Answered(_),
            ) => Action::End(End::Superseded),
        }
    }

    fn looked(&mut self, number: Option<Number>, now_ms: u64) -> Action {
        let Some(number) = number else {
            let call = Call::RequestCode;
            return self.end(Step::NotMade { call }, End::NotMade(call), now_ms);
        };
        match number.next(self.has_pin) {
            Some(call) => self.claim(call, now_ms),
            None => {
                // Nothing will ask for it any more.
                self.intent.pin = None;
                self.end(Step::Done, End::Registered, now_ms)
            }
        }
    }

    fn answered(&mut self, call: Call, answer: Answer, now_ms: u64) -> Action {
        match (answer, call) {
            (Answer::Accepted, Call::RequestCode) => {
                self.end(Step::CodeSent, End::CodeSent, now_ms)
            }
            // One write: the number is verified, and the registration claimed.
            (Answer::Accepted, Call::VerifyCode) => self.claim(Call::Register, now_ms),
            (Answer::Accepted, Call::Register) => {
                self.intent.pin = None;
                self.end(Step::Done, End::Registered, now_ms)
            }
            (Answer::Refused(vendor), call) => {
                if vendor == WRONG_PIN {
                    self.intent.pin = None;
                }
                let step = Step::Refused { call, vendor };
                self.end(step, End::Refused { call, vendor }, now_ms)
            }
            (Answer::NotMade, call) => self.end(Step::NotMade { call }, End::NotMade(call), now_ms),
            (Answer::Unknown, call) => self.end(Step::Unknown { call }, End::Unknown(call), now_ms),
        }
    }

    fn claim(&mut self, call: Call, now_ms: u64) -> Action {
        self.at = At::Claiming(call);
        let by = self.own;
        self.intent = self.intent.at(Step::Calling { call, by }, now_ms);
        self.write(false)
    }

    fn end(&mut self, step: Step, end: End, now_ms: u64) -> Action {
        self.at = At::Ending(end);
        self.intent = self.intent.at(step, now_ms);
        self.write(true)
    }

    fn write(&self, must: bool) -> Action {
        Action::Write {
            intent: self.intent.clone(),
            must,
        }
    }
}

/// What people are told of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// It needs somebody to do something.
    pub wrong: bool,
    /// What happened, and what to type.
    pub says: String,
}

impl Intent {
    /// What `status` and `explain` say of it; `None`: nothing worth a word.
    pub fn told(&self, now_ms: u64) -> Option<Told> {
        const ASK: &str = "POST /v1/account";
        const VERIFY: &str = "POST /v1/account/verify";
        let told = |wrong, says| Some(Told { wrong, says });
        let again = |call: Call| match call {
            Call::RequestCode | Call::Register => ASK,
            Call::VerifyCode => VERIFY,
        };
        if !self.runs(now_ms) && !lately(self.at_ms, now_ms, TOLD_FOR_MS) {
            return None;
        }
        match self.step {
            Step::Idle | Step::Done => None,
            Step::Admitted { .. } if self.runs(now_ms) => told(
                false,
                "a registration of the number was admitted and begins in a moment".into(),
            ),
            Step::Admitted { .. } => told(
                true,
                format!(
                    "a registration of the number was admitted, and no owner began it. Nothing was used up; type {ASK} again"
                ),
            ),
            Step::Calling { call, .. } => told(
                false,
                format!(
                    "a registration of the number runs: WhatsApp is asked for {}",
                    call.as_str()
                ),
            ),
            Step::CodeSent => told(
                false,
                format!("WhatsApp sent a code to the number; type {VERIFY} with that code"),
            ),
            Step::Refused { call, vendor } => told(
                true,
                format!(
                    "the registration of the number failed: WhatsApp refused {} with code {vendor}; correct that, then type {}",
                    call.as_str(),
                    again(call)
                ),
            ),
            Step::NotMade { call } => told(
                true,
                format!(
                    "the registration of the number stopped before {}; nothing was used up by it. Type {} again",
                    call.as_str(),
                    again(call)
                ),
            ),
            Step::Unknown { call } => told(true, self.doubt(call)),
        }
    }

    /// A call was under way when its owner ended, or was not answered.
    fn doubt(&self, call: Call) -> String {
        let what = call.as_str();
        match call {
            Call::RequestCode => format!(
                "nobody knows whether WhatsApp took {what}: it was under way when its owner ended, or it was not answered. If a code \
                 arrives, type POST /v1/account/verify with it; else type POST /v1/account again"
            ),
            Call::VerifyCode | Call::Register => format!(
                "nobody knows whether WhatsApp took {what}: it was under way when its owner ended, or it was not answered. Type POST \
                 /v1/account again: it looks at the number first. WhatsApp takes 10 registrations in 72 hours"
            ),
        }
    }
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
