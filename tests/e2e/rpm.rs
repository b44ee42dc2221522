//! The rpm as dnf installs, upgrades and removes it, with its scriptlets, in a root of its own.
//! The root is Debian's, because a shell and systemd's tools are there; a package that holds nothing says so to rpm.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{FIND, installed};
use crate::machine::{Tree, impossible};
use crate::{packages, program, skipped};

/// What is left behind beside what an administrator wrote: directories that tmpfiles made.
const KEPT: &[&str] = &[
    "d 755 root /etc/wa-agent",
    "d 755 root /etc/wa-agent/conf.d",
    "d 700 root /etc/wa-agent/credentials",
    "d 755 root /etc/wa-agent/instances",
    "d 755 root /var/lib/wa-agent",
    "d 2770 root /var/lib/wa-agent/store",
    "d 755 root /var/lib/wamedia",
];

/// What an administrator and the roles write: a changed file of the package, and files of their own.
const WRITTEN: &str = "set -e
sed -i '1i # mine' /etc/wa-agent/wa-agent.toml
printf '[node]\\nweight = 3\\n' >/etc/wa-agent/conf.d/20.toml
printf secret >/etc/wa-agent/credentials/api-key
chmod 600 /etc/wa-agent/credentials/api-key
mkdir /var/lib/wa-agent/coreapp-1 /var/lib/wamedia/shared
touch /var/lib/wa-agent/coreapp-1/epoch /var/lib/wa-agent/store/wa.db /var/lib/wamedia/shared/offer.pdf";

/// Everything that `WRITTEN` leaves; of the package's own file rpm keeps the changed text under another name.
const LEFT: &[&str] = &[
    "f 644 root /etc/wa-agent/wa-agent.toml.rpmsave",
    "f 644 root /etc/wa-agent/conf.d/20.toml",
    "f 600 root /etc/wa-agent/credentials/api-key",
    "d 755 root /var/lib/wa-agent/coreapp-1",
    "f 644 root /var/lib/wa-agent/coreapp-1/epoch",
    "f 644 root /var/lib/wa-agent/store/wa.db",
    "d 755 root /var/lib/wamedia/shared",
    "f 644 root /var/lib/wamedia/shared/offer.pdf",
];

/// Folders of other packages, which a distribution of rpms has.
const OF_OTHERS: &str = "mkdir -p /etc/dnf/modules.d /etc/needrestart/conf.d /etc/ufw/applications.d /usr/lib/firewalld/services \
    /usr/share/fish/vendor_completions.d /usr/share/zsh/site-functions";

struct Root {
    tree: Tree,
    work: tempfile::TempDir,
}

impl Root {
    /// Runs a shell line inside, which has to go well.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let output = Command::new("chroot")
            .arg(self.tree.root())
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C.UTF-8",
            ])
            .args(["sh", "-c", &format!("exec 2>&1\n{line}")])
            .output()
            .expect("chroot runs");
        let says = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}\n{says}");
        says
    }

    /// Runs dnf from outside, with one repository and nothing of this machine's own configuration.
    #[track_caller]
    fn dnf(&self, repository: &str, words: &[&str]) -> String {
        let work = self.work.path();
        let option =
            |name: &str, folder: &str| format!("--setopt={name}={}", work.join(folder).display());
        let mut dnf = Command::new("dnf");
        let key = Path::new(repository).join("wa-agent.asc");
        if key.exists() {
            dnf.arg("--setopt=wa.repo_gpgcheck=1");
            dnf.arg(format!("--setopt=wa.gpgkey=file://{}", key.display()));
        }
        let output = dnf
            .args(["-y", "--noplugins", "--releasever=9", "--repo=wa"])
            .arg(format!("--installroot={}", self.tree.root().display()))
            .arg(format!("--repofrompath=wa,file://{repository}"))
            .args([option("reposdir", "none"), option("cachedir", "cache")])
            .args([option("persistdir", "persist"), option("logdir", "log")])
            .args([format!("--config={}", work.join("dnf.conf").display())])
            .args(words)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("dnf runs");
        let both = [output.stdout, output.stderr].concat();
        let says = String::from_utf8_lossy(&both).into_owned();
        assert!(output.status.success(), "{words:?}\n{says}");
        says
    }

    /// Which version rpm says is there.
    fn version(&self) -> String {
        let mut rpm = Command::new("rpm");
        rpm.arg(format!("--root={}", self.tree.root().display()));
        output(rpm.args(["-q", "--queryformat", "%{VERSION}", "wa-agent"]))
    }

    fn files(&self) -> BTreeSet<String> {
        installed(&self.run(FIND))
    }

    /// Nobody runs a program of this root.
    #[track_caller]
    fn nothing_runs(&self) {
        let ours = self.tree.root();
        let processes = std::fs::read_dir("/proc")
            .expect("there is /proc")
            .flatten();
        let running: Vec<PathBuf> = processes
            .filter_map(|entry| std::fs::read_link(entry.path().join("exe")).ok())
            .filter(|program| program.starts_with(&ours))
            .collect();
        assert!(running.is_empty(), "something was started: {running:?}");
    }
}

