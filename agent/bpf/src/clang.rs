//! How the programs are compiled: by `build.rs`, and by the tests with single guards taken out.
//! Not part of the library.

use std::path::Path;
use std::process::Command;

/// Compiles `source` into `object` for a Rust target architecture, with macros (`NAME`) defined.
///
/// # Errors
/// Why there is no object: no clang, no headers of libbpf, or what the compiler complained about.
pub fn compile(
    source: &Path,
    object: &Path,
    architecture: &str,
    defines: &[&str],
) -> Result<(), String> {
    let (macro_name, headers) = match architecture {
        "x86_64" => ("x86", "x86_64-linux-gnu"),
        "aarch64" => ("arm64", "aarch64-linux-gnu"),
        other => (other, "linux-gnu"),
    };
    let program = std::env::var("WA_BPF_CLANG").unwrap_or_else(|_| "clang".to_owned());
    let folder = source.parent().unwrap_or(Path::new("."));
    let output = Command::new(&program)
        .args([
            "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror",
        ])
        .arg(format!("-D__TARGET_ARCH_{macro_name}"))
        .arg(format!("-I/usr/include/{headers}"))
        // No folder of the machine in the debug information: the object is the same wherever it was built.
        .arg(format!("-fdebug-prefix-map={}=.", folder.display()))
        .arg("-fdebug-compilation-dir=.")
        .args(defines.iter().map(|name| format!("-D{name}")))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(object)
        .output()
        .map_err(|e| format!("{program} does not start: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| line.contains("error"));
    Err(format!(
        "{program}: {}",
        first.unwrap_or("failed without a word")
    ))
}
