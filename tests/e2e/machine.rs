//! A booted Debian 12 on this machine: systemd in a container of its own, with its own network and control groups.
//! Knows nothing of wa-agent.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wa_agent::sys::clock;

use crate::lan::Lan;
use crate::{program, root};

/// What the root file system has beside Debian's smallest set.
const INCLUDED: &str =
    "systemd,systemd-sysv,dbus,libpam-systemd,iproute2,procps,kmod,udev,curl,nftables";
/// A boot takes half a second; a loaded machine some more.
const BOOT_MAX: Duration = Duration::from_secs(90);

/// A unit is ready long before.
const ACTIVE_MAX: Duration = Duration::from_secs(120);

/// Why no machine can be booted here, if so.
pub fn impossible() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("booting a system needs root".into());
    }
    for needed in ["debootstrap", "systemd-nspawn", "nsenter", "ip", "dpkg-deb"] {
        if program(needed).is_none() {
            return Some(format!("{needed} is not installed"));
        }
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.ends_with("\toverlay")) {
        return Some("this kernel has no overlay file system".into());
    }
    if cgroups().is_empty() {
        return Some("no cgroup v2 hierarchy is mounted".into());
    }
    base().err()
}

/// The shared root file system: made once, kept below `target`.
pub fn base() -> Result<PathBuf, String> {
    let folder = root().join("target/e2e");
    let (base, done) = (folder.join("bookworm"), folder.join("bookworm.done"));
    // One with other packages is made anew.
    if std::fs::read_to_string(&done).is_ok_and(|made| made == INCLUDED) {
        return Ok(base);
    }
    let _ = std::fs::remove_dir_all(&base);
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    println!("making a root file system, once");
    let output = Command::new(program("debootstrap").expect("looked for before"))
        .args([
            "--variant=minbase",
            &format!("--include={INCLUDED}"),
            "bookworm",
        ])
        .arg(&base)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return Err(format!(
            "debootstrap failed: {}",
            text.lines().last().unwrap_or_default()
        ));
    }
    std::fs::write(&done, INCLUDED).map_err(|e| e.to_string())?;
    Ok(base)
}

/// Roots of the hierarchies in which a container needs a group of its own: that of cgroup v2, and systemd's old one.
fn cgroups() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let wanted = |line: &&str| {
        line.split_once(" - ").is_some_and(|(_, after)| {
            after.starts_with("cgroup2 ") || after.contains("name=systemd")
        })
    };
    let lines = mounts.lines().filter(wanted);
    lines
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect()
}

/// The base with something done to it from outside, for several machines to stand on. Gone when it is dropped.
pub struct Layer {
    folder: PathBuf,
}

/// The base, to do something to from outside. Gone when it is dropped.
pub struct Tree {
    layer: Layer,
}

impl Tree {
    pub fn new(name: &str) -> Result<Self, String> {
        let layer = Layer::empty(name);
        let tree = Self { layer };
        overlay(&tree.layer.folder, &base()?.display().to_string())?;
        // systemd's tools in there look into it.
        quiet(
            Command::new("mount")
                .args(["-t", "proc", "proc"])
                .arg(tree.root().join("proc")),
        )?;
        Ok(tree)
    }

    pub fn root(&self) -> PathBuf {
        self.layer.folder.join("root")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = quiet(Command::new("umount").arg(self.root().join("proc")));
        unmount(&self.root());
    }
}

impl Layer {
    fn empty(name: &str) -> Self {
        let folder = root()
            .join("target/e2e")
            .join(format!("wa-e2e-{name}-{}", std::process::id()));
        Self { folder }
    }

    /// Unpacks and configures a package in a tree that nobody has booted.
    pub fn with_package(deb: &Path) -> Result<Self, String> {
        let layer = Self::empty("layer");
        let tree = overlay(&layer.folder, &base()?.display().to_string())?;
        let install = || {
            std::fs::copy(deb, tree.join("srv/wa-agent.deb")).map_err(|e| e.to_string())?;
            quiet(Command::new("chroot").arg(&tree).args([
                "dpkg",
                "--install",
                "/srv/wa-agent.deb",
            ]))
        };
        let installed = install();
        unmount(&tree);
        installed.map(|()| layer)
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Mounts an overlay over `lower` below `folder`; says where.
fn overlay(folder: &Path, lower: &str) -> Result<PathBuf, String> {
    for part in ["upper", "work", "root"] {
        std::fs::create_dir_all(folder.join(part)).map_err(|e| e.to_string())?;
    }
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={}",
        folder.join("upper").display(),
        folder.join("work").display()
    );
    let tree = folder.join("root");
    quiet(
        Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&tree),
    )?;
    Ok(tree)
}

