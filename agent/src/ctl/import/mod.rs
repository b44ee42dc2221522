//! `wa-agent import`: the old client's environment and compose files become configuration, credentials, instances and mounts.
//! Reads nothing of its data, and starts nothing. What has no counterpart is listed.

mod compose;
mod interpolate;
mod media;
mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use toml::{Table, Value};
use url::Url;

use super::draft::Draft;
use super::setup::{CREDENTIALS, refuse_old_client};
use crate::exit::Exit;
use crate::sys::dial;
use compose::{Kind, Service};
use variables::Variables;

/// Comes before what `setup` writes: that wins.
const FRAGMENT: &str = "/etc/wa-agent/conf.d/05-import.toml";

/// Exit codes: 0 done or shown, 1 refused.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Environment file of the old client, for example db.env; later ones win.
    #[arg(long, value_name = "FILE")]
    pub env: Vec<PathBuf>,
    /// Compose file of the old client, for example multiconnect-coreapp.yml.
    #[arg(long, value_name = "FILE", required_unless_present = "env")]
    pub compose: Vec<PathBuf>,
    /// Folder to write below instead of /.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    pub root: PathBuf,
    /// Show the files, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace files that are there and differ.
    #[arg(long)]
    pub replace: bool,
    /// Go on although the old client seems to run on this machine.
    #[arg(long)]
    pub force: bool,
}

/// What came of it beside the files: one sentence each.
#[derive(Debug, Default)]
struct Report {
    carried: Vec<String>,
    /// Has no counterpart, or is to be looked at.
    left: Vec<String>,
}

/// Reads, shows, writes.
///
/// # Errors
/// When a file cannot be read, the old client still runs, or a file that is there differs.
pub fn run(args: &ImportArgs) -> anyhow::Result<Exit> {
    if !args.dry_run {
        refuse_old_client(args.force)?;
    }
    let mut draft = Draft::new(&args.root);
    let report = gather(args, &mut draft)?;
    if args.dry_run {
        print!("{}", draft.show()?);
    } else {
        let differing = draft.differing()?;
        if !differing.is_empty() && !args.replace {
            let list: Vec<String> = differing
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            anyhow::bail!(
                "{} is there and differs: add --replace to replace it; nothing was written",
                list.join(", ")
            );
        }
        for path in draft.write()? {
            println!("wrote {}", path.display());
        }
    }
    print_list("carried over", &report.carried);
    print_list("without a counterpart, or to be looked at", &report.left);
    println!(
        "\nStill to do: the Cloud API's number, token and secrets, which the old client did not have:\n  wa-agent setup --single"
    );
    Ok(Exit::Ok)
}

fn print_list(title: &str, lines: &[String]) {
    if !lines.is_empty() {
        println!("\n{title}:");
        for line in lines {
            println!("  - {line}");
        }
    }
}

/// Everything that the files say, as a draft and a report.
fn gather(args: &ImportArgs, draft: &mut Draft) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut common = Variables::default();
    for file in &args.env {
        common.read(file, &mut report.left)?;
    }
    let mut services = Vec::new();
    let mut volumes = BTreeMap::new();
    for file in &args.compose {
        let project = compose::read(file, &common, &mut report.left)?;
        volumes.extend(project.volumes);
        services.extend(project.services);
    }
    // What the services say of themselves wins over the environment files.
    let mut all = common.clone();
    for service in services
        .iter()
        .filter(|service| service.kind != Kind::Other)
    {
        all.extend(&service.variables);
    }
    let mut table = Table::new();
    database(&all, &services, &mut table, draft, &mut report);
    node(&all, &mut table, &mut report);
    webapp(&all, &mut table, draft, &mut report);
    instances(&services, draft, &mut report);
    media::carry(&services, &volumes, &mut table, draft, &mut report);
    report.left.extend(all.without_counterpart());
    for service in services
        .iter()
        .filter(|service| service.kind == Kind::Other)
    {
        report.left.push(format!(
            "service {} ({}): no part of the client; it stays as it is",
            service.name, service.image
        ));
    }
    let text = toml::to_string(&table)?;
    draft.text(
        FRAGMENT,
        format!("# Written by `wa-agent import` from the files of the old client. What `wa-agent setup` writes wins.\n\n{text}"),
    );
    Ok(report)
}

