//! The service manager over D-Bus: which of our units run, in which control group, and orders to it.
//! Decides nothing.

use futures_util::StreamExt as _;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

/// The units that belong to us.
const PATTERNS: [&str; 3] = [
    "wa-master@*.service",
    "wa-coreapp@*.service",
    "wa-webapp@*.service",
];

/// Signals that wait for us; a burst beyond that is only one reason more to list the units again.
const SIGNALS_MAX: std::num::NonZero<usize> = std::num::NonZero::new(256).expect("not zero");

/// Name, description, load, active and sub state, followed unit, path, job, its type, its path.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<Listed>>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
trait Service {
    #[zbus(property)]
    fn control_group(&self) -> zbus::Result<String>;
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property, name = "NRestarts")]
    fn n_restarts(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn status_text(&self) -> zbus::Result<String>;
}

/// One of our units as the service manager sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// For example `wa-coreapp@1.service`.
    pub name: String,
    /// `active`, `activating`, `deactivating`, `failed`, `inactive`.
    pub active: String,
    /// For example `running`, `auto-restart`, `stop-sigterm`.
    pub sub: String,
    /// Of the start that runs, or ran last.
    pub invocation: Option<u128>,
    /// Empty when it has none.
    pub control_group: String,
    pub main_pid: u32,
    /// `success`, `watchdog`, `signal`, `exit-code`, …
    pub result: String,
    pub restarts: u32,
    /// What the unit says of itself.
    pub status: String,
}

/// What a unit may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Start,
    Stop,
    Restart,
    /// SIGKILL to every process of the unit.
    Kill,
}

/// A connection to the service manager.
pub struct Systemd {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// Connects to the system bus and asks the manager to send its signals.
    ///
    /// # Errors
    /// When there is no system bus, or its manager is not systemd.
    pub async fn connect() -> zbus::Result<Self> {
        let connection = Connection::system().await?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        manager.subscribe().await?;
        Ok(Self {
            connection,
            manager,
        })
    }

    /// Every signal of the manager: something changed, units are to be listed again.
    ///
    /// # Errors
    /// When the bus refuses the match.
    pub async fn changes(&self) -> zbus::Result<Changes> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender("org.freedesktop.systemd1")
            .path_namespace("/org/freedesktop/systemd1")
            .build()?;
        let stream =
            MessageStream::for_match_rule(rule, &self.connection, Some(SIGNALS_MAX)).await?;
        Ok(Changes { stream })
    }

    /// All our units that are loaded.
    ///
    /// # Errors
    /// When the bus or the manager does not answer.
    pub async fn units(&self) -> zbus::Result<Vec<UnitState>> {
        let listed = self.manager.list_units_by_patterns(&[], &PATTERNS).await?;
        let mut units = Vec::with_capacity(listed.len());
        for (name, _, _, active, sub, _, path, ..) in listed {
            // A unit may be unloaded between the two calls: the next signal brings us back.
            if let Ok(unit) = self.unit(name, active, sub, path).await {
                units.push(unit);
            }
        }
        Ok(units)
    }

    async fn unit(
        &self,
        name: String,
        active: String,
        sub: String,
        path: OwnedObjectPath,
    ) -> zbus::Result<UnitState> {
        let unit = UnitProxy::builder(&self.connection)
            .path(path.clone())
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let service = ServiceProxy::builder(&self.connection)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let invocation = unit.invocation_id().await?;
        Ok(UnitState {
            name,
            active,
            sub,
            invocation: <[u8; 16]>::try_from(invocation.as_slice())
                .ok()
                .map(u128::from_be_bytes),
            control_group: service.control_group().await?,
            main_pid: service.main_pid().await?,
            result: service.result().await?,
            restarts: service.n_restarts().await?,
            status: service.status_text().await?,
        })
    }

    /// Gives an order; the manager carries it out afterwards.
    ///
    /// # Errors
    /// When the manager refuses, for example a unit that does not exist.
    pub async fn order(&self, name: &str, order: Order) -> zbus::Result<()> {
        match order {
            Order::Start => self.manager.start_unit(name, "replace").await.map(|_| ()),
            Order::Stop => self.manager.stop_unit(name, "replace").await.map(|_| ()),
            Order::Restart => self.manager.restart_unit(name, "replace").await.map(|_| ()),
            Order::Kill => {
                let signal = nix::sys::signal::Signal::SIGKILL as i32;
                self.manager.kill_unit(name, "all", signal).await
            }
        }
    }
}

/// The stream of changes.
pub struct Changes {
    stream: MessageStream,
}

impl Changes {
    /// Waits for the next change of one of our units; false when the bus is gone.
    pub async fn next(&mut self) -> bool {
        while let Some(message) = self.stream.next().await {
            let Ok(message) = message else { return false };
            let header = message.header();
            let ours = |text: &str| {
                let named = text.contains("wa-") || text.contains("wa_2d");
                // What this agent says of itself is no news to it, and must not make it look, and speak, again.
                named && !text.contains("wa_2dhost")
            };
            let by_path = header.path().is_some_and(|path| ours(path.as_str()));
            let by_member = header.member().is_some_and(|member| {
                matches!(
                    member.as_str(),
                    "UnitNew" | "UnitRemoved" | "JobRemoved" | "Reloading"
                )
            });
            if by_path || by_member {
                return true;
            }
        }
        false
    }
}

/// Role and instance of a unit's name: `wa-coreapp@1.service` is (`coreapp`, 1).
pub fn instance_of(unit: &str) -> Option<(&str, u16)> {
    let (role, instance) = unit
        .strip_prefix("wa-")?
        .strip_suffix(".service")?
        .split_once('@')?;
    Some((role, instance.parse().ok()?))
}

/// The unit of a role's instance.
pub fn unit_of(role: &str, instance: u16) -> String {
    format!("wa-{role}@{instance}.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units_are_read_and_written() {
        assert_eq!(instance_of("wa-coreapp@12.service"), Some(("coreapp", 12)));
        assert_eq!(instance_of(&unit_of("master", 3)), Some(("master", 3)));
        assert_eq!(instance_of("wa-host.service"), None);
        assert_eq!(instance_of("wa-coreapp@x.service"), None);
        assert_eq!(instance_of("sshd.service"), None);
    }
}
