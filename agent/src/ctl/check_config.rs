//! `wa-agent check-config`: effective values with origins, and the worst cases that they lead to.

use serde_json::json;
use wa_core::id::Role;

use crate::cli::Instance;
use crate::config::{self, DatabaseSettings, without_password, worst_cases};
use crate::db::Db;
use crate::exit::Exit;
use crate::webapp::plain;

/// Longest wait for a database that may not be there yet.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Loads as the role would, prints, says which rule is broken.
///
/// # Errors
/// The configuration's own error.
pub fn run(instance: &Instance, role: &str, as_json: bool) -> anyhow::Result<Exit> {
    let role = named(role);
    // Whoever may read the files may see the values, without the secrets.
    let (loaded, hidden) =
        config::load_to_show(role, instance.instance, instance.config.as_deref())?;
    // What the start would refuse beside the rules between values, in the same words.
    let api = match hidden {
        // Nor may this user see what the webapps wrote down.
        true => None,
        false => plain::said(&loaded)?,
    };
    let files: Vec<String> = loaded.open.iter().map(ToString::to_string).collect();
    let database = &loaded.settings.database;
    let looked = || match hidden {
        true => Looked::none(database, "only root may read its password"),
        false => look(database),
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
        let (mut warnings, mut unknown) = (Vec::new(), Vec::new());
        for (url, said) in looked().0 {
            match said {
                Ok(said) => warnings.extend(said),
                Err(why) => unknown.push(json!({"url": url, "reason": why})),
            }
        }
        println!(
            "{}",
            json!({"values": loaded.origins, "worst_cases": cases(false), "worst_cases_with_host_agent": cases(true),
                "api_warnings": Vec::from_iter(&api), "file_warnings": files, "database_warnings": warnings, "database_not_looked_at": unknown})
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
    let warnings = api.iter().chain(&files);
    warnings.for_each(|line| println!("warning: {line}"));
    looked().lines().iter().for_each(|line| println!("{line}"));
    Ok(Exit::Ok)
}

fn named(role: &str) -> Role {
    match role {
        "master" => Role::Master,
        "webapp" => Role::Webapp,
        "host" => Role::Host,
        _ => Role::Coreapp,
    }
}

/// Says which files with secrets others can read or replace, and nothing else. Those that a start goes on with are warnings.
///
/// # Errors
/// For the first one that a start refuses (the others are printed), or when a file of the configuration cannot be read.
pub fn open_files(instance: &Instance, role: &str) -> anyhow::Result<Exit> {
    let found = config::open_files(named(role), instance.instance, instance.config.as_deref())?;
    let (refused, kept): (Vec<_>, Vec<_>) = found.into_iter().partition(|open| open.refused);
    kept.iter().for_each(|open| eprintln!("warning: {open}"));
    let mut refused = refused.into_iter();
    let Some(first) = refused.next() else {
        return Ok(Exit::Ok);
    };
    refused.for_each(|open| eprintln!("{open}"));
    Err(config::ConfigError::Rule(first.to_string()).into())
}

/// Each database URL as it may be shown, and the warnings about it; or why nobody looked.
struct Looked(Vec<(String, Result<Vec<String>, String>)>);

impl Looked {
    fn none(settings: &DatabaseSettings, why: &str) -> Self {
        let urls = settings.urls.iter().map(|url| without_password(url));
        Self(urls.map(|url| (url, Err(why.to_owned()))).collect())
    }

    /// Nothing good is said of a server that nobody looked at.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (url, said) in &self.0 {
            match said {
                Ok(said) if said.is_empty() => lines.push(format!(
                    "{url}: a connection was opened; its session is as our statements need it, and the server keeps what it has taken"
                )),
                Ok(said) => lines.extend(said.iter().map(|line| format!("warning: {line}"))),
                Err(why) => lines.push(format!(
                    "{url}: not looked at, so nobody knows whether it keeps what it takes: {why}"
                )),
            }
        }
        lines
    }
}

/// Asks each server, if it answers soon, which of its settings void the promise to keep what was answered 2xx.
fn look(settings: &DatabaseSettings) -> Looked {
    // A look makes no file.
    if settings.urls.iter().any(|url| url.starts_with("sqlite:")) {
        let why = "it is an embedded database, which a look does not open; the masters open it so that each commit is on the disk";
        return Looked::none(settings, why);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Looked::none(settings, &error.to_string()),
    };
    let several = settings.urls.len() > 1;
    let each = settings.urls.iter().map(|url| async move {
        let alone = DatabaseSettings {
            urls: vec![url.clone()],
            connect_timeout: settings.connect_timeout.min(ANSWER_WITHIN),
            ..settings.clone()
        };
        let asked = async {
            let db = Db::connect(&alone, 1).await?;
            let said = db.voided_promises_of(several).await;
            db.close().await;
            said
        };
        let said = asked.await.map_err(|error| error.brief());
        (without_password(url), said)
    });
    Looked(runtime.block_on(futures_util::future::join_all(each)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal (F01): good is said only of a server that was looked at. Method: one of each kind.
    #[test]
    fn nothing_good_is_said_of_what_nobody_looked_at() {
        let looked = Looked(vec![
            ("mysql://a/wa".into(), Ok(Vec::new())),
            ("mysql://b/wa".into(), Err("it does not answer".into())),
            ("mysql://c/wa".into(), Ok(vec!["c loses messages".into()])),
        ]);
        let lines = looked.lines();
        assert!(lines[0].starts_with("mysql://a/wa: a connection was opened"));
        assert!(
            lines[1].starts_with("mysql://b/wa: not looked at")
                && lines[1].ends_with("it does not answer")
        );
        assert_eq!(lines[2], "warning: c loses messages");
        assert!(
            lines[1..]
                .iter()
                .all(|line| !line.contains("keeps what it has taken"))
        );
    }
}
