//! What a machine can sustain: realtime scheduling, timers, clock, hypervisor, network, and the fastest profile that these allow.
//! Changes nothing and decides nothing: `wa-agent doctor` shows it to people. Blocks for about as long as it is asked to watch.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

use super::{clock, sched};

/// Profiles, fastest first, with the worst lateness of a timer and the worst spread of a round trip that each allows: a
/// quarter and a half of its heartbeat interval.
const PROFILES: [(&str, Duration, Duration); 3] = [
    (
        "fast",
        Duration::from_micros(12_500),
        Duration::from_millis(25),
    ),
    (
        "standard",
        Duration::from_millis(50),
        Duration::from_millis(100),
    ),
    ("compat", Duration::MAX, Duration::MAX),
];
/// Between two timers under watch.
const TICK: Duration = Duration::from_millis(1);
/// Connects to each peer.
const CONNECTS: usize = 20;
/// One connect may take so long.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How fast chrony may make the clock run, in parts per million, unless its configuration says otherwise.
const CHRONY_SLEW_PPM: u64 = 83_334;
/// How fast the kernel's own adjtime() and NTP discipline do.
const KERNEL_SLEW_PPM: u64 = 500;

/// What is to be examined.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How long timers are watched.
    pub watch: Duration,
    /// Relative error of clock rates that leases are computed with, in thousandths (`[timers] drift`).
    pub drift_per_mille: u16,
    /// Pause that a hypervisor may hide (`[timers] vm_pause`); `None`: nobody has written it.
    pub vm_pause: Option<Duration>,
    /// TCP addresses of peers. A refused connect measures as well as an open one.
    pub peers: Vec<SocketAddr>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(1),
            drift_per_mille: 100,
            vm_pause: None,
            peers: Vec::new(),
        }
    }
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Good,
    Warn,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub standing: Standing,
    /// The fastest profile that this alone allows.
    pub profile: &'static str,
    /// What was found, and what to type where something is to be done.
    pub sentence: String,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Suitability {
    pub findings: Vec<Finding>,
    /// The fastest profile that everything found allows.
    pub profile: &'static str,
    pub sentence: String,
}

/// Examines this machine. Takes about `asked.watch` and the connects.
pub fn examine(asked: &Asked) -> Suitability {
    let watched = watch_timers(asked.watch);
    let mut findings = vec![
        realtime(watched.realtime.as_ref().err()),
        lateness(watched.worst, watched.timers),
        clock_rate(clock::rate_ppm(), &time_daemon(), asked.drift_per_mille),
        virtualisation(hypervisor().as_deref(), asked.vm_pause),
    ];
    findings.extend(
        asked
            .peers
            .iter()
            .map(|peer| network(*peer, &connects(*peer))),
    );
    judge(findings)
}

fn judge(findings: Vec<Finding>) -> Suitability {
    let rank = |name: &str| PROFILES.iter().position(|(p, ..)| *p == name).unwrap_or(2);
    let slowest = findings.iter().max_by_key(|f| rank(f.profile));
    let profile = slowest.map_or("compat", |f| f.profile);
    let held: Vec<&str> = findings
        .iter()
        .filter(|f| f.profile == profile && profile != "fast")
        .map(|f| f.name)
        .collect();
    let sentence = if held.is_empty() {
        "this machine can sustain every profile, fast included".to_owned()
    } else {
        format!(
            "this machine can sustain the profile {profile}; held back by: {}",
            held.join(", ")
        )
    };
    Suitability {
        findings,
        profile,
        sentence,
    }
}

struct Watched {
    realtime: std::io::Result<()>,
    worst: Duration,
    timers: u32,
}

