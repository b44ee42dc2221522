//! An alarm that rings, as masters tell it in the status of the cluster.
//! Decides nothing: the table is `wa_core::alarm`.

use serde::{Deserialize, Serialize};
use wa_core::alarm::Alarm;

/// One alarm that rings, as `wa_core::alarm` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmStatus {
    /// Its name, which is that of the alert in Prometheus.
    pub name: String,
    /// `page` or `ticket`.
    pub severity: String,
    /// The recorded figure of Prometheus, and the worst value now.
    pub figure: String,
    pub value: i64,
    pub says: String,
    pub means: String,
    /// What to type.
    pub remedy: String,
}

impl From<(Alarm, i64)> for AlarmStatus {
    fn from((alarm, value): (Alarm, i64)) -> Self {
        let row = alarm.row();
        Self {
            name: row.name.into(),
            severity: row.severity.as_str().into(),
            figure: row.figure.into(),
            value,
            says: row.says.into(),
            means: row.means.into(),
            remedy: row.remedy.into(),
        }
    }
}
