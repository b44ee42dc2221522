//! When the certificate that somebody sent for the public port ends: told in time, because nobody but a person can renew it.
//! Serves none: webapps do.

use wa_core::judgement::Kind;

use super::fresh::{Reading, RowRead};
use crate::db::setting::CERTIFICATE_EXTERNAL;
use crate::db::{Db, DbError};
use crate::member::certificate::External;
use crate::member::settings;
use crate::net::certificate::{of_text, span_and_names};
use crate::sys::clock;

const DAY_S: i64 = 24 * 3600;
/// It is told so long before the end, and is a warning so long before it.
const TOLD_DAYS: i64 = 30;
const SOON_DAYS: i64 = 7;

/// What is known of the row.
#[derive(Debug, Default)]
pub struct Ending {
    version: u64,
    /// When it ends, in seconds since 1970; `None`: none was sent, or it cannot be read.
    ends_s: Option<i64>,
    said: Option<Kind>,
}

impl Ending {
    /// What is to be told of the certificate. The row is read when it has changed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reading(&mut self, db: &Db) -> Result<Reading, DbError> {
        let begun = clock::now();
        let version = db.setting_version(CERTIFICATE_EXTERNAL).await?;
        if version != self.version {
            let row = settings::read::<External>(db).await?;
            (self.version, self.ends_s) = (row.version, ends_s(&row.or_default()));
        }
        let now_s = i64::try_from(clock::wall_ms() / 1000).unwrap_or(i64::MAX);
        let told = self.ends_s.and_then(|ends_s| told(ends_s, now_s));
        let kind = told.as_ref().map(|(kind, _)| *kind);
        if kind != self.said
            && let Some((_, says)) = &told
        {
            tracing::warn!("{says}");
        }
        self.said = kind;
        Ok(Reading {
            begun,
            what: RowRead::Certificate(told),
        })
    }
}

fn ends_s(row: &External) -> Option<i64> {
    let chain = of_text(&row.certificate);
    let (ends_s, _) = span_and_names(chain.first()?)?;
    Some(ends_s)
}

/// How bad it is, and the sentence; `None`: it is good for long enough.
fn told(ends_s: i64, now_s: i64) -> Option<(Kind, String)> {
    const WHAT: &str = "the certificate of the public port, which was sent over the API,";
    const NEXT: &str = "send the next one: POST /v1/certificates/external, as in the README";
    let days = (ends_s - now_s).div_euclid(DAY_S);
    let kind = match days {
        ..SOON_DAYS => Kind::CertificateEndsSoon,
        SOON_DAYS..TOLD_DAYS => Kind::CertificateEnds,
        _ => return None,
    };
    let says = match days {
        ..0 => format!("{WHAT} has ended: clients refuse to connect ({NEXT})"),
        0 => format!("{WHAT} ends within a day: clients refuse to connect then ({NEXT})"),
        days => format!("{WHAT} ends in {days} days: clients refuse to connect then ({NEXT})"),
    };
    Some((kind, says))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: somebody is told 30 days before the end, and warned 7 days before and after it. Method: moments at the edges.
    #[test]
    fn an_end_is_told_in_time() {
        let ends_s = 1_900_000_000;
        let at = |left_s: i64| told(ends_s, ends_s - left_s);
        assert_eq!(at(30 * DAY_S), None);
        for (left_s, kind, words) in [
            (30 * DAY_S - 1, Kind::CertificateEnds, "ends in 29 days"),
            (7 * DAY_S, Kind::CertificateEnds, "ends in 7 days"),
            (7 * DAY_S - 1, Kind::CertificateEndsSoon, "ends in 6 days"),
            (3600, Kind::CertificateEndsSoon, "ends within a day"),
            (-1, Kind::CertificateEndsSoon, "has ended"),
        ] {
            let (found, says) = at(left_s).expect("told");
            assert!(found == kind && says.contains(words), "{left_s}: {says}");
            assert!(says.contains("POST /v1/certificates/external"), "{says}");
        }
    }

    /// Goal: what was sent is what is judged, and nothing is told where nothing was sent. Method: rows as webapps write them.
    #[test]
    fn the_servers_own_certificate_counts() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("made");
        let row = External {
            certificate: made.cert.pem(),
            key: String::new(),
        };
        // rcgen's own default: the year 4096.
        assert_eq!(ends_s(&row), Some(67_090_118_400));
        assert_eq!(ends_s(&External::default()), None);
        let rubbish = External {
            certificate: "nonsense".into(),
            key: String::new(),
        };
        assert_eq!(ends_s(&rubbish), None);
    }
}