/// Watches timers of one millisecond on a thread of its own, scheduled as the heartbeat thread is, so that the caller's
/// scheduling stays as it was.
fn watch_timers(span: Duration) -> Watched {
    let watch = move || {
        let realtime = sched::raise_this_thread(sched::Urgency::Heartbeats);
        let (mut worst, mut timers) = (Duration::ZERO, 0);
        let until = clock::now() + span;
        loop {
            let due = clock::now() + TICK;
            std::thread::sleep(TICK);
            worst = worst.max(clock::now().since(due));
            timers += 1;
            if clock::now() >= until {
                return Watched {
                    realtime,
                    worst,
                    timers,
                };
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("timers".into())
        .spawn(watch);
    let watched = thread.map(std::thread::JoinHandle::join);
    match watched {
        Ok(Ok(watched)) => watched,
        Ok(Err(_)) => Watched {
            realtime: Err(std::io::ErrorKind::Other.into()),
            worst: Duration::MAX,
            timers: 0,
        },
        Err(error) => Watched {
            realtime: Err(error),
            worst: Duration::MAX,
            timers: 0,
        },
    }
}

fn realtime(error: Option<&std::io::Error>) -> Finding {
    let (standing, profile, sentence) = match error {
        None => (
            Standing::Good,
            "fast",
            "SCHED_FIFO is allowed: load on the processors does not delay heartbeats".to_owned(),
        ),
        Some(error) => (
            Standing::Warn,
            "standard",
            format!(
                "SCHED_FIFO is not allowed here ({error}); under load heartbeats are late. The units allow it by \
                 LimitRTPRIO=20; elsewhere, as root: prlimit --rtprio=20 --pid PID. On a kernel with CONFIG_RT_GROUP_SCHED \
                 the control group needs a share of realtime too"
            ),
        ),
    };
    Finding {
        name: "realtime",
        standing,
        profile,
        sentence,
    }
}

fn lateness(worst: Duration, timers: u32) -> Finding {
    let profile = PROFILES
        .iter()
        .find(|(_, late, _)| worst <= *late)
        .map_or("compat", |(p, ..)| p);
    let standing = if profile == "fast" {
        Standing::Good
    } else {
        Standing::Warn
    };
    let sentence = if timers == 0 {
        "timers could not be watched: no thread could be started".to_owned()
    } else {
        format!("the worst of {timers} timers was {} late", shown(worst))
    };
    Finding {
        name: "lateness",
        standing,
        profile,
        sentence,
    }
}

/// A program that disciplines the clock, and how fast it may make the clock run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TimeDaemon {
    name: &'static str,
    slew_ppm: u64,
}

fn time_daemon() -> Option<TimeDaemon> {
    const NAMES: [(&str, u64); 5] = [
        ("chronyd", CHRONY_SLEW_PPM),
        ("ntpd", KERNEL_SLEW_PPM),
        ("ntpd-rs", KERNEL_SLEW_PPM),
        ("systemd-timesyn", KERNEL_SLEW_PPM),
        ("phc2sys", KERNEL_SLEW_PPM),
    ];
    let runs = |wanted: &str| {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok())
            .any(|comm| comm.trim() == wanted)
    };
    let (name, mut slew_ppm) = NAMES.into_iter().find(|(name, _)| runs(name))?;
    if name == "chronyd" {
        let texts = ["/etc/chrony/chrony.conf", "/etc/chrony.conf"].map(std::fs::read_to_string);
        let said = texts
            .into_iter()
            .flatten()
            .find_map(|text| chrony_slew(&text));
        slew_ppm = said.unwrap_or(slew_ppm);
    }
    Some(TimeDaemon { name, slew_ppm })
}

/// `maxslewrate` of chrony.conf(5), rounded up.
fn chrony_slew(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "maxslewrate").then_some(())?;
        let ppm: f64 = words.next()?.parse().ok()?;
        (ppm.is_finite() && ppm >= 0.0).then(|| ppm.ceil() as u64)
    })
}

