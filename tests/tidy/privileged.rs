//! What root may not do: write, or follow a link, where a role's user can make names; read what roles own by any door but
//! one. Reads units, snippets, maintainer scripts and the host agent's sources.

use super::{code, hold, root, walk};

/// What units let root run. None of these writes into a directory that a role's user owns, or follows a link there.
const ROOT_RUNS: &[&str] = &[
    "/bin/kill -HUP $MAINPID",
    "/bin/mkdir -p -m 0700 /sys/fs/bpf/wa-agent",
    "/usr/bin/wa-agent gate attest --instance %i",
    "/usr/bin/wa-agent host",
    "/usr/bin/wa-agent keys lay --role coreapp --instance %i",
    "/usr/bin/wa-agent keys lay --role host --instance 1",
    "/usr/bin/wa-agent keys lay --role master --instance %i",
    "/usr/bin/wa-agent keys lay --role webapp --instance %i",
    "/usr/bin/wa-agent raise $MAINPID",
];
/// Where a role's user can make names: a link that it plants there would be followed by root.
const OWNED_BY_ROLES: &[&str] = &[
    "/var/lib/wa-agent/coreapp",
    "/var/lib/wa-agent/master",
    "/var/lib/wa-agent/webapp",
    "/var/lib/wa-agent/store/",
    "/var/lib/wamedia/",
    "/run/wa-agent-keys/",
    "/run/credentials/",
];
/// Programs that follow links in the paths that they are given.
const FOLLOWS_LINKS: &[&str] = &[
    "cat", "chgrp", "chmod", "chown", "cp", "dd", "install", "ln", "mkdir", "mv", "rsync", "sed",
    "setfacl", "tar", "tee", "touch", "truncate",
];

/// Root on what roles own, in a unit, a snippet of systemd's, or a maintainer script.
fn root_hands(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    let lines = lines.filter(|(_, line)| !line.trim_start().starts_with(['#', ';']));
    let user = |line: &str| line.starts_with("User=") || line == "DynamicUser=yes";
    let as_root = !text.lines().any(|line| user(line) && line != "User=root");
    let mut bad = Vec::new();
    for (n, line) in lines {
        let complaint = if path.contains("tmpfiles.d/") {
            by_tmpfiles(line)
        } else {
            by_unit(line, as_root).or_else(|| by_script(line))
        };
        bad.extend(complaint.map(|what| format!("{path}:{n}: {what}")));
    }
    bad
}

/// The host agent is root and reads what roles own: through one door, which follows no link and waits for nobody.
fn host_reads(path: &str, text: &str) -> Vec<String> {
    if !path.starts_with("agent/src/host/") {
        return Vec::new();
    }
    let reads = ["fs::read(", "read_to_string(", "File::open(", "OpenOptions"];
    code(text)
        .into_iter()
        .filter(|(_, line)| reads.iter().any(|r| line.contains(r)))
        // Root's own directory, and a file of the machine's administrator.
        .filter(|(_, line)| !line.contains("NumberFile::open(") && !line.contains("(\"/etc/"))
        .map(|(n, _)| format!("{path}:{n}: the host agent reads files by sys/beneath.rs only"))
        .collect()
}

fn by_unit(line: &str, as_root: bool) -> Option<String> {
    if line.starts_with("PermissionsStartOnly=") {
        return Some("each line says by itself what runs as root".into());
    }
    let (_, command) = line
        .strip_prefix("Exec")
        .and_then(|rest| rest.split_once('='))?;
    let command = command.trim_start();
    let what = command.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let prefixes = &command[..command.len() - what.len()];
    let root = as_root || prefixes.contains(['+', '!']);
    (root && !what.is_empty() && !ROOT_RUNS.contains(&what))
        .then(|| format!("root may not run `{what}`: see ROOT_RUNS"))
}