fn unmount(tree: &Path) {
    until(Duration::from_secs(10), || {
        quiet(Command::new("umount").arg(tree)).is_ok()
    });
}

/// A machine that runs until it is dropped. Its network namespace and its disk outlive a crash of it.
pub struct Machine {
    /// The kernel takes BPF programs from it.
    takes_bpf: bool,
    name: String,
    hostname: String,
    folder: PathBuf,
    container: Child,
    leader: i32,
}

impl Machine {
    /// Boots a fresh machine without a network, and waits until systemd says that it runs.
    pub fn boot(hostname: &str) -> Result<Self, String> {
        Self::boot_with(hostname, true)
    }

    /// The same where programs of its own are no business of the kernel, as in most containers.
    pub fn boot_without_bpf(hostname: &str) -> Result<Self, String> {
        Self::boot_with(hostname, false)
    }

    fn boot_with(hostname: &str, takes_bpf: bool) -> Result<Self, String> {
        let mut machine = Self::unpowered(hostname, None)?;
        machine.takes_bpf = takes_bpf;
        quiet(Command::new("ip").args(["netns", "add", &machine.name]))?;
        quiet(Command::new("ip").args(["-n", &machine.name, "link", "set", "lo", "up"]))?;
        machine.powered()
    }

    /// Boots a fresh machine that stands on `layer` and is connected to `lan`.
    pub fn boot_in(lan: &Lan, layer: &Layer, hostname: &str, address: u8) -> Result<Self, String> {
        let machine = Self::unpowered(hostname, Some(layer))?;
        lan.connect(&machine.name, hostname, address)?;
        machine.powered()
    }

    fn unpowered(hostname: &str, layer: Option<&Layer>) -> Result<Self, String> {
        let name = format!("wa-e2e-{hostname}-{}", std::process::id());
        let folder = root().join("target/e2e").join(&name);
        let base = base()?.display().to_string();
        let lower = match layer {
            Some(layer) => format!("{}:{base}", layer.folder.join("upper").display()),
            None => base,
        };
        let tree = overlay(&folder, &lower)?;
        std::fs::write(tree.join("etc/machine-id"), "").map_err(|e| e.to_string())?;
        std::fs::write(tree.join("etc/hostname"), format!("{hostname}\n"))
            .map_err(|e| e.to_string())?;
        // Something to wait for before the first boot.
        let container = Command::new("true").spawn().map_err(|e| e.to_string())?;
        Ok(Self {
            takes_bpf: true,
            name,
            hostname: hostname.to_owned(),
            folder,
            container,
            leader: 0,
        })
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// Its name in the cluster.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// As a power cut does it: every process is gone at once, and so is what the kernel kept for them.
    pub fn crash(&mut self) {
        use nix::sys::signal::{Signal, kill};
        if self.leader > 0 {
            let _ = kill(nix::unistd::Pid::from_raw(self.leader), Signal::SIGKILL);
        }
        let _ = self.container.kill();
        let _ = self.container.wait();
        self.leader = 0;
        // With them go the programs that are attached to them.
        self.remove_groups();
    }

    fn remove_groups(&self) {
        for hierarchy in cgroups() {
            let own = hierarchy.join(&self.name);
            // Its last processes may still be on their way out.
            until(Duration::from_secs(10), || {
                let mut find = Command::new("find");
                find.arg(&own)
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
                let _ = quiet(&mut find);
                !own.exists()
            });
        }
    }

    /// Power is back.
    pub fn boot_again(self) -> Result<Self, String> {
        self.powered()
    }

    /// A bpf file system of its own, as every machine has one; what is pinned there does not outlive a boot.
    fn empty_bpf(&self) -> Result<(), String> {
        let bpf = self.folder.join("bpf");
        let _ = quiet(Command::new("umount").arg("--quiet").arg(&bpf));
        std::fs::create_dir_all(&bpf).map_err(|e| e.to_string())?;
        quiet(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpf))
    }

    fn powered(mut self) -> Result<Self, String> {
        let _ = self.container.wait();
        self.empty_bpf()?;
        self.container = start(&self.name, &self.folder, self.takes_bpf)?;
        let mut machine = self;
        let booted = until(BOOT_MAX, || {
            machine.leader = machine.find_leader().unwrap_or(0);
            let (_, says) = machine.try_run("systemctl is-system-running");
            matches!(says.trim(), "running" | "degraded")
        });
        if !booted {
            let console = std::fs::read_to_string(machine.folder.join("console.log"));
            return Err(format!(
                "no boot within {BOOT_MAX:?}: {}",
                console.unwrap_or_default()
            ));
        }
        Ok(machine)
    }

