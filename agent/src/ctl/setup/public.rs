//! What a new installation says of its public API: TLS, and with which password the administrator logs in first.
//! Changes nothing of an installation that is there, unless it is told to.

use std::path::Path;

use anyhow::Context as _;
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use toml::Value;

use super::answers::Answers;
use super::store::Known;
use super::{CREDENTIALS, SetupArgs};
use crate::api::v1::user::{ADMIN, ADMIN_FIRST_PASSWORD, check_password};
use crate::ctl::draft::Draft;

/// Name of the credential: a hash, or the documented word.
const FIRST_PASSWORD: &str = "first-password";

fn webapp(args: &SetupArgs) -> bool {
    args.roles.iter().any(|role| role == "webapp")
}

/// TLS of the public API: on, where nothing was said and nothing ran before.
pub fn tls(args: &SetupArgs, answers: &mut Answers) {
    if !args.behind_proxy.is_empty() {
        let proxies = args.behind_proxy.iter().cloned().map(Value::from);
        answers.put("webapp", "tls", Some("off".into()));
        let proxies = Value::Array(proxies.collect());
        answers.put("webapp", "trusted_proxies", Some(proxies));
        return;
    }
    let said = ["tls", "tls_cert", "trusted_proxies"];
    let said = said.iter().any(|key| answers.has("webapp", key));
    if answers.is_new() && webapp(args) && !said {
        answers.put("webapp", "tls", Some("self-signed".into()));
    }
}

/// The scheme in which the API is spoken to.
pub fn scheme(answers: &Answers) -> &'static str {
    match answers.get("webapp", "tls").as_str() {
        "" if answers.has("webapp", "tls_cert") => "https",
        "" | "off" => "http",
        _ => "https",
    }
}

/// The first password of a new cluster.
///
/// # Errors
/// When it is too weak, or nobody said one and nobody can be asked.
pub fn first_password(
    args: &SetupArgs,
    answers: &Answers,
    known: &Known,
    draft: &mut Draft,
) -> anyhow::Result<()> {
    let path = Path::new(CREDENTIALS).join(FIRST_PASSWORD);
    let there = std::fs::read_to_string(draft.below(&path)).ok();
    let there = there.filter(|text| !answers.trial_over() && !text.trim().is_empty());
    let secret = if let Some(file) = &args.first_password_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let password = text.trim_end_matches(['\r', '\n']);
        match there.filter(|hash| fits(password, hash)) {
            Some(hash) => hash,
            None => hash(password)?,
        }
    } else if args.first_password.is_some() || args.simulator {
        ADMIN_FIRST_PASSWORD.to_owned()
    } else if let Some(there) = there {
        there
    } else if !answers.is_new() || !webapp(args) || args.join.is_some() || known.identity.is_some()
    {
        // Users are there already, or come with the first machine.
        return Ok(());
    } else {
        asked(answers)?
    };
    draft.secret(path, secret.trim_end());
    Ok(())
}

fn asked(answers: &Answers) -> anyhow::Result<String> {
    anyhow::ensure!(
        answers.interactive(),
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
