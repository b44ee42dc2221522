//! The description of files (`packaging/files`), and a folder laid out by it.
//! Knows neither deb nor rpm.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Wanted, epoch, fresh, output, read, run, write};

/// What a line of the description is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    /// The administrator's: kept on upgrade.
    Conf,
    Doc,
    /// Documentation, compressed.
    Gz,
    Man,
}

/// One line of `packaging/files`.
#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: Kind,
    pub mode: u32,
    pub source: String,
    pub target: String,
}

/// What the command makes itself before it lays files out.
pub struct Built {
    pub binary: PathBuf,
    /// With `man`, `completions`, `licences`, `changelog`.
    pub generated: PathBuf,
}

/// Reads the description.
pub fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [kind, mode, source, target] = words[..] else {
                return Err(format!("packaging/files: four words are needed: {line}"));
            };
            let kind = match kind {
                "file" => Kind::File,
                "conf" => Kind::Conf,
                "doc" => Kind::Doc,
                "gz" => Kind::Gz,
                "man" => Kind::Man,
                _ => return Err(format!("packaging/files: no kind {kind}: {line}")),
            };
            Ok(Entry {
                kind,
                mode: u32::from_str_radix(mode, 8).map_err(|e| format!("{line}: {e}"))?,
                source: source.to_owned(),
                target: target.to_owned(),
            })
        })
        .collect()
}

/// Compiles, strips, and writes what is generated.
pub fn build(wanted: &Wanted) -> Result<Built, String> {
    let root = crate::root();
    let generated = root.join("target/packages/generated");
    fresh(&generated)?;
    let compiled = compile(wanted, wanted.target.as_deref())?;
    let binary = generated.join("wa-agent");
    let strip = match wanted.target.as_deref() {
        Some(target) if !target.starts_with(std::env::consts::ARCH) => {
            format!(
                "{}-linux-gnu-strip",
                target.split('-').next().unwrap_or(target)
            )
        }
        _ => "strip".to_owned(),
    };
    run(Command::new(strip)
        .args(["--strip-all", "--remove-section=.comment"])
        .arg("-o")
        .arg(&binary)
        .arg(&compiled))?;
    // A program for another machine does not run here: its pages come from one that does.
    let speaks = match &wanted.target {
        Some(_) => compile(wanted, None)?,
        None => compiled,
    };
    run(Command::new(speaks)
        .arg("generate")
        .arg("--out")
        .arg(&generated))?;
    write(&generated.join("licences"), &licences()?)?;
    write(
        &generated.join("changelog"),
        &read(&root.join("packaging/CHANGELOG.md"))?,
    )?;
    Ok(Built { binary, generated })
}

fn compile(wanted: &Wanted, target: Option<&str>) -> Result<PathBuf, String> {
    let root = crate::root();
    let mut cargo = crate::cargo();
    cargo.current_dir(&root).args([
        "build",
        "--locked",
        "--quiet",
        "--package",
        "wa-agent",
        "--bin",
        "wa-agent",
        "--profile",
        &wanted.profile,
    ]);
    let mut folder = root.join("target");
    cargo.args(["--features", crate::FEATURES]);
    if let Some(features) = &wanted.features {
        // The next build without them puts the plain program back in its place.
        cargo.args(["--features", features]);
    }
    if let Some(target) = target {
        cargo.args(["--target", target]);
        folder.push(target);
    }
    if wanted.profile == "dist" {
        // Where it was built is nobody's business, and would make the same sources give other bytes elsewhere.
        let home = std::env::var("CARGO_HOME")
            .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
            .unwrap_or_default();
        cargo.env(
            "RUSTFLAGS",
            format!(
                "--remap-path-prefix={}=. --remap-path-prefix={home}=cargo",
                root.display()
            ),
        );
    }
    run(&mut cargo)?;
    let profile = match wanted.profile.as_str() {
        "dev" => "debug",
        other => other,
    };
    Ok(folder.join(profile).join("wa-agent"))
}

/// Every crate that is linked in, with its licence.
fn licences() -> Result<String, String> {
    let mut cargo = crate::cargo();
    cargo.current_dir(crate::root()).args([
        "tree",
        "--locked",
        "--package",
        "wa-agent",
        "--features",
        crate::FEATURES,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}: {l}",
    ]);
    let text = output(&mut cargo)?;
    let lines: BTreeSet<&str> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        // Our own have a path.
        .filter(|line| !line.is_empty() && !line.contains(" (/"))
        .collect();
    let mut whole = "Crates that are linked into wa-agent, with their licences.\n\n".to_owned();
    for line in lines {
        whole.push_str(line);
        whole.push('\n');
    }
    Ok(whole)
}

