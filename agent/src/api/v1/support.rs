//! `GET /v1/support`: what a support engineer asks for first.
//! Collects nothing: `webapp/v1/support.rs` does.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Meta;

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct SupportAnswer {
    pub support: Support,
    pub meta: Meta,
}

/// The fields of the reference that say something true here. This software does not expire, so that there is no
/// `expire_timestamp`; it holds no keys of customers, so that there is no `e2e`; `env` would show settings, and is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Support {
    /// `MYSQL` or `SQLITE`.
    #[schema(example = "MYSQL")]
    pub db_engine: String,
    /// What the database server says of itself; empty when it does not answer.
    pub db_info: Vec<String>,
    #[schema(example = "wa-agent 0.1.0")]
    pub description: String,
    /// The time on this machine.
    #[schema(example = "2026-11-23T10:15:30Z")]
    pub device_iso8601: String,
    /// Bytes that are free where this node keeps its state, on the disk of the logs, and in the media directory; absent where
    /// nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_space_data: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_space_logs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_space_media_incoming: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_space_media_outgoing: Option<u64>,
    /// More than one coreapp is registered.
    pub multi_connect: bool,
    pub os_name: String,
    pub os_version: String,
    /// The version of the database schema, under `wa_agent`.
    pub schema: BTreeMap<String, i64>,
    /// Who answered. Not part of the reference API.
    pub node: String,
    /// Our own version. Not part of the reference API.
    pub version: String,
}
