//! A folder with a real MySQL in it, where the machine has only MariaDB: the packages of Debian unstable, unpacked beside the
//! system and never installed into it. Kept under `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAMED: &str = "WA_TEST_MYSQL_ROOT";
pub const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
const SERVER: &str = "usr/sbin/mysqld";

/// The folder, or why there is none.
pub fn root() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(NAMED).map(PathBuf::from) {
        return if complete(&named) {
            Ok(named)
        } else {
            Err(format!(
                "{NAMED} holds no unpacked MySQL: {SERVER} or {LOADER} is missing"
            ))
        };
    }
    let cached = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mysql-root");
    if complete(&cached) {
        return Ok(cached);
    }
    if !cfg!(target_arch = "x86_64") {
        return Err("the recipe for a MySQL beside the system is for x86-64".into());
    }
    let work = tempfile::Builder::new()
        .prefix("mysql-root-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .map_err(|e| e.to_string())?;
    let partial = unpack(work.path()).map_err(|why| {
        format!("no MySQL could be had ({why}); WA_TEST_MYSQL_URL=mysql://root@host:port/ names a running one")
    })?;
    // Another test process may have been quicker: then its folder serves.
    let _ = std::fs::rename(&partial, &cached);
    if complete(&cached) {
        Ok(cached)
    } else {
        Err(format!("{} could not be put in place", cached.display()))
    }
}

fn complete(root: &Path) -> bool {
    root.join(SERVER).exists() && root.join(LOADER).exists()
}

/// The machine's own Debian mirror: whatever its apt uses, only the suite's name is replaced.
fn mirror() -> Result<String, String> {
    let listed = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(CREATED_BY) $(ORIGIN) $(RELEASE) $(REPO_URI)",
    ]))?;
    listed
        .lines()
        .filter_map(|line| line.strip_prefix("Packages Debian "))
        .filter_map(|line| line.split_once(' '))
        .find(|(release, _)| !release.contains("security"))
        .map(|(_, uri)| uri.trim().to_owned())
        .ok_or_else(|| "apt has no list of a Debian mirror; try apt-get update".into())
}

/// Downloads with lists, state and cache of its own, then unpacks: nothing of the system is touched.
fn unpack(work: &Path) -> Result<PathBuf, String> {
    let (lists, cache, root) = (
        work.join("lists"),
        work.join("cache"),
        work.join("mysql-root"),
    );
    for made in [
        lists.join("partial"),
        cache.join("archives/partial"),
        root.clone(),
    ] {
        std::fs::create_dir_all(made).map_err(|e| e.to_string())?;
    }
    let source = format!("deb {} sid main\n", mirror()?);
    std::fs::write(work.join("sources.list"), source).map_err(|e| e.to_string())?;
    std::fs::write(work.join("status"), "").map_err(|e| e.to_string())?;
    let apt = |words: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["180", "apt-get", "-q", "-y"]);
        for (name, value) in [
            ("Dir::Etc::sourcelist", work.join("sources.list")),
            ("Dir::Etc::sourceparts", PathBuf::from("-")),
            ("Dir::State", work.to_path_buf()),
            ("Dir::State::lists", lists.clone()),
            ("Dir::State::status", work.join("status")),
            ("Dir::Cache", cache.clone()),
        ] {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        for option in [
            "APT::Sandbox::User=",
            "Debug::NoLocking=1",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::Retries=2",
        ] {
            command.args(["-o", option]);
        }
        output(command.args(words))
    };
    apt(&["update"])?;
    apt(&[
        "--download-only",
        "--no-install-recommends",
        "install",
        "mysql-server-core",
    ])?;
    let packages = std::fs::read_dir(cache.join("archives")).map_err(|e| e.to_string())?;
    for package in packages.flatten().map(|entry| entry.path()) {
        if package.extension().is_some_and(|ending| ending == "deb") {
            output(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
        }
    }
    for unused in ["usr/share/doc", "usr/share/man", "usr/share/locale"] {
        let _ = std::fs::remove_dir_all(root.join(unused));
    }
    if complete(&root) {
        Ok(root)
    } else {
        Err(format!("the packages have no {SERVER} or no {LOADER}"))
    }
}

/// What a command prints, or the last line of its complaint.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_owned();
    let done = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    let last = complaint
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    Err(format!("{}: {}: {last}", program.display(), done.status))
}