/// What lies elsewhere on other distributions.
pub struct Places {
    /// Where systemd looks for units.
    pub units: &'static str,
    /// Where zsh looks for completions.
    pub zsh: &'static str,
}

/// Fedora and its family, and everything that is not packaged.
pub const PLAIN: Places = Places {
    units: "/usr/lib/systemd/system",
    zsh: "/usr/share/zsh/site-functions",
};

/// Lays everything out below `destdir`, and says what each file is.
pub fn lay_out(
    built: &Built,
    destdir: &Path,
    place_of: &Places,
) -> Result<Vec<(Kind, String)>, String> {
    fresh(destdir)?;
    let mut placed = Vec::new();
    for entry in entries(&read(&crate::root().join("packaging/files"))?)? {
        let target = entry
            .target
            .replace("@units", place_of.units)
            .replace("@zsh", place_of.zsh);
        if entry.kind == Kind::Man {
            let mut pages: Vec<_> = std::fs::read_dir(built.generated.join("man"))
                .map_err(|e| e.to_string())?
                .flatten()
                .map(|page| page.path())
                .collect();
            pages.sort();
            for page in pages {
                let name = page
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let target = format!("{target}/{name}.gz");
                place(&page, destdir, &target, &entry)?;
                placed.push((entry.kind, target));
            }
            continue;
        }
        let source = match entry.source.strip_prefix('@') {
            Some("binary") => built.binary.clone(),
            Some(made) => built.generated.join(made),
            None => crate::root().join(&entry.source),
        };
        let target = match entry.kind {
            Kind::Gz => format!("{target}.gz"),
            Kind::File | Kind::Conf | Kind::Doc | Kind::Man => target,
        };
        place(&source, destdir, &target, &entry)?;
        placed.push((entry.kind, target));
    }
    date(destdir)?;
    Ok(placed)
}

fn place(source: &Path, destdir: &Path, target: &str, entry: &Entry) -> Result<(), String> {
    let path = destdir.join(target.trim_start_matches('/'));
    let say = |e: std::io::Error| format!("{} to {}: {e}", source.display(), path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(say)?;
    }
    if matches!(entry.kind, Kind::Gz | Kind::Man) {
        compress(source, &path)?;
    } else {
        std::fs::copy(source, &path).map_err(say)?;
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(entry.mode)).map_err(say)
}

/// Without name and date inside, so that the bytes follow from the content.
pub fn compress(source: &Path, target: &Path) -> Result<(), String> {
    let file = std::fs::File::create(target).map_err(|e| format!("{}: {e}", target.display()))?;
    run(Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .arg(source)
        .stdout(file))
}

/// Every folder open to all, everything with one date: what was done when leaves no trace.
pub fn date(destdir: &Path) -> Result<(), String> {
    let epoch = epoch()?;
    run(Command::new("find")
        .arg(destdir)
        .args(["-type", "d", "-exec", "chmod", "755", "{}", "+"]))?;
    run(Command::new("find").arg(destdir).args([
        "-exec",
        "touch",
        "--no-dereference",
        &format!("--date=@{epoch}"),
        "{}",
        "+",
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no unit is written and then forgotten. Method: every file below `units` is a source in the description,
    /// and every source that is no product of the command exists.
    #[test]
    fn every_unit_is_packaged_and_every_source_is_there() {
        let root = crate::root();
        let all = entries(&read(&root.join("packaging/files")).expect("text")).expect("good");
        for entry in all.iter().filter(|e| !e.source.starts_with('@')) {
            assert!(
                root.join(&entry.source).is_file(),
                "{} is missing",
                entry.source
            );
        }
        let mut folders = vec![root.join("units")];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for file in std::fs::read_dir(folder).expect("listed").flatten() {
                if file.path().is_dir() {
                    folders.push(file.path());
                    continue;
                }
                let path = file.path();
                let source = path.strip_prefix(&root).expect("below").to_string_lossy();
                assert!(
                    all.iter().any(|e| e.source == source),
                    "{source} is in no package"
                );
                seen += 1;
            }
        }
        assert!(seen > 8, "units were not found");
    }

    #[test]
    fn a_broken_description_is_refused() {
        assert!(entries("file 755 a").is_err());
        assert!(entries("folder 755 a /a").is_err());
        assert!(entries("file rwx a /a").is_err());
    }
}
