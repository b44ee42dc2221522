//! `GET /v1/health`: every node of the cluster with what it can do.
//! Says what the shapes are; `webapp/v1/health.rs` collects the facts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Meta;
use crate::api::error::ErrorObject;

/// The answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HealthAnswer {
    pub health: Health,
    /// What is wrong with the cluster, the worst first; absent when nothing is. Not part of the reference API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemHealth>,
    pub meta: Meta,
}

/// What there is to say of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Health {
    /// In a cluster: node name → its health.
    Nodes(BTreeMap<String, NodeHealth>),
    /// No node is known, because there is no schema yet.
    Single(NodeHealth),
}

/// One problem, as `wa-agent status` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemHealth {
    /// Its kind.
    #[schema(example = "no_master")]
    pub kind: String,
    /// `broken`, `weak` or `remark`.
    #[schema(example = "broken")]
    pub grade: String,
    /// What happened, and what to type.
    pub details: String,
}

/// One node. A node that does not answer has `errors` instead of `gateway_status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeHealth {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_status: Option<GatewayStatus>,
    /// `primary_master`, `secondary_master` or `coreapp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The shared media directory as a coreapp sees it; absent where none is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaHealth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorObject>,
}

/// A node's word on its media directory. Not part of the reference API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MediaHealth {
    /// `ok`, or what is wrong, for example `read-only`.
    #[schema(example = "ok")]
    pub status: String,
    /// What is wrong and what to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// Where a node's connection to WhatsApp stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GatewayStatus {
    Connected,
    Connecting,
    Disconnected,
    /// The database schema is not there yet.
    Uninitialized,
    /// No phone number or token is configured.
    Unregistered,
}
