//! The processes of a development cluster: configuration written, children started, supervised, ended.
//! Judges nothing: the masters do, and the host agent's part is played in `host.rs`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wa_core::id::{NodeId, Role};

use super::args::DevArgs;
use super::galera::{self, Galera};
use super::healthy::missing;
use super::host::Host;
use super::mariadb;
use super::simulator::{self, Simulator, SimulatorArgs};
use crate::api::control::{ClusterStatus, path};
use crate::config::{ClusterKey, Logins};
use crate::db::Db;
use crate::net::client::InternalClient;
use crate::net::doer::{At, Doer};
use crate::net::keys::Keys;
use crate::sys::state::random_u64;
use crate::sys::{child, clock};

/// Name of the machine in development.
const MACHINE: &str = "dev";
/// Port of a private MariaDB, before the offset.
pub const SERVER_PORT: u16 = 6210;

/// What is to run where.
#[derive(Debug, Clone)]
pub struct Plan {
    pub state: PathBuf,
    pub offset: u16,
    pub database: String,
    /// The database is a private MariaDB that lives and ends with the cluster.
    pub private_server: bool,
    /// The database is a private Galera cluster.
    pub private_galera: bool,
    pub profile: String,
    /// Drills with one master have their own plan.
    pub masters: u16,
    pub coreapps: u16,
    /// Prefix of the network namespaces that masters and coreapps run in; one machine without.
    pub lab: Option<String>,
    /// Heartbeat threads stay at normal priority.
    pub plain_heartbeats: bool,
    /// The database server stands for a machine of its own: the hogs are not there.
    pub apart: bool,
    pub rate: u32,
    pub webhook_delay_ms: u64,
    pub upstream_latency_ms: u64,
    pub ambiguity_ms: u64,
    pub ambiguity_max_ms: u64,
    /// More lines of the section `[client]`.
    pub client: &'static str,
}

impl Plan {
    /// From the command line.
    pub fn new(args: &DevArgs, state: PathBuf) -> Self {
        let embedded = format!("sqlite://{}/wa.db", state.display());
        let offset = args.port - 9090;
        let private_server = args.database.as_deref() == Some(mariadb::WORD);
        let private_galera = args.database.as_deref() == Some(galera::WORD);
        let center = center(args.lab.is_some());
        let named = args.database.clone();
        let named = named.filter(|_| !private_server && !private_galera);
        let private = || {
            let port = SERVER_PORT + offset;
            let servers = private_galera.then(|| Galera::urls(port));
            servers.or_else(|| private_server.then(|| mariadb::Server::url(port, center)))
        };
        Self {
            offset,
            database: named.or_else(private).unwrap_or(embedded),
            private_server,
            private_galera,
            profile: args.profile.clone(),
            masters: 2,
            coreapps: args.coreapps,
            lab: args.lab.clone(),
            plain_heartbeats: args.plain_heartbeats,
            apart: args.hogs > 0,
            rate: args.rate,
            webhook_delay_ms: args.webhook_delay_ms,
            upstream_latency_ms: args.upstream_latency_ms,
            ambiguity_ms: args.ambiguity_ms,
            ambiguity_max_ms: args.ambiguity_max_ms,
            client: "",
            state,
        }
    }

    /// Removes what an earlier run left. Only a directory that `dev` made is removed.
    pub fn wipe(&self) -> anyhow::Result<()> {
        if self.state.join("wa-agent.toml").exists() {
            std::fs::remove_dir_all(&self.state)
                .with_context(|| format!("cannot remove {}", self.state.display()))?;
        }
        Ok(())
    }

    /// Port of the simulator.
    pub fn simulator_port(&self) -> u16 {
        6200 + self.offset
    }

    /// Where the database, the upstream, the webapps and this process are.
    pub fn center(&self) -> IpAddr {
        center(self.lab.is_some())
    }

