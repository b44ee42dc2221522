//! Error class to exit code; the only place that knows the numbers.

/// What kind of end it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Ok,
    /// Something failed while running.
    Failure,
    /// The command line was wrong (clap's own number).
    Usage,
    /// The configuration cannot be used; a restart does not help (systemd: RestartPreventExitStatus).
    Config,
    /// The cluster, or the node asked, does not answer.
    Unavailable,
    /// A drill or check found what it must not find.
    Refuted,
}

impl Exit {
    /// The number, in the spirit of sysexits(3).
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Refuted => 3,
            Self::Unavailable => 69,
            Self::Config => 78,
        }
    }
}