fn put(table: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    let section = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Some(section) = section.as_table_mut() {
        section.insert(key.into(), value.into());
    }
}

/// `[database]` and its password.
fn database(
    all: &Variables,
    services: &[Service],
    table: &mut Table,
    draft: &mut Draft,
    report: &mut Report,
) {
    let Some(host) = all.get("WA_DB_HOSTNAME") else {
        report.left.push("WA_DB_HOSTNAME is not set: the embedded database would be used; wa-agent setup asks for another".into());
        return;
    };
    let engine = all.get("WA_DB_ENGINE").unwrap_or("MYSQL");
    if !engine.eq_ignore_ascii_case("mysql") {
        report.left.push(format!(
            "WA_DB_ENGINE={engine}: only MySQL and MariaDB are spoken; the old client's data is not read anyway. wa-agent setup makes a new database"
        ));
        return;
    }
    let (host, port) = server(host, all, services, report);
    let user = all.get("WA_DB_USERNAME").unwrap_or("root");
    let prefix = all.get("WA_DB_NAME_PREFIX").unwrap_or_default();
    let made = Url::parse(&format!(
        "mysql://{}:{port}/{prefix}wa",
        crate::config::in_url(&host)
    ))
    .ok()
    .and_then(|mut url| {
        url.set_username(user).ok()?;
        Some(url.to_string())
    });
    let Some(url) = made else {
        report.left.push(format!(
            "WA_DB_HOSTNAME={host}, WA_DB_PORT={port} is no address"
        ));
        return;
    };
    report.carried.push(format!("database server: [database] urls = {url}; database {prefix}wa is made by wa-agent setup --database-admin"));
    put(table, "database", "urls", vec![Value::from(url)]);
    if let Some(password) = all.get("WA_DB_PASSWORD") {
        draft.secret(Path::new(CREDENTIALS).join("database-password"), password);
        report
            .carried
            .push("WA_DB_PASSWORD: credentials/database-password".into());
    }
    tls_files(all, services, table, report);
}

/// Host and port of the server, as they are known outside the old network.
fn server(host: &str, all: &Variables, services: &[Service], report: &mut Report) -> (String, u16) {
    let mut host = host.to_owned();
    let mut port = all
        .get("WA_DB_PORT")
        .and_then(|port| port.parse().ok())
        .unwrap_or(3306u16);
    // The name of a container is known inside the old network only: from outside it is its published port.
    if let Some(service) = services.iter().find(|service| service.name == host) {
        let published = service.published(port);
        report.left.push(format!(
            "WA_DB_HOSTNAME={host} is the container of service {}: it must go on running; it is reached as 127.0.0.1:{}",
            service.name,
            published.unwrap_or(port)
        ));
        if published.is_none() {
            report.left.push(format!("service {} publishes no port {port}: publish it, or move the database out of its container", service.name));
        }
        host = "127.0.0.1".into();
        port = published.unwrap_or(port);
    }
    (host, port)
}

/// The files of TLS to the database, where a bind mount shows them outside.
fn tls_files(all: &Variables, services: &[Service], table: &mut Table, report: &mut Report) {
    for (name, key) in [
        ("WA_DB_SSL_CA", "ssl_ca"),
        ("WA_DB_SSL_CERT", "ssl_cert"),
        ("WA_DB_SSL_KEY", "ssl_key"),
    ] {
        let Some(inside) = all.get(name) else {
            continue;
        };
        match services.iter().find_map(|service| service.outside(inside)) {
            Some(outside) => {
                report
                    .carried
                    .push(format!("{name}: [database] {key} = {outside}"));
                put(table, "database", key, outside);
            }
            None => report.left.push(format!(
                "{name}={inside} lies inside a container: copy it out, and set [database] {key}"
            )),
        }
    }
}

