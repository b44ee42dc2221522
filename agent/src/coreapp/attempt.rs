//! One message, once: its request, the call, and what the answer means.
//! Records nothing: `record.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::backoff::exponential;
use wa_core::hold::{Config, Sort};
use wa_core::message::{AgeLimits, Expired, expired};
use wa_core::outcome::{Account, Limit, Outcome, suspected, wait_long};
use wa_core::pace::PAIR_EVERY;

use super::address;
use super::identity;
use super::media::{self, Given};
use super::naming;
use super::node::Node;
use super::reach::Way;
use super::unsent::Unsent;
use super::upstream::{Answered, UpstreamError};
use super::work::Work;
use super::{hold, holding};
use crate::api::cloud::call::Call;
use crate::api::cloud::opaque::Opaque;
use crate::api::cloud::request::{send, with_identity};
use crate::api::cloud::{ErrorAnswer, ErrorBody, SendAnswer, callback, code};
use crate::api::error::ErrorObject;
use crate::api::v1::callback::Status;
use crate::api::v1::code::Code;
use crate::api::v1::message::Message;
use crate::api::v1::message::stored::{self, Form};
use crate::db::message::{Claimed, Finished};
use crate::db::route::{Link, SPELLING_LEN_MAX};
use crate::sys::{clock, state};

/// When a message whose file is on the way is looked at again.
pub(super) const FILE_DELAY_MS: u64 = 1000;

/// An attempt and what came of it.
pub struct Attempt {
    pub message: Claimed,
    pub to: Finished,
    /// What the upstream said of it, as far as others are concerned.
    pub came: Option<(Sort, Outcome)>,
    /// What the business is told of a failure.
    pub error: Option<ErrorObject>,
    pub way: Way,
    /// Its file is on the way: it keeps its customer's line until it is tried again.
    pub park: bool,
    /// It waits for the message that it names.
    pub behind: bool,
    /// A call was made for it, of which something may have left.
    pub called: bool,
    /// The pause that the answer asks the number for.
    pub asked: Option<Duration>,
    /// The upstream spells the number otherwise than it was typed.
    pub link: Option<Link>,
}

impl Attempt {
    /// It came to this.
    pub fn new(message: Claimed, to: Finished) -> Self {
        Self {
            message,
            to,
            came: None,
            error: None,
            way: Way::Unknown,
            park: false,
            behind: false,
            called: true,
            asked: None,
            link: None,
        }
    }

    /// It will not be sent, and the business is told so.
    fn failed(message: Claimed, error: ErrorObject) -> Self {
        let code = error.code.number();
        Self {
            error: Some(error),
            ..Self::new(message, Finished::Failed { code })
        }
    }

    /// It reached nobody, which says nothing of the message: whoever has a way may send it at once.
    fn unreached(message: Claimed, why: String) -> Self {
        Self {
            way: Way::None(why),
            ..Self::new(message, Finished::Retry { delay_ms: 0 })
        }
    }

    /// It was not sent, and is tried again after a pause that grows.
    fn again(message: Claimed) -> Self {
        let pause = delay(message.attempts);
        Self::after(message, pause)
    }

    /// It was not sent, and is tried again after this.
    fn after(message: Claimed, pause: Duration) -> Self {
        let delay_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self::new(message, Finished::Retry { delay_ms })
    }
}

/// How long a message waits for trouble of our own, or on the way.
fn delay(attempts: i64) -> Duration {
    let failures = u32::try_from(attempts.max(1)).unwrap_or(u32::MAX);
    let jitter = state::random_u64().to_le_bytes()[0];
    let (first, cap) = (Duration::from_secs(1), Duration::from_secs(60));
    exponential(first, failures, cap, jitter)
}

/// One message, once.
pub async fn attempt(node: Arc<Node>, work: Arc<Work>, message: Claimed) -> Attempt {
    node.metrics.in_flight.inc();
    let mut called = false;
    let result = exchange(&node, &work, &message, &mut called).await;
    node.metrics.in_flight.dec();
    let mut done = match result {
        Ok(result) => judge(&node, &work, message, result).await,
        Err(unsent) => unsent_for_now(&node, message, unsent),
    };
    done.called = called;
    done
}

/// Makes a call; `called`: something of it may have left.
async fn ask(work: &Work, call: &Call, called: &mut bool) -> Result<Answered, UpstreamError> {
    let answer = work.upstream.ask(call).await;
    let stayed = |error: &UpstreamError| error.unreached() || error.nothing_sent();
    *called |= !answer.as_ref().is_err_and(stayed);
    answer
}

