//! Whether the client that this agent replaces still runs on this machine: two at once get the number banned.
//! Stops nothing: it names the command.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{listener, process};

/// Where the images of the old client come from.
const REGISTRY: &str = "docker.whatsapp.biz/";
/// Where its programs lie inside the containers.
const PROGRAMS: &str = "/opt/whatsapp/";
/// Its published ports: the public API, coreapp and master.
const PORTS: [std::ops::RangeInclusive<u16>; 2] = [9090..=9090, 6250..=6257];
/// How long the container engine may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Most that the engine may say.
const ANSWER_MAX: u64 = 8 << 20;

/// A trace of the old client, and what ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    pub found: String,
    /// What to type.
    pub stop: String,
}

impl Trace {
    /// For an error or a status line.
    pub fn sentence(&self) -> String {
        format!("{}; stop it with: {}", self.found, self.stop)
    }
}

/// Looks for containers, processes, and foreign listeners on the ports of the old client.
pub fn look() -> Vec<Trace> {
    let mut traces = containers(Path::new("/run/docker.sock"));
    if traces.is_empty() {
        traces = programs();
    }
    if traces.is_empty() {
        traces = foreign(&listener::listeners(), nix::unistd::geteuid().is_root());
    }
    traces
}

/// Running containers of the old client's images, as the engine lists them.
fn containers(engine: &Path) -> Vec<Trace> {
    let Some(answer) = ask(engine) else {
        return Vec::new();
    };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let list: Vec<serde_json::Value> = serde_json::from_str(body).unwrap_or_default();
    let ours = list.iter().filter_map(|container| {
        let image = container["Image"]
            .as_str()
            .filter(|image| image.contains(REGISTRY))?;
        let name = container["Names"][0]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches('/');
        let name = if name.is_empty() {
            container["Id"].as_str()?
        } else {
            name
        };
        Some((
            name.to_owned(),
            image.to_owned(),
            container["Labels"].clone(),
        ))
    });
    ours.map(|(name, image, labels)| {
        let file = labels["com.docker.compose.project.config_files"].as_str();
        let stop = match file.filter(|file| !file.is_empty() && !file.contains(',')) {
            Some(file) => format!("docker compose -f {file} stop"),
            None => format!("docker stop {name}"),
        };
        Trace {
            found: format!("the old client runs in container {name} ({image})"),
            stop,
        }
    })
    .collect()
}

