//! Where the programs under test are: named by environment, else where the build puts them.
//! A missing one is an error that says what to run, never a skipped test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The root of the workspace this harness was built in.
pub fn workspace() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_path_buf()
}

/// The program `ombre`: `OMBRE_BIN`, else beside the running program, else `target/debug/ombre`.
///
/// # Errors
/// When there is none; the text says what to run.
pub fn ombre() -> Result<PathBuf> {
    if let Some(path) = from_environment("OMBRE_BIN")? {
        return Ok(path);
    }
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    // A test lies in `target/debug/deps`, a program in `target/debug`.
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("ombre"));
    let built = workspace().join("target/debug/ombre");
    beside
        .chain([built])
        .find(|path| path.is_file())
        .context("the program `ombre` is not built: run `make test`, or set OMBRE_BIN")
}

/// The filter: `OMBRE_WASM`, else `target/ombre.wasm`.
///
/// # Errors
/// When there is none; the text says what to run.
pub fn wasm() -> Result<PathBuf> {
    if let Some(path) = from_environment("OMBRE_WASM")? {
        return Ok(path);
    }
    let built = workspace().join("target/ombre.wasm");
    if !built.is_file() {
        bail!(
            "the filter `{}` is not built: run `make test`, or set OMBRE_WASM",
            built.display()
        );
    }
    Ok(built)
}

/// Envoy: `ENVOY_PATH`, else what `envoy/find-envoy` prints.
///
/// # Errors
/// When there is none; the text says what to run.
pub fn envoy() -> Result<PathBuf> {
    if let Some(path) = from_environment("ENVOY_PATH")? {
        return Ok(path);
    }
    found_by("envoy/find-envoy", "ENVOY_PATH")
}

/// Prometheus: `PROMETHEUS_PATH`, else what `tests/find-prometheus` prints.
///
/// # Errors
/// When there is none; the text says what to run.
pub fn prometheus() -> Result<PathBuf> {
    if let Some(path) = from_environment("PROMETHEUS_PATH")? {
        return Ok(path);
    }
    found_by("tests/find-prometheus", "PROMETHEUS_PATH")
}

fn found_by(script: &str, variable: &str) -> Result<PathBuf> {
    let finder = workspace().join(script);
    let output = Command::new(&finder)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| {
            format!(
                "`{}` cannot be run: run `make test`, or set {variable}",
                finder.display()
            )
        })?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !output.status.success() || !path.is_file() {
        bail!(
            "`{}` found nothing: run `make test`, or set {variable}",
            finder.display()
        );
    }
    Ok(path)
}

fn from_environment(name: &str) -> Result<Option<PathBuf>> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let path = std::path::absolute(PathBuf::from(value))
        .with_context(|| format!("{name} does not name a path"))?;
    if !path.is_file() {
        bail!(
            "{name} names `{}`, which is not a file: run `make test`, or unset it",
            path.display()
        );
    }
    Ok(Some(path))
}
