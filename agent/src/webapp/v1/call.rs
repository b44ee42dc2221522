//! What a row of the table of calls says: method, path, who may call, who serves it, body, and deadline.
//! The rows themselves stand in `calls.rs`.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::MethodRouter;

use crate::webapp::auth::Access;
use crate::webapp::state::Webapp;

/// Who does what a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedBy {
    /// This webapp, with the database.
    Webapp,
    /// The owner of a shard.
    Owner,
    /// The primary master.
    Master,
    /// Every node is asked.
    Nodes,
    /// Nobody: the upstream has nothing like it any more.
    Nobody,
}

impl ServedBy {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webapp => "webapp",
            Self::Owner => "owner",
            Self::Master => "master",
            Self::Nodes => "nodes",
            Self::Nobody => "gone",
        }
    }
}

/// What a call reads of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Nothing,
    /// JSON of a bounded length.
    Json,
    /// JSON with a backup in it, of a bounded length.
    Backup,
    /// The upstream's events, of a bounded length.
    Events,
    /// A file; the handler counts its bytes while it reads.
    File,
    /// Certificates, of a bounded length.
    Pem,
    /// A photo, or a form with one in it, of a bounded length.
    Photo,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// As long as a request is held for an owner, and a little longer.
    Hold,
    /// The same, and as long as an owner may take for a registration.
    Registration,
    /// Files are long; each of their chunks has a deadline of its own.
    Transfer,
}

/// One row.
pub struct Call {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub by: ServedBy,
    pub body: Body,
    pub within: Within,
    /// Its handler under its method.
    pub route: fn() -> MethodRouter<Arc<Webapp>>,
}
