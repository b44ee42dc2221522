//! Takes one guard out of the statements that change lease rows, for `cargo xtask mutants`. No shipped build has this file.
//! Knows the wording of `lease.rs` for the embedded store only; a wording that it does not find is an error.

use wa_core::guard::{Guard, on};

/// A guard, what its statement begins with or contains, and the conditions that go.
const CUTS: &[(Guard, &str, &[&str])] = &[
    (
        Guard::CasRow,
        "phase='handover', previous=? WHERE name=?",
        &["token=? AND grant_id=? AND nonce=? AND phase=?"],
    ),
    (
        Guard::CasNonce,
        "phase='handover', previous=? WHERE name=?",
        &["nonce=? AND phase"],
    ),
    (
        Guard::CasGeneration,
        "phase='handover', previous=? WHERE name=?",
        &["generation=?"],
    ),
    (
        Guard::ReshardNamesSeen,
        "SET shard_count=?, generation=generation+1",
        &["generation=? AND epoch_high=?"],
    ),
    (
        Guard::CasTerm,
        "UPDATE lease SET touch=touch+1",
        &["token=? AND grant_id=?"],
    ),
    (
        Guard::TakeNamesNonce,
        "phase='active' WHERE name='master'",
        &["nonce=?"],
    ),
    (
        Guard::ActivateNamesGrant,
        "SET phase='active', previous='[]' WHERE name=?",
        &["token=? AND grant_id=?"],
    ),
    (
        Guard::RenewNamesOwner,
        "SET nonce=?, ttl_ms=? WHERE name=? AND",
        &["token=? AND grant_id=? AND owner=? AND inc_counter=? AND inc_random=?"],
    ),
    (
        Guard::RenewOnlyActive,
        "SET nonce=?, ttl_ms=? WHERE name=? AND",
        &["phase='active'"],
    ),
];

/// The statement without the conditions of the guard that is out, if it has them.
pub(super) fn wording(sql: &'static str) -> &'static str {
    let Some((_, _, conditions)) = CUTS
        .iter()
        .find(|(guard, which, _)| !on(*guard) && sql.contains(which))
    else {
        return sql;
    };
    let mut text = sql.to_owned();
    for condition in *conditions {
        let at = text.rfind(condition).expect("the guard is worded as here");
        // The values stay bound: every comparison is made, and none counts.
        let always = condition
            .replace("=?", "=? OR 1=1)")
            .replace("='active'", "='active' OR 1=1)");
        let always = always
            .split(" AND ")
            .map(|one| {
                if one.ends_with(')') {
                    format!("({one}")
                } else {
                    one.to_owned()
                }
            })
            .collect::<Vec<_>>()
            .join(" AND ");
        text.replace_range(at..at + condition.len(), &always);
    }
    // A mutation run takes out a handful of guards in one process.
    Box::leak(text.into_boxed_str())
}
