//! `[console]`: whether webapps serve it, and what masters do for it.
//! Does nothing itself: webapps look at the first, masters judge acts by the second.

use super::merge::Merge;
use super::{ConfigError, fragment};
use crate::api::act::Acts;

/// What people may see and do in a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Webapps serve `/console`.
    pub serve: bool,
    /// Which acts masters do for administrators; webapps show buttons for these.
    pub acts: Acts,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self {
            serve: true,
            acts: Acts::default(),
        }
    }
}

/// Reads the section.
///
/// # Errors
/// [`ConfigError::Rule`] for a word that is none of the choices.
pub(super) fn console(
    m: &mut Merge,
    written: fragment::Console,
) -> Result<ConsoleSettings, ConfigError> {
    let usual = ConsoleSettings::default();
    let acts = usual.acts.as_str().to_owned();
    let acts = m.pick("console.acts", written.acts, None, (acts, "default"));
    let known = Acts::parse(&acts).ok_or_else(|| {
        ConfigError::Rule(format!(
            "[console] acts = {acts:?}: write \"none\", \"safe\" or \"all\""
        ))
    })?;
    Ok(ConsoleSettings {
        serve: m.pick(
            "console.serve",
            written.serve,
            None,
            (usual.serve, "default"),
        ),
        acts: known,
    })
}
