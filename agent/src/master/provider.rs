//! The media providers: stored and deleted by the primary master, sealed for the owners.
//! Reads no client's body: `api/v1/provider.rs` did.

use crate::api::provider::{Provider, Providers, Stored};
use crate::api::served::{ProviderWish, ProvidersRequest, Served};
use crate::api::v1::code::Code;
use crate::api::v1::provider::PROVIDERS_MAX;
use crate::db::setting::Change;
use crate::db::{Db, DbError};
use crate::member::{provider, settings};
use crate::net::keys::Keys;
use crate::net::seal::SealError;

/// A cluster key changes seldom: more changes than this while a row is written are a fault.
const TRIES: u32 = 4;

/// Stores what is wished for, or says why not.
///
/// # Errors
/// When the database does not answer, or nothing can be sealed here.
pub async fn change(db: &Db, keys: &Keys, wish: &ProvidersRequest) -> Result<Served, DbError> {
    let mut served = Served::Done;
    for _ in 0..TRIES {
        let signs = keys.ids();
        let done = settings::change(db, |row: settings::Stored<Providers>| {
            changed(keys, row, wish).map(|providers| Change::Write(providers, ()))
        });
        served = match done.await? {
            Ok(()) => Served::Done,
            Err(Refusal::Answer(refused)) => refused,
            Err(Refusal::Seal(error)) => return Err(DbError::Value(error.to_string())),
        };
        // A rotation that went on meanwhile has perhaps looked at the row before it was written: then it is written anew, under
        // the key that signs now.
        if keys.ids() == signs {
            break;
        }
    }
    if served == Served::Done {
        let names: Vec<&str> = wish.store.iter().map(|one| one.name.as_str()).collect();
        tracing::info!(stored = ?names, deleted = ?wish.delete, "the media providers were changed by the API");
    }
    Ok(served)
}

/// Why a row stays as it is.
enum Refusal {
    Answer(Served),
    Seal(SealError),
}

impl From<SealError> for Refusal {
    fn from(error: SealError) -> Self {
        Self::Seal(error)
    }
}

fn refused(code: Code, details: impl Into<String>) -> Refusal {
    Refusal::Answer(Served::refused(code, details))
}

/// The row as it shall be. Whatever a release before sealing left in it readable is sealed, too.
fn changed(
    keys: &Keys,
    row: settings::Stored<Providers>,
    wish: &ProvidersRequest,
) -> Result<Providers, Refusal> {
    let Ok(mut providers) = row.value else {
        return Err(refused(
            Code::Internal,
            "The stored providers cannot be read by this release; upgrade the masters",
        ));
    };
    for (name, stored) in &mut providers.providers {
        if matches!(stored, Stored::Plain(_)) {
            *stored = provider::seal(keys, name, &open(keys, name, stored)?)?;
        }
    }
    for one in &wish.store {
        let old = providers.providers.get(&one.name);
        let new = wanted(keys, one, old)?;
        let sealed = provider::seal(keys, &one.name, &new)?;
        providers.providers.insert(one.name.clone(), sealed);
    }
    if providers.providers.len() > PROVIDERS_MAX {
        let why = format!("There would be more than {PROVIDERS_MAX} providers");
        return Err(refused(Code::ParameterNotValid, why));
    }
    if let Some(name) = &wish.delete
        && providers.providers.remove(name).is_none()
    {
        return Err(refused(Code::NotFound, "There is no such media provider"));
    }
    Ok(providers)
}

fn open(keys: &Keys, name: &str, stored: &Stored) -> Result<Provider, Refusal> {
    Ok(provider::open(keys, name, stored)?)
}

/// The provider as it shall be: a masked secret, and hosts that are not named, stay what they are.
fn wanted(keys: &Keys, wish: &ProviderWish, old: Option<&Stored>) -> Result<Provider, Refusal> {
    let name = &wish.name;
    let opened = old.map(|old| provider::open(keys, name, old));
    let lost = opened.as_ref().and_then(|old| old.as_ref().err().cloned());
    let old_shown = match old {
        Some(Stored::Sealed { shown, .. }) => shown.hosts.clone(),
        Some(Stored::Plain(_) | Stored::Unknown(_)) | None => Vec::new(),
    };
    let old = opened.and_then(Result::ok);
    let credentials = wish
        .credentials
        .unmasked(old.as_ref().map(|old| &old.credentials));
    let Some(credentials) = credentials else {
        let why = match lost {
            Some(error) => format!("The stored secret of {name} cannot be opened: {error}"),
            None => format!("{name} has no stored secret of this kind: send the secret itself"),
        };
        return Err(refused(Code::ParameterNotValid, why));
    };
    let hosts = wish.hosts.clone();
    let kept = || old.as_ref().map_or(old_shown, |old| old.hosts.clone());
    Ok(Provider {
        credentials,
        hosts: hosts.unwrap_or_else(kept),
    })
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
