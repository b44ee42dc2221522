//! Child processes that must not outlive their parent.

/// The child goes before everything at normal priority, where that is allowed: it stands for a machine of its own.
pub fn before_others(command: &mut tokio::process::Command) {
    // SAFETY: between fork and exec only setpriority is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, -15);
            Ok(())
        });
    }
}

/// The child gets SIGKILL when the thread that started it ends: a killed `dev` leaves no process behind.
pub fn die_with_parent(command: &mut tokio::process::Command) {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
                .map_err(std::io::Error::from)
        });
    }
}