    /// Where a process is.
    pub fn home(&self, role: Role, instance: u16) -> IpAddr {
        let instance = u8::try_from(instance).unwrap_or(u8::MAX);
        match (&self.lab, role) {
            (Some(_), Role::Master) => IpAddr::from([10, 77, 0, 10 + instance]),
            (Some(_), Role::Coreapp) => IpAddr::from([10, 77, 0, 20 + instance]),
            (Some(_), Role::Webapp | Role::Host) | (None, _) => self.center(),
        }
    }

    /// The namespace of a process, where it has one of its own.
    fn namespace(&self, process: &Process) -> Option<String> {
        let prefix = self.lab.as_ref()?;
        matches!(process.role, Role::Master | Role::Coreapp)
            .then(|| format!("/run/netns/{prefix}-{}", process.name()))
    }

    /// Pulls the cable of a process's namespace, or puts it back. This process runs where the other ends are.
    ///
    /// # Errors
    /// When there is no such cable.
    pub async fn cable(&self, name: &str, plugged: bool) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new("ip");
        command.args([
            "link",
            "set",
            &format!("v-{name}"),
            if plugged { "up" } else { "down" },
        ]);
        let status = command.status().await.context("ip does not start")?;
        anyhow::ensure!(status.success(), "the cable of {name} could not be moved");
        Ok(())
    }

    /// Its configuration differs from that of the others.
    fn has_own_file(&self, process: &Process) -> bool {
        self.lab.is_some() || process.role == Role::Coreapp
    }

    /// Configuration of one process.
    fn file(&self, process: &Process) -> PathBuf {
        let name = if self.has_own_file(process) {
            format!("{}.toml", process.name())
        } else {
            "wa-agent.toml".into()
        };
        self.state.join(name)
    }

    /// URL of a webapp.
    pub fn webapp_url(&self, instance: u16) -> String {
        let port = 9090 + self.offset + instance - 1;
        format!("http://{}:{port}", self.center())
    }

    /// Where a process shows its metrics.
    pub fn health_port(&self, process: &Process) -> u16 {
        let step = process.instance - 1;
        self.offset
            + match process.role {
                Role::Coreapp => 6253 + 10 * step,
                Role::Master => 6257 + 10 * step,
                Role::Webapp => 9190 + step,
                Role::Host => 6249,
            }
    }

    fn master_port(&self, instance: u16) -> u16 {
        6254 + self.offset + 10 * (instance - 1)
    }

    /// Heartbeat addresses of all masters.
    pub fn masters_at(&self) -> Vec<SocketAddr> {
        (1..=self.masters)
            .map(|n| SocketAddr::new(self.home(Role::Master, n), self.master_port(n)))
            .collect()
    }

    fn write(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.state)
            .with_context(|| format!("cannot make {}", self.state.display()))?;
        let file = |name: &str| self.state.join(name);
        let key = file("cluster-key");
        if !key.exists() {
            std::fs::write(
                &key,
                (0..4)
                    .map(|_| format!("{:016x}", random_u64()))
                    .collect::<String>(),
            )?;
        }
        std::fs::create_dir_all(file("media"))?;
        std::fs::write(file("token"), "simulator-token")?;
        std::fs::write(file("app-secret"), "simulator-app-secret")?;
        std::fs::write(file("verify-token"), "simulator-verify")?;
        std::fs::write(file("api-key"), "development-api-key")?;
        std::fs::write(file("wa-agent.toml"), self.text(self.center()))?;
        for (role, n) in self.members() {
            let (name, process) = process(role, n);
            let mut text = self.text(self.home(role, n));
            if role == Role::Coreapp {
                // Every coreapp reaches the shared directory by a way of its own, which can be cut.
                let link = file(&format!("media-of-{name}"));
                if link.symlink_metadata().is_err() {
                    std::os::unix::fs::symlink("media", &link)?;
                }
                let shared = format!("directory = \"{}/media\"", self.state.display());
                let own = format!("directory = \"{}\"", link.display());
                text = text.replace(&shared, &own);
            }
            if self.has_own_file(&process) {
                std::fs::write(self.file(&process), text)?;
            }
        }
        Ok(())
    }

    /// All processes of the cluster.
    fn members(&self) -> impl Iterator<Item = (Role, u16)> {
        let of = |role, count| (1..=count).map(move |n| (role, n));
        of(Role::Master, self.masters)
            .chain(of(Role::Coreapp, self.coreapps))
            .chain(of(Role::Webapp, 2))
    }

    /// The configuration of a process at this address.
    fn text(&self, home: IpAddr) -> String {
        let dir = self.state.display();
        format!(
            "# Written by `wa-agent dev`; overwritten at each start.\n\
             [cluster]\nname = \"dev\"\nkey_file = \"{dir}/cluster-key\"\nfence = \"best-effort\"\ndevelopment = true\n\n\
             [node]\nhostname = \"{MACHINE}\"\nmachine = \"{MACHINE}\"\nadvertise = \"{home}\"\nbind = \"{home}\"\n\
             state_directory = \"{dir}\"\n\n[ports]\noffset = {offset}\n\n[database]\nurls = {database:?}\n\n\
             [timers]\nprofile = \"{profile}\"\n{one_master}\n[upstream]\nbase_url = \"http://{center}:{simulator}\"\nversion = \"v25.0\"\n\
             phone_number_id = \"100200300\"\nphone_number = \"447700900999\"\nwaba_id = \"100200400\"\napp_id = \"100200500\"\ntoken_file = \"{dir}/token\"\napp_secret_file = \"{dir}/app-secret\"\n\
             verify_token_file = \"{dir}/verify-token\"\nrate_per_second = {rate}\npair_burst = 0\nconcurrency = 64\nambiguity_window = \"{ambiguity}ms\"\n\
             ambiguity_max = \"{longest}ms\"\n\n\
             [client]\ncheck_templates = true\nlink_hosts = [\"{center}\"]\n{client}\n\
             [webapp]\napi_key_file = \"{dir}/api-key\"\n\n\
             [media]\ndirectory = \"{dir}/media\"\nrequire = \"directory\"\nprobe_interval = \"500ms\"\nfree_min = \"1MiB\"\n",
            center = self.center(),
            client = self.client,
            ambiguity = self.ambiguity_ms,
            longest = self.ambiguity_max_ms.max(self.ambiguity_ms),
            offset = self.offset,
            database = self.database.split(',').collect::<Vec<_>>(),
            profile = self.profile,
            // Database-based monitoring alone watches then: shorter than the minutes of the reference client.
            one_master = if self.masters == 1 {
                "db_beat_interval = \"1s\"\ndb_unhealthy_interval = \"2s\"\n"
            } else {
                ""
            },
            simulator = self.simulator_port(),
            // The number's limit: all shards share it.
            rate = (self.rate * 4).max(1000),
        )
    }
}

