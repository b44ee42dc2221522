//! Compiles the gate with clang. Without clang the build goes on, and the crate says so at run time.

#[path = "src/clang.rs"]
mod clang;

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/gate.bpf.c");
    println!("cargo::rerun-if-changed=src/gate.h");
    println!("cargo::rerun-if-changed=src/clang.rs");
    println!("cargo::rerun-if-env-changed=WA_BPF_CLANG");
    println!("cargo::rustc-check-cfg=cfg(wa_bpf_object)");
    let variable = |name| std::env::var(name).expect("cargo sets it for build scripts");
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("src/gate.bpf.c");
    let object = PathBuf::from(variable("OUT_DIR")).join("gate.bpf.o");
    match clang::compile(&source, &object, &variable("CARGO_CFG_TARGET_ARCH"), &[]) {
        Ok(()) => println!("cargo::rustc-cfg=wa_bpf_object"),
        Err(why) => {
            println!(
                "cargo::warning=built without the kernel gate: {why}; install clang and libbpf-dev for it"
            );
            // A file that is not there: the next build tries again.
            println!("cargo::rerun-if-changed={}", object.display());
        }
    }
}
