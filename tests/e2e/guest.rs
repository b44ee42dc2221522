//! What takes a kernel of its own (qemu, software emulation): the media directory on a real NFS mount, and the realtime limits
//! of units, which a container may not be allowed to raise. The steps are in `guest.sh`; here the guest is made and judged.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::machine::{base, impossible, quiet, until};
use crate::{packages, program, root, skipped};

/// Boot and all steps take a minute and a half on an idle machine.
const GUEST_MAX: Duration = Duration::from_secs(600);
/// What the guest has beside Debian's smallest set: made once.
const PACKAGES: &str = "apt-get update -q && apt-get install -y -q --no-install-recommends \
    linux-image-cloud-amd64 initramfs-tools nfs-kernel-server nfs-common && rm -rf /var/cache/apt/archives/*.deb";
/// Every step of `guest.sh` that must be passed.
const STEPS: &[&str] = &[
    "works",
    "realtime-master@1",
    "realtime-coreapp@1",
    "realtime-webapp@1",
    "realtime-host",
    "read-only",
    "writable",
    "not-mounted",
    "other-export",
    "right-export",
    "stale",
    "mounted-again",
    "hanging",
    "probes",
    "answers",
    "same-process",
];

/// The package, one of each role with the embedded database, and the steps as the one job of the boot. No kernel gate: under
/// software emulation the kernel takes longer over its programs than a realtime thread may compute.
const PREPARE: &str = r#"set -e
dpkg --install /srv/wa-agent.deb
cd /etc/wa-agent/credentials
umask 077
wa-agent keygen --out cluster-key
wa-agent keygen --webapp-of cluster-key --out webapp-key
printf simulator-token >upstream-token
printf simulator-app-secret >app-secret
printf simulator-verify >verify-token
printf twelve-and-more >api-key
umask 022
mkdir -p /etc/systemd/system/wa-host.service.d
printf '[Service]\nSystemCallFilter=~bpf\nSystemCallErrorNumber=EPERM\n' >/etc/systemd/system/wa-host.service.d/no-gate.conf
cat >/etc/wa-agent/conf.d/10-here.toml <<TEXT
[cluster]
development = true
fence = "best-effort"
[upstream]
base_url = "http://127.0.0.1:9280"
phone_number_id = "100200300"
[media]
directory = "/var/lib/wamedia/shared"
require = "nfs"
probe_interval = "1s"
probe_timeout = "3s"
TEXT
cat >/etc/systemd/system/steps.service <<TEXT
[Unit]
Description=The steps of this test
[Service]
Type=oneshot
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStart=-/bin/bash /srv/guest.sh
ExecStopPost=/sbin/poweroff -f
[Install]
WantedBy=multi-user.target
TEXT
systemctl enable -q steps.service
systemctl mask -q systemd-networkd-wait-online.service e2scrub_reap.service apt-daily.timer \
    apt-daily-upgrade.timer getty@tty1.service serial-getty@ttyS0.service serial-getty@ttyS1.service
systemctl disable -q nfs-server.service
mkdir -p /srv/a /srv/b /var/lib/wamedia/shared
chgrp wa /srv/a /srv/b
chmod 2770 /srv/a /srv/b
: >/etc/machine-id
echo guest >/etc/hostname
echo '127.0.0.1 localhost guest' >/etc/hosts"#;

/// A shell line in a tree that nobody has booted, with what maintainer scripts look into.
fn within(tree: &Path, line: &str) -> Result<(), String> {
    let proc = tree.join("proc");
    quiet(
        Command::new("mount")
            .args(["-t", "proc", "proc"])
            .arg(&proc),
    )?;
    let output = Command::new("chroot")
        .arg(tree)
        .args([
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL=C.UTF-8",
        ])
        .args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c"])
        .arg(format!("exec 2>&1\n{line}"))
        .stdin(Stdio::null())
        .output();
    let unmounted = until(Duration::from_secs(10), || {
        quiet(Command::new("umount").arg(&proc)).is_ok()
    });
    assert!(unmounted, "{} stays mounted", proc.display());
    let output = output.map_err(|error| error.to_string())?;
    let says = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(says.lines().last().unwrap_or_default().to_owned()),
    }
}

/// A copy of a tree.
fn copied(from: &Path, to: &Path) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).map_err(|error| error.to_string())?;
    // The dot: what is in it, also where it is a link.
    quiet(Command::new("cp").arg("-a").arg(from.join(".")).arg(to))
}

