//! The only place that reads clocks.
//! Protocol times are CLOCK_BOOTTIME (rule 5.1); the wall clock is for people and tokens.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use wa_core::time::Instant;

/// Now, in nanoseconds since boot, suspend included.
pub fn now() -> Instant {
    let time =
        clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists since Linux 2.6.39");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Instant(seconds * 1_000_000_000 + nanos)
}

/// Wall clock in milliseconds since 1970: for records that people read.
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until a boot-time instant; at once when it has passed.
pub async fn sleep_until(at: Instant) {
    tokio::time::sleep(at.since(now())).await;
}

/// Waits for a span.
pub async fn sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

/// By how much the kernel makes its clocks run wrong on purpose, in parts per million; read only. The ticks bound it to ±10 %.
///
/// # Errors
/// When the kernel refuses to say (a container's system call filter).
pub fn rate_ppm() -> std::io::Result<i64> {
    // SAFETY: all zeros is a valid timex; modes 0 only reads.
    let mut timex: nix::libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for the call.
    if unsafe { nix::libc::adjtimex(&raw mut timex) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // A tick is 10,000 µs; `freq` counts 2^-16 ppm.
    Ok((timex.tick - 10_000) * 100 + (timex.freq >> 16))
}

/// A stamp older than this says nothing of a datagram: the wall clock was stepped.
const WAITED_MAX: Duration = Duration::from_millis(500);

/// How long ago the kernel stamped a datagram with its wall clock: zero when that makes no sense. Right only when asked at
/// once, and good only to move an arrival back on the boot clock.
#[allow(clippy::disallowed_methods)]
pub fn waited_since(stamp: Duration) -> Duration {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    now.checked_sub(stamp)
        .filter(|waited| *waited <= WAITED_MAX)
        .unwrap_or_default()
}

/// By how much this process's boot clock differs from the kernel's own, as text in seconds: it is in a time namespace, as
/// after a container was restored. The kernel judges deadlines by its own clock. `None`: both are the same.
///
/// # Errors
/// When the kernel shows something that nobody understands.
pub fn apart_from_kernel() -> std::io::Result<Option<String>> {
    match std::fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) => offset_in(&text),
        // A kernel without time namespaces.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// time_namespaces(7): a line for each clock, with seconds and nanoseconds.
fn offset_in(text: &str) -> std::io::Result<Option<String>> {
    let line = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let boot = line
        .into_iter()
        .find(|words| matches!(words.first(), Some(&("boottime" | "7"))));
    match boot.as_deref() {
        Some([_, seconds, nanos]) => {
            let whole: Option<(i64, i64)> = seconds.parse().ok().zip(nanos.parse().ok());
            match whole {
                Some((0, 0)) => Ok(None),
                Some((seconds, 0)) => Ok(Some(seconds.to_string())),
                Some((seconds, nanos)) => Ok(Some(format!("{seconds} and {nanos} ns"))),
                None => Err(std::io::ErrorKind::InvalidData.into()),
            }
        }
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn offsets_are_read_as_the_kernel_shows_them() {
        let of = |text| offset_in(text).ok();
        let shown = "monotonic           0         0\nboottime            0         0\n";
        assert_eq!(of(shown), Some(None));
        assert_eq!(
            of("monotonic 1 0\nboottime -86400 0\n"),
            Some(Some("-86400".into()))
        );
        assert_eq!(of("7 0 5\n"), Some(Some("0 and 5 ns".into())));
        assert_eq!(of(""), None);
        assert_eq!(of("boottime x 0\n"), None);
    }

    /// Goal: a process in a time namespace knows it. Method: this test, again, in a real one; needs root.
    #[test]
    fn a_time_namespace_is_seen() {
        const WITHIN: &str = "WA_TEST_TIME_NAMESPACE";
        if std::env::var_os(WITHIN).is_some() {
            let apart = apart_from_kernel().expect("readable");
            assert_eq!(apart.as_deref(), Some("86400"));
            return;
        }
        assert_eq!(apart_from_kernel().expect("readable"), None);
        let within = |words: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--time", "--boottime", "86400", "--"]);
            command.args(words).env(WITHIN, "1").output()
        };
        if !within(&["true"]).is_ok_and(|made| made.status.success()) {
            let _ = std::io::Write::write_all(
                &mut std::io::stdout(),
                b"SKIPPED: a_time_namespace_is_seen: making a time namespace needs root\n",
            );
            return;
        }
        let own = std::env::current_exe().expect("this test");
        let again = within(&[
            &own.display().to_string(),
            "--exact",
            "sys::clock::tests::a_time_namespace_is_seen",
        ]);
        let again = again.expect("it runs");
        let says = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(
            again.status.success() && says.contains("1 passed"),
            "{says}"
        );
    }
}
