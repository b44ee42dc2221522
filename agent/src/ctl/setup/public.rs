//! What a new installation says of its public API: TLS, and with which password the administrator logs in first.
//! Changes nothing of an installation that is there, unless it is told to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use toml::Value;

use crate::api::v1::user::{ADMIN, ADMIN_FIRST_PASSWORD, check_password};
use crate::ctl::draft::Draft;

/// The flags.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PublicArgs {
    /// The password with which admin logs in first: 8 to 64 characters with upper and lower case, a digit and a sign. Only its hash
    /// is kept.
    #[arg(long, value_name = "FILE", conflicts_with = "first_password")]
    first_password_file: Option<PathBuf>,
    /// For automated installations: keep the documented first login (admin:secret). It counts on the cluster's own machines only,
    /// until the first login, which has to bring a new password.
    #[arg(long, value_name = "WORD", value_parser = ["secret"])]
    first_password: Option<String>,
    /// Address or network of what stands in front of the webapps and ends TLS: they speak without TLS then, and believe it when it
    /// says who its client is. Without it the API of a new machine speaks TLS, with a certificate that the cluster makes.
    #[arg(long, value_name = "ADDRESS")]
    pub behind_proxy: Vec<String>,
}

/// What is to be written below `[webapp]`. `new`: a webapp comes here, nothing ran before, and nobody said anything of TLS.
pub fn tls(args: &PublicArgs, new: bool) -> Vec<(&'static str, Value)> {
    if args.behind_proxy.is_empty() {
        let on = new.then(|| ("tls", "self-signed".into()));
        return on.into_iter().collect();
    }
    let proxies = args.behind_proxy.iter().cloned().map(Value::from);
    let proxies = Value::Array(proxies.collect());
    vec![("tls", "off".into()), ("trusted_proxies", proxies)]
}

/// What is known of the machine.
pub struct Here {
    /// It is set up for a trial.
    pub trial: bool,
    /// A trial is over here: what it left counts no more.
    pub trial_over: bool,
    /// Nobody can be a user yet, and a webapp comes here.
    pub new: bool,
    /// A person sits at a terminal.
    pub interactive: bool,
}

/// The first password of a new cluster: a hash, or the documented word, in the credential at this path.
///
/// # Errors
/// When it is too weak, or nobody said one and nobody can be asked.
pub fn first_password(
    args: &PublicArgs,
    here: &Here,
    path: &Path,
    draft: &mut Draft,
) -> anyhow::Result<()> {
    let there = std::fs::read_to_string(draft.below(path)).ok();
    let there = there.filter(|text| !here.trial_over && !text.trim().is_empty());
    let secret = if let Some(file) = &args.first_password_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let password = text.trim_end_matches(['\r', '\n']);
        match there.filter(|hash| fits(password, hash)) {
            Some(hash) => hash,
            None => hash(password)?,
        }
    } else if args.first_password.is_some() || here.trial {
        ADMIN_FIRST_PASSWORD.to_owned()
    } else if let Some(there) = there {
        there
    } else if !here.new {
        return Ok(());
    } else {
        asked(here.interactive)?
    };
    draft.secret(path, secret.trim_end());
    Ok(())
}

fn asked(interactive: bool) -> anyhow::Result<String> {
    anyhow::ensure!(
        interactive,
        "missing: the first password of {ADMIN}. Type it at a terminal, add --first-password-file FILE, or keep the documented \
         first login ({ADMIN}:{ADMIN_FIRST_PASSWORD}, from the cluster's own machines only) with --first-password {ADMIN_FIRST_PASSWORD}"
    );
    let said = rpassword::prompt_password(format!(
        "First password of {ADMIN}, 8 to 64 characters with upper and lower case, a digit and a sign (not shown; only Enter: the \
         documented first login {ADMIN}:{ADMIN_FIRST_PASSWORD}, from the cluster's own machines only): "
    ))?;
    match said.trim() {
        "" => Ok(ADMIN_FIRST_PASSWORD.to_owned()),
        password => hash(password),
    }
}

fn fits(password: &str, hash: &str) -> bool {
    let checked = Argon2::default().verify_password(password.as_bytes(), hash.trim());
    checked.is_ok()
}

fn hash(password: &str) -> anyhow::Result<String> {
    if let Err(error) = check_password(password) {
        anyhow::bail!(
            "the first password is too weak: {}",
            error.details.unwrap_or_default()
        );
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    let hash = hash.map_err(|error| anyhow::anyhow!("the password cannot be hashed: {error}"))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_password_is_good_enough_and_is_never_written() {
        assert!(hash("secret").is_err());
        let hashed = hash("Abcdef1!").expect("good enough");
        assert!(hashed.starts_with("$argon2id$") && !hashed.contains("Abcdef1!"));
        assert!(fits("Abcdef1!", &format!("{hashed}\n")));
        assert!(!fits("Abcdef1?", &hashed) && !fits("secret", "secret"));
    }
}