/// One supervised process.
pub struct Process {
    pub role: Role,
    pub instance: u16,
    pub node: NodeId,
    pid: AtomicI32,
    /// The supervisor starts it again when it ends.
    keep: AtomicBool,
    pub starts: AtomicU32,
    wake: Notify,
    /// Reaped: no process of the last start is left.
    pub gone: Notify,
}

impl Process {
    /// Such as `coreapp-1`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.role.as_str(), self.instance)
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        Some(self.pid.load(Ordering::Acquire))
            .filter(|pid| *pid > 0)
            .map(Pid::from_raw)
    }

    /// Sends a signal; a process that is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    /// Whether the supervisor starts it again.
    pub fn keep(&self, keep: bool) {
        self.keep.store(keep, Ordering::Release);
        self.wake.notify_one();
    }
}

/// The running cluster.
pub struct Cluster {
    pub plan: Plan,
    pub processes: BTreeMap<String, Arc<Process>>,
    pub host: Arc<Host>,
    pub db: Db,
    /// Newer passwords of it.
    pub logins: Logins,
    /// The private MariaDB, if that was asked for.
    pub server: Option<mariadb::Server>,
    /// The private Galera cluster, if that was asked for.
    pub galera: Option<Galera>,
    /// The upstream and the business: they run in this process.
    pub simulator: Arc<Simulator>,
    client: InternalClient,
    doer: Doer,
    stop: CancellationToken,
    ended: tokio_util::task::TaskTracker,
    /// Lines for whoever follows.
    pub events: Arc<Mutex<std::collections::VecDeque<String>>>,
}

