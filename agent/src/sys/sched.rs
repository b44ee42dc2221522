//! Scheduling of one thread. One of the few places with `unsafe`: nix does not wrap sched_setscheduler.

/// Priority of the heartbeat thread among the realtime ones: low, any audio server may go first.
const PRIORITY: i32 = 10;

/// Puts the calling thread under SCHED_FIFO.
///
/// # Errors
/// EPERM without CAP_SYS_NICE or an RLIMIT_RTPRIO: the thread goes on as it is.
pub fn raise_this_thread() -> std::io::Result<()> {
    let param = nix::libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: `param` lives across the call and is only read; pid 0 is the calling thread.
    let done = unsafe { nix::libc::sched_setscheduler(0, nix::libc::SCHED_FIFO, &raw const param) };
    if done == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
