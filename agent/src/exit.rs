//! Error class to exit code; the only place that knows the numbers.

/// What kind of end it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Ok,
    /// Something failed while running, or a verb was refused.
    Failure,
    /// The command line was wrong (clap's own number).
    Usage,
    /// A drill or check found what it must not find; `status`: something is wrong.
    Refuted,
    /// The cluster, or the node asked, does not answer.
    Unavailable,
    /// Under way and not over: the same command goes on.
    Unfinished,
    /// The configuration cannot be used; a restart does not help (systemd: RestartPreventExitStatus).
    Config,
    /// Whoever read the output has gone (as a process that SIGPIPE ended, for a shell).
    Unread,
}

/// Below every `--help` and in the man page.
pub const HELP: &str = "Exit codes: 0 done; 1 refused, or failed; 2 wrong command line; 3 a drill or doctor found what must not be, or status what is wrong; \
69 no master, or no database, answers; 75 not over yet, the same command goes on; 78 the configuration cannot be used; \
141 whoever read the output has gone.";

impl Exit {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Refuted,
        Self::Unavailable,
        Self::Unfinished,
        Self::Config,
        Self::Unread,
    ];

    /// The number, in the spirit of sysexits(3).
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Refuted => 3,
            Self::Unavailable => 69,
            Self::Unfinished => 75,
            Self::Config => 78,
            Self::Unread => 141,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: scripts can rely on the numbers. Method: the help text and the README name each of them, and no other.
    #[test]
    fn every_code_is_documented() {
        let readme = include_str!("../../README.md");
        let of_help: Vec<u8> = HELP
            .trim_start_matches("Exit codes: ")
            .split("; ")
            .filter_map(|part| part.split(' ').next()?.parse().ok())
            .collect();
        let of_readme: Vec<u8> = readme
            .lines()
            .skip_while(|line| !line.starts_with("| exit code |"))
            .skip(2)
            .map_while(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect();
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(of_help, codes);
        assert_eq!(of_readme, codes);
    }
}
