//! `wa-agent check-config`: effective values with origins, and the worst cases that they lead to.

use serde_json::json;
use wa_core::id::Role;

use crate::cli::Instance;
use crate::config::{self, DatabaseSettings, worst_cases};
use crate::db::Db;
use crate::exit::Exit;

/// Longest wait for a database that may not be there yet.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

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
    // Whoever may read the files may see the values, without the secrets.
    let (loaded, hidden) =
        config::load_to_show(role, instance.instance, instance.config.as_deref())?;
    let voided = || match hidden {
        true => Err("only root may read its password".to_owned()),
        false => voided_promises(&loaded.settings.database),
    };
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
            json!({"values": loaded.origins, "worst_cases": cases(false), "worst_cases_with_host_agent": cases(true),
                "database_warnings": voided().unwrap_or_default()})
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
    match voided() {
        Ok(said) if said.is_empty() => println!("the database keeps what it has taken"),
        Ok(said) => said.iter().for_each(|line| println!("warning: {line}")),
        Err(why) => println!("the database's own settings were not looked at: {why}"),
    }
    Ok(Exit::Ok)
}

/// Asks the database, if it answers soon, which of its settings void the promise to keep what was answered 2xx.
fn voided_promises(settings: &DatabaseSettings) -> Result<Vec<String>, String> {
    // A look makes no file.
    if settings.urls.iter().any(|url| url.starts_with("sqlite:")) {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let settings = DatabaseSettings {
        connect_timeout: settings.connect_timeout.min(ANSWER_WITHIN),
        ..settings.clone()
    };
    let asked = async {
        let db = Db::connect(&settings, 1).await?;
        let said = db.voided_promises().await;
        db.close().await;
        said
    };
    runtime.block_on(asked).map_err(|error| error.brief())
}
