//! The rows that operators and the API write, as the loop knows them, and what changes for the core when one is read again.
//! Reads nothing itself.

use wa_core::detector::Intervals;
use wa_core::judgement::Kind;
use wa_core::master::Command;
use wa_core::registration::Told;

use super::fresh::{Known, Pauses, Reading, RowRead};
use super::pauses;
use crate::api::control::StoredSwitchover;

/// The newest of each row.
#[derive(Default)]
pub struct Rows {
    pub pauses: Known<Pauses>,
    pub planned: Known<Vec<StoredSwitchover>>,
    pub registration: Known<Option<Told>>,
    pub certificate: Known<Option<(Kind, String)>>,
    /// Version of the application settings.
    pub settings_version: u64,
    settings: Known<()>,
}

/// What a reading changes beside what is known.
pub enum Taken {
    Nothing,
    /// Pauses begin, move or end.
    Pauses(Vec<Command>),
    /// The application settings were read: these intervals are in force.
    Intervals(Intervals),
}

impl Rows {
    /// Takes over what was read of a row, unless something newer is known.
    pub fn take(&mut self, Reading { begun, what }: Reading) -> Taken {
        match what {
            RowRead::Planned(read) => {
                if let Some(planned) = self.planned.older_than(begun) {
                    *planned = read;
                }
                Taken::Nothing
            }
            RowRead::Registration(read) => {
                if let Some(told) = self.registration.older_than(begun) {
                    *told = read;
                }
                Taken::Nothing
            }
            RowRead::Certificate(read) => {
                if let Some(told) = self.certificate.older_than(begun) {
                    *told = read;
                }
                Taken::Nothing
            }
            RowRead::Pauses(read) => match self.pauses.older_than(begun) {
                Some(known) => Taken::Pauses(pauses::changes(known, read)),
                None => Taken::Nothing,
            },
            RowRead::Settings { intervals, version } => {
                if self.settings.older_than(begun).is_none() {
                    return Taken::Nothing;
                }
                self.settings_version = version;
                Taken::Intervals(intervals)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wa_core::time::Instant;

    use super::*;

    fn settings(begun_ms: u64, version: u64) -> Reading {
        let intervals = Intervals {
            heartbeat: Duration::from_millis(version),
            unhealthy: Duration::from_millis(3 * version),
        };
        Reading {
            begun: Instant::from_millis(begun_ms),
            what: RowRead::Settings { intervals, version },
        }
    }

    /// Goal: intervals that a verb has read back stay in force, whatever arrives late. Method: the readings out of order.
    #[test]
    fn a_late_reading_changes_no_intervals() {
        let mut rows = Rows::default();
        assert!(
            matches!(rows.take(settings(20, 2)), Taken::Intervals(i) if i.heartbeat.as_millis() == 2)
        );
        assert!(matches!(rows.take(settings(10, 1)), Taken::Nothing));
        assert_eq!(rows.settings_version, 2);
        let paused = Reading {
            begun: Instant::from_millis(5),
            what: RowRead::Pauses([(None, Instant::from_millis(60_000))].into()),
        };
        let Taken::Pauses(commands) = rows.take(paused) else {
            panic!("each row has a time of its own")
        };
        assert_eq!(commands.len(), 1);
    }
}