fn by_script(line: &str) -> Option<String> {
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || ";&|()`\"'".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    let program = words
        .iter()
        .map(|word| word.rsplit('/').next().unwrap_or(word))
        .find(|word| FOLLOWS_LINKS.contains(word));
    let named = OWNED_BY_ROLES.iter().find(|place| line.contains(**place));
    let written = named.filter(|place| {
        line.split('>').skip(1).any(|after| {
            after
                .trim_start()
                .trim_start_matches('"')
                .starts_with(**place)
        })
    });
    if let Some(place) = written.or(named.filter(|_| program.is_some())) {
        return Some(format!("root may follow a link below {place}"));
    }
    let all_below = ["-R", "-hR", "-RH", "-RL", "--recursive"];
    let changes = program.filter(|word| ["chgrp", "chmod", "chown", "setfacl"].contains(word));
    changes
        .filter(|_| words.iter().any(|word| all_below.contains(word)))
        .map(|program| format!("root may follow links: {program} of everything below"))
}

fn by_tmpfiles(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kind, path, _, user, ..] = words[..] else {
        return (!words.is_empty()).then(|| "kind, path, mode and user are named".into());
    };
    let below = OWNED_BY_ROLES.iter().any(|place| path.starts_with(place));
    if kind != "d" || user != "root" || below {
        return Some(format!(
            "root makes directories of its own only, where nobody else makes names: {kind} {path}"
        ));
    }
    None
}

/// Goal: no unit, snippet or maintainer script lets root write or follow a link where a role's user can plant one.
/// Method: the line that once did, and its kin, are complained about; those that are installed are not.
#[test]
fn root_keeps_its_hands_off_what_roles_own() {
    let unit = |line: &str| root_hands("a.service", &format!("User=wa-coreapp\n{line}\n"));
    let script = |line: &str| root_hands("postinst", line);
    let tmpfiles = |line: &str| root_hands("units/tmpfiles.d/a.conf", line);
    for bad in [
        unit(
            "ExecReload=-+/usr/bin/install -m 0400 -o wa-coreapp /etc/key /run/wa-agent-keys/coreapp-%i/key",
        ),
        unit("ExecStartPre=+/bin/sh -c 'echo x >/var/lib/wa-agent/coreapp-1/x'"),
        unit("ExecStopPost=!/bin/chown wa-coreapp /run/x"),
        unit("PermissionsStartOnly=yes"),
        root_hands("a.service", "ExecStartPre=/bin/cp /etc/key /run/x"),
        root_hands(
            "a.service",
            "User=root\nExecStartPost=-/bin/cp /etc/key /run/x",
        ),
        script("chown -R wa-coreapp:wa /var/lib/wa-agent"),
        script("  if true; then chmod --recursive g+w /var/lib/wa-agent; fi"),
        script("cp key /var/lib/wa-agent/coreapp-1/key"),
        script("echo 7 >/var/lib/wa-agent/master-1/epoch"),
        script("sed -i s/a/b/ \"/var/lib/wamedia/shared/x\""),
        tmpfiles("Z /var/lib/wa-agent 0750 root wa -"),
        tmpfiles("d /var/lib/wa-agent/coreapp-1 0750 wa-coreapp wa -"),
        tmpfiles("L+ /run/wa-agent-keys/x - - - - /etc/shadow"),
        tmpfiles("f /var/lib/wa-agent/store/wa.db 0660 root wa-store -"),
    ] {
        assert_eq!(bad.len(), 1, "{bad:?}");
    }
    for good in [
        unit("ExecStart=/usr/bin/wa-agent coreapp --instance %i"),
        unit("ExecStartPre=+/usr/bin/wa-agent gate attest --instance %i"),
        script("rm -rf /var/lib/wa-agent/coreapp-*"),
        script("# chown -R is banned"),
    ] {
        assert!(good.is_empty(), "{good:?}");
    }
    let mut paths = Vec::new();
    for folder in ["units", "packaging", "etc"] {
        walk(&root().join(folder), &mut paths);
    }
    assert!(paths.len() > 20, "units and scripts were not found");
    let mut bad = Vec::new();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_none_or(|e| e != "md"))
    {
        let text = std::fs::read_to_string(path).expect("text");
        let name = path.strip_prefix(root()).expect("below the root");
        bad.extend(root_hands(&name.display().to_string(), &text));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn the_host_agent_reads_by_one_door() {
    assert!(!host_reads("agent/src/host/a.rs", "std::fs::read(path)").is_empty());
    assert!(!host_reads("agent/src/host/a.rs", "File::open(path)?").is_empty());
    hold(host_reads);
}
