//! The second judge, at the egress of every device of the network namespace. Between the hook of the slice and the device
//! lies the queue in which packets wait for the address of their neighbour: for seconds, when a cable is pulled.
//!
//! Closed by default: the programs let nothing of a tenure go to a device that is not entered in `wa_wires`. So a device
//! that comes later, or that takes no program, leaks nothing; what is sent through it under a tenure is dropped until
//! [`Gate::judge_devices`] has been there. Links (TCX) from Linux 6.6 on, pinned like the others; before that a filter of
//! the `clsact` queueing discipline, which the device keeps.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname, if_nameindex};

use crate::gate::{absent, pin_over};
use crate::layout::{At, HOOKS, Hook};
use crate::syscall::{self, DeviceLink, ProgramInfo};
use crate::{Broken, Error, Gate};

/// The first priority at the egress, and a handle that others do not take: "wa". A filter that takes the same priority later
/// runs before this one; links have no such weakness.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x7761);

/// How often a link that is just being released is waited for, and the pause between: a fifth of a second in all.
const RELEASE_TRIES: u32 = 20;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// A device at which no judge could be put: whatever leaves by it under a tenure is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    pub device: String,
    pub why: String,
}

struct Device {
    index: u32,
    name: String,
    loopback: bool,
}

impl Device {
    /// Devices go at any moment: what cannot be done to one that is gone is no error.
    fn is_there(&self) -> bool {
        if_indextoname(self.index).is_ok()
    }
}

/// Every device of the calling thread's network namespace.
fn devices() -> Result<Vec<Device>, Error> {
    let list = || -> nix::Result<Vec<Device>> {
        // Not the first list alone: it leaves out devices without an address of their own kind, such as tunnels.
        let loopback: BTreeSet<String> = getifaddrs()?
            .filter(|address| address.flags.contains(InterfaceFlags::IFF_LOOPBACK))
            .map(|address| address.interface_name)
            .collect();
        let named = if_nameindex()?;
        let device = |found: &nix::net::if_::Interface| {
            let name = found.name().to_string_lossy().into_owned();
            Device {
                index: found.index(),
                loopback: loopback.contains(&name),
                name,
            }
        };
        Ok(named.iter().map(device).collect())
    };
    list().map_err(|errno| Error::io("list the network devices")(errno.into()))
}

fn hook() -> (usize, &'static Hook) {
    let mut hooks = HOOKS.iter().enumerate();
    hooks
        .find(|(_, hook)| hook.at == At::Devices)
        .expect("one hook is for devices")
}

pub(crate) type Wires = HashMap<MapData, u32, u8>;

impl Gate {
    /// Puts the judge at every device that came since, and first again where another program has gone in front of it;
    /// forgets devices that are gone. One that was lost stays so: [`Gate::attest`] says it, [`Gate::attach`] mends it.
    /// Answers the devices at which none can be put.
    ///
    /// # Errors
    /// Devices cannot be listed, or the kernel refuses an entry.
    pub fn judge_devices(&mut self) -> Result<Vec<Unjudged>, Error> {
        let _lock = self.lock()?;
        self.judge(false)
    }

    /// `mend`: also where the judge was before and is lost.
    pub(crate) fn judge(&mut self, mend: bool) -> Result<Vec<Unjudged>, Error> {
        let write = |error| Error::map("write the judged devices")(error);
        let known = self.judged()?;
        let devices = devices()?;
        for gone in known
            .iter()
            .filter(|index| devices.iter().all(|device| device.index != **index))
        {
            absent(self.wires.remove(gone)).map_err(write)?;
            let _ = fs::remove_file(self.device_pin(*gone));
        }
        let mut unjudged = Vec::new();
        for device in &devices {
            let is_new = !known.contains(&device.index);
            if !device.loopback && (is_new || mend || self.is_behind(device)) {
                match self.put(device) {
                    Ok(()) => {}
                    Err(_) if !device.is_there() => continue,
                    Err(error) => {
                        absent(self.wires.remove(&device.index)).map_err(write)?;
                        unjudged.push(Unjudged {
                            device: device.name.clone(),
                            why: chain(&error),
                        });
                        continue;
                    }
                }
            }
            // Entered anew where it had to be taken out for a moment. No room for more: it stays closed, like any other that
            // is not entered.
            if (is_new || mend || self.is_out(device.index))
                && let Err(error) = self.wires.insert(device.index, 1, 0)
            {
                unjudged.push(Unjudged {
                    device: device.name.clone(),
                    why: chain(&write(error)),
                });
            }
        }
        Ok(unjudged)
    }

    fn judged(&self) -> Result<BTreeSet<u32>, Error> {
        let read = self.wires.keys().collect::<Result<_, _>>();
        read.map_err(Error::map("read the judged devices"))
    }

    fn is_out(&self, index: u32) -> bool {
        self.wires.get(&index, 0).is_err()
    }

    fn device_pin(&self, index: u32) -> PathBuf {
        let (_, hook) = hook();
        let mut pin = self.link_pin(hook).into_os_string();
        pin.push(format!("-{index}"));
        PathBuf::from(pin)
    }

    fn device_link(&self, index: u32) -> Option<(OwnedFd, DeviceLink)> {
        let link = syscall::get(&self.device_pin(index)).ok()?;
        let info = syscall::device_link_info(link.as_fd()).ok()?;
        Some((link, info))
    }

    fn wire(&self) -> &(OwnedFd, ProgramInfo) {
        let (at, _) = hook();
        &self.programs[at]
    }

