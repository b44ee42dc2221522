//! The fence of machines whose kernel takes no gate: a table of nftables that drops what a coreapp's control group sends to
//! anywhere but the exempt networks, unless an element with a timeout admits the group. Decides nothing about who may act.
//!
//! Weaker than the gate, which is why `fence = "required"` does not take it: an element admits a group, not a socket or an
//! epoch; its timeout begins when the kernel takes it, which is later than the moment at which it was reckoned, by as much
//! as this process and `nft` are held up in between; it runs on jiffies, which stand still while the machine is suspended.
//!
//! By the program `nft` in its own language: the libraries know timeouts in whole seconds only, or are under the GPL.

use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use wa_bpf::Network;

use super::cgroup;

/// Our own table; nothing else is touched.
pub const TABLE: &str = "wa_agent_fence";
/// For the look whether this kernel matches control groups at all.
const TRIAL: &str = "wa_agent_fence_trial";
/// `nft` takes paths below this one, whatever is mounted where.
const NFT_ROOT: &str = "/sys/fs/cgroup";
/// Where the child of the trial sends: a loopback address that nobody else uses.
const TRIAL_ADDRESS: &str = "127.255.255.53";
/// For one call of `nft`, which takes some 10 ms.
const NFT_WITHIN: Duration = Duration::from_millis(500);
/// Control groups are counted from the kernel's root, which a container does not see: it may lie so much further up.
const LEVELS_ABOVE_MAX: usize = 12;

/// Why this fence cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("the program nft does not start ({0}); install it: apt install nftables")]
    NoProgram(io::Error),
    #[error("nft: {0}")]
    Refused(String),
    #[error("nft did not end within {0:?} and was killed: what it was to do may be done or not")]
    Hung(Duration),
    #[error("control groups: {0}")]
    Cgroup(io::Error),
    #[error("nftables takes the rule, but does not match the control group of who sends")]
    NoMatch,
    #[error("the table {TABLE} is not as it was made: somebody changed or removed it")]
    Changed,
    #[error(
        "another control group was admitted in its place: the unit was started again meanwhile"
    )]
    Elsewhere,
    #[error("the kernel took it {0:?} late; it was taken back")]
    Late(Duration),
    #[error("the element is still there after it was deleted")]
    StillThere,
}

/// The table, as this process has made it.
#[derive(Debug)]
pub struct Fence {
    /// The coreapps' slice, as the file system shows it.
    slice: PathBuf,
    /// Groups on the way from the kernel's root to the slice, itself included.
    level: usize,
    exempt: Vec<Network>,
    /// As `nft` listed it just after it was made.
    listed: String,
}

fn nft(words: &[&str], script: Option<&str>) -> Result<String, NftError> {
    let mut command = Command::new("nft");
    command
        .args(words)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(NftError::NoProgram)?;
    if let (Some(script), Some(mut stdin)) = (script, child.stdin.take()) {
        // A script that nft does not read to its end has failed: its exit status says so. It fits into the pipe.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = within(child)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| line.contains("rror"));
    Err(NftError::Refused(
        first.unwrap_or("failed without a word").to_owned(),
    ))
}

/// What a child said, if it ends in time. The host agent's loop waits for this: another process that holds the kernel's
/// lock on its tables must not hold it too.
fn within(child: Child) -> Result<Output, NftError> {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    if let Ok(output) = told.recv_timeout(NFT_WITHIN) {
        return output.map_err(NftError::NoProgram);
    }
    // The thread has not collected it yet, so that the number is still its own; it ends with it.
    let _ = signal::kill(pid, Signal::SIGKILL);
    Err(NftError::Hung(NFT_WITHIN))
}

fn run(script: &str) -> Result<(), NftError> {
    nft(&["-f", "-"], Some(script)).map(|_| ())
}

/// What `nft` calls a control group.
fn named(group: &Path) -> Result<String, NftError> {
    let below = group.strip_prefix(NFT_ROOT).map_err(|_| {
        NftError::Refused(format!(
            "{} is not below {NFT_ROOT}, where nft looks for control groups",
            group.display()
        ))
    })?;
    Ok(below.display().to_string())
}

fn id_of(group: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(group)?.ino())
}