/// Sends it; once more when the upstream refuses it for a file that it has forgotten, which it is given again (F14). Once for
/// each message, even if it goes back to the store in between: then the file was not forgotten but is not wanted.
async fn exchange(
    node: &Arc<Node>,
    work: &Arc<Work>,
    message: &Claimed,
    called: &mut bool,
) -> Result<Result<Answered, UpstreamError>, Unsent> {
    let (mut call, mut given) = request(node, work, message, false).await?;
    let began = clock::now();
    let mut answer = ask(work, &call, called).await;
    if let Ok(Answered { status, body, .. }) = &answer
        && wants_number(*status, body)
    {
        // Nothing was sent. Where no number is known, it is the same call, and its answer stands.
        let (other, files) = request(node, work, message, true).await?;
        if other != call {
            tracing::info!(
                id = message.id,
                "the upstream takes this message for a number only; sending it to the number that is known"
            );
            (call, given) = (other, files);
            answer = ask(work, &call, called).await;
        }
    }
    if answer.is_ok() {
        node.documented.sends.add(clock::now().since(began));
    }
    match &answer {
        Ok(Answered { status, body, .. })
            if media::forgotten(&given, *status, body) && !work.shelf.gave_again(&message.id) => {}
        Ok(_) | Err(_) => return Ok(answer),
    }
    tracing::info!(
        id = message.id,
        "the upstream does not know the file of a message any more; giving it again"
    );
    media::forget(node, work, &given.kept).await?;
    work.shelf.give_again(&message.id);
    let needs_number = matches!(&call, Call::Send(body) if body.get("recipient").is_none());
    let (call, _) = request(node, work, message, needs_number).await?;
    Ok(ask(work, &call, called).await)
}

/// It was refused because it went to a user id.
fn wants_number(status: http::StatusCode, body: &[u8]) -> bool {
    let refused = || serde_json::from_slice::<ErrorAnswer>(body);
    !status.is_success() && refused().is_ok_and(|answer| answer.error.code == code::USER_ID_REFUSED)
}

/// The upstream's request for a stored message, behind the uploads that it needs.
async fn request(
    node: &Arc<Node>,
    work: &Arc<Work>,
    claimed: &Claimed,
    needs_number: bool,
) -> Result<(Call, Given), Unsent> {
    // Kept, and tried again: a node that reads its form may come.
    let later = |what: &dyn std::fmt::Display| Unsent::Later(what.to_string());
    let form = u16::try_from(claimed.form).unwrap_or(u16::MAX);
    let message = stored::read(form, &claimed.payload).map_err(|error| later(&error))?;
    too_old(node, work, claimed, &message)?;
    let named = naming::resolve(node, &claimed.id, &message).await?;
    let to = address::resolve(node, work, &message, needs_number).await?;
    let given = media::resolve(node, work, &claimed.id, &message).await?;
    let opaque = Opaque {
        id: claimed.id.clone(),
        // Coreapps of the release before take the whole text for our id: none of them is left when a row is in a newer form.
        recipient_hash: (form >= Form::Three.number()).then(|| claimed.route()),
        client_data: message.callback_data.is_some(),
    };
    let request = send(
        &message,
        &to,
        &opaque.text(),
        &given.files,
        named.as_deref(),
    );
    let mut request = request.map_err(|error| later(&error))?;
    if let Some(hash) = identity::acknowledged(node, &message.to).await? {
        with_identity(&mut request, &hash);
    }
    Ok((Call::Send(request), given))
}

/// Ends a message that has waited for too long, by its own time to live or by ours.
fn too_old(node: &Node, work: &Work, claimed: &Claimed, message: &Message) -> Result<(), Unsent> {
    let now = clock::now();
    // After a leap of the database's clock, or while that is not known, nothing is too old.
    if !node.spared.over(now) {
        return Ok(());
    }
    let age = claimed.age(now);
    // What was before this tenure may have been a time without an owner, or without a way: it counts as held.
    let here = age.min(now.since(work.began));
    let sort = holding::sort_in(&message.content);
    let held = age.saturating_sub(here) + work.reach.held_within(now, here, sort);
    let ttl = message.ttl_s.map(Duration::from_secs);
    let client = &node.settings.client;
    let limits = AgeLimits {
        max: client.message_max_age,
        pending_max: client.pending_max,
    };
    let (code, why) = match expired(age, held, ttl, limits) {
        None => return Ok(()),
        Some(Expired::Ttl) => (
            Code::MessageExpired,
            "Its ttl passed before it could be sent",
        ),
        Some(Expired::Age) => (
            Code::MessageNotValid,
            "It waited for too long before it could be sent ([client] message_max_age, pending_max)",
        ),
    };
    Err(Unsent::Never(ErrorObject::new(code, Some(why.to_owned()))))
}

