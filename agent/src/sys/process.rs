//! What the kernel says of processes: which there are, and how much processor time one has used; and who may look into this one.

use std::path::PathBuf;
use std::time::Duration;

/// Every process that this one may see, with its folder in /proc.
pub fn all() -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid =
        |entry: std::fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    entries.filter_map(pid).collect()
}

/// From now on nobody but root reads the memory of this process, traces it, or gets a core file of it: not even other processes of its
/// user (PR_SET_DUMPABLE, prctl(2)).
///
/// # Errors
/// When the kernel refuses.
pub fn close_memory() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// The threads of this process: id, name, processor time since their start.
pub fn threads() -> Vec<(u32, String, Duration)> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let thread = |entry: std::fs::DirEntry| {
        let tid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((tid, name_in(&stat)?.to_owned(), time(ticks_in(&stat)?)?))
    };
    entries.flatten().filter_map(thread).collect()
}

/// Processor time that all work on this machine has used since its boot.
pub fn busy() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    time(busy_in(&stat)?)
}

/// The first line of proc_stat(5), without what was idle, and without guests, which are part of the first two.
fn busy_in(stat: &str) -> Option<u64> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers = numbers.split_whitespace().map(|n| n.parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    let of = |range: std::ops::Range<usize>| Some(numbers.get(range)?.iter().sum::<u64>());
    Some(of(0..3)? + of(5..8)?)
}

/// User and system time of a process since its start, its threads included; `None` when it is gone.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    time(ticks_in(&stat)?)
}

fn time(ticks: u64) -> Option<Duration> {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let per_second = u64::try_from(per_second).ok().filter(|n| *n > 0)?;
    Some(Duration::from_millis(ticks * 1000 / per_second))
}

/// Field 2, which may hold spaces and parentheses.
fn name_in(stat: &str) -> Option<&str> {
    let (_, after) = stat.split_once('(')?;
    Some(after.rsplit_once(')')?.0)
}

/// Fields 14 and 15 of proc_pid_stat(5). The name before them may hold spaces and parentheses.
fn ticks_in(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_awkward_names() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert_eq!(ticks_in(stat), Some(150));
        assert_eq!(name_in(stat), Some("a ) b"));
        assert_eq!((ticks_in("7 (a"), name_in("7 (a")), (None, None));
        let whole = "cpu  10 1 5 700 9 2 3 4 8 8\ncpu0 1 1 1";
        assert_eq!(busy_in(whole), Some(25));
        assert_eq!((busy_in(""), busy_in("cpu 1 2 3 4")), (None, None));
        assert!(busy() > Some(Duration::ZERO));
        let own = std::process::id();
        assert!(threads().iter().any(|(tid, _, _)| *tid != own));
        assert!(cpu_time(std::process::id()).is_some());
        assert_eq!(cpu_time(u32::MAX), None);
    }

    /// Goal: no other process of the user reads keys in the memory. Method: this test once more, in a process of its own, whose memory is
    /// open before and closed after.
    #[test]
    fn memory_is_closed() {
        const CHILD: &str = "WA_TEST_CLOSES_ITS_MEMORY";
        let open = || nix::sys::prctl::get_dumpable().expect("the kernel says it");
        if std::env::var_os(CHILD).is_some() {
            nix::sys::prctl::set_dumpable(true).expect("opened");
            assert!(open());
            close_memory().expect("closed");
            assert!(!open());
            return;
        }
        let own = std::env::current_exe().expect("the test's program");
        let child = std::process::Command::new(own)
            .args(["--exact", "sys::process::tests::memory_is_closed"])
            .env(CHILD, "1")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(
            child.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}