/// One rule each: the intervals of a set may not overlap, those that people exempt do.
fn accept(network: &Network) -> String {
    let network = network.to_string();
    let family = if network.contains(':') { "ip6" } else { "ip" };
    format!("add rule inet {TABLE} judge {family} daddr {network} accept\n")
}

/// The table as it shall be, in one transaction; elements that are in force stay.
fn script(slice: &str, level: usize, exempt: &[Network]) -> String {
    let exempt: String = exempt.iter().map(accept).collect();
    format!(
        "add table inet {TABLE}\n\
         add set inet {TABLE} open {{ type cgroupsv2; flags timeout; }}\n\
         add chain inet {TABLE} judge\n\
         add chain inet {TABLE} out {{ type filter hook output priority 0; policy accept; }}\n\
         flush chain inet {TABLE} out\n\
         flush chain inet {TABLE} judge\n\
         add rule inet {TABLE} out socket cgroupv2 level {level} \"{slice}\" jump judge\n\
         {exempt}\
         add rule inet {TABLE} judge tcp flags & rst == rst meta length < 81 accept\n\
         add rule inet {TABLE} judge socket cgroupv2 level {} @open accept\n\
         add rule inet {TABLE} judge drop\n",
        level + 1,
    )
}

/// Admits a group for a while from now; what was said before of it is replaced, in one transaction.
fn admission(group: &str, ms: u64) -> String {
    let element = format!("element inet {TABLE} open {{ \"{group}\"");
    format!("add {element} timeout 1s }}\ndelete {element} }}\nadd {element} timeout {ms}ms }}\n")
}

/// The groups that a listing of the set shows: by path, or by number when they are gone; each with the seconds left.
fn elements(listing: &str) -> Vec<(String, u64)> {
    let parsed: serde_json::Value = serde_json::from_str(listing).unwrap_or_default();
    let items = parsed["nftables"].as_array().cloned().unwrap_or_default();
    let all = items
        .iter()
        .filter_map(|item| item["set"]["elem"].as_array());
    all.flatten()
        .filter_map(|entry| {
            let name = entry["elem"]["val"].as_str()?.to_owned();
            Some((name, entry["elem"]["expires"].as_u64().unwrap_or(0)))
        })
        .collect()
}

impl Fence {
    /// Tries the kernel and puts the table in front of the slice. `program`: this binary, whose child does the trial.
    ///
    /// # Errors
    /// Why there is no such fence here.
    pub fn put(program: &Path, slice: &Path, exempt: &[Network]) -> Result<Self, NftError> {
        let mut fence = Self {
            slice: slice.to_owned(),
            level: trial(program, slice)?,
            exempt: exempt.to_vec(),
            listed: String::new(),
        };
        fence.put_again()?;
        Ok(fence)
    }

