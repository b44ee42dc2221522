//! Reads back from the kernel whether the gate stands: links, programs, and what is effective on the slice now.
//! Repairs nothing: `Gate::attach` does.

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;

use crate::layout::{At, HOOKS};
use crate::place::{open_cgroup, root_of};
use crate::{Error, Gate, gate, syscall};

/// One program, as found attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedProgram {
    pub name: &'static str,
    /// The kernel's number of the program, until the machine restarts.
    pub id: u32,
    /// Digest of its instructions, in hexadecimal.
    pub tag: String,
    /// The kernel's number of the link; 0 for that at the devices, which has one for each.
    pub link: u32,
}

/// The gate stood when this was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Cgroup id of the slice.
    pub slice: u64,
    pub programs: Vec<AttestedProgram>,
}

impl Attestation {
    /// A number that changes when any part does: small enough for a heartbeat. FNV-1a.
    pub fn digest(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        mix(&self.slice.to_le_bytes());
        for program in &self.programs {
            mix(program.name.as_bytes());
            mix(program.tag.as_bytes());
            mix(&program.id.to_le_bytes());
            mix(&program.link.to_le_bytes());
        }
        hash
    }
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slice {}", self.slice)?;
        for p in &self.programs {
            write!(f, ", {} {} tag {} link {}", p.name, p.id, p.tag, p.link)?;
        }
        Ok(())
    }
}

/// What is wrong with the gate.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the slice is not there")]
    NoSlice(#[source] Error),
    #[error("{name} is not attached: its link is not pinned")]
    NoLink { name: &'static str },
    #[error(
        "{name} has a dead link: its cgroup was removed, and a slice made again under that name has no gate"
    )]
    DeadLink { name: &'static str },
    #[error("{name} is attached to cgroup {found}, not to {wanted}")]
    ElsewhereLink {
        name: &'static str,
        found: u64,
        wanted: u64,
    },
    #[error("{name}: the link runs program {found}, the pinned one is {wanted}")]
    WrongProgram {
        name: &'static str,
        found: u32,
        wanted: u32,
    },
    #[error("{name}: the program is of another build")]
    WrongTag { name: &'static str },
    #[error("{name} is attached, but the kernel does not run it for the slice")]
    NotEffective { name: &'static str },
    #[error("wa_wire was at the device {device}, and is not any more")]
    LostDevice { device: String },
    #[error("the gate was told of cgroup {found} as the slice, which is {wanted}")]
    WrongPlace { found: u64, wanted: u64 },
    #[error("the kernel does not answer")]
    Kernel(#[source] Error),
}

fn hexadecimal(tag: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(tag))
}

impl Gate {
    /// Asks the kernel whether every program of this build runs for the slice as it is now.
    ///
    /// # Errors
    /// The first thing that is wrong. [`Gate::attach`] mends all but a missing slice.
    pub fn attest(&self, slice: &Path) -> Result<Attestation, Broken> {
        let (slice_file, slice_id) = open_cgroup(slice).map_err(Broken::NoSlice)?;
        let root = root_of(slice).map_err(Broken::NoSlice)?;
        let (_, root_id) = open_cgroup(&root).map_err(Broken::NoSlice)?;
        let [told, _] = self.place().map_err(Broken::Kernel)?;
        let mut programs = Vec::new();
        for ((hook, (_, info)), tag) in HOOKS.iter().zip(self.programs()).zip(&self.tags) {
            let name = hook.name;
            let wanted = match hook.at {
                At::Slice => slice_id,
                At::Root => root_id,
                At::Devices => {
                    self.attest_devices()?;
                    programs.push(AttestedProgram {
                        name,
                        id: info.id,
                        tag: hexadecimal(info.tag),
                        link: 0,
                    });
                    continue;
                }
            };
            let (_, link) = gate::link_at(&self.link_pin(hook)).ok_or(Broken::NoLink { name })?;
            if link.cgroup == 0 {
                return Err(Broken::DeadLink { name });
            }
            if link.cgroup != wanted {
                let found = link.cgroup;
                return Err(Broken::ElsewhereLink {
                    name,
                    found,
                    wanted,
                });
            }
            if link.program != info.id {
                return Err(Broken::WrongProgram {
                    name,
                    found: link.program,
                    wanted: info.id,
                });
            }
            if info.tag != *tag {
                return Err(Broken::WrongTag { name });
            }
            let effective = syscall::effective(slice_file.as_fd(), hook.attach_type)
                .map_err(|e| Broken::Kernel(Error::io("ask what is effective")(e)))?;
            if link.attach_type != hook.attach_type || !effective.contains(&info.id) {
                return Err(Broken::NotEffective { name });
            }
            programs.push(AttestedProgram {
                name,
                id: info.id,
                tag: hexadecimal(info.tag),
                link: link.id,
            });
        }
        if told != slice_id {
            return Err(Broken::WrongPlace {
                found: told,
                wanted: slice_id,
            });
        }
        Ok(Attestation {
            slice: slice_id,
            programs,
        })
    }
}