/// The guest's root with a kernel and NFS: made once, kept below `target`.
fn guest() -> Result<PathBuf, String> {
    let folder = root().join("target/e2e");
    let (guest, done) = (folder.join("nfs"), folder.join("nfs.done"));
    if done.exists() {
        return Ok(guest);
    }
    println!("making a guest with NFS, once");
    copied(&base()?, &guest)?;
    let io = |error: std::io::Error| error.to_string();
    // No server starts here; names are resolved as on this machine.
    let policy = guest.join("usr/sbin/policy-rc.d");
    std::fs::write(&policy, "#!/bin/sh\nexit 101\n").map_err(io)?;
    quiet(Command::new("chmod").arg("755").arg(&policy))?;
    std::fs::copy("/etc/resolv.conf", guest.join("etc/resolv.conf")).map_err(io)?;
    within(&guest, PACKAGES).map_err(|why| format!("a kernel with NFS cannot be had: {why}"))?;
    std::fs::remove_file(policy).map_err(io)?;
    std::fs::write(&done, "").map_err(io)?;
    Ok(guest)
}

/// The one file in the guest's /boot that begins so.
fn boot_file(guest: &Path, begins: &str) -> PathBuf {
    let entries = std::fs::read_dir(guest.join("boot")).expect("a kernel was installed");
    let mut named = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begins)
    });
    named.next().expect("a kernel was installed")
}

/// Boots the image and waits for its end; says what the steps printed.
fn run(guest: &Path, image: &Path, work: &Path) -> String {
    let serial = |name: &str| format!("file:{}", work.join(name).display());
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=256"])
        .args(["-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-display", "none", "-nodefaults", "-no-reboot"])
        .arg("-kernel")
        .arg(boot_file(guest, "vmlinuz-"))
        .arg("-initrd")
        .arg(boot_file(guest, "initrd.img-"))
        .args([
            "-append",
            "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet",
        ])
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio", image.display()))
        .args(["-serial", &serial("console"), "-serial", &serial("steps")])
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu starts");
    let ended = until(GUEST_MAX, || matches!(qemu.try_wait(), Ok(Some(_))));
    let _ = qemu.kill();
    let _ = qemu.wait();
    let read = |name: &str| {
        let bytes = std::fs::read(work.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let steps = read("steps");
    assert!(
        ended,
        "the guest did not end within {GUEST_MAX:?}:\n{steps}\n{}",
        read("console")
    );
    steps
}

/// Goal: each failure of a real NFS mount is called by its name, what is mended is taken up again, and none of them stops
/// or restarts a coreapp; the heartbeat thread of every unit runs under SCHED_FIFO. Method: NFSv4 server and client in one
/// guest, units of the package, one failure after the other; a coreapp's status line, and what the kernel says of threads.
#[test]
fn real_mounts_fail_by_name_and_units_run_in_real_time() {
    let what = "real NFS and realtime limits in a guest";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    for needed in [
        "qemu-system-x86_64",
        "mkfs.ext4",
        "chroot",
        "dpkg-shlibdeps",
    ] {
        if program(needed).is_none() {
            return skipped(what, &format!("{needed} is not installed"));
        }
    }
    if std::env::consts::ARCH != "x86_64" {
        return skipped(what, "the guest is made for x86_64 only");
    }
    let guest = match guest() {
        Ok(guest) => guest,
        Err(why) => return skipped(what, &why),
    };
    let work = root().join(format!("target/e2e/wa-e2e-nfs-{}", std::process::id()));
    let tree = work.join("root");
    copied(&guest, &tree).expect("a copy");
    let srv = tree.join("srv");
    std::fs::copy(packages::deb(), srv.join("wa-agent.deb")).expect("copied");
    std::fs::copy(root().join("tests/e2e/guest.sh"), srv.join("guest.sh")).expect("copied");
    within(&tree, PREPARE).expect("prepared");
    let image = work.join("disk");
    let mut mkfs = Command::new(program("mkfs.ext4").expect("looked for before"));
    quiet(
        mkfs.args(["-q", "-F", "-d"])
            .arg(&tree)
            .arg(&image)
            .arg("1400M"),
    )
    .expect("a disk");
    let steps = run(&guest, &image, &work);
    let _ = std::fs::remove_dir_all(&work);
    println!("{steps}");
    for step in STEPS {
        let passed = format!("PASS {step}:");
        let whole = format!("PASS {step}");
        let found = steps
            .lines()
            .map(str::trim_end)
            .any(|line| line.starts_with(&passed) || line == whole);
        assert!(found, "{step} is missing in\n{steps}");
    }
}