    fn find_leader(&self) -> Option<i32> {
        let id = self.container.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// The file system, from outside.
    pub fn tree(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Runs a shell line inside: whether it went well, and everything it printed.
    pub fn try_run(&self, line: &str) -> (bool, String) {
        if self.leader == 0 {
            return (false, String::new());
        }
        let output = Command::new("nsenter")
            .args(["-t", &self.leader.to_string()])
            .args(["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "env", "-i"])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"])
            .args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c"])
            .arg(format!("exec 2>&1\n{line}"))
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) => (
                output.status.success(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            ),
            Err(error) => (false, error.to_string()),
        }
    }

    /// Runs a shell line inside that has to go well.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let (good, says) = self.try_run(line);
        assert!(good, "{line}\n{says}");
        says
    }

    /// Every one of these units is active; `systemctl is-active` itself is content with one.
    #[track_caller]
    pub fn all_active(&self, units: &str) {
        self.wait(
            ACTIVE_MAX,
            &format!("! systemctl is-active {units} | grep -vx active"),
        );
    }

    /// Waits until a shell line inside goes well.
    #[track_caller]
    pub fn wait(&self, within: Duration, line: &str) {
        let mut last = String::new();
        let good = until(within, || {
            let (good, says) = self.try_run(line);
            last = says;
            good
        });
        // The machine is gone when somebody reads this: what its units said last is the only witness.
        assert!(
            good,
            "not within {within:?}: {line}\n{last}\n{}",
            self.try_run("journalctl -o short-precise --no-hostname -n 80 -u 'wa-*'")
                .1
        );
    }
}

fn start(name: &str, folder: &Path, takes_bpf: bool) -> Result<Child, String> {
    let tree = folder.join("root");
    let mut joins = String::new();
    for hierarchy in cgroups() {
        let own = hierarchy.join(name);
        std::fs::create_dir_all(&own).map_err(|e| format!("{}: {e}", own.display()))?;
        joins.push_str(&format!(
            "echo $$ >'{}'\n",
            own.join("cgroup.procs").display()
        ));
    }
    let console = std::fs::File::create(folder.join("console.log")).map_err(|e| e.to_string())?;
    let errors = console.try_clone().map_err(|e| e.to_string())?;
    Command::new("setsid")
        .args(["sh", "-c", &format!("{joins}exec \"$@\""), "boot"])
        .args([
            "systemd-nspawn",
            "--register=no",
            "--keep-unit",
            "--quiet",
            "--boot",
        ])
        .arg(format!("--directory={}", tree.display()))
        .arg(format!("--machine={name}"))
        .arg(format!("--network-namespace-path=/run/netns/{name}"))
        .args([
            "--capability=all",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=read-only",
        ])
        .arg(format!(
            "--bind={}:/sys/fs/bpf",
            folder.join("bpf").display()
        ))
        .arg(format!(
            "--system-call-filter={}perf_event_open @clock",
            if takes_bpf { "bpf " } else { "" }
        ))
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors)
        .spawn()
        .map_err(|e| e.to_string())
}

/// Notes the moment, for `said`: to the microsecond, since a second is long enough for what was said just before. No cursor:
/// where only one unit is shown, `--after-cursor` passes by the first line behind it.
pub const MARK: &str = "date +%s.%6N >/run/mark";

/// Whether `unit` has said something with these words after the last `MARK`.
pub fn said(unit: &str, words: &str) -> String {
    format!("journalctl -q -o cat -u {unit} --since=@$(cat /run/mark) | grep -q '{words}'")
}

/// Nanoseconds since 1970, as `date +%s%N` says it, to the millisecond.
pub fn wall_ns() -> u64 {
    clock::wall_ms() * 1_000_000
}

pub fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Asks again and again until it is true or time is over.
pub fn until(within: Duration, asked: impl FnMut() -> bool) -> bool {
    until_every(Duration::from_millis(50), within, asked)
}

/// The same, so far apart: looking takes the processor from what is looked at.
pub fn until_every(apart: Duration, within: Duration, mut asked: impl FnMut() -> bool) -> bool {
    let end = clock::now() + within;
    loop {
        if asked() {
            return true;
        }
        if clock::now() > end {
            return false;
        }
        std::thread::sleep(apart);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.crash();
        unmount(&self.tree());
        unmount(&self.folder.join("bpf"));
        let _ = quiet(Command::new("ip").args(["netns", "del", &self.name]));
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
