//! What the units say about memory: who goes first when a machine has none left, and who has a cap.
//! Starts no unit.

use super::root;

/// The value of a directive in a unit; `None`: it is not there.
fn directive(unit: &str, name: &str) -> Option<String> {
    let path = root().join("units/system").join(unit);
    let text = std::fs::read_to_string(path).expect("a unit");
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    Some(found?.strip_prefix('=')?.to_owned())
}

/// Goal: short of memory, webapps go first, and the host agent, masters and owners last; only a webapp has a cap, and nobody is slowed
/// down who must answer heartbeats. Method: the directives of the units.
#[test]
fn webapps_go_first_when_memory_is_short() {
    let units = [
        "wa-host.service",
        "wa-master@.service",
        "wa-coreapp@.service",
        "wa-webapp@.service",
    ];
    let score = |unit: &&str| directive(unit, "OOMScoreAdjust").expect("a score");
    let scores: Vec<i32> = units
        .iter()
        .map(|unit| score(unit).parse().expect("a number"))
        .collect();
    assert!(scores.is_sorted_by(|a, b| a < b), "{scores:?}");
    assert!(scores[2] < 0 && scores[3] > 0, "{scores:?}");
    for unit in units {
        assert_eq!(directive(unit, "MemoryHigh"), None, "{unit}");
        let capped = directive(unit, "MemoryMax").is_some();
        assert_eq!(capped, unit == "wa-webapp@.service", "{unit}");
    }
    for slice in ["wa.slice", "wa-coreapp.slice"] {
        for name in ["MemoryHigh", "MemoryMax"] {
            assert_eq!(directive(slice, name), None, "{slice}");
        }
    }
}
