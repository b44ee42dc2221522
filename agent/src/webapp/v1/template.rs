//! `[client] check_templates`: refuses a template message at once that the upstream would surely refuse.
//! Where it cannot know, or nobody answers in time, the message goes.

use std::time::Duration;

use crate::api::cloud::template::verdict::{Verdict, decide};
use crate::api::error::ApiError;
use crate::api::owner::OwnerCall;
use crate::api::v1::message::Content;
use crate::api::v1::message::template::Template;
use crate::webapp::state::Webapp;

/// How long a client waits for a look at its template.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Checks the template that a message fills, if the settings want it.
///
/// # Errors
/// 2000, 2001, 2012, 2060, 2061 or 2062.
pub async fn check(webapp: &Webapp, content: &Content) -> Result<(), ApiError> {
    if !webapp.settings.client.check_templates {
        return Ok(());
    }
    match content.template() {
        Some(template) => fits(webapp, &template).await,
        None => Ok(()),
    }
}

async fn fits(webapp: &Webapp, template: &Template) -> Result<(), ApiError> {
    let mut looked = false;
    loop {
        let Some(verdict) = verdict(webapp, template, looked).await else {
            webapp.metrics.templates_unchecked.inc();
            return Ok(());
        };
        match verdict {
            Verdict::Send => return Ok(()),
            Verdict::Refuse(error) => return Err(error),
            // After a look there is no second one.
            Verdict::Look if looked => return Ok(()),
            Verdict::Look => looked = true,
        }
    }
}

/// What the table says, after a look at the upstream's list if that is wanted; `None`: nobody could say.
async fn verdict(webapp: &Webapp, template: &Template, look: bool) -> Option<Verdict> {
    if look {
        let name = template.name.clone();
        let asked = webapp.owners.ask(OwnerCall::LookUpTemplate { name });
        tokio::time::timeout(LOOK_WITHIN, asked).await.ok()?.ok()?;
    }
    let known = webapp.db().ok()?.templates(&template.name).await.ok()?;
    Some(decide(template, &known, look))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
