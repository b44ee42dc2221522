//! What the loader and the programs agree on: `gate.h` in Rust, names of maps, programs and hooks.
//! Touches no kernel.

/// Bytes of a unit's map that are mapped.
pub(crate) const PAGE: usize = 4096;

/// `struct wa_unit`: deadline, epoch.
pub(crate) type UnitWords = [u64; 2];
/// `struct wa_place`: slice, ceiling.
pub(crate) type PlaceWords = [u64; 2];

/// Folder of the pins. A change of any map's key, value, size or meaning needs a new name: the programs of an older
/// package go on with their own maps until the slice is empty.
pub(crate) const LAYOUT: &str = "v1";

/// `BPF_MAP_TYPE_ARRAY` and `BPF_F_MMAPABLE`.
pub(crate) const ARRAY: u32 = 2;
pub(crate) const MMAPABLE: u32 = 1024;

pub(crate) const MAPS: [&str; 8] = [
    "wa_units",
    "wa_seals",
    "wa_place",
    "wa_wires",
    "wa_exempt4",
    "wa_exempt6",
    "wa_stamps",
    "wa_counts",
];

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Slice,
    /// Top of the hierarchy that the slice is in.
    Root,
    /// The egress of every device of the network namespace: [`crate::wire`].
    Devices,
}

pub(crate) struct Hook {
    /// Of the program, its pin and its link's pin.
    pub name: &'static str,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    pub at: At,
}

/// In the order in which they are attached: what stamps before what demands a stamp.
pub(crate) const HOOKS: [Hook; 7] = [
    Hook {
        name: "wa_born",
        attach_type: 2,
        at: At::Slice,
    },
    Hook {
        name: "wa_connect4",
        attach_type: 10,
        at: At::Root,
    },
    Hook {
        name: "wa_connect6",
        attach_type: 11,
        at: At::Root,
    },
    Hook {
        name: "wa_sendmsg4",
        attach_type: 14,
        at: At::Root,
    },
    Hook {
        name: "wa_sendmsg6",
        attach_type: 15,
        at: At::Root,
    },
    Hook {
        name: "wa_wire",
        attach_type: 47,
        at: At::Devices,
    },
    Hook {
        name: "wa_egress",
        attach_type: 1,
        at: At::Slice,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counters;

    /// The header is the other half of this file.
    #[test]
    fn the_header_says_the_same() {
        let header = include_str!("gate.h");
        let reasons: Vec<String> = header
            .lines()
            .filter_map(|line| line.trim().strip_prefix("WA_"))
            .filter_map(|line| line.split_once(','))
            .map(|(name, _)| name.to_lowercase())
            .filter(|name| name != "reasons")
            .collect();
        let names: Vec<&str> = Counters::default().named().map(|(name, _)| name).collect();
        assert_eq!(reasons, names);
        let source = include_str!("gate.bpf.c");
        for map in MAPS {
            assert!(
                source.contains(&format!("}} {map} SEC(\".maps\")")),
                "{map}"
            );
        }
        for hook in &HOOKS {
            assert!(
                source.contains(&format!("int {}(", hook.name)),
                "{}",
                hook.name
            );
        }
    }
}