    /// Puts it as it shall be, for the slice as it is now.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_again(&mut self) -> Result<(), NftError> {
        run(&script(&named(&self.slice)?, self.level, &self.exempt))?;
        self.listed = list()?;
        Ok(())
    }

    /// Whether it is still as it was made, for the slice as it is now.
    ///
    /// # Errors
    /// [`NftError::Changed`], or `nft` does not say.
    pub fn attest(&self) -> Result<(), NftError> {
        // A slice that was removed and made again has another number: the rule then names a number, no path.
        match list() {
            Ok(now) if now == self.listed => Ok(()),
            Ok(_) | Err(NftError::Refused(_)) => Err(NftError::Changed),
            Err(error) => Err(error),
        }
    }

    /// Sets the networks that need no admission.
    ///
    /// # Errors
    /// When `nft` refuses; the old set holds then.
    pub fn set_exempt(&mut self, exempt: &[Network]) -> Result<(), NftError> {
        if self.exempt == exempt {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.exempt, exempt.to_vec());
        self.put_again().inspect_err(|_| self.exempt = before)
    }

    /// The exempt networks in force.
    pub fn exempt(&self) -> &[Network] {
        &self.exempt
    }

    /// Admits the group with this number for `span` from now. When the kernel took it more than `late_max` after the moment
    /// at which `span` was reckoned, it is taken back.
    ///
    /// # Errors
    /// Nothing is admitted then.
    pub fn admit(
        &self,
        (group, id): (&Path, u64),
        span: Duration,
        late_max: Duration,
    ) -> Result<(), NftError> {
        let name = named(group)?;
        let began = super::clock::now();
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return shut(group, id).map(|_| ());
        }
        if let Err(error) = run(&admission(&name, ms)) {
            // It may have got as far as the kernel.
            return match error {
                NftError::Hung(_) => shut(group, id).and(Err(error)),
                NftError::NoProgram(_)
                | NftError::Refused(_)
                | NftError::Cgroup(_)
                | NftError::NoMatch
                | NftError::Changed
                | NftError::Elsewhere
                | NftError::Late(_)
                | NftError::StillThere => Err(error),
            };
        }
        let took = super::clock::now().since(began);
        let wrong = if took > late_max {
            Some(NftError::Late(took))
        } else if id_of(group).map_err(NftError::Cgroup)? != id {
            Some(NftError::Elsewhere)
        } else {
            None
        };
        match wrong {
            None => Ok(()),
            Some(error) => shut(group, id).and(Err(error)),
        }
    }
}

