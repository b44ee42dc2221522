//! Carries a registration out: the errand of `wa_core::registration` with the row, the upstream and the clock around it.
//! Decides nothing, and begins nothing by itself: a person asks, the primary master admits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wa_core::registration::{Action, Answer, Claim, End, Errand, Event, Intent, Pin, Wish};
use wa_core::time::Instant;

use super::node::Node;
use super::pin;
use super::registration_row::{Ledger, Unread, reached, read, record, store};
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::registration::{self as cloud, State};
use crate::api::owner::{OwnerAnswer, Setback, Settled};
use crate::api::registration::{
    Asked, Backup, CodeMethod, Hidden, Outcome, StoredIntent, Verified,
};
use crate::api::v1::account::not_ours;
use crate::api::v1::code::Code;
use crate::log::seldom;
use crate::member::settings;
use crate::sys::clock;

/// How often the row is looked at for calls that nobody has in hand.
const SETTLE_EVERY: Duration = Duration::from_secs(5);
/// A look that the database did not answer is made again after this.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);

/// What a person brought along.
struct Brought {
    attempt: u64,
    wish: Wish,
    method: CodeMethod,
    number: Option<String>,
    code: Option<Hidden>,
    pin: Option<Hidden>,
    backup: Option<Backup>,
}

/// Registers the number, or asks for a code.
pub async fn ask(node: &Arc<Node>, work: &Arc<Work>, asked: Asked) -> OwnerAnswer {
    let brought = Brought {
        attempt: asked.attempt,
        wish: Wish::Ask,
        method: asked.method,
        number: asked.number,
        code: None,
        pin: asked.pin,
        backup: None,
    };
    carry_out(node, work, brought).await
}

/// Registers the number with the code that came.
pub async fn verify(node: &Arc<Node>, work: &Arc<Work>, with: Verified) -> OwnerAnswer {
    let brought = Brought {
        attempt: with.attempt,
        wish: Wish::Verify,
        method: CodeMethod::Sms,
        number: None,
        code: Some(with.code),
        pin: with.pin,
        backup: with.backup,
    };
    carry_out(node, work, brought).await
}

/// In a task of the tenure: whoever asked may go, and what was begun is still written down.
async fn carry_out(node: &Arc<Node>, work: &Arc<Work>, brought: Brought) -> OwnerAnswer {
    if work.own.shard.0 != 0 {
        return OwnerAnswer::Setback(Setback::NotOwner);
    }
    // The next owner has a connection, too.
    if work.held() {
        return OwnerAnswer::Setback(Setback::Busy);
    }
    let Some(held) = work.registering.take() else {
        return OwnerAnswer::Settled(Settled::Registration(superseded()));
    };
    let (told, outcome) = oneshot::channel();
    let (n, w) = (Arc::clone(node), Arc::clone(work));
    work.spawn(async move {
        // A switchover waits for it, within its bound.
        let accepting = w.accepting();
        let outcome = carry(&n, &w, brought).await;
        drop((accepting, held));
        let _ = told.send(outcome);
    });
    match outcome.await {
        Ok(outcome) => OwnerAnswer::Settled(Settled::Registration(outcome)),
        // The tenure ended in the middle of it.
        Err(_) => OwnerAnswer::Setback(Setback::Unknown),
    }
}

async fn carry(node: &Node, work: &Work, brought: Brought) -> Outcome {
    let (row, now_ms) = match read(node).await {
        Ok(read) => read,
        Err(why) => return unstored(&why),
    };
    let pins = Pins::of(node, &row.intent, brought.pin.clone(), now_ms);
    let (ticket, keep) = ((brought.attempt, brought.wish), pins.keep.clone());
    let own = Claim {
        epoch: work.own.epoch,
        grant: work.own.grant,
    };
    let ledger = Ledger::of(&row);
    let intent = Intent {
        pin: None,
        ..row.intent
    };
    let begun = Errand::begin(own, intent, ticket, (keep, pins.usable.is_some()), now_ms);
    let Some((mut errand, mut action)) = begun else {
        return superseded();
    };
    let mut carrier = Carrier {
        node,
        work,
        began: clock::now(),
        began_ms: now_ms,
        brought,
        pin: pins.usable,
        ledger,
        vname: String::new(),
        refusal: None,
        said: String::new(),
    };
    loop {
        let event = match action {
            Action::Look => Event::Number(carrier.look().await),
            Action::Write { intent, must } => {
                Event::Written(carrier.ledger.write(node, work, &intent, must).await)
            }
            Action::Make(call) => Event::Answered(carrier.make(call).await),
            Action::End(end) => return carrier.outcome(end),
        };
        action = errand.step(event, carrier.now_ms());
    }
}

