//! Which calls the audit tells of, and the line of each: it is written when the call is answered, or when the client hangs up.
//! Where lines go, and how many strangers may cause, is in `member/audit.rs`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::Method;
use axum::response::Response;

use super::auth::Access;
use super::state::Webapp;
use crate::api::v1::code::Code;
use crate::member::audit::Entry;
use crate::net::source;

/// Folders of calls that change users, settings or certificates; what else is changed is a message or a file.
const FOLDERS: [&str; 5] = [
    "/v1/users",
    "/v1/account",
    "/v1/settings",
    "/v1/certificates",
    "/v1/services",
];

/// Whether the audit tells of a call.
pub fn is_audited(method: &Method, path: &str, access: Access) -> bool {
    let kept = match access {
        Access::Admin | Access::Basic => true,
        Access::User => FOLDERS.iter().any(|folder| path.starts_with(folder)),
        Access::Open | Access::Monitor | Access::Signed => false,
    };
    kept && *method != Method::GET
}

#[derive(Debug, Default)]
struct Told {
    who: Option<String>,
    /// Who calls has shown it.
    shown: bool,
    what: String,
}

/// What a call says of itself while it runs.
#[derive(Debug, Clone)]
pub struct Trace {
    pub source: IpAddr,
    told: Arc<Mutex<Told>>,
}

impl Trace {
    fn with<T>(&self, f: impl FnOnce(&mut Told) -> T) -> T {
        f(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Somebody tries to be this user, who exists. Other names are not written down: some type a password there.
    pub fn tried(&self, username: &str) {
        self.with(|told| told.who = Some(username.to_owned()));
    }

    /// This user calls, and has shown it.
    pub fn shown(&self, username: &str) {
        self.with(|told| (told.who, told.shown) = (Some(username.to_owned()), true));
    }

    /// More words on what is asked for; no secret may be among them.
    pub fn add(&self, words: &str) {
        self.with(|told| {
            told.what.push(' ');
            told.what.push_str(words);
        });
    }
}

/// The line of a call that is not answered yet. Dropped without an answer it says that the client hung up.
pub struct Open {
    webapp: Arc<Webapp>,
    /// Method and path, as the table of calls has them.
    call: String,
    /// The path as it was asked for.
    path: String,
    trace: Trace,
    ended: bool,
}

impl Open {
    /// Begins the line of a call.
    pub fn begin(
        webapp: &Arc<Webapp>,
        (call, method, path): (&str, &Method, &str),
        source: IpAddr,
    ) -> Self {
        Self {
            webapp: Arc::clone(webapp),
            call: call.to_owned(),
            path: format!("{method} {path}"),
            trace: Trace {
                source,
                told: Arc::default(),
            },
            ended: false,
        }
    }

    /// For the handler.
    pub fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// The call was answered so.
    pub fn answered(mut self, response: &Response) {
        let status = response.status();
        let code = response.extensions().get::<Code>();
        let code = code.map_or(String::new(), |code| format!(", {}", code.number()));
        let outcome = match status.is_success() {
            true => "done".to_owned(),
            false if status.is_server_error() => format!("failed ({}{code})", status.as_u16()),
            false => format!("refused ({}{code})", status.as_u16()),
        };
        self.end(&outcome, status.is_client_error());
    }

    fn end(&mut self, outcome: &str, refused: bool) {
        self.ended = true;
        let audit = &self.webapp.audit;
        let source = self.trace.source.to_string();
        self.trace.with(|told| {
            let who = told.who.as_deref().unwrap_or("-");
            // A stranger chooses no word of a line.
            let call = if told.shown { &self.path } else { &self.call };
            let what = match self.call.as_str() {
                "POST /v1/users/login" => format!("login{}", told.what),
                "POST /v1/users/logout" => "logout".to_owned(),
                "POST /console/login" => format!("login to the console{}", told.what),
                "POST /console/act" => format!("act by the console:{}", told.what),
                "POST /console/logout" => "logout from the console".to_owned(),
                _ => format!("{call}{}", told.what),
            };
            let entry = Entry::new(who, &source, &what, outcome);
            match (told.shown, refused) {
                (true, false) => audit.write(entry),
                (true, true) => audit.write_refusal(entry),
                (false, _) => {
                    let network = source::network(self.trace.source);
                    audit.write_stranger(entry, &network.to_string());
                }
            }
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            self.end("not known: the client hung up before the answer", false);
        }
    }
}

#[cfg(test)]
#[path = "audited_tests.rs"]
mod tests;
