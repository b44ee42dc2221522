//! The fence by nftables, where this kernel takes no gate and `fence = "best-effort"`: admits a unit when its coreapp asks,
//! seals epochs, ends what dead units have queued. Keeps on disk what it sealed and admitted: the kernel's table knows no
//! epochs. Grants nothing: a coreapp asks for no more than its tenure has.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wa_bpf::Network;
use wa_core::id::Epoch;
use wa_core::time::Instant;

use crate::config::Settings;
use crate::sys::cgroup::Cgroup;
use crate::sys::gate::{self, Fenced, GateError};
use crate::sys::nft::{self, NftError};
use crate::sys::sock_destroy;
use crate::sys::state::NumberFile;
use crate::sys::{clock, systemd};

/// An admission that reaches the kernel later than this after it was reckoned is taken back.
const LATE_MAX: Duration = Duration::from_millis(100);

/// The table, and what it does not know.
pub struct Fallback {
    fence: nft::Fence,
    slice: PathBuf,
    state: PathBuf,
    longest: Duration,
    /// No connection could not be ended so far: an old epoch has left nothing behind.
    ends_connections: AtomicBool,
}

/// What an epoch that asks to be admitted is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Newer than all before: whatever is queued in the unit is of another one.
    New,
    /// Admitted before: its time is moved.
    Again,
    Sealed,
    Older,
}

fn judged(epoch: u64, seal: u64, admitted: u64) -> Asks {
    match epoch {
        _ if epoch < seal => Asks::Sealed,
        _ if epoch < admitted => Asks::Older,
        _ if epoch == admitted => Asks::Again,
        _ => Asks::New,
    }
}

impl Fallback {
    /// Puts the table in front of the slice.
    ///
    /// # Errors
    /// Why there is no such fence here.
    pub fn put(settings: &Settings, exempt: &[Network]) -> Result<Self, GateError> {
        let slice = gate::slice().map_err(GateError::Cgroup)?;
        let program = std::env::current_exe().map_err(GateError::Cgroup)?;
        let state = settings.state_directory.join("host-1/nftables");
        Self::put_before(&program, slice, state, settings.timers.lease_ttl, exempt)
    }

