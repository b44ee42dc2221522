//! An rpm package of the same files, written by rpmbuild.

use std::path::PathBuf;
use std::process::Command;

use super::stage::{Built, Kind, PLAIN, lay_out};
use super::{Wanted, epoch, fresh, output, read, run, write};

/// Folders of our own: rpm leaves others behind.
const FOLDERS: [&str; 7] = [
    "/usr/libexec/wa-agent",
    "/usr/share/doc/wa-agent",
    "/usr/share/doc/wa-agent/examples",
    "/usr/share/wa-agent",
    "/usr/share/wa-agent/monitoring",
    "/usr/share/wa-agent/monitoring/dashboards",
    "/etc/wa-agent",
];

/// Writes `wa-agent-VERSION-1.ARCH.rpm` and says where.
pub fn make(wanted: &Wanted, built: &Built) -> Result<PathBuf, String> {
    let (_, architecture) = wanted.architecture()?;
    let root = crate::root();
    let stage = root.join("target/packages/rpm");
    let placed = lay_out(built, &stage, &PLAIN)?;
    let top = root.join("target/packages/rpmbuild");
    fresh(&top)?;
    let lines: Vec<String> = placed
        .iter()
        .map(|(kind, target)| match kind {
            Kind::Conf => format!("%config(noreplace) {target}"),
            Kind::Doc | Kind::Gz | Kind::Man => format!("%doc {target}"),
            Kind::File => target.clone(),
        })
        .chain(FOLDERS.map(|folder| format!("%dir {folder}")))
        .collect();
    let when = output(Command::new("date").env("LC_ALL", "C").args([
        "--utc",
        "+%a %b %d %Y",
        &format!("--date=@{}", epoch()?),
    ]))?;
    let changelog = format!(
        "* {} {} - {}-1\n- Release {}: see /usr/share/doc/wa-agent/changelog.gz",
        when.trim(),
        wanted.maintainer,
        wanted.version,
        wanted.version
    );
    let spec = read(&root.join("packaging/rpm/wa-agent.spec"))?
        .replace("@VERSION@", &wanted.version)
        .replace("@MAINTAINER@", &wanted.maintainer)
        .replace("@STAGE@", &stage.display().to_string())
        .replace("@FILES@", &lines.join("\n"))
        .replace("@CHANGELOG@", &changelog);
    let file = top.join("wa-agent.spec");
    write(&file, &spec)?;
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    // What is thrown away after a test need not be small.
    let payload = match wanted.profile.as_str() {
        "dist" => "w19.zstdio",
        _ => "w3.zstdio",
    };
    run(Command::new("rpmbuild")
        .env("SOURCE_DATE_EPOCH", epoch()?)
        .args(["-bb", "--quiet", "--target", architecture])
        .args(define("_topdir", &top.display().to_string()))
        .args(define("_rpmdir", &wanted.out.display().to_string()))
        .args(define(
            "_rpmfilename",
            "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
        ))
        // The same bytes wherever and whenever it is made.
        .args(define("_buildhost", "localhost"))
        .args(define("use_source_date_epoch_as_buildtime", "1"))
        .args(define("clamp_mtime_to_source_date_epoch", "1"))
        // Stripped already; pages are compressed already.
        .args(define("__os_install_post", "%{nil}"))
        .args(define("debug_package", "%{nil}"))
        .args(define("_build_id_links", "none"))
        .args(define("_binary_payload", payload))
        .arg(&file))?;
    Ok(wanted
        .out
        .join(format!("wa-agent-{}-1.{architecture}.rpm", wanted.version)))
}
