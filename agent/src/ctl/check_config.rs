//! `wa-agent check-config`: effective values with origins, and the worst cases that they lead to.

use serde_json::json;
use wa_core::id::Role;

use crate::cli::Instance;
use crate::config::{self, worst_cases};
use crate::exit::Exit;

/// Loads as the role would, prints, says which rule is broken.
///
/// # Errors
/// The configuration's own error.
pub fn run(instance: &Instance, role: &str, as_json: bool) -> anyhow::Result<Exit> {
    let role = match role {
        "master" => Role::Master,
        "webapp" => Role::Webapp,
        _ => Role::Coreapp,
    };
    let loaded = config::load(role, instance.instance, instance.config.as_deref())?;
    let timers = &loaded.settings.timers;
    let text = |d: std::time::Duration| {
        humantime::format_duration(std::time::Duration::from_millis(d.as_millis() as u64))
            .to_string()
    };
    if as_json {
        let cases = |host| {
            let list = worst_cases(timers, host).into_iter();
            list.map(|c| json!({"class": c.class, "detection_ms": c.detection.as_millis() as u64, "takeover_ms": c.takeover.as_millis() as u64}))
                .collect::<Vec<_>>()
        };
        println!(
            "{}",
            json!({"values": loaded.origins, "worst_cases": cases(false), "worst_cases_with_host_agent": cases(true)})
        );
        return Ok(Exit::Ok);
    }
    println!("{}", loaded.settings.node);
    for (key, (value, origin)) in &loaded.origins {
        println!("  {key:<32} {value:<40} {origin}");
    }
    for (host, title) in [
        (true, "with a living host agent"),
        (false, "without a host agent"),
    ] {
        println!(
            "\nworst case {title:<28} {:>14} {:>14} {:>14}",
            "detection", "fencing", "takeover"
        );
        for case in worst_cases(timers, host) {
            println!(
                "  {:<48} {:>10} {:>14} {:>14}",
                case.class,
                text(case.detection),
                text(case.fencing),
                text(case.takeover)
            );
        }
    }
    println!("\nthe configuration keeps every rule");
    Ok(Exit::Ok)
}
