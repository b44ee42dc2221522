//! Scheduling of one thread. One of the few places with `unsafe`: nix does not wrap sched_setscheduler.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

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
    bound_realtime()?;
    let param = nix::libc::sched_param {
        sched_priority: urgency as i32,
    };
    // Threads and processes that this one starts are not urgent by themselves.
    let policy = nix::libc::SCHED_FIFO | nix::libc::SCHED_RESET_ON_FORK;
    // SAFETY: `param` lives across the call and is only read; pid 0 is the calling thread.
    let done = unsafe { nix::libc::sched_setscheduler(0, policy, &raw const param) };
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