    /// In front of any slice; `state`: where sealed and admitted epochs are kept.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_before(
        program: &Path,
        slice: PathBuf,
        state: PathBuf,
        longest: Duration,
        exempt: &[Network],
    ) -> Result<Self, GateError> {
        Ok(Self {
            fence: nft::Fence::put(program, &slice, exempt)?,
            slice,
            state,
            longest,
            ends_connections: AtomicBool::new(true),
        })
    }

    /// Looks whether it stands; puts it back where it does not.
    ///
    /// # Errors
    /// When it cannot be put back.
    pub fn look(&mut self) -> Result<(), GateError> {
        match self.fence.attest() {
            Err(NftError::Changed) => {
                tracing::error!(
                    "the table {} was changed or removed, or the slice was made again: putting it back",
                    nft::TABLE
                );
                Ok(self.fence.put_again()?)
            }
            other => Ok(other?),
        }
    }

    /// As [`nft::Fence::set_exempt`].
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn set_exempt(&mut self, networks: &[Network]) -> Result<(), GateError> {
        Ok(self.fence.set_exempt(networks)?)
    }

    fn number(&self, what: &str, instance: u16) -> Result<NumberFile, GateError> {
        let name = format!("coreapp-{instance}-{what}");
        NumberFile::open(&self.state, &name).map_err(GateError::Cgroup)
    }

    fn load(&self, what: &str, instance: u16) -> Result<u64, GateError> {
        let file = self.number(what, instance)?;
        file.load().map_err(GateError::Cgroup)
    }

    /// Epochs below this one are over in an instance; what cannot be read is over altogether.
    pub fn seal(&self, instance: u16) -> u64 {
        self.load("sealed", instance).unwrap_or(u64::MAX)
    }

    /// Admits a unit until its deadline, or shuts it (`None`).
    ///
    /// # Errors
    /// It is not admitted.
    pub fn admit(
        &self,
        instance: u16,
        group: &Cgroup,
        asked: Option<(Epoch, Instant)>,
    ) -> Result<(), GateError> {
        let id = group.id().map_err(GateError::Cgroup)?;
        let Some((epoch, deadline)) = asked else {
            nft::shut(group.path(), id)?;
            return Ok(());
        };
        let (seal, admitted) = (self.seal(instance), self.load("admitted", instance)?);
        match judged(epoch.0, seal, admitted) {
            Asks::Sealed | Asks::Older => {
                return Err(GateError::Over {
                    epoch: epoch.0,
                    over: seal.max(admitted),
                });
            }
            Asks::New => {
                nft::shut(group.path(), id)?;
                let file = self.number("admitted", instance)?;
                file.store(epoch.0).map_err(GateError::Cgroup)?;
                // An element knows no epochs: what an older one has queued would leave under this one.
                self.end_connections(id)?;
            }
            Asks::Again => {}
        }
        let span = deadline.since(clock::now()).min(self.longest);
        Ok(self.fence.admit((group.path(), id), span, LATE_MAX)?)
    }

    /// Seals epochs up to one in a unit. `None`: that cannot be verified here, its processes have to be gone.
    pub fn fence(&self, cgroup: u64, epoch: Epoch) -> Option<Result<Fenced, GateError>> {
        let (path, instance) = self.unit(cgroup)?;
        self.seal_up_to(&path, (cgroup, instance), epoch.0.saturating_add(1))
            .transpose()
    }

    fn seal_up_to(
        &self,
        path: &Path,
        (cgroup, instance): (u64, u16),
        at: u64,
    ) -> Result<Option<Fenced>, GateError> {
        let held = self.load("sealed", instance)?.max(at);
        let file = self.number("sealed", instance)?;
        file.store(held).map_err(GateError::Cgroup)?;
        if self.load("admitted", instance)? >= held {
            // A newer epoch lives there: what the old one had was ended when that came, where the kernel can.
            let ended = self.ends_connections.load(Ordering::Acquire);
            return Ok(ended.then_some(Fenced {
                seal: held,
                destroyed: 0,
                unsupported: false,
            }));
        }
        nft::shut(path, cgroup)?;
        let destroyed = self.end_connections(cgroup)?;
        Ok(destroyed.map(|destroyed| Fenced {
            seal: held,
            destroyed,
            unsupported: false,
        }))
    }

    /// A unit is over: what its dead processes have queued does not leave.
    pub fn bury(&self, cgroup: u64) {
        let unit = self.unit(cgroup);
        let shut = unit.map(|(path, _)| nft::shut(&path, cgroup));
        let ended = self.end_connections(cgroup);
        if !matches!((shut, &ended), (None | Some(Ok(_)), Ok(Some(_)))) {
            tracing::warn!("what a unit that ended has queued may leave until its time is over");
        }
    }

    /// How many were ended; `None` where this kernel cannot.
    fn end_connections(&self, cgroup: u64) -> Result<Option<usize>, GateError> {
        let exempt = self.fence.exempt();
        let spare = |peer| exempt.iter().any(|network| network.contains(peer));
        let done = sock_destroy::destroy(cgroup, spare).map_err(GateError::Sockets)?;
        match done.left {
            _ if done.unsupported => {
                self.ends_connections.store(false, Ordering::Release);
                Ok(None)
            }
            0 => Ok(Some(done.destroyed)),
            left => Err(GateError::SocketsLeft(left)),
        }
    }

    /// Path and number of the instance whose unit has this control group now.
    fn unit(&self, cgroup: u64) -> Option<(PathBuf, u16)> {
        let entries = std::fs::read_dir(&self.slice).ok()?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        let path = paths.find(|path| wa_bpf::cgroup_id(path).is_ok_and(|id| id == cgroup))?;
        let (_, instance) = systemd::instance_of(path.file_name()?.to_str()?)?;
        Some((path, instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is sealed or older than what was admitted never comes back. Method: each order of the three numbers.
    #[test]
    fn an_epoch_that_is_over_is_not_admitted() {
        assert_eq!(judged(5, 0, 0), Asks::New);
        assert_eq!(judged(5, 0, 5), Asks::Again);
        assert_eq!(judged(5, 0, 4), Asks::New);
        assert_eq!(judged(4, 0, 5), Asks::Older);
        assert_eq!(judged(5, 6, 5), Asks::Sealed);
        assert_eq!(judged(6, 6, 5), Asks::New);
        assert_eq!(judged(u64::MAX - 1, u64::MAX, 0), Asks::Sealed);
    }
}