/// For the name of this machine.
const LOOKUP_WITHIN: Duration = Duration::from_secs(5);

/// `[node]`: the address that others send to.
fn node(all: &Variables, table: &mut Table, report: &mut Report) {
    let names = ["EXTERNAL_HOSTNAME", "COREAPP_HOSTNAME", "WEBAPP_HOSTNAME"];
    let Some((name, host)) = names.iter().find_map(|name| Some((*name, all.get(name)?))) else {
        return;
    };
    let address = dial::lookup_blocking(host, LOOKUP_WITHIN)
        .into_iter()
        .next();
    match address {
        Some(address) => {
            report
                .carried
                .push(format!("{name}={host}: [node] advertise = {address}"));
            put(table, "node", "advertise", address.to_string());
        }
        None => report.left.push(format!(
            "{name}={host} has no address here: set [node] advertise to this machine's address"
        )),
    }
}

/// `[webapp]`: the old client's API spoke TLS with a certificate of its own.
fn webapp(all: &Variables, table: &mut Table, draft: &mut Draft, report: &mut Report) {
    put(table, "webapp", "tls", "self-signed");
    report
        .carried
        .push("the API spoke TLS with a certificate of its own: [webapp] tls = self-signed".into());
    if let Some(name) = all.get("WA_WEB_SERVERNAME") {
        report
            .carried
            .push(format!("WA_WEB_SERVERNAME: [webapp] tls_names = {name}"));
        put(table, "webapp", "tls_names", vec![Value::from(name)]);
    }
    if let Some(key) = all.get("WA_API_KEY") {
        if (12..=128).contains(&key.len()) {
            draft.secret(Path::new(CREDENTIALS).join("api-key"), key);
            report
                .carried
                .push("WA_API_KEY: credentials/api-key".into());
        } else {
            report
                .left
                .push("WA_API_KEY has not 12 to 128 characters: make another".into());
        }
    }
}

/// One file for each instance whose ports differ from the rule.
fn instances(services: &[Service], draft: &mut Draft, report: &mut Report) {
    let mut units = Vec::new();
    for (kind, role, base) in [
        (Kind::Master, "master", 6254u16),
        (Kind::Coreapp, "coreapp", 6250),
        (Kind::Webapp, "webapp", 9090),
    ] {
        for (at, service) in services
            .iter()
            .filter(|service| service.kind == kind)
            .enumerate()
        {
            let number = at + 1;
            units.push(format!("wa-{role}@{number}"));
            let found = service.ports();
            if found.is_empty() {
                continue;
            }
            let step = u16::try_from(at).unwrap_or(0);
            let rule: Vec<u16> = match kind {
                Kind::Webapp => vec![base + step],
                Kind::Master | Kind::Coreapp | Kind::Other => {
                    (0..4).map(|n| base + step * 10 + n).collect()
                }
            };
            if found == rule {
                continue;
            }
            let keys: &[&str] = match kind {
                Kind::Webapp => &["api"],
                Kind::Master | Kind::Coreapp | Kind::Other => {
                    &["heartbeat", "control", "api", "health"]
                }
            };
            let mut table = Table::new();
            for (key, port) in keys.iter().zip(&found) {
                put(&mut table, "ports", key, i64::from(*port));
            }
            let path = format!("/etc/wa-agent/instances/{role}-{number}.toml");
            report.carried.push(format!(
                "ports {found:?} of service {}: {path}",
                service.name
            ));
            let text = toml::to_string(&table).unwrap_or_default();
            draft.text(
                path,
                format!(
                    "# Written by `wa-agent import`: the published ports of service {}.\n\n{text}",
                    service.name
                ),
            );
        }
    }
    if !units.is_empty() {
        // Where webapps run alone there is no host agent.
        let host = units.iter().any(|unit| !unit.starts_with("wa-webapp@"));
        report.carried.push(format!(
            "{} services of the client: systemctl enable --now {}{}",
            units.len(),
            if host { "wa-host " } else { "" },
            units.join(" ")
        ));
    }
}

#[cfg(test)]
mod tests;