impl Cluster {
    /// Starts everything and returns at once; `wait_healthy` waits.
    ///
    /// # Errors
    /// When a port is taken or a file cannot be written.
    pub async fn start(plan: Plan, stop: CancellationToken) -> anyhow::Result<Self> {
        plan.write()?;
        let simulator = simulator::start(simulator_args(&plan), stop.clone()).await?;
        let server = if plan.private_server {
            let port = SERVER_PORT + plan.offset;
            Some(mariadb::Server::start(&plan.state, port, plan.center(), plan.apart).await?)
        } else {
            None
        };
        let galera = if plan.private_galera {
            Some(Galera::start(&plan.state, SERVER_PORT + plan.offset).await?)
        } else {
            None
        };
        let file = plan.state.join("wa-agent.toml");
        let settings = crate::config::load(Role::Master, 1, Some(&file))?.settings;
        let keys = Keys::of(&settings.cluster_key);
        read_key_on_hangup(plan.state.join("cluster-key"), settings.cluster_key.clone())?;
        let processes: BTreeMap<String, Arc<Process>> =
            plan.members().map(|(role, n)| process(role, n)).collect();
        let events = Arc::default();
        let host = Host::start(
            &plan,
            settings.cluster_key.clone(),
            processes.clone(),
            Arc::clone(&events),
        )?;
        let db = Db::connect(&settings.database, 2)
            .await
            .context("the database cannot be used")?;
        db.ensure_lease_table().await?;
        host.register_in(db.clone(), stop.clone());
        let cluster = Self {
            plan,
            processes,
            host,
            db,
            logins: settings.database.logins.clone(),
            server,
            galera,
            simulator,
            client: InternalClient::of_looks(&keys),
            doer: Doer::new(&keys),
            stop,
            ended: Default::default(),
            events,
        };
        for process in cluster.processes.values() {
            cluster.ended.spawn(supervise(
                Arc::clone(process),
                cluster.plan.clone(),
                Arc::clone(&cluster.host),
                cluster.stop.clone(),
                Arc::clone(&cluster.events),
            ));
        }
        Ok(cluster)
    }

    /// One process by its name, such as `coreapp-1`.
    pub fn process(&self, name: &str) -> &Arc<Process> {
        &self.processes[name]
    }

