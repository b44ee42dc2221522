//! Acts: verbs that an administrator asks for by the console of a webapp, with his own token. This master looks the token up itself,
//! and its own setting `[console] acts` says which verbs that may be: a webapp's word counts for neither.
//! Carries nothing out: `deeds.rs` does, as for operators.

use std::net::IpAddr;

use axum::http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};

use super::asker::{self, Holder};
use super::audit::Asked;
use super::control::{Control, Refusal, SERVED_WITHIN, refuse, unread};
use crate::api::act::{Act, Acts};
use crate::api::v1::code::Code;
use crate::member::audit::Entry;
use crate::net::source;

/// Longest name of a webapp that is written down, in characters.
const NAME_LEN_MAX: usize = 96;
/// Longest reason that is written down, in characters.
const REASON_LEN_MAX: usize = 500;

/// The name that a webapp gives itself. Whoever has a webapp's key can write any: only what looks like one is written down.
fn webapp(claimed: Option<&str>) -> &str {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let fits =
        |name: &&str| !name.is_empty() && name.len() <= NAME_LEN_MAX && name.chars().all(part);
    claimed.filter(fits).unwrap_or("a webapp")
}

/// A reason as it may stand in a record.
fn plain(reason: &str) -> String {
    let one = |c: char| if c.is_control() { ' ' } else { c };
    reason.chars().take(REASON_LEN_MAX).map(one).collect()
}

/// Why this master does not do it, and what to type.
fn against(wish: &(impl Act + Asked), acts: Acts) -> Option<String> {
    let risk = wish.risk();
    (!acts.allow(risk)).then(|| {
        format!(
            "[console] acts is \"{acts}\" on this master, so that this is not done by a console: {}. Nothing was done. Type the verb on \
             a machine with the cluster key. Or write acts = \"{}\" in [console] on every machine with a master, and restart the masters",
            wish.words(),
            Acts::least(risk)
        )
    })
}

/// Writes who asks into the record of what he wants; his name and where he asked, for the audit.
///
/// # Errors
/// When he may not, or the database does not answer. Nothing is to be done then, and the audit has its line.
pub async fn sign(
    control: &Control,
    (peer, token): (IpAddr, &SecretString),
    wish: &mut (impl Act + Asked),
) -> Result<(String, String), Refusal> {
    let webapp = webapp(wish.asker().as_deref()).to_owned();
    let source = format!("console at {webapp} ({peer})");
    let hash = asker::token_hash(token.expose_secret());
    let found = tokio::time::timeout(SERVED_WITHIN, asker::holder(&control.db, &hash));
    let holder = match found.await {
        Ok(Ok(holder)) => holder,
        Ok(Err(error)) => return Err(unknown(control, peer, &error.brief())),
        Err(_) => {
            return Err(unknown(
                control,
                peer,
                "the database did not answer in time",
            ));
        }
    };
    let (Holder::Administrator(name) | Holder::User(name)) = &holder else {
        return Err(stranger(control, peer));
    };
    let name = name.clone();
    let may = match holder.administrator() {
        Ok(_) => against(wish, control.acts).map_or(Ok(()), Err),
        Err(why) => Err(why.to_owned()),
    };
    if let Err(why) = may {
        let entry = Entry::new(&name, &source, &wish.words(), &format!("refused: {why}"));
        control.audit.write_refusal(entry);
        return Err(refuse(StatusCode::FORBIDDEN, Code::AccessDenied, &why));
    }
    *wish.asker() = Some(format!("{name} (console at {webapp})"));
    if let Some(reason) = wish.reason() {
        *reason = plain(reason);
    }
    Ok((name, source))
}

/// A line on somebody whom nobody knows: he chooses no word of it.
fn tell(control: &Control, peer: IpAddr, why: &str) {
    let outcome = format!("refused: {why}");
    let entry = Entry::new("-", &peer.to_string(), "an act by a console", &outcome);
    control
        .audit
        .write_stranger(entry, &source::network(peer).to_string());
}

/// The token is nobody's.
fn stranger(control: &Control, peer: IpAddr) -> Refusal {
    tell(control, peer, asker::NO_TOKEN);
    refuse(StatusCode::FORBIDDEN, Code::AccessDenied, asker::NO_TOKEN)
}

/// Whose token it is cannot be read.
fn unknown(control: &Control, peer: IpAddr, why: &str) -> Refusal {
    tell(control, peer, why);
    unread(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::control::{OperatorRequest, Verb};

    /// Goal: a webapp that was taken writes no words of its own into a record. Method: names and reasons of each kind.
    #[test]
    fn what_a_webapp_says_of_itself_is_a_name_or_nothing() {
        assert_eq!(
            webapp(Some("web1.example:webapp-1")),
            "web1.example:webapp-1"
        );
        let long = "a".repeat(NAME_LEN_MAX + 1);
        for other in [None, Some(""), Some("a (root"), Some("a\nb"), Some(&*long)] {
            assert_eq!(webapp(other), "a webapp", "{other:?}");
        }
        assert_eq!(plain("new\ndisk"), "new disk");
        assert_eq!(plain(&"x".repeat(9999)).len(), REASON_LEN_MAX);
    }

    /// Goal: a refusal names the setting, where it stands, and the word that would do. Method: an act of each sort under each word.
    #[test]
    fn a_refusal_says_which_setting_to_change() {
        let wish = |verb| OperatorRequest {
            verb,
            dry_run: true,
            reason: None,
            by: None,
        };
        let forget = wish(Verb::Forget {
            node: "a:coreapp-9".into(),
        });
        let drain = wish(Verb::Drain {
            node: "a:coreapp-9".into(),
            on: true,
        });
        for (wish, acts, least) in [(&forget, Acts::Safe, "all"), (&drain, Acts::None, "safe")] {
            let why = against(wish, acts).expect("refused");
            assert!(
                why.contains(&format!("write acts = \"{least}\" in [console]")),
                "{why}"
            );
            assert!(
                why.contains("Nothing was done") && why.contains(&wish.words()),
                "{why}"
            );
        }
        assert_eq!(against(&drain, Acts::Safe), None);
        assert_eq!(against(&forget, Acts::All), None);
    }
}
