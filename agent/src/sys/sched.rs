//! Scheduling of threads. One of the few places with `unsafe`: nix does not wrap sched_setscheduler.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use procfs::process::Process;

/// What a thread is for: realtime priorities, low ones, any audio server may go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Urgency {
    /// Decides and renews leases: work of microseconds, waited for by nobody else's clock but the lease's.
    Deciding = 5,
    /// Answers and sends heartbeats.
    Heartbeats = 10,
}

/// Set by `wa-agent dev --plain-heartbeats`: no thread is raised, to show the difference.
pub const PLAIN: &str = "WA_PLAIN_HEARTBEATS";

/// Set by a unit whose threads are raised from outside ([`raise_threads_of`]): the process need not be allowed to.
pub const FROM_OUTSIDE: &str = "WA_RAISED_FROM_OUTSIDE";

/// Name of the heartbeat thread.
pub const HEARTBEATS: &str = "heartbeats";

/// A realtime thread that computes for so long without ever sleeping is broken: SIGXCPU ends the process, a supervisor
/// starts it again, and another node takes over meanwhile. Microseconds; the second ends it without asking.
const SPIN_MAX_US: (u64, u64) = (1_000_000, 2_000_000);

/// Puts the calling thread under SCHED_FIFO, bounded by RLIMIT_RTTIME: it may never take a core for itself.
///
/// # Errors
/// EPERM without CAP_SYS_NICE or an RLIMIT_RTPRIO: the thread goes on as it is.
pub fn raise_this_thread(urgency: Urgency) -> std::io::Result<()> {
    if std::env::var_os(PLAIN).is_some() {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    if std::env::var_os(FROM_OUTSIDE).is_some() {
        return Ok(());
    }
    bound_realtime()?;
    raise(0, urgency)
}

/// Raises the threads of a host agent, which may not do it itself: the heartbeat thread, and those that were there at its start,
/// which decide. Its unit bounds them (LimitRTTIME=).
///
/// # Errors
/// When the process is gone, or this one lacks CAP_SYS_NICE.
pub fn raise_threads_of(pid: i32) -> std::io::Result<()> {
    let tasks = Process::new(pid).and_then(|process| process.tasks());
    for task in tasks.map_err(std::io::Error::other)? {
        let task = task.map_err(std::io::Error::other)?;
        // Between the two looks a thread may end.
        let Ok(stat) = task.stat() else { continue };
        let urgency = if stat.comm == HEARTBEATS {
            Urgency::Heartbeats
        } else {
            Urgency::Deciding
        };
        match raise(task.tid, urgency) {
            Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// 0: the calling thread.
fn raise(thread: i32, urgency: Urgency) -> std::io::Result<()> {
    let param = nix::libc::sched_param {
        sched_priority: urgency as i32,
    };
    // Threads and processes that this one starts are not urgent by themselves.
    let policy = nix::libc::SCHED_FIFO | nix::libc::SCHED_RESET_ON_FORK;
    // SAFETY: `param` lives across the call and is only read.
    let done = unsafe { nix::libc::sched_setscheduler(thread, policy, &raw const param) };
    if done == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Lowers RLIMIT_RTTIME to ours where it is higher; a limit that somebody set lower stays.
fn bound_realtime() -> std::io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_RTTIME)?;
    let wanted = (soft.min(SPIN_MAX_US.0), hard.min(SPIN_MAX_US.1));
    if wanted != (soft, hard) {
        setrlimit(Resource::RLIMIT_RTTIME, wanted.0, wanted.1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "WA_TEST_SPIN";
    const RAISED: &str = "WA_TEST_RAISED";

    /// Goal: a process that may not raise its threads has them raised from outside, each as it is used. Method: this test
    /// starts itself; the child has a thread of the name, and ends with its standard input.
    #[test]
    fn threads_are_raised_from_outside() {
        use std::io::{BufRead as _, BufReader, Read as _};
        if std::env::var_os(RAISED).is_some() {
            let thread = std::thread::Builder::new().name(HEARTBEATS.into());
            let thread = thread.spawn(|| {
                println!("\nready");
                let _ = std::io::stdin().read(&mut [0]);
            });
            thread.expect("a thread").join().expect("joined");
            return;
        }
        let mut child = Command::new("/proc/self/exe")
            .args([
                "--exact",
                "sys::sched::tests::threads_are_raised_from_outside",
            ])
            .arg("--nocapture")
            .env(RAISED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.expect("read") == "ready"));
        let pid = i32::try_from(child.id()).expect("a pid");
        let raised = raise_threads_of(pid);
        let process = Process::new(pid).expect("it waits");
        let tasks = process.tasks().expect("listed").flatten();
        let found: Vec<(bool, Option<u32>, Option<u32>)> = tasks
            .filter_map(|task| task.stat().ok())
            .map(|stat| (stat.comm == HEARTBEATS, stat.policy, stat.rt_priority))
            .collect();
        drop(child.stdin.take());
        child.wait().expect("ended");
        if let Err(error) = raised {
            println!("SKIPPED: raising from outside: not allowed here: {error}");
            return;
        }
        let fifo = Some(u32::try_from(nix::libc::SCHED_FIFO).expect("positive"));
        assert!(found.contains(&(true, fifo, Some(10))), "{found:?}");
        assert!(found.contains(&(false, fifo, Some(5))), "{found:?}");
    }

    /// Goal: a realtime thread that spins ends its process instead of taking a core. Method: this test starts itself, and
    /// its child spins until the kernel ends it; a minute bounds the child where the kernel would not.
    #[test]
    fn a_spinning_realtime_thread_is_ended() {
        if std::env::var_os(CHILD).is_some() {
            raise_this_thread(Urgency::Heartbeats).expect("the parent was allowed to");
            let until = crate::sys::clock::now() + std::time::Duration::from_secs(60);
            while crate::sys::clock::now() < until {
                std::hint::spin_loop();
            }
            return;
        }
        let allowed = std::thread::spawn(|| raise_this_thread(Urgency::Deciding))
            .join()
            .expect("joined");
        if let Err(error) = allowed {
            println!("SKIPPED: realtime limit: SCHED_FIFO is not allowed here: {error}");
            return;
        }
        let name = "sys::sched::tests::a_spinning_realtime_thread_is_ended";
        let status = Command::new("/proc/self/exe")
            .args(["--exact", name])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("started");
        let by = status.signal();
        let ends = [nix::libc::SIGXCPU, nix::libc::SIGKILL].map(Some);
        assert!(ends.contains(&by), "ended by {status}");
    }
}
