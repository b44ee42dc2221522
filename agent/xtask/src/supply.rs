//! Holds the crates that we ship to rules: licences that may be shipped, no crate twice without a reason, none that its authors took
//! back. Asks no network: what the registry said is what cargo has written down when it fetched the crates.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};
use spdx::{Expression, LicenseReq, ParseMode};
use tame_index::index::{FileLock, IndexLocation, IndexUrl, SparseIndex};

/// Licences that a program under ours may be shipped with.
const ALLOWED: [&str; 9] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Crates of which there are several versions, because crates that we use need another one each. It may only shrink: a crate that
/// is not here, or has more versions than here, is an error, and so is one that has fewer.
const TWICE: &[(&str, usize)] = &[
    ("base64", 2),
    ("block-buffer", 2),
    ("cpufeatures", 2),
    ("crypto-common", 2),
    ("digest", 2),
    ("getrandom", 3),
    ("hashbrown", 3),
    ("rand", 2),
    ("rand_core", 2),
    ("sha1", 2),
    ("sha2", 2),
    ("syn", 2),
    ("synstructure", 2),
    ("thiserror", 2),
    ("thiserror-impl", 2),
];

/// What is built into the programs and packages on Linux, build scripts included; tests are not.
fn metadata() -> Metadata {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--locked", "--offline", "--filter-platform", &platform];
    MetadataCommand::new()
        .current_dir(crate::root())
        .features(CargoOpt::SomeFeatures(vec![crate::FEATURES.into()]))
        .other_options(options.map(String::from))
        .exec()
        .expect("cargo knows its crates")
}

/// Crates of others that the workspace's programs need, by way of whatever crate.
fn of_others(all: &Metadata) -> Vec<&Package> {
    let resolve = all.resolve.as_ref().expect("resolved");
    let needs: BTreeMap<_, _> = (resolve.nodes.iter())
        .map(|node| (&node.id, node))
        .collect();
    let mut wanted: Vec<_> = all.workspace_members.iter().collect();
    let mut seen: BTreeSet<_> = wanted.iter().copied().collect();
    while let Some(id) = wanted.pop() {
        let of = needs.get(id).map(|node| node.deps.as_slice());
        for dependency in of.unwrap_or_default() {
            let shipped = |kind: &cargo_metadata::DepKindInfo| {
                kind.kind != cargo_metadata::DependencyKind::Development
            };
            if dependency.dep_kinds.iter().any(shipped) && seen.insert(&dependency.pkg) {
                wanted.push(&dependency.pkg);
            }
        }
    }
    let theirs = all.packages.iter();
    theirs
        .filter(|package| seen.contains(&package.id) && package.source.is_some())
        .collect()
}

fn may_be_shipped(licence: &str) -> bool {
    let allowed = |wanted: &LicenseReq| {
        let name = wanted.license.id().map(|id| id.name);
        name.is_some_and(|name| ALLOWED.contains(&name))
    };
    Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|parsed| parsed.evaluate(allowed))
}

/// Goal: nobody who installs a package gets code under a licence that forbids it. Method: the licences that each crate states, as SPDX
/// has them, beside the list; one that is not in it.
#[test]
fn every_crate_may_be_shipped() {
    let all = metadata();
    let wrong: Vec<String> = of_others(&all)
        .into_iter()
        .filter(|package| !may_be_shipped(package.license.as_deref().unwrap_or_default()))
        .map(|package| {
            format!(
                "{} {}: {:?}",
                package.name, package.version, package.license
            )
        })
        .collect();
    assert!(wrong.is_empty(), "licences that ALLOWED lacks: {wrong:#?}");
    for licence in ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "", "Proprietary"] {
        assert!(!may_be_shipped(licence), "{licence}");
    }
    assert!(may_be_shipped("MIT/GPL-2.0-only"), "one of two");
}

/// Goal: the program grows by no second copy of a crate unseen. Method: each that has several versions, beside the list.
#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let all = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in of_others(&all) {
        let of = versions.entry(package.name.as_str()).or_default();
        of.insert(package.version.to_string());
    }
    let twice: Vec<(&str, usize)> = versions
        .iter()
        .filter(|(_, of)| of.len() > 1)
        .map(|(name, of)| (*name, of.len()))
        .collect();
    assert_eq!(twice, TWICE, "versions of each: {versions:?}");
}

/// Goal: no release has a crate that its authors took back. Method: what the registry said when cargo fetched the crates; most of them
/// must be known there, or the test would be green without a look.
#[test]
fn no_crate_was_taken_back() {
    let all = metadata();
    let url = IndexUrl::crates_io(None, None, None).expect("cargo's settings");
    let index = SparseIndex::new(IndexLocation::new(url)).expect("cargo's own");
    let lock = FileLock::unlocked();
    let (mut known, mut back) = (0, Vec::new());
    let theirs = of_others(&all);
    for package in &theirs {
        let name = package.name.as_str().try_into().expect("a crate's name");
        let Ok(Some(of)) = index.cached_krate(name, &lock) else {
            continue;
        };
        let of = tame_index::IndexKrate::try_from(of).expect("what cargo wrote");
        let version = package.version.to_string();
        let Some(found) = of.versions.iter().find(|one| one.version == version) else {
            continue;
        };
        known += 1;
        if found.is_yanked() {
            back.push(format!("{} {version}", package.name));
        }
    }
    assert!(back.is_empty(), "taken back by their authors: {back:?}");
    assert!(
        known * 10 >= theirs.len() * 9,
        "cargo knows {known} of {} crates; type: cargo fetch",
        theirs.len()
    );
}
