//! Where webhooks go, as the doctor sees it: a receiver at an address that is called only where its host is written down.
//! Calls no receiver.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Settings;
use crate::coreapp::webhook_permit;
use crate::sys::dial::{Dialer, Permit};

/// Longest wait for the name of the receiver.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// What is wrong with the receiver, and what to type.
#[derive(Debug, PartialEq, Eq)]
pub struct Uncalled {
    pub text: String,
    pub advice: String,
}

/// Looks up the host of the receiver. `None`: there is no receiver, its name is not known now, or coreapps may call it.
pub async fn examine(settings: &Settings, receiver: &str) -> Option<Uncalled> {
    let url = url::Url::parse(receiver).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => Dialer::system().lookup(&host, LOOK_UP_WITHIN).await.ok()?,
    };
    let permit = webhook_permit(settings.webhooks.hosts.clone(), settings.development);
    judge(&host, &addresses, &permit)
}

/// Nothing is delivered where none of the addresses may be called.
fn judge(host: &str, addresses: &[IpAddr], permit: &Permit) -> Option<Uncalled> {
    let mut refusals = Vec::new();
    for address in addresses {
        match permit(host, *address) {
            Ok(()) => return None,
            Err(why) => refusals.push((address, why)),
        }
    }
    let (address, why) = refusals.into_iter().next()?;
    // What follows says what to type, too; here it has its own place.
    let why = why.split(';').next().unwrap_or_default();
    let restart = "on each machine with coreapps, then /usr/libexec/wa-agent/restart-running";
    let advice = match address.to_canonical().is_loopback() {
        true => format!("write hosts = [\"{host}\"] below [webhooks] {restart}"),
        // A name that leads there is never meant.
        false => format!(
            "if the receiver is meant to be there, let webhooks.url name {address} itself, and write hosts = [\"{address}\"] \
             below [webhooks] {restart}"
        ),
    };
    Some(Uncalled {
        text: format!("no webhook is delivered to {host}: {why}"),
        advice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: who updates learns that his receiver on the same machine is not called any more, before messages miss. Method: names
    /// with addresses of each kind, listed and not.
    #[test]
    fn a_receiver_that_is_not_called_is_named() {
        let is = |text: &str| text.parse::<IpAddr>().expect("an address");
        let open = webhook_permit(Vec::new(), false);
        for address in ["127.0.0.1", "::1", "169.254.169.254"] {
            let check = judge("crm", &[is(address)], &open).expect("refused");
            let advice = check.advice;
            assert!(check.text.contains(address), "{}", check.text);
            let own = is(address).is_loopback();
            let host = if own { "crm" } else { address };
            assert!(
                advice.contains(&format!("hosts = [\"{host}\"]")),
                "{advice}"
            );
        }
        for addresses in [
            vec![is("10.0.0.7")],
            vec![is("127.0.0.1"), is("10.0.0.7")],
            vec![],
        ] {
            assert_eq!(judge("crm", &addresses, &open), None, "{addresses:?}");
        }
        let listed = webhook_permit(vec!["crm".into()], false);
        assert_eq!(judge("crm", &[is("127.0.0.1")], &listed), None);
    }
}
