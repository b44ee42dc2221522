//! A Debian package of the laid out files, written by dpkg-deb.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::stage::{Built, Kind, Places, compress, date, lay_out};
use super::{Wanted, epoch, fresh, output, read, run, write};

/// Debian 12 and Ubuntu 24.04 both look here, and dpkg does not follow /lib to /usr/lib.
const PLACES: Places = Places {
    units: "/lib/systemd/system",
    zsh: "/usr/share/zsh/vendor-completions",
};

/// Writes `wa-agent_VERSION-1_ARCH.deb` and says where.
pub fn make(wanted: &Wanted, built: &Built) -> Result<PathBuf, String> {
    let (architecture, _) = wanted.architecture()?;
    let stage = crate::root().join("target/packages/deb");
    let placed = lay_out(built, &stage, &PLACES)?;
    let sources = crate::root().join("packaging/deb");
    let documents = stage.join("usr/share/doc/wa-agent");
    write(
        &documents.join("copyright"),
        &read(&sources.join("copyright"))?,
    )?;
    // What people read is the upstream's; this one says which package it is.
    let changelog = built.generated.join("changelog.Debian");
    write(&changelog, &debian_changelog(wanted)?)?;
    compress(&changelog, &documents.join("changelog.Debian.gz"))?;
    let overrides = stage.join("usr/share/lintian/overrides");
    std::fs::create_dir_all(&overrides).map_err(|e| e.to_string())?;
    write(
        &overrides.join("wa-agent"),
        &read(&sources.join("lintian-overrides"))?,
    )?;
    let size = size_kib(&stage)?;
    let meta = stage.join("DEBIAN");
    std::fs::create_dir_all(&meta).map_err(|e| e.to_string())?;
    let control = read(&sources.join("control"))?
        .replace("@VERSION@", &wanted.version)
        .replace("@MAINTAINER@", &wanted.maintainer)
        .replace("@ARCH@", architecture)
        .replace("@SIZE@", &size)
        .replace("@SHLIBS@", &libraries(built)?);
    write(&meta.join("control"), &control)?;
    let conffiles: Vec<&str> = placed
        .iter()
        .filter(|(kind, _)| *kind == Kind::Conf)
        .map(|(_, target)| target.as_str())
        .collect();
    write(
        &meta.join("conffiles"),
        &format!("{}\n", conffiles.join("\n")),
    )?;
    write(&meta.join("md5sums"), &sums(&stage)?)?;
    for script in ["postinst", "prerm", "postrm"] {
        write(&meta.join(script), &read(&sources.join(script))?)?;
    }
    date(&stage)?;
    run(Command::new("chmod")
        .arg("755")
        .args(["postinst", "prerm", "postrm"].map(|s| meta.join(s))))?;
    std::fs::create_dir_all(&wanted.out).map_err(|e| e.to_string())?;
    let file = wanted
        .out
        .join(format!("wa-agent_{}-1_{architecture}.deb", wanted.version));
    run(Command::new("dpkg-deb")
        .env("SOURCE_DATE_EPOCH", epoch()?)
        // What is thrown away after a test need not be small.
        .args(["--root-owner-group", "-Zxz"])
        .arg(if wanted.profile == "dist" {
            "-z6"
        } else {
            "-z0"
        })
        .arg("--build")
        .arg(&stage)
        .arg(&file)
        .stdout(std::process::Stdio::null()))?;
    Ok(file)
}

/// Which packages the shared libraries come from, with the lowest version that will do.
fn libraries(built: &Built) -> Result<String, String> {
    let folder = built.generated.join("shlibs");
    fresh(&folder.join("debian"))?;
    // The tool wants a source package around it.
    write(
        &folder.join("debian/control"),
        "Source: wa-agent\n\nPackage: wa-agent\nArchitecture: any\n",
    )?;
    let text = output(
        Command::new("dpkg-shlibdeps")
            .current_dir(&folder)
            .arg("-O")
            .arg(format!("-e{}", built.binary.display())),
    )?;
    text.trim()
        .strip_prefix("shlibs:Depends=")
        .map(str::to_owned)
        .ok_or_else(|| format!("dpkg-shlibdeps says {text:?}"))
}

fn size_kib(stage: &Path) -> Result<String, String> {
    let text = output(
        Command::new("du")
            .args(["-k", "-s", "--apparent-size"])
            .arg(stage),
    )?;
    Ok(text.split_whitespace().next().unwrap_or("0").to_owned())
}

fn sums(stage: &Path) -> Result<String, String> {
    output(Command::new("sh").current_dir(stage).args([
        "-c",
        "find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' md5sum",
    ]))
}

fn debian_changelog(wanted: &Wanted) -> Result<String, String> {
    let (version, maintainer) = (&wanted.version, &wanted.maintainer);
    let when = output(Command::new("date").env("LC_ALL", "C").args([
        "--utc",
        "-R",
        &format!("--date=@{}", epoch()?),
    ]))?;
    Ok(format!(
        "wa-agent ({version}-1) unstable; urgency=medium\n\n  * Release {version}: see changelog.gz.\n\n -- {maintainer}  {}\n",
        when.trim()
    ))
}