    /// Changes the files of all processes, and has them read by those that run. `dev` itself reads its key only.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn reload(&self, change: impl Fn(String) -> String) -> anyhow::Result<()> {
        let files = self.processes.values().map(|p| self.plan.file(p));
        let files: std::collections::BTreeSet<_> = files.collect();
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            std::fs::write(&file, change(text))?;
        }
        for process in self.processes.values() {
            process.signal(Signal::SIGHUP);
        }
        Ok(())
    }

    /// What the primary master says, else any master.
    pub async fn status(&self) -> Option<ClusterStatus> {
        let mut any = None;
        for instance in 1..=self.plan.masters {
            let url = format!(
                "http://{}:{}{}",
                self.plan.home(Role::Master, instance),
                self.plan.master_port(instance) + 1,
                path::STATUS
            );
            let answer = self
                .client
                .call(
                    http::Method::GET,
                    &url,
                    Vec::new(),
                    Duration::from_millis(500),
                )
                .await;
            let Ok((_, body)) = answer else { continue };
            match serde_json::from_slice::<ClusterStatus>(&body) {
                Ok(status) if status.primary => return Some(status),
                Ok(status) => any = Some(status),
                Err(_) => {}
            }
        }
        any
    }

    /// A deed at the control port of every master until one takes it.
    pub async fn control(&self, path: &str, body: Vec<u8>) -> Option<bytes::Bytes> {
        for instance in 1..=self.plan.masters {
            let base = format!(
                "http://{}:{}",
                self.plan.home(Role::Master, instance),
                self.plan.master_port(instance) + 1
            );
            let at = At {
                base: &base,
                node: None,
            };
            let within = Duration::from_secs(2);
            let answer = self.doer.operator(at, path, body.clone(), within).await;
            if let Ok((status, body)) = answer
                && status.is_success()
                && !String::from_utf8_lossy(&body).contains("not primary")
            {
                return Some(body);
            }
        }
        None
    }

    /// Name of the process that owns shard 0, such as `coreapp-1`.
    pub async fn owner(&self) -> Option<String> {
        self.owner_of(0).await
    }

    /// Name of the process that owns a shard.
    pub async fn owner_of(&self, shard: u16) -> Option<String> {
        let (_, shards) = self.db.shard_map().await.ok()?;
        let row = shards.into_iter().find(|row| row.shard.0 == shard)?;
        row.owner.and_then(|node| {
            node.as_str()
                .rsplit_once(':')
                .map(|(_, name)| name.to_owned())
        })
    }

    /// Waits until a primary, a healthy owner, a standby and all webapps are there.
    ///
    /// # Errors
    /// When that takes longer than `within`; says what is missing.
    pub async fn wait_healthy(&self, within: Duration) -> anyhow::Result<ClusterStatus> {
        let until = clock::now() + within;
        let mut why = String::from("no master answers");
        while clock::now() < until {
            anyhow::ensure!(!self.stop.is_cancelled(), "stopped");
            if let Some(status) = self.status().await {
                match missing(&status, self.plan.masters) {
                    None => return Ok(status),
                    Some(missing) => why = missing,
                }
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!(
            "the cluster was not healthy within {within:?}: {why}; the logs are in {}",
            self.plan.state.display()
        )
    }

    /// Figures of a run mean nothing on a database with the unfinished messages of another one.
    ///
    /// # Errors
    /// When there are some; says what to type.
    pub async fn refuse_leftovers(&self) -> anyhow::Result<()> {
        self.wait_healthy(Duration::from_secs(60)).await?;
        let left = self.db.outbox_depth().await?;
        anyhow::ensure!(
            left == 0,
            "{} holds {left} unfinished messages of another run; empty that database, \
             or type --database mariadb for a private one",
            crate::config::without_password(&self.plan.database)
        );
        Ok(())
    }

    /// SIGTERM to all, masters last; SIGKILL to what is left after a few seconds.
    pub async fn stop(&self) {
        self.stop.cancel();
        for role in [Role::Webapp, Role::Coreapp, Role::Master] {
            for process in self.processes.values().filter(|p| p.role == role) {
                process.signal(Signal::SIGCONT);
                // Nothing is handed over at the end: everybody goes.
                process.signal(if role == Role::Coreapp {
                    Signal::SIGKILL
                } else {
                    Signal::SIGTERM
                });
            }
        }
        self.ended.close();
        if tokio::time::timeout(Duration::from_secs(3), self.ended.wait())
            .await
            .is_err()
        {
            for process in self.processes.values() {
                process.signal(Signal::SIGKILL);
            }
            let _ = tokio::time::timeout(Duration::from_secs(3), self.ended.wait()).await;
        }
        if let Some(server) = &self.server {
            server.kill().await;
        }
        if let Some(galera) = &self.galera {
            galera.end().await;
        }
    }
}

/// The roles read the key file again on SIGHUP; the host agent's part is played in this process, which does the same.
fn read_key_on_hangup(path: PathBuf, key: ClusterKey) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Ok(text) = std::fs::read(&path) {
                key.replace(text.trim_ascii());
            }
        }
    });
    Ok(())
}

/// The address of what is not in a namespace of its own.
fn center(lab: bool) -> IpAddr {
    IpAddr::from(if lab {
        [10, 77, 0, 254]
    } else {
        [127, 0, 0, 1]
    })
}

