//! What the upstream says of the number and the account, for people who look: asked once a minute at most, whoever looks.
//! Decides nothing, and no message waits for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret as _;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::checkup::{self, Silence};
use crate::api::internal::{AccountWord, SubscriptionWord, TokenWord};
use crate::api::registration::Hidden;
use crate::sys::clock;

/// For all calls together, which are made side by side.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const NO_ACCOUNT: &str = "[upstream] waba_id is not set, and so nobody asks which apps get the account's events. To have it asked, type: \
     wa-agent setup --waba-id ID --replace";
const NO_ANSWER: &str = "WhatsApp did not answer. It is asked again in a minute.";

/// What was heard last. While it is asked again that is the word of a minute ago; the first one is waited for.
pub async fn heard(node: &Arc<Node>, work: &Arc<Work>) -> Option<AccountWord> {
    let account = &work.account;
    let mut heard = account.heard.subscribe();
    // While a handover is under way the upstream is left alone: the next owner asks it.
    if work.held() {
        return account.last();
    }
    if account.due(clock::now()) {
        let (node, asking) = (Arc::clone(node), Arc::clone(work));
        work.spawn(async move {
            let word = ask(&node, &asking).await;
            asking.account.heard.send_replace(Some(Arc::new(word)));
        });
    }
    // The calls have their own deadline; the end of the tenure ends the wait as well.
    let first = heard.wait_for(Option::is_some);
    let first = tokio::time::timeout(ANSWER_WITHIN + Duration::from_millis(500), first);
    let _ = work.stop.run_until_cancelled(first).await;
    account.last()
}

async fn ask(node: &Node, work: &Work) -> AccountWord {
    let upstream = &node.settings.upstream;
    let asked_ms = clock::wall_ms();
    let token = Hidden(upstream.token.now().expose_secret().to_owned());
    let (number, limit, token, apps) = tokio::join!(
        call(work, Call::Standing),
        call(work, Call::Limit),
        call(work, Call::TokenState { token }),
        async {
            match upstream.waba_id.is_empty() {
                true => Err(NO_ACCOUNT.to_owned()),
                false => {
                    let waba_id = upstream.waba_id.clone();
                    call(work, Call::Subscriptions { waba_id }).await
                }
            }
        },
    );
    let subscription = |apps: Vec<String>| SubscriptionWord {
        ours: (!upstream.app_id.is_empty()).then(|| apps.contains(&upstream.app_id)),
        apps,
    };
    AccountWord {
        asked_ms,
        version: upstream.version.clone(),
        version_end_s: checkup::version_end_s(&upstream.version).unwrap_or(0),
        number: read(number, checkup::number),
        limit: read(limit, checkup::limit),
        token: read(token, checkup::token).map(|token| TokenWord {
            is_valid: token.is_valid,
            missing: token.missing().into_iter().map(str::to_owned).collect(),
            expires_s: token.expires_at,
        }),
        subscription: read(apps, checkup::subscriptions).map(subscription),
    }
}

fn read<T>(
    answer: Result<(u16, Bytes), String>,
    how: impl FnOnce(u16, &[u8]) -> Result<T, Silence>,
) -> Result<T, String> {
    let (status, body) = answer?;
    how(status, &body).map_err(|silence| silence.to_string())
}

/// One call. Why it came to nothing is not told: the address of one of them holds the token.
async fn call(work: &Work, call: Call) -> Result<(u16, Bytes), String> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, work.upstream.call(&call)).await;
    match answered {
        Ok(Ok((status, body))) => Ok((status.as_u16(), body)),
        Ok(Err(_)) | Err(_) => Err(NO_ANSWER.to_owned()),
    }
}
