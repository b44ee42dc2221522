//! Certificates, for people: of the public port, and of the authorities that webhook servers are checked with.
//! Shows no key, and changes nothing.

use maud::{Markup, html};
use wa_core::alarm::Alarm;

use super::frame::{Panel, moment, panel, table};
use super::words::{Tongue, Word};
use crate::db::{Db, DbError};
use crate::member::certificate::{External, WebhookCa};
use crate::member::settings;
use crate::net::certificate;
use crate::sys::clock;
use crate::webapp::certificate::Certificates;
use crate::webapp::state::Webapp;

/// What the public port shows.
struct Public {
    /// Where it comes from.
    kind: &'static str,
    end_s: i64,
    names: Vec<String>,
}

/// Everything of the panel.
pub struct Proofs {
    /// `None`: no TLS.
    public: Option<Public>,
    /// Whose each authority is, and when it ends, in seconds since 1970.
    webhooks: Vec<(String, i64)>,
}

impl Proofs {
    /// Reads them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn read(webapp: &Webapp, db: &Db) -> Result<Self, DbError> {
        let webhooks = settings::read::<WebhookCa>(db).await?.or_default();
        let kind = match &webapp.certificates {
            Certificates::Off => None,
            Certificates::Files(_) => Some("from the files of [webapp] tls_cert and tls_key"),
            Certificates::Kept(_) => {
                let sent = settings::read::<External>(db).await?.or_default();
                Some(match sent.certificate.is_empty() {
                    true => "made and renewed by this cluster",
                    false => "sent by POST /v1/certificates/external",
                })
            }
        };
        let chain = webapp.certificates.shown().map(|shown| shown.chain());
        let first = chain.as_ref().and_then(|chain| chain.first());
        let read = first.and_then(certificate::span_and_names);
        let public = kind.map(|kind| {
            let (end_s, names) = read.unwrap_or_default();
            Public { kind, end_s, names }
        });
        Ok(Self {
            public,
            webhooks: certificate::subjects_and_ends(&webhooks.certificates),
        })
    }
}

fn end(end_s: i64) -> Markup {
    let now_s = i64::try_from(clock::wall_ms() / 1000).unwrap_or(i64::MAX);
    let left = (end_s - now_s).div_euclid(24 * 3600);
    let class = match left {
        ..0 => "bad",
        left if left < Alarm::CertificateEnds.row().limit => "warn",
        _ => "good",
    };
    html! { span class=(format!("badge {class}")) { time { (moment(end_s.saturating_mul(1000))) } } }
}

/// The panel.
pub fn draw(proofs: &Proofs, tongue: Tongue) -> Panel {
    let fact =
        |word: Word, value: Markup| html! { div { dt { (tongue.say(word)) } dd { (value) } } };
    let heads = [Word::Subject, Word::EndsAt].map(|word| tongue.say(word));
    let row = |(subject, end_s): &(String, i64)| vec![html! { bdi { (subject) } }, end(*end_s)];
    let rows: Vec<Vec<Markup>> = proofs.webhooks.iter().map(row).collect();
    let webhooks = tongue.say(Word::WebhookAuthorities);
    let body = html! {
        h3 { (tongue.say(Word::PublicPort)) }
        @match &proofs.public {
            None => p.quiet lang="en" dir="auto" { "The public port speaks no TLS: what stands in front of it does." },
            Some(public) => {
                dl.facts {
                    (fact(Word::Kind, html! { span lang="en" dir="auto" { (public.kind) } }))
                    (fact(Word::EndsAt, html! { @if public.end_s == 0 { "-" } @else { (end(public.end_s)) } }))
                    (fact(Word::Names, html! { bdi { (public.names.join(", ")) } }))
                }
            }
        }
        h3 { (webhooks) }
        @if rows.is_empty() { p.quiet lang="en" dir="auto" { "Those of the system, and no other." } }
        @else { (table(&webhooks, &heads, &rows)) }
    };
    panel("certificates", &tongue.say(Word::Certificates), &body)
}