/// What the business is told of a message that will not be sent. An earlier attempt may have reached the customer: then nobody
/// may be told that it was not sent.
fn never(claimed: &Claimed, error: ErrorObject) -> ErrorObject {
    match claimed.doubtful() {
        true => Status::doubt(),
        false => error,
    }
}

/// How long a message waits before it looks again for the one that it names.
fn behind(attempts: i64) -> Duration {
    let failures = u32::try_from(attempts.max(1)).unwrap_or(u32::MAX);
    let (first, cap) = (Duration::from_millis(100), Duration::from_secs(5));
    exponential(first, failures, cap, state::random_u64().to_le_bytes()[0])
}

/// There was no request to send yet, or a file of it could not be given to the upstream: the message was not sent.
fn unsent_for_now(node: &Node, message: Claimed, unsent: Unsent) -> Attempt {
    match unsent {
        Unsent::Behind => {
            let delay_ms = u64::try_from(behind(message.attempts).as_millis()).unwrap_or(u64::MAX);
            Attempt {
                behind: true,
                ..Attempt::new(message, Finished::Retry { delay_ms })
            }
        }
        Unsent::Held => Attempt::new(message, Finished::Retry { delay_ms: 0 }),
        Unsent::Waiting => {
            let delay_ms = FILE_DELAY_MS;
            Attempt {
                park: true,
                ..Attempt::new(message, Finished::Retry { delay_ms })
            }
        }
        Unsent::Later(why) | Unsent::Link(why) => {
            tracing::warn!(
                id = message.id,
                why,
                "a message cannot be put into a request, or its file not given to the upstream; retrying"
            );
            Attempt::again(message)
        }
        Unsent::Unreached(why) => {
            node.upstream_seen(false);
            Attempt::unreached(message, why)
        }
        Unsent::Never(error) => {
            tracing::info!(
                id = message.id,
                code = %error.code,
                "a message cannot be sent; reporting failed"
            );
            node.metrics.failed.inc();
            let error = never(&message, error);
            Attempt::failed(message, error)
        }
    }
}

/// What became of a call. Whoever answered was reached.
async fn judge(
    node: &Node,
    work: &Work,
    message: Claimed,
    result: Result<Answered, UpstreamError>,
) -> Attempt {
    let (status, body, asked) = match result {
        Ok(answer) => (answer.status, answer.body, answer.retry_after),
        Err(error) => return unanswered(node, message, &error),
    };
    let error = code::error_of(&body);
    let cloud_code = error.as_ref().map_or(0, |error| error.code);
    node.refused_with(cloud_code);
    let outcome = outcome(node, work, &message, (status, &body)).await;
    node.metrics.answers.inc();
    node.metrics.refusals.count(outcome);
    let sort = match outcome {
        Some(Outcome::Account(Account::Payment)) => holding::sort_of(&message),
        Some(_) | None => work.holding.sort(&message),
    };
    let good = !matches!(outcome, None | Some(Outcome::Unknown | Outcome::Account(_)));
    node.upstream_seen(good);
    let id = message.id.clone();
    let mut attempt = match outcome {
        None => {
            tracing::warn!(id, %status, cloud_code, "the upstream refused for what may be the account, and does not say; retrying");
            Attempt::again(message)
        }
        Some(Outcome::Sent) => sent(node, message, &body),
        Some(Outcome::Rejected(limit)) => {
            tracing::info!(id, %status, cloud_code, ?limit, "the upstream refused for now; retrying");
            // The sender says for how long: it keeps count of the refusals of the number, and of each customer.
            Attempt {
                asked: asked.filter(|_| limit == Limit::Number),
                ..Attempt::after(message, PAIR_EVERY)
            }
        }
        Some(Outcome::Unknown) => {
            tracing::warn!(id, %status, cloud_code, "a send ended unknown; waiting for its receipt");
            node.metrics.ambiguous.inc();
            Attempt::new(message, Finished::Ambiguous)
        }
        Some(Outcome::Account(account)) => {
            tracing::debug!(id, %status, cloud_code, ?account, "the upstream refuses the account; the message is kept");
            Attempt::after(message, kept_for(account))
        }
        Some(Outcome::WaitLong) => match wait_long(work.waited_long.has(&id)) {
            Some(pause) => {
                work.waited_long.will(&id);
                tracing::info!(id, %status, cloud_code, "the upstream refused for long; trying once more in {pause:?}");
                Attempt::after(message, pause)
            }
            None => refused(node, message, status, error),
        },
        Some(Outcome::Failed) => refused(node, message, status, error),
    };
    attempt.way = Way::Good;
    attempt.came = outcome.map(|outcome| (sort, outcome));
    attempt
}

