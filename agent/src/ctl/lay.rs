//! `wa-agent keys lay`: what `systemctl reload` does first in each unit, as root. The running role gets the secrets as
//! they are now. Writes only where nobody but root can make names.

use std::path::Path;

use anyhow::{Context as _, bail};
use wa_core::id::Role;

use super::setup::CREDENTIALS;
use crate::exit::Exit;
use crate::sys::{beneath, laid};

/// Lays the secrets of an instance for its start that runs.
///
/// # Errors
/// When this is not root within a unit, or a secret cannot be read or laid.
pub fn run(role: &str, instance: u16) -> anyhow::Result<Exit> {
    let all = [Role::Master, Role::Coreapp, Role::Webapp, Role::Host];
    let role = all.into_iter().find(|of| of.as_str() == role);
    let role = role.context("no such role")?;
    let invocation = std::env::var("INVOCATION_ID").ok();
    let invocation = invocation.filter(|id| crate::sys::machine::id_of(id).is_some());
    let Some(invocation) = invocation.filter(|_| nix::unistd::geteuid().is_root()) else {
        bail!(
            "a unit does this as root when it is reloaded; type: systemctl reload 'wa-*@*' 'wa-host*'"
        );
    };
    let mut secrets = Vec::new();
    for (name, file) in laid::secrets(role) {
        let read = beneath::read(
            Path::new(CREDENTIALS),
            Path::new(file),
            laid::SECRET_LEN_MAX,
        );
        match read {
            Ok(secret) => secrets.push((*name, secret)),
            // Each is optional, as in the unit.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).context(format!("cannot read {CREDENTIALS}/{file}"));
            }
        }
    }
    let owner = match role {
        Role::Host => None,
        Role::Master | Role::Coreapp | Role::Webapp => {
            let name = format!("wa-{}", role.as_str());
            let user = nix::unistd::User::from_name(&name)?;
            let user = user.with_context(|| {
                format!("there is no user {name}; type: systemd-sysusers wa-agent.conf")
            })?;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        }
    };
    let start = (role, instance, invocation.as_str());
    laid::lay(Path::new(laid::FOLDER), start, owner, &secrets)
        .with_context(|| format!("cannot lay the secrets in {}", laid::FOLDER))?;
    Ok(Exit::Ok)
}