/// The pin that is used, and the one that is kept.
struct Pins {
    usable: Option<Hidden>,
    keep: Option<Pin>,
}

impl Pins {
    /// What came with the request counts before what was kept, and that before the configured one.
    fn of(node: &Node, intent: &Intent, brought: Option<Hidden>, now_ms: u64) -> Self {
        if let Some(pin) = brought {
            let sealed = pin::seal(node, &pin);
            return Self {
                usable: Some(pin),
                keep: sealed.map(|sealed| Pin {
                    sealed,
                    at_ms: now_ms,
                }),
            };
        }
        let kept = intent.kept_pin(now_ms);
        let opened = kept.and_then(|kept| Some((pin::open(node, &kept.sealed)?, kept.clone())));
        if let Some((pin, kept)) = opened {
            return Self {
                usable: Some(pin),
                keep: Some(kept),
            };
        }
        let secret = &node.settings.upstream.pin;
        let configured = || {
            use secrecy::ExposeSecret as _;
            Hidden(secret.now().expose_secret().clone())
        };
        Self {
            usable: (!secret.is_empty()).then(configured),
            keep: None,
        }
    }
}

/// What an errand needs around it.
struct Carrier<'a> {
    node: &'a Node,
    work: &'a Work,
    /// When the errand began, by the own clock and by the database's.
    began: Instant,
    began_ms: u64,
    brought: Brought,
    pin: Option<Hidden>,
    ledger: Ledger,
    vname: String,
    /// Why the errand stops before any call.
    refusal: Option<Outcome>,
    /// The upstream's words to the last call.
    said: String,
}

impl Carrier<'_> {
    /// The database's clock, as it was when the errand began, and the time since.
    fn now_ms(&self) -> u64 {
        let since = clock::now().since(self.began).as_millis();
        self.began_ms + u64::try_from(since).unwrap_or(0)
    }

    /// Asks about the number; `None`: the errand stops here, and `refusal` says why where that is known.
    async fn look(&mut self) -> Option<wa_core::registration::Number> {
        let answered = self.work.upstream.call(&Call::NumberState).await;
        let (status, body) = answered.ok()?;
        let status = status.as_u16();
        let Some(state) = State::read(status, &body) else {
            if let (Answer::Refused(vendor), said) = cloud::answer(status, &body) {
                let call = wa_core::registration::Call::RequestCode;
                self.refusal = Some(cloud::refused(call, vendor, &said));
            }
            return None;
        };
        let named = self.brought.number.as_ref();
        if named.is_some_and(|named| !state.digits.is_empty() && *named != state.digits) {
            self.refusal = Some(failed(not_ours().code, not_ours().details, None));
            return None;
        }
        let renamed = state.registered && self.pin.is_some() && self.renamed().await;
        let number = state.number(renamed);
        self.vname = state.vname;
        Some(number)
    }

    async fn renamed(&self) -> bool {
        let answered = self.work.upstream.call(&Call::NewName).await;
        answered.is_ok_and(|(status, body)| cloud::new_name(status.as_u16(), &body))
    }

    /// Makes a call, once.
    async fn make(&mut self, call: wa_core::registration::Call) -> Answer {
        use wa_core::registration::Call as Step;
        let brought = &mut self.brought;
        let language = || self.node.settings.upstream.code_language.clone();
        let asked = match (call, &self.pin, brought.code.take()) {
            (Step::RequestCode, _, _) => Call::RequestCode {
                method: brought.method,
                language: language(),
            },
            (Step::VerifyCode, _, Some(code)) => Call::VerifyCode { code },
            (Step::Register, Some(pin), _) => Call::Register {
                pin: pin.clone(),
                backup: brought.backup.take(),
            },
            (Step::VerifyCode, _, None) | (Step::Register, None, _) => return Answer::NotMade,
        };
        match self.work.upstream.call(&asked).await {
            Ok((status, body)) => {
                let (answer, said) = cloud::answer(status.as_u16(), &body);
                tracing::info!(call = call.as_str(), %status, ?answer, "a registration: WhatsApp answered");
                self.said = said;
                answer
            }
            Err(error) => {
                tracing::warn!(call = call.as_str(), %error, "a registration: a call was not answered");
                match error.nothing_sent() {
                    true => Answer::NotMade,
                    false => Answer::Unknown,
                }
            }
        }
    }

    /// What the person is told.
    fn outcome(self, end: End) -> Outcome {
        match end {
            End::Registered => {
                self.node.set_unregistered(false);
                self.work.number_wanted.notify_one();
                Outcome::Registered
            }
            End::CodeSent => Outcome::CodeSent { vname: self.vname },
            End::Refused { call, vendor } => cloud::refused(call, vendor, &self.said),
            End::NotMade(call) => self.refusal.unwrap_or_else(|| cloud::not_made(call)),
            End::Unknown(call) => cloud::unknown(call),
            End::PinMissing => failed(
                Code::ParameterMissing,
                Some(
                    "pin: WhatsApp registers no number without one. Send \"pin\" along with the code, or set [upstream] pin_file. The code \
                     was not used up"
                        .into(),
                ),
                None,
            ),
            End::Superseded => superseded(),
        }
    }
}