/// What the answer means for the message; `None`: the upstream does not say whether it refuses the message or the account.
async fn outcome(
    node: &Node,
    work: &Work,
    message: &Claimed,
    (status, body): (http::StatusCode, &[u8]),
) -> Option<Outcome> {
    let outcome = match code::answer(status.as_u16(), body).outcome() {
        Outcome::Account(Account::Suspected) => suspected(hold::suspect(node, work).await)?,
        known => known,
    };
    let itself = match outcome {
        Outcome::Account(
            Account::Token
            | Account::Denied
            | Account::Locked
            | Account::Unregistered
            | Account::Suspected,
        ) => work.holding.itself(&message.id),
        Outcome::Account(Account::Payment)
        | Outcome::Sent
        | Outcome::Rejected(_)
        | Outcome::Unknown
        | Outcome::WaitLong
        | Outcome::Failed => false,
    };
    Some(if itself { Outcome::Failed } else { outcome })
}

/// How long a message stays in the store that the account is refused for; the hold says when all go on.
fn kept_for(account: Account) -> Duration {
    match account {
        Account::Payment => Config::default().payment_first,
        Account::Token
        | Account::Denied
        | Account::Locked
        | Account::Unregistered
        | Account::Suspected => Duration::ZERO,
    }
}

/// No whole answer came.
fn unanswered(node: &Node, message: Claimed, error: &UpstreamError) -> Attempt {
    node.upstream_seen(false);
    if error.unreached() {
        return Attempt::unreached(message, error.to_string());
    }
    if error.nothing_sent() {
        tracing::warn!(id = message.id, %error, "a message could not be sent; retrying");
        return Attempt::again(message);
    }
    tracing::warn!(id = message.id, %error, "a send ended unknown; waiting for its receipt");
    node.metrics.ambiguous.inc();
    Attempt {
        came: Some((Sort::Other, Outcome::Unknown)),
        ..Attempt::new(message, Finished::Ambiguous)
    }
}

/// The upstream has it.
fn sent(node: &Node, message: Claimed, body: &[u8]) -> Attempt {
    let answer = serde_json::from_slice::<SendAnswer>(body).ok();
    let link = answer.as_ref().and_then(|answer| link(&message, answer));
    let wamid = answer.as_ref().and_then(SendAnswer::id).unwrap_or_default();
    let wamid = wamid.to_owned();
    node.metrics.sent.inc();
    node.watch.taken();
    Attempt {
        link,
        ..Attempt::new(message, Finished::Sent { wamid })
    }
}

/// The upstream refused it for good.
fn refused(
    node: &Node,
    message: Claimed,
    status: http::StatusCode,
    error: Option<ErrorBody>,
) -> Attempt {
    let cloud_code = error.as_ref().map_or(0, |error| error.code);
    let told = told(error);
    tracing::info!(id = message.id, %status, cloud_code, code = %told.code, "the upstream refused for good; reporting failed");
    node.metrics.failed.inc();
    let told = never(&message, told);
    Attempt::failed(message, told)
}

/// Another spelling of a number that was typed. User ids have none.
fn link(message: &Claimed, answer: &SendAnswer) -> Option<Link> {
    let digits = |text: &str| {
        (5..=SPELLING_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let spelling = answer.wa_id().filter(|spelling| digits(spelling))?;
    let other = spelling != message.recipient && digits(&message.recipient);
    other.then(|| Link {
        typed: message.recipient.clone(),
        spelling: spelling.to_owned(),
        recipient_hash: message.route(),
    })
}

/// What the business is told. Without an error of the API whoever answered was a proxy: that says nothing of the account.
fn told(error: Option<ErrorBody>) -> ErrorObject {
    let nobody = || ErrorObject::new(Code::GenericError, None);
    error.map_or_else(nobody, |error| callback::refusal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_page_is_no_word_on_the_account() {
        assert_eq!(told(None).code, Code::GenericError);
        let denied = told(Some(ErrorBody::default()));
        assert_eq!(denied.code, Code::AccessDenied);
    }

    #[test]
    fn waits_are_bounded_by_their_class() {
        assert!(delay(1) <= Duration::from_secs(1));
        assert!(delay(1000) <= Duration::from_secs(60));
        // What is longer than this, the store takes for a clock that was set back.
        let longest = Duration::from_millis(crate::db::due::MESSAGE_PAUSE_MAX_MS);
        assert!(wa_core::outcome::LONG_WAIT <= longest);
        assert!(Config::default().payment_longest <= longest);
    }
}
