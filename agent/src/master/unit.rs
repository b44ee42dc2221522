//! What systemd and load balancers are told of a master: whether it is ready, and what is wrong.

use wa_core::id::Term;

use crate::net::health::Readiness;

/// Ready once it has read the shard map. `wrong`: what people who look at the unit should know.
pub fn tell(readiness: &Readiness, map: bool, term: Term, wrong: Option<&str>) {
    if !map {
        readiness.not_ready("the shard map was not read yet");
        return;
    }
    let status = match term.0 {
        0 => "secondary master".to_owned(),
        _ => format!("primary master, term {term}"),
    };
    readiness.ready(&match wrong {
        Some(wrong) => format!("{status}; {wrong}"),
        None => status,
    });
}
