//! What other tasks ask of the loop, each with the way back for its answer.
//! Answers nothing itself.

use tokio::sync::oneshot;

use super::fresh::Reading;
use crate::api::control::{
    ClusterStatus, Explanation, OperatorAnswer, OperatorRequest, ShardsAnswer, ShardsRequest,
    SwitchoverAnswer, SwitchoverRequest,
};

/// What other tasks ask of the loop.
pub enum Request {
    Status(oneshot::Sender<ClusterStatus>),
    Switchover(SwitchoverRequest, oneshot::Sender<SwitchoverAnswer>),
    ShardCount(ShardsRequest, oneshot::Sender<ShardsAnswer>),
    Operate(OperatorRequest, oneshot::Sender<OperatorAnswer>),
    Explain(oneshot::Sender<Vec<Explanation>>),
    /// A row was read.
    Read(Reading),
    /// A row was read after a verb wrote it: answered when it is in force here. Other masters are told to read it.
    Written(Reading, oneshot::Sender<()>),
    /// Read the shard map; answered by the first reading that begins after this. False: the database did not answer it.
    ReadMap(oneshot::Sender<bool>),
    /// The settings row changed: tell everybody.
    SettingsChanged(oneshot::Sender<bool>),
}
