//! What makes a process a member of the cluster, whatever its role: its row, its beat, where the others are, what all share.
//! Knows no role's own work: each role calls this, and this calls none.

pub mod audit;
pub mod backup;
pub mod certificate;
pub mod claim;
pub mod heartbeat;
pub mod masters;
pub mod provider;
pub mod register;
pub mod sealed;
pub mod settings;