    /// Runs at this device, but after a program of somebody else, which may let packets pass for good.
    fn is_behind(&self, device: &Device) -> bool {
        let (_, info) = self.wire();
        let (_, hook) = hook();
        if self.device_link(device.index).is_none() {
            return false;
        }
        let there = syscall::at_device(device.index, hook.attach_type).unwrap_or_default();
        there.contains(&info.id) && there.first() != Some(&info.id)
    }

    /// Makes the judge the first program at a device's egress.
    fn put(&mut self, device: &Device) -> Result<(), Error> {
        let failed = |e| Error::io("attach wa_wire")(e);
        if !self.filters_only {
            if let Some((link, found)) = self.device_link(device.index)
                && found.device == device.index
            {
                if !self.is_behind(device) {
                    let (program, info) = self.wire();
                    if found.program != info.id {
                        syscall::link_update(link.as_fd(), program.as_fd()).map_err(failed)?;
                    }
                    return Ok(());
                }
                // No program stands twice at a device: closed while there is none.
                absent(self.wires.remove(&device.index))
                    .map_err(Error::map("write the judged devices"))?;
                syscall::link_detach(link.as_fd()).map_err(failed)?;
            }
            match self.link_first(device.index) {
                Ok(link) => {
                    return pin_over(link.as_fd(), &self.device_pin(device.index))
                        .map_err(Error::io("pin the link of wa_wire"));
                }
                // Before Linux 6.6 there is no such link.
                Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let attached = self.filter(&device.name, true);
        attached.map_err(|e| Error::load("wa_wire at a device")(e.into()))
    }

    /// A new link. The kernel lets go of an old one a moment after its pin is removed, and of no program are there two.
    fn link_first(&self, index: u32) -> io::Result<OwnedFd> {
        let (program, _) = self.wire();
        let (_, hook) = hook();
        let mut made = syscall::link_create_first(program.as_fd(), index, hook.attach_type);
        for _ in 0..RELEASE_TRIES {
            match &made {
                Err(e) if e.raw_os_error() == Some(Errno::EEXIST as i32) => {}
                _ => return made,
            }
            std::thread::sleep(RELEASE_PAUSE);
            made = syscall::link_create_first(program.as_fd(), index, hook.attach_type);
        }
        made
    }

    /// The judge as a filter: a new one, or in the place of the one that must be there.
    fn filter(&self, device: &str, create: bool) -> Result<(), ProgramError> {
        let egress = TcAttachType::Egress;
        let (_, hook) = hook();
        let mut program = SchedClassifier::from_pin(self.program_pin(hook))?;
        let mut replace = !create;
        if create {
            match qdisc_add_clsact(device) {
                Err(error) if !is(&error, Errno::EEXIST) => return Err(error.into()),
                _ => {}
            }
            let options = NlOptions {
                priority: PRIORITY,
                handle: HANDLE,
                classid: None,
            };
            let options = TcAttachOptions::Netlink(options);
            match program.attach_with_options(device, egress, options) {
                // Dropped, the link would take the filter with it.
                Ok(id) => std::mem::forget(program.take_link(id)?),
                // That of a process before this one.
                Err(ProgramError::TcError(error)) if is(&error, Errno::EEXIST) => replace = true,
                Err(error) => return Err(error),
            }
        }
        if replace {
            let there = SchedClassifierLink::attached(device, egress, PRIORITY, HANDLE, None)
                .map_err(TcError::IoError)?;
            let id = program.attach_to_link(there)?;
            std::mem::forget(program.take_link(id)?);
        }
        Ok(())
    }

    /// Devices by name, and whether packets of a tenure may leave by them; loopback devices are left out.
    ///
    /// # Errors
    /// Devices cannot be listed, or the kernel refuses.
    pub fn devices(&self) -> Result<Vec<(String, bool)>, Error> {
        let judged = self.judged()?;
        let outside = devices()?.into_iter().filter(|device| !device.loopback);
        let shown = outside.map(|device| (device.name, judged.contains(&device.index)));
        Ok(shown.collect())
    }

    /// Every device that is entered has its judge.
    pub(crate) fn attest_devices(&self) -> Result<(), Broken> {
        let (_, info) = self.wire();
        let judged = self.judged().map_err(Broken::Kernel)?;
        for device in devices().map_err(Broken::Kernel)? {
            if device.loopback || !judged.contains(&device.index) {
                continue;
            }
            let stands = match self.device_link(device.index) {
                Some((_, link)) if link.device == device.index && link.program != info.id => {
                    return Err(Broken::WrongProgram {
                        name: hook().1.name,
                        found: link.program,
                        wanted: info.id,
                    });
                }
                Some((_, link)) => link.device == device.index,
                // The kernel replaces a filter that is there, and refuses one that is not.
                None => self.filter(&device.name, false).is_ok(),
            };
            if !stands && device.is_there() {
                return Err(Broken::LostDevice {
                    device: device.name,
                });
            }
        }
        Ok(())
    }

    /// Attaches by filters, as on a kernel before 6.6: what tests do, and nobody else.
    #[doc(hidden)]
    pub fn use_filters_only(&mut self) {
        self.filters_only = true;
    }
}

/// Takes the filters away; links go with their pins.
pub(crate) fn remove_filters() -> Result<(), Error> {
    for device in devices()?.iter().filter(|device| !device.loopback) {
        // None there, or no queueing discipline for it: nothing to take away.
        let _ = qdisc_detach_program(&device.name, TcAttachType::Egress, hook().1.name);
    }
    Ok(())
}

fn is(error: &TcError, errno: Errno) -> bool {
    match error {
        TcError::NetlinkError(error) => error.raw_os_error() == Some(errno as i32),
        TcError::IoError(error) => error.raw_os_error() == Some(errno as i32),
        _ => false,
    }
}

fn chain(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
