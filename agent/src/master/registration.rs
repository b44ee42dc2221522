//! Lets one registration of the number in at a time, for the whole cluster, and reads where it stands.
//! Makes no call to the upstream: the owner of the first shard does.

use wa_core::registration::{Intent, Wish};

use super::fresh::{Reading, RowRead};
use crate::api::control::{RegistrationAnswer, RegistrationRequest};
use crate::api::registration::StoredIntent;
use crate::db::history::Record;
use crate::db::setting::Change;
use crate::db::{Db, DbError};
use crate::member::settings::{self, Stored};
use crate::sys::clock;

const UNREADABLE: &str = "the row of the registration was written by a newer release, and cannot be read here: install that release";

fn known(stored: Stored<StoredIntent>) -> Option<Intent> {
    stored.value.ok()?.intent()
}

/// Lets a wish in, or says why not. Written durably before anybody is told.
///
/// # Errors
/// When the database does not answer.
pub async fn admit(
    db: &Db,
    master: &str,
    wish: RegistrationRequest,
) -> Result<RegistrationAnswer, DbError> {
    let now_ms = db.now_ms().await?;
    let (wish, what) = match wish {
        RegistrationRequest::Ask => (Wish::Ask, "account"),
        RegistrationRequest::Verify => (Wish::Verify, "verify"),
    };
    let admitted = settings::change(db, |stored| {
        let intent = known(stored).ok_or_else(|| UNREADABLE.to_owned())?;
        let Some(admitted) = intent.admit(wish, now_ms) else {
            let told = intent
                .told(now_ms)
                .map_or_else(String::new, |told| told.says);
            return Err(format!("one registration at a time: {told}"));
        };
        let attempt = admitted.attempt;
        Ok(Change::Write(StoredIntent::from(&admitted), attempt))
    });
    let attempt = match admitted.await? {
        Ok(attempt) => attempt,
        Err(message) => {
            return Ok(RegistrationAnswer {
                attempt: None,
                elsewhere: false,
                message,
            });
        }
    };
    let record = Record {
        node: master.into(),
        shard: 0,
        what: "registration".into(),
        subject: what.into(),
        reason: "Admitted".into(),
        evidence: String::new(),
    };
    // It stands all the same.
    if let Err(error) = db.record(&record).await {
        tracing::warn!(error = %error.brief(), "the registration was not recorded");
    }
    tracing::info!(attempt, what, "a registration of the number was let in");
    Ok(RegistrationAnswer {
        attempt: Some(attempt),
        elsewhere: false,
        message: String::new(),
    })
}

/// What is to be told of the registration.
///
/// # Errors
/// When the database does not answer.
pub async fn reading(db: &Db) -> Result<Reading, DbError> {
    let begun = clock::now();
    let stored = settings::read::<StoredIntent>(db).await?;
    let told = match stored.version {
        0 => None,
        _ => {
            let now_ms = db.now_ms().await?;
            known(stored).and_then(|intent| intent.told(now_ms))
        }
    };
    Ok(Reading {
        begun,
        what: RowRead::Registration(told),
    })
}
