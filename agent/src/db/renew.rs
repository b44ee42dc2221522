//! New passwords of the database, taken without a restart (F13): each server is asked first, and one that refuses the new
//! password keeps the old one in force. Connections that are open stay: only new ones need a password.

use std::time::Duration;

use tokio::task::JoinSet;

use super::reach::Way;
use super::{DbError, session};
use crate::config::{DatabaseSettings, without_password};
use crate::sys::clock;

/// Pauses between two tries, the first and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a server says of a password.
enum Word {
    Taken,
    Refused(String),
    /// Nothing: it does not answer, or takes nobody now.
    None(String),
}

/// The only difference between two lists of servers is their passwords.
pub fn only_passwords(old: &[String], new: &[String]) -> bool {
    let shown = |urls: &[String]| {
        urls.iter()
            .map(|url| without_password(url))
            .collect::<Vec<_>>()
    };
    // A URL without a password has no place for the stars.
    let bare = |urls: &[String]| -> Vec<String> {
        let shown = shown(urls);
        shown
            .iter()
            .map(|url| url.replacen(":***@", "@", 1))
            .collect()
    };
    bare(old) == bare(new)
}

/// Tries these URLs, and puts each that its server takes into force, for as long as the set lives. Says what became of each
/// in the log. Returns how many are tried.
pub fn begin(settings: &DatabaseSettings, new: Vec<String>, tries: &mut JoinSet<()>) -> usize {
    for (place, url) in new.into_iter().enumerate() {
        if url != settings.url(place) && !url.starts_with("sqlite:") {
            tries.spawn(take(settings.clone(), place, url));
        }
    }
    tries.len()
}

async fn take(settings: DatabaseSettings, place: usize, url: String) {
    let server = without_password(&url);
    let (mut refused, mut silent) = (false, false);
    let mut pause = AGAIN.0;
    loop {
        match ask(&settings, &url).await {
            Word::Taken => {
                settings.logins.put(place, &url);
                tracing::info!(
                    server,
                    "the new database password is in force for every new connection"
                );
                return;
            }
            Word::Refused(why) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(
                        server,
                        why,
                        "the database refuses the new password, and the one before stays in force; if the new one is wrong, write \
                         the right one and type: systemctl reload 'wa-*@*' 'wa-host*'. If its account has yet to get it (ALTER \
                         USER), do that: the new one is tried again as soon as the old one is refused"
                    );
                }
                // Servers may block an account that tries wrong passwords.
                settings.logins.until_refused().await;
            }
            Word::None(why) => {
                if !std::mem::replace(&mut silent, true) {
                    tracing::warn!(
                        server,
                        why,
                        "whether the database takes the new password is not known yet; it is tried until there is an answer"
                    );
                }
            }
        }
        clock::sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

async fn ask(settings: &DatabaseSettings, url: &str) -> Word {
    let within = settings.connect_timeout;
    let asked = async {
        let way = Way::to_url(settings, url).await?;
        Ok::<_, DbError>(session::log_in(&way).await?)
    };
    match tokio::time::timeout(within, asked).await {
        Ok(Ok(())) => Word::Taken,
        Ok(Err(DbError::Sqlx(error))) if super::is_denied(&error) => {
            Word::Refused(DbError::Sqlx(error).brief())
        }
        Ok(Err(error)) => Word::None(error.brief()),
        Err(_) => Word::None(format!("nothing came within {within:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: another user, host or order is no new password.
    #[test]
    fn other_servers_are_no_new_passwords() {
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let old = urls(&["mysql://wa:a@one/wa", "mysql://wa:a@two/wa"]);
        assert!(only_passwords(
            &old,
            &urls(&["mysql://wa:b@one/wa", "mysql://wa:c@two/wa"])
        ));
        assert!(only_passwords(
            &old,
            &urls(&["mysql://wa@one/wa", "mysql://wa:c@two/wa"])
        ));
        for other in [
            urls(&["mysql://wa:a@two/wa", "mysql://wa:a@one/wa"]),
            urls(&["mysql://root:b@one/wa", "mysql://wa:b@two/wa"]),
            urls(&["mysql://wa:b@one/wa"]),
        ] {
            assert!(!only_passwords(&old, &other), "{other:?}");
        }
    }
}
