//! Child processes that must not outlive their parent.

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
