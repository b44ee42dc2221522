//! `cargo xtask install | deb | rpm | repo`: one description of files (`packaging/files`), two kinds of packages.
//! Debian's and rpm's own tools write the packages; the same sources give the same bytes.

mod deb;
mod repo;
mod rpm;
mod stage;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the words after the verb ask for.
pub struct Wanted {
    pub profile: String,
    /// Rust's name of another machine; this one when absent.
    pub target: Option<String>,
    pub out: PathBuf,
    pub destdir: Option<PathBuf>,
    pub version: String,
    /// Who answers for this package: `NAME <ADDRESS>`.
    pub maintainer: String,
    pub key: Option<String>,
    /// Features of the program, for tests.
    pub features: Option<String>,
    /// Words without a flag.
    pub plain: Vec<String>,
}

impl Wanted {
    fn read(words: &[&str]) -> Result<Self, String> {
        let mut wanted = Self {
            profile: "dist".to_owned(),
            target: None,
            out: crate::root().join("target/packages"),
            destdir: None,
            version: version()?,
            maintainer: String::new(),
            key: None,
            features: None,
            plain: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .map(|value| (*value).to_owned())
                    .ok_or_else(|| format!("{word} needs a value"))
            };
            match *word {
                "--profile" => wanted.profile = value()?,
                "--target" => wanted.target = Some(value()?),
                "--out" => wanted.out = absolute(&value()?),
                "--destdir" => wanted.destdir = Some(absolute(&value()?)),
                "--version" => wanted.version = value()?,
                "--maintainer" => wanted.maintainer = value()?,
                "--key" => wanted.key = Some(value()?),
                "--features" => wanted.features = Some(value()?),
                flag if flag.starts_with('-') => return Err(format!("no flag {flag}")),
                plain => wanted.plain.push(plain.to_owned()),
            }
        }
        if wanted.maintainer.is_empty() {
            wanted.maintainer = maintainer()?;
        }
        Ok(wanted)
    }

    /// The machine that the package is for, as (Debian, rpm) call it.
    pub fn architecture(&self) -> Result<(&'static str, &'static str), String> {
        let own = format!("{}-", std::env::consts::ARCH);
        let target = self.target.as_deref().unwrap_or(&own);
        match target.split('-').next() {
            Some("x86_64") => Ok(("amd64", "x86_64")),
            Some("aarch64") => Ok(("arm64", "aarch64")),
            _ => Err(format!("packages for {target} are not described")),
        }
    }
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// Who answers for a package that nobody else is named for: DEBFULLNAME and DEBEMAIL as Debian's own tools read them, or the
/// author of the last commit, so that the same sources give the same bytes.
fn maintainer() -> Result<String, String> {
    let named = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    if let (Some(name), Some(address)) = (named("DEBFULLNAME"), named("DEBEMAIL")) {
        return Ok(format!("{name} <{address}>"));
    }
    let author = output(Command::new("git").current_dir(crate::root()).args([
        "log",
        "-1",
        "--format=%an <%ae>",
    ]))?;
    Ok(author.trim().to_owned())
}

/// The workspace's version.
fn version() -> Result<String, String> {
    let text = read(&crate::root().join("Cargo.toml"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .ok_or_else(|| "Cargo.toml has no version".to_owned())
}

/// Seconds that every file of a package is dated with: given, or those of the last commit.
pub fn epoch() -> Result<String, String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(crate::root());
    let seconds = output(&mut git)
        .map_err(|why| format!("{why}; outside a repository set SOURCE_DATE_EPOCH"))?;
    Ok(seconds.trim().to_owned())
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("{} does not start: {e}", name(command)))?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{} failed: {status}", name(command)))
}

/// Runs a program and reads what it prints.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{} does not start: {e}", name(command)))?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", name(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{} prints no text", name(command)))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

pub fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

pub fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// An empty folder.
pub fn fresh(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

/// `install --destdir DIR`.
pub fn install(words: &[&str]) -> Result<bool, String> {
    let wanted = Wanted::read(words)?;
    let destdir = wanted
        .destdir
        .clone()
        .ok_or("install needs --destdir DIR")?;
    let built = stage::build(&wanted)?;
    stage::lay_out(&built, &destdir, &stage::PLAIN)?;
    Ok(true)
}

/// `deb`.
pub fn deb(words: &[&str]) -> Result<bool, String> {
    let wanted = Wanted::read(words)?;
    let built = stage::build(&wanted)?;
    println!("{}", deb::make(&wanted, &built)?.display());
    Ok(true)
}

/// `rpm`.
pub fn rpm(words: &[&str]) -> Result<bool, String> {
    let wanted = Wanted::read(words)?;
    let built = stage::build(&wanted)?;
    println!("{}", rpm::make(&wanted, &built)?.display());
    Ok(true)
}

/// `repo DIR`.
pub fn repo(words: &[&str]) -> Result<bool, String> {
    let wanted = Wanted::read(words)?;
    let [folder] = wanted.plain.as_slice() else {
        return Err("repo needs one DIR".to_owned());
    };
    repo::make(&wanted, &absolute(folder))?;
    Ok(true)
}
