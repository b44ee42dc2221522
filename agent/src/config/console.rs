//! `[console]`: whether webapps serve it, and what masters do for it.
//! Does nothing itself: webapps look at the first, masters judge acts by the second.

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

impl ConsoleSettings {
    /// What is written.
    ///
    /// # Errors
    /// A sentence, for a word that is none of the choices.
    pub(super) fn of(serve: bool, acts: &str) -> Result<Self, String> {
        let acts = Acts::parse(acts).ok_or_else(|| {
            format!("[console] acts = {acts:?}: write \"none\", \"safe\" or \"all\"")
        })?;
        Ok(Self { serve, acts })
    }
}