fn simulator_args(plan: &Plan) -> SimulatorArgs {
    let mut args = SimulatorArgs::default();
    args.listen = SocketAddr::new(plan.center(), plan.simulator_port());
    args.webhooks = vec![
        format!("{}/cloud/webhook", plan.webapp_url(1)),
        format!("{}/cloud/webhook", plan.webapp_url(2)),
    ];
    args.request_log = Some(plan.state.join("simulator-requests.log"));
    args.knobs.latency_ms = plan.upstream_latency_ms;
    args.knobs.webhook_delay_ms = plan.webhook_delay_ms;
    args
}

fn process(role: Role, instance: u16) -> (String, Arc<Process>) {
    let name = format!("{}-{instance}", role.as_str());
    let process = Process {
        role,
        instance,
        node: NodeId::new(&format!("{MACHINE}:{name}")),
        pid: AtomicI32::new(0),
        keep: AtomicBool::new(true),
        starts: AtomicU32::new(0),
        wake: Notify::new(),
        gone: Notify::new(),
    };
    (name, Arc::new(process))
}

/// Starts a process again whenever it ends; every end is told to the masters at once.
async fn supervise(
    process: Arc<Process>,
    plan: Plan,
    host: Arc<Host>,
    stop: CancellationToken,
    events: Arc<Mutex<std::collections::VecDeque<String>>>,
) {
    let name = format!("{}-{}", process.role.as_str(), process.instance);
    let mut failures = 0;
    while !stop.is_cancelled() {
        if !process.keep.load(Ordering::Acquire) {
            tokio::select! {
                () = process.wake.notified() => {}
                () = stop.cancelled() => return,
            }
            continue;
        }
        let started = clock::now();
        let child = spawn(&process, &plan, &name);
        let Ok(mut child) =
            child.inspect_err(|error| say(&events, format!("{name} cannot be started: {error}")))
        else {
            return;
        };
        process.pid.store(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .unwrap_or(0),
            Ordering::Release,
        );
        process.starts.fetch_add(1, Ordering::AcqRel);
        let status = child.wait().await;
        process.pid.store(0, Ordering::Release);
        host.died(&process);
        process.gone.notify_waiters();
        if stop.is_cancelled() {
            return;
        }
        say(
            &events,
            format!(
                "{name} ended: {}",
                status.map_or_else(|e| e.to_string(), |s| s.to_string())
            ),
        );
        let quick = clock::now().since(started) < Duration::from_secs(2);
        failures = if quick { failures + 1 } else { 0 };
        let wait = wa_core::backoff::exponential(
            Duration::from_millis(200),
            failures + 1,
            Duration::from_secs(5),
            0,
        );
        tokio::select! {
            () = clock::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn spawn(process: &Process, plan: &Plan, name: &str) -> anyhow::Result<tokio::process::Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(plan.state.join(format!("{name}.log")))?;
    // Not by path: the file may have been replaced by a newer build while the cluster runs.
    let mut command = if let Some(namespace) = plan.namespace(process) {
        let mut command = tokio::process::Command::new("nsenter");
        let own = format!("/proc/{}/exe", std::process::id());
        command.arg(format!("--net={namespace}")).arg(own);
        command
    } else {
        let mut command = tokio::process::Command::new("/proc/self/exe");
        command.arg0("wa-agent");
        command
    };
    if plan.plain_heartbeats {
        command.env(crate::sys::sched::PLAIN, "1");
    }
    command
        .arg(process.role.as_str())
        .args(["--instance", &process.instance.to_string()])
        .arg("--config")
        .arg(plan.file(process))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    // Ctrl-C goes to this process alone: the children are stopped in order.
    command.process_group(0);
    child::die_with_parent(&mut command);
    Ok(command.spawn()?)
}

/// Keeps a line for whoever follows; the oldest go first.
pub fn say(events: &Mutex<std::collections::VecDeque<String>>, line: String) {
    let mut events = events
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if events.len() >= 256 {
        events.pop_front();
    }
    events.push_back(line);
}