/// Ends what the group with this number is admitted to, and reads it back. True: it was admitted.
///
/// # Errors
/// When it cannot be verified.
pub fn shut(group: &Path, id: u64) -> Result<bool, NftError> {
    let (name, number) = (named(group)?, id.to_string());
    // By number where nft does not find the group: it was removed, and nobody is in it any more.
    let there = |all: &[(String, u64)]| all.iter().any(|(f, _)| *f == name || *f == number);
    if !there(&open()?) {
        return Ok(false);
    }
    match run(&format!(
        "delete element inet {TABLE} open {{ \"{name}\" }}\n"
    )) {
        // Its time was over in between, or the group is gone and with it its name: the next look says.
        Ok(()) | Err(NftError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    if there(&open()?) {
        return Err(NftError::StillThere);
    }
    Ok(true)
}

fn list() -> Result<String, NftError> {
    // Without counters, and without what comes and goes in the set.
    nft(&["-s", "-t", "list", "table", "inet", TABLE], None)
}

/// Groups that are admitted now, with the seconds that are left.
///
/// # Errors
/// When there is no such table, or no `nft`.
pub fn open() -> Result<Vec<(String, u64)>, NftError> {
    let listing = nft(&["-j", "list", "set", "inet", TABLE, "open"], None)?;
    Ok(elements(&listing))
}

/// Takes the table away: everybody may send again. Without one nothing is done.
pub fn remove() {
    let _ = run(&format!(
        "add table inet {TABLE}\ndelete table inet {TABLE}\n"
    ));
}

/// Whether nftables matches the control group of who sends, and how many groups the kernel counts down to the slice: a
/// child in a group below the slice sends a datagram to itself, and one rule for each level counts it.
fn trial(program: &Path, slice: &Path) -> Result<usize, NftError> {
    let group = slice.join("wa-fence-trial");
    match std::fs::create_dir(&group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(NftError::Cgroup(error));
        }
        _ => {}
    }
    let tried = trial_in(program, slice, &group);
    let _ = run(&format!(
        "add table inet {TRIAL}\ndelete table inet {TRIAL}\n"
    ));
    let _ = std::fs::remove_dir(&group);
    tried
}

fn trial_in(program: &Path, slice: &Path, group: &Path) -> Result<usize, NftError> {
    let root = cgroup::root().map_err(NftError::Cgroup)?;
    let depth = slice
        .strip_prefix(&root)
        .unwrap_or(slice)
        .components()
        .count();
    let levels = depth..=depth + LEVELS_ABOVE_MAX;
    let name = named(slice)?;
    let mut script = format!(
        "add table inet {TRIAL}\n\
         add chain inet {TRIAL} out {{ type filter hook output priority 0; policy accept; }}\n"
    );
    for level in levels.clone() {
        script.push_str(&format!(
            "add counter inet {TRIAL} c{level}\n\
             add rule inet {TRIAL} out ip daddr {TRIAL_ADDRESS} socket cgroupv2 level {level} \"{name}\" counter name c{level}\n"
        ));
    }
    run(&script)?;
    let sent = Command::new(program)
        .arg("send-from-group")
        .arg(group)
        .stdin(Stdio::null())
        .output()
        .map_err(NftError::Cgroup)?;
    if !sent.status.success() {
        let said = String::from_utf8_lossy(&sent.stderr).trim().to_owned();
        return Err(NftError::Cgroup(io::Error::other(said)));
    }
    let listing = nft(&["-j", "list", "counters", "table", "inet", TRIAL], None)?;
    let found = levels
        .into_iter()
        .find(|level| counted(&listing, &format!("c{level}")));
    found.ok_or(NftError::NoMatch)
}

fn counted(listing: &str, name: &str) -> bool {
    let parsed: serde_json::Value = serde_json::from_str(listing).unwrap_or_default();
    let items = parsed["nftables"].as_array().cloned().unwrap_or_default();
    let mut counters = items.iter().map(|item| &item["counter"]);
    counters.any(|c| c["name"] == name && c["packets"].as_u64() > Some(0))
}

/// The child of the trial: enters the group and sends one datagram to a loopback address.
///
/// # Errors
/// When it may not enter, or not send.
pub fn send_from(group: &Path) -> io::Result<()> {
    std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // Nobody listens there, and nobody has to.
    socket.send_to(b"trial", (TRIAL_ADDRESS, 9))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an nft that waits for somebody else's lock does not hold the host agent's loop, and is not left behind.
    /// Method: a child that would sleep for an hour; the pipe ends with it.
    #[test]
    fn a_child_that_hangs_is_killed() {
        let mut sleep = Command::new("sleep");
        sleep.arg("3600").stdout(Stdio::piped());
        let child = sleep.spawn().expect("it starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("small"));
        assert!(matches!(within(child), Err(NftError::Hung(_))));
        while signal::kill(pid, None).is_ok() {
            std::thread::yield_now();
        }
    }

    /// Goal: the table drops by default, exempts both families, and admits at the level below the slice. Method: the text.
    #[test]
    fn the_table_is_shut_by_default() {
        let exempt = ["127.0.0.0/8", "::1/128"].map(|n| n.parse::<Network>().expect("a network"));
        let text = script("wa.slice/wa-coreapp.slice", 2, &exempt);
        let rules: Vec<&str> = text.lines().filter(|l| l.starts_with("add rule")).collect();
        let start = format!("add rule inet {TABLE}");
        assert_eq!(
            rules,
            [
                format!(
                    "{start} out socket cgroupv2 level 2 \"wa.slice/wa-coreapp.slice\" jump judge"
                ),
                format!("{start} judge ip daddr 127.0.0.0/8 accept"),
                format!("{start} judge ip6 daddr ::1/128 accept"),
                format!("{start} judge tcp flags & rst == rst meta length < 81 accept"),
                format!("{start} judge socket cgroupv2 level 3 @open accept"),
                format!("{start} judge drop"),
            ]
        );
        assert!(!script("s", 1, &[]).contains("daddr"));
    }

    /// Goal: what is admitted is read from what nft prints, gone groups and empty sets included.
    #[test]
    fn elements_are_read_back() {
        let listing = r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "open", "elem": [
            {"elem": {"val": "a/b", "timeout": 2, "expires": 1}}, {"elem": {"val": "124304", "timeout": 7}}]}}]}"#;
        assert_eq!(
            elements(listing),
            [("a/b".to_owned(), 1), ("124304".to_owned(), 0)]
        );
        assert!(elements(r#"{"nftables": [{"set": {"name": "open"}}]}"#).is_empty());
        assert!(elements("").is_empty());
    }
}