/// A package without a file that provides all that ours asks of the distribution, so that dnf resolves it.
fn distribution(of: &Path, out: &Path) {
    let asked = output(Command::new("rpm").args(["-qpR"]).arg(of));
    let needs = asked.lines().filter(|line| {
        !line.starts_with("rpmlib(") && !line.starts_with("config(") && !line.contains(">=")
    });
    let provides: BTreeSet<String> = needs.map(|need| format!("Provides: {need}")).collect();
    let provides: Vec<String> = provides
        .into_iter()
        .filter(|line| !line.ends_with(" systemd"))
        .collect();
    let spec = format!(
        "Name: distribution\nVersion: 1\nRelease: 1\nSummary: what the root has\nLicense: none\nBuildArch: noarch\n\
         Provides: systemd = 252\n{}\n%description\nNothing.\n%files\n",
        provides.join("\n")
    );
    let file = out.join("distribution.spec");
    std::fs::write(&file, spec).expect("written");
    let top = out.join("build");
    output(
        Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--define"])
            .arg(format!("_topdir {}", top.display()))
            .args(["--define", &format!("_rpmdir {}", out.display())])
            .args(["--define", "_build_name_fmt %{NAME}.rpm"])
            .arg(&file),
    );
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A dnf repository with one version of the package and what stands for the distribution.
fn repository(version: &str) -> String {
    let out = packages::folder(&format!("rpm-{version}"));
    let rpm = packages::xtask(&["rpm", "--version", version], &out, None);
    distribution(&rpm, &out);
    let folder = out.join("repository");
    packages::repository(&rpm, &folder);
    folder.join("rpm").display().to_string()
}

/// Users, directories and files are there with their modes, nothing runs, and the next steps are said.
fn as_installed(root: &Root, says: &str) {
    assert!(says.contains("The next two steps"), "{says}");
    root.nothing_runs();
    root.run(
        "for user in wa-master wa-coreapp wa-webapp; do id -Gn $user | grep -qw wa || exit 1; done",
    );
    for kept in KEPT {
        let files = root.files();
        assert!(files.contains(*kept), "{kept} is not there");
    }
    root.run("test \"$(stat -c '%U %G' /var/lib/wa-agent/store)\" = 'root wa-store'");
    root.run("wa-agent --version && test -x /usr/libexec/wa-agent/restart-running");
    assert_eq!(root.version(), "0.1.1");
    root.run("! find /etc/systemd/system -name 'wa*' | grep .");
    // Files, modes, owners and digests by rpm's own word.
    let verified = Command::new("rpm")
        .arg(format!("--root={}", root.tree.root().display()))
        .args(["-V", "wa-agent"])
        .output()
        .expect("rpm runs");
    assert_eq!(String::from_utf8_lossy(&verified.stdout), "");
}

/// Goal: on a distribution of rpms the package comes, is replaced and goes as its documents say. Method: dnf with a
/// repository made by `cargo xtask repo`, into a root of its own; the file system before and after.
#[test]
fn comes_is_replaced_and_goes() {
    let what = "the rpm in a root";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    for needed in ["dnf", "rpmbuild", "createrepo_c", "chroot"] {
        if program(needed).is_none() {
            return skipped(what, &format!("{needed} is not installed"));
        }
    }
    let (first, second) = (repository("0.1.1"), repository("0.1.2"));
    let root = Root {
        tree: Tree::new("rpm").expect("an overlay"),
        work: tempfile::tempdir().expect("a temporary directory"),
    };
    // The packages themselves are not signed: where gpg can do that, the list of them is.
    let config = "[main]\ngpgcheck=0\n";
    std::fs::write(root.work.path().join("dnf.conf"), config).expect("written");
    for folder in ["log", "cache", "persist"] {
        std::fs::create_dir(root.work.path().join(folder)).expect("made");
    }
    root.run(OF_OTHERS);
    let before = root.files();
    as_installed(&root, &root.dnf(&first, &["install", "wa-agent"]));

    root.run(WRITTEN);
    let says = root.dnf(&second, &["upgrade", "wa-agent"]);
    assert!(!says.contains("The next two steps"), "{says}");
    root.run("head -1 /etc/wa-agent/wa-agent.toml | grep -q mine");
    root.nothing_runs();

    assert_eq!(root.version(), "0.1.2");
    root.dnf(&second, &["remove", "wa-agent", "distribution"]);
    let after = root.files();
    assert!(
        before.is_subset(&after),
        "removal takes {:#?}",
        before.difference(&after)
    );
    let left: BTreeSet<&str> = after.difference(&before).map(String::as_str).collect();
    let expected: BTreeSet<&str> = KEPT.iter().chain(LEFT).copied().collect();
    assert_eq!(left, expected);
    root.run("head -1 /etc/wa-agent/wa-agent.toml.rpmsave | grep -q mine");
}