fn failed(code: Code, details: Option<String>, retry_after_s: Option<u32>) -> Outcome {
    Outcome::Failed {
        code,
        details: details.unwrap_or_default(),
        retry_after_s,
    }
}

fn superseded() -> Outcome {
    let details = "Another registration runs, or took the place of this one: see wa-agent status";
    failed(Code::TooManyRequests, Some(details.into()), Some(10))
}

fn unstored(why: &Unread) -> Outcome {
    let details = format!("Nothing was asked of WhatsApp: {why}. Try again");
    failed(Code::NotReady, Some(details), Some(1))
}

/// Makes every call unknown that the row says is under way and that nobody has in hand: its owner died in it. Forgets a pin
/// that is too old. Nothing waits for it.
pub async fn settle(node: Arc<Node>, work: Arc<Work>) {
    if work.own.shard.0 != 0 {
        return;
    }
    loop {
        let wait = match settle_once(&node, &work).await {
            Ok(()) => SETTLE_EVERY,
            Err(why) => {
                seldom!(tracing::warn!(
                    %why,
                    "the row of the registration could not be looked at; retrying"
                ));
                match why {
                    // It stays so until somebody writes it, or this machine is upgraded.
                    Unread::Newer => SETTLE_EVERY,
                    Unread::Database(_) => SETTLE_AGAIN,
                }
            }
        };
        clock::sleep(wait).await;
    }
}

async fn settle_once(node: &Node, work: &Work) -> Result<(), Unread> {
    let (row, now_ms) = read(node).await?;
    // After the row: what is in hand now, and was not then, has written another version since.
    if work.registering.is() {
        return Ok(());
    }
    let intent = row.intent;
    let Some(settled) = intent
        .orphaned(now_ms)
        .or_else(|| intent.without_old_pin(now_ms))
    else {
        return Ok(());
    };
    let db = reached(node)?;
    let text = settings::text_of(&StoredIntent::from(&pin::renewed(node, &settled)));
    let other = settled.step != intent.step;
    let record = other.then(|| record(node, &settled));
    let stored = store(node, work, &db, (row.version, &text), record.as_ref()).await;
    if stored?
        && other
        && let Some(told) = settled.told(now_ms)
    {
        tracing::warn!("{}", told.says);
    }
    Ok(())
}

/// The number has another pin now: the one that was kept for its registration is of no use any more.
pub async fn forget_pin(node: &Node, work: &Work) {
    if let Err(why) = forget_pin_once(node, work).await {
        tracing::warn!(%why, "the pin that was kept for a registration could not be forgotten; it goes within a day");
    }
}

async fn forget_pin_once(node: &Node, work: &Work) -> Result<(), Unread> {
    let (row, now_ms) = read(node).await?;
    let Some(without) = row.intent.without_pin(now_ms) else {
        return Ok(());
    };
    let text = settings::text_of(&StoredIntent::from(&without));
    // Whoever was quicker began a registration, with the pin that its person knows.
    let db = reached(node)?;
    store(node, work, &db, (row.version, &text), None).await?;
    Ok(())
}
