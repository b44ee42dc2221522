//! Volumes and bind mounts of the old client: the shared media directory, and what lies beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Table;

use super::compose::{Kind, Service, Volume};
use super::{Report, put};
use crate::ctl::draft::Draft;

/// Inside the old containers.
const MEDIA: &str = "/usr/local/wamedia";
/// The data volume of clusters whose settings were not in the database.
const DATA: &str = "/usr/local/waent/data";
/// Where the media directory is mounted: the units let roles write there, and nowhere else.
const PLACE: &str = "/var/lib/wamedia/shared";
const UNIT: &str = "/etc/systemd/system/var-lib-wamedia-shared.mount";
/// Where the engine keeps its own volumes: no role may look in there, hence a mount.
const ENGINE: &str = "/var/lib/docker/volumes";

/// The first media mount of a service decides; others are listed.
pub fn carry(
    services: &[Service],
    volumes: &BTreeMap<String, Volume>,
    table: &mut Table,
    draft: &mut Draft,
    report: &mut Report,
) {
    let ours = services
        .iter()
        .filter(|service| service.kind != Kind::Other);
    let mounts = ours.flat_map(|service| service.mounts.iter().map(move |mount| (service, mount)));
    let mut media: Option<&str> = None;
    for (service, (source, target)) in mounts {
        let target = target.trim_end_matches('/');
        if target == MEDIA {
            match media {
                None => {
                    media = Some(source);
                    directory(source, volumes, table, draft, report);
                }
                Some(first) if first != source => {
                    report.left.push(format!("service {} has its media in {source}, another one in {first}: all must share one", service.name));
                }
                Some(_) => {}
            }
        } else if target == DATA {
            let line = format!(
                "{source} on {DATA}: keys and settings of the old client, of no use to this one; keep it until you are done with it"
            );
            if !report.left.contains(&line) {
                report.left.push(line);
            }
        } else {
            report.left.push(format!(
                "service {}: {source} on {target} has no counterpart",
                service.name
            ));
        }
    }
    if media.is_none() {
        report.left.push(format!(
            "no service mounts {MEDIA}: set [media] directory, or media calls are refused"
        ));
    }
}

fn directory(
    source: &str,
    volumes: &BTreeMap<String, Volume>,
    table: &mut Table,
    draft: &mut Draft,
    report: &mut Report,
) {
    let volume = volumes.get(source).cloned().unwrap_or_else(|| Volume {
        name: source.to_owned(),
        ..Volume::default()
    });
    let nfs = volume.kind.starts_with("nfs");
    let (what, kind, options) = if source.starts_with('/') {
        (source.to_owned(), "none".to_owned(), "bind".to_owned())
    } else if volume.kind.is_empty() {
        (
            format!("{ENGINE}/{}/_data", volume.name),
            "none".to_owned(),
            "bind".to_owned(),
        )
    } else if nfs {
        nfs_source(&volume)
    } else {
        (
            volume.device.clone(),
            volume.kind.clone(),
            volume.options.clone(),
        )
    };
    put(table, "media", "directory", PLACE);
    put(table, "media", "require", if nfs { "nfs" } else { "mount" });
    draft.text(UNIT, unit(&what, &kind, &options));
    report.carried.push(format!(
        "volume {source} ({what}) on {MEDIA}: mounted on {PLACE}; type: systemctl daemon-reload && systemctl enable --now '{}'",
        UNIT.rsplit('/').next().unwrap_or(UNIT)
    ));
}

/// The engine writes the server as an option, `addr=`; a mount unit before the path.
fn nfs_source(volume: &Volume) -> (String, String, String) {
    let (address, others): (Vec<&str>, Vec<&str>) = volume
        .options
        .split(',')
        .partition(|option| option.starts_with("addr="));
    let address = address
        .first()
        .map_or("", |option| option.trim_start_matches("addr="));
    let path = volume.device.trim_start_matches(':');
    let address = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let mut options: Vec<&str> = others
        .into_iter()
        .filter(|option| !option.is_empty())
        .collect();
    options.push("_netdev");
    (
        format!("{address}:{path}"),
        volume.kind.clone(),
        options.join(","),
    )
}

fn unit(what: &str, kind: &str, options: &str) -> String {
    let mut text = String::from(
        "# Written by `wa-agent import`: the media volume of the old client.\n[Unit]\nDescription=Shared media of wa-agent\n\n[Mount]\n",
    );
    let _ = writeln!(
        text,
        "What={}\nWhere={PLACE}\nType={kind}\nOptions={options}\n",
        what.replace('%', "%%")
    );
    text.push_str("[Install]\nWantedBy=multi-user.target\n");
    text
}