/// `rate`: by how much the kernel makes the clock run wrong now, in parts per million.
fn clock_rate(
    rate: std::io::Result<i64>,
    daemon: &Option<TimeDaemon>,
    drift_per_mille: u16,
) -> Finding {
    let allowed = u64::from(drift_per_mille) * 1000;
    let finding = |standing, profile, sentence| Finding {
        name: "clock",
        standing,
        profile,
        sentence,
    };
    let now_ppm = match rate {
        Ok(ppm) => ppm,
        Err(error) => {
            return finding(
                Standing::Warn,
                "standard",
                format!("the kernel does not say how fast its clock runs: {error}"),
            );
        }
    };
    if now_ppm.unsigned_abs() >= allowed {
        let sentence = format!(
            "the kernel makes the clock run {now_ppm} ppm off, more than [timers] drift allows ({allowed} ppm): leases cannot \
             be trusted. Look at: adjtimex --print, chronyc tracking"
        );
        return finding(Standing::Bad, "compat", sentence);
    }
    match daemon {
        Some(d) if d.slew_ppm > allowed => {
            let sentence = format!(
                "{} may make the clock run {} ppm off, more than [timers] drift allows ({allowed} ppm). Write maxslewrate {} \
                 into chrony.conf, or a greater drift into wa-agent.toml",
                d.name,
                d.slew_ppm,
                allowed / 2
            );
            finding(Standing::Bad, "compat", sentence)
        }
        Some(d) => {
            let sentence = format!(
                "the clock runs {now_ppm} ppm off, {} may make that {} ppm, [timers] drift allows {allowed} ppm",
                d.name, d.slew_ppm
            );
            finding(Standing::Good, "fast", sentence)
        }
        // Nobody slews it; its own error is that of a quartz. Only logs and tokens need the right time.
        None => {
            let sentence = format!(
                "the clock runs {now_ppm} ppm off and no time daemon was found; leases do not need one, logs and tokens do. \
                 Install chrony"
            );
            finding(Standing::Warn, "fast", sentence)
        }
    }
}

/// What this machine runs on, when that is not metal.
fn hypervisor() -> Option<String> {
    let asked = std::process::Command::new("systemd-detect-virt")
        .arg("--vm")
        .output();
    if let Ok(answer) = asked {
        let word = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        if !word.is_empty() {
            return (word != "none").then_some(word);
        }
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let flag = read("/proc/cpuinfo").lines().any(|line| {
        line.starts_with("flags") && line.split_whitespace().any(|w| w == "hypervisor")
    });
    flag.then(|| {
        let vendor = read("/sys/class/dmi/id/sys_vendor").trim().to_owned();
        if vendor.is_empty() {
            "a hypervisor".to_owned()
        } else {
            vendor
        }
    })
}

fn virtualisation(hypervisor: Option<&str>, vm_pause: Option<Duration>) -> Finding {
    let (standing, profile, sentence) = match hypervisor {
        None => (
            Standing::Good,
            "fast",
            "this is no virtual machine: nothing hides a pause from its clock".to_owned(),
        ),
        Some(name) => match vm_pause {
            Some(pause) if pause > Duration::ZERO => (
                Standing::Good,
                "fast",
                format!(
                    "a virtual machine ({name}); [timers] vm_pause allows for hidden pauses of {}",
                    shown(pause)
                ),
            ),
            Some(_) => (
                Standing::Good,
                "fast",
                format!(
                    "a virtual machine ({name}); [timers] vm_pause = \"0s\" says that it is neither moved nor paused while it runs"
                ),
            ),
            None => (
                Standing::Warn,
                "standard",
                format!(
                    "a virtual machine ({name}) whose clock may stand still while the others go on: write the longest pause of a \
                     migration or snapshot as [timers] vm_pause, or vm_pause = \"0s\" where there are none"
                ),
            ),
        },
    };
    Finding {
        name: "virtualisation",
        standing,
        profile,
        sentence,
    }
}

/// Times of some connects; a refusal is an answer as well.
fn connects(peer: SocketAddr) -> Vec<Duration> {
    let mut times = Vec::with_capacity(CONNECTS);
    for _ in 0..CONNECTS {
        let began = clock::now();
        let answered = match TcpStream::connect_timeout(&peer, CONNECT_WITHIN) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        };
        if answered {
            times.push(clock::now().since(began));
        } else if times.is_empty() {
            break;
        }
    }
    times.sort_unstable();
    times
}