/// HTTP/1.0: the answer ends with the connection.
fn ask(engine: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(engine).ok()?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    stream.set_write_timeout(Some(ANSWER_WITHIN)).ok()?;
    stream
        .write_all(b"GET /containers/json HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut answer = Vec::new();
    // A timeout after the answer was read is no loss: what came is looked at.
    let _ = stream.take(ANSWER_MAX).read_to_end(&mut answer);
    String::from_utf8(answer).ok()
}

/// Processes of the old client, where the engine cannot be asked.
fn programs() -> Vec<Trace> {
    let found = process::all().into_iter().filter_map(|(pid, folder)| {
        let command = std::fs::read(folder.join("cmdline")).ok()?;
        // Its own programs, not an editor that shows one of them.
        let first = command
            .split(|byte| *byte == 0)
            .take(2)
            .find(|word| word.starts_with(PROGRAMS.as_bytes()))?;
        let name = String::from_utf8_lossy(first).into_owned();
        let cgroup = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
        Some((pid, name, container_in(&cgroup)))
    });
    let trace = |(pid, name, container): (u32, String, Option<String>)| Trace {
        found: format!("the old client runs: process {pid}, {name}"),
        stop: container.map_or_else(|| format!("kill {pid}"), |id| format!("docker stop {id}")),
    };
    found.map(trace).take(3).collect()
}

/// The short id of the container that a control group names.
fn container_in(cgroup: &str) -> Option<String> {
    let hex = |part: &&str| part.len() >= 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = cgroup.split(['/', '-', '.', '\n']);
    parts.find(hex).map(|id| id[..12].to_owned())
}

/// Listeners on the old client's ports that are not ours. Roles are no root: a listener of root is the engine's proxy.
fn foreign(listeners: &[listener::Listener], root: bool) -> Vec<Trace> {
    let known = |port: u16| PORTS.iter().any(|range| range.contains(&port));
    let strange = listeners
        .iter()
        .filter(|l| !l.udp && known(l.port))
        .filter(|l| match &l.holder {
            Some(holder) => !holder.ours(),
            None => !root && l.uid == 0,
        });
    let mut traces: Vec<Trace> = strange
        .map(|l| Trace {
            found: match &l.holder {
                Some(holder) => format!("port {} is held by {}", l.port, holder.shown()),
                None => format!(
                    "port {} is held by a process of root, which no role of wa-agent is",
                    l.port
                ),
            },
            stop: match &l.holder {
                Some(holder) if holder.name != "docker-proxy" => format!("kill {}", holder.pid),
                _ => format!("docker stop $(docker ps -q --filter publish={})", l.port),
            },
        })
        .collect();
    traces.dedup();
    traces
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// An engine that says this, once.
    fn engine(body: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
        std::thread::spawn(move || {
            if let Ok((mut stream, _)) = listener.accept() {
                let mut asked = [0u8; 512];
                let _ = stream.read(&mut asked);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (folder, path)
    }

    /// Goal: the old client's containers are found and no others; the command fits how they were started.
    #[test]
    fn containers_of_the_old_client_are_found() {
        let (_folder, path) = engine(
            r#"[{"Id":"a1","Names":["/wacore_1"],"Image":"docker.whatsapp.biz/coreapp:v2.53.6",
                 "Labels":{"com.docker.compose.project.config_files":"/srv/wa/prod-docker-compose.yml"}},
                {"Id":"b2","Names":["/db"],"Image":"mysql:8.0.33","Labels":{}},
                {"Id":"c3","Names":["/waweb"],"Image":"docker.whatsapp.biz/web:v2.53.6","Labels":{}}]"#,
        );
        let traces = containers(&path);
        assert_eq!(traces.len(), 2, "{traces:?}");
        assert_eq!(
            traces[0].stop,
            "docker compose -f /srv/wa/prod-docker-compose.yml stop"
        );
        assert_eq!(traces[1].stop, "docker stop waweb");
        assert!(traces[1].sentence().contains("web:v2.53.6"));
    }

    #[test]
    fn an_engine_that_is_not_there_or_talks_rubbish_is_no_trace() {
        assert!(containers(Path::new("/nonexistent/docker.sock")).is_empty());
        let (_folder, path) = engine("no list");
        assert!(containers(&path).is_empty());
    }

    #[test]
    fn a_container_is_known_by_its_control_group() {
        let id = "0123456789abcdef".repeat(4);
        let systemd = format!("0::/system.slice/docker-{id}.scope\n");
        assert_eq!(container_in(&systemd).as_deref(), Some("0123456789ab"));
        assert_eq!(
            container_in(&format!("0::/docker/{id}\n")).as_deref(),
            Some("0123456789ab")
        );
        assert_eq!(container_in("0::/system.slice/wa-master.service"), None);
    }

    /// Goal: somebody else's listener on 9090 or 6250 to 6257 is a trace, ours and other ports are not.
    #[test]
    fn foreign_listeners_are_found() {
        let listener = |port, uid, name: Option<&str>| {
            let mut found = listener::Listener::of_tests(port, uid);
            found.holder = name.map(|name| listener::Holder {
                pid: 7,
                name: name.into(),
                cgroup: String::new(),
            });
            found
        };
        let all = [
            listener(6250, 0, Some("docker-proxy")),
            listener(6254, 990, Some("wa-agent")),
            listener(9090, 33, Some("lighttpd")),
            listener(80, 0, Some("nginx")),
        ];
        let traces = foreign(&all, true);
        assert_eq!(traces.len(), 2, "{traces:?}");
        assert!(
            traces[0].stop.contains("publish=6250") && traces[1].stop == "kill 7",
            "{traces:?}"
        );
        // A role sees no holders: who owns the socket has to do.
        let hidden = [listener(6252, 0, None), listener(6253, 990, None)];
        assert_eq!(foreign(&hidden, false).len(), 1);
        assert!(foreign(&hidden, true).is_empty());
    }
}