fn network(peer: SocketAddr, times: &[Duration]) -> Finding {
    let finding = |standing, profile, sentence| Finding {
        name: "network",
        standing,
        profile,
        sentence,
    };
    let (Some(best), Some(worst)) = (times.first(), times.last()) else {
        let sentence = format!(
            "{peer} does not answer within {}: is it up, and may packets pass?",
            shown(CONNECT_WITHIN)
        );
        return finding(Standing::Bad, "compat", sentence);
    };
    let spread = *worst - *best;
    let profile = PROFILES
        .iter()
        .find(|(.., most)| spread <= *most)
        .map_or("compat", |(p, ..)| p);
    let lost = CONNECTS - times.len();
    let standing = if profile == "fast" && lost == 0 {
        Standing::Good
    } else {
        Standing::Warn
    };
    let sentence = format!(
        "{peer} answers in {} at best and {} at worst of {} connects, {lost} without an answer",
        shown(*best),
        shown(*worst),
        times.len()
    );
    finding(standing, profile, sentence)
}

fn shown(span: Duration) -> String {
    if span < Duration::from_millis(1) {
        format!("{} µs", span.as_micros())
    } else if span < Duration::from_secs(1) {
        format!("{:.1} ms", span.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the slowest finding decides, and is named. Method: findings as other machines would give them.
    #[test]
    fn the_slowest_finding_decides() {
        let good = || {
            vec![
                realtime(None),
                lateness(Duration::from_millis(2), 9),
                virtualisation(None, None),
            ]
        };
        assert_eq!(judge(good()).profile, "fast");
        let mut slower = good();
        slower.push(virtualisation(Some("kvm"), None));
        let judged = judge(slower);
        assert_eq!(judged.profile, "standard");
        assert!(
            judged.sentence.ends_with("held back by: virtualisation"),
            "{}",
            judged.sentence
        );
        // Answered is answered, also by none.
        for answered in [TICK, Duration::ZERO] {
            let found = virtualisation(Some("kvm"), Some(answered));
            assert_eq!((found.profile, found.standing), ("fast", Standing::Good));
        }
        let mut late = good();
        late.push(lateness(Duration::from_millis(51), 9));
        assert_eq!(judge(late).profile, "compat");
        let error = std::io::Error::from_raw_os_error(nix::libc::EPERM);
        assert_eq!(realtime(Some(&error)).profile, "standard");
    }

    /// Goal: a clock that may run faster than leases allow is no machine for short leases.
    #[test]
    fn a_clock_beyond_the_assumed_drift_is_bad() {
        let chrony = |text: &str| {
            Some(TimeDaemon {
                name: "chronyd",
                slew_ppm: chrony_slew(text).unwrap_or(CHRONY_SLEW_PPM),
            })
        };
        assert_eq!(
            clock_rate(Ok(12), &chrony(""), 100).standing,
            Standing::Good
        );
        assert_eq!(clock_rate(Ok(12), &chrony(""), 10).standing, Standing::Bad);
        assert_eq!(
            clock_rate(Ok(12), &chrony("pool x\nmaxslewrate 4000.5\n"), 10).standing,
            Standing::Good
        );
        assert_eq!(clock_rate(Ok(-100_000), &None, 100).standing, Standing::Bad);
        assert_eq!(clock_rate(Ok(3), &None, 100).standing, Standing::Warn);
        assert_eq!(chrony_slew("#maxslewrate 1\nmaxslewrate x"), None);
    }

    /// Goal: the whole runs on any machine, as any user, and measures a peer. Method: a port on which nobody listens.
    #[test]
    fn this_machine_is_examined() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let asked = Asked {
            watch: Duration::from_millis(20),
            peers: vec![listener.local_addr().expect("bound")],
            ..Asked::default()
        };
        let found = examine(&asked);
        let names: Vec<&str> = found.findings.iter().map(|f| f.name).collect();
        assert_eq!(
            names,
            ["realtime", "lateness", "clock", "virtualisation", "network"]
        );
        assert!(PROFILES.iter().any(|(p, ..)| *p == found.profile));
        assert!(
            found.findings[4].sentence.contains("of 20 connects"),
            "{:?}",
            found.findings[4]
        );
    }
}
