//! Writes what was measured to `bench/results/`: JSON for programs, Markdown and SVG for people.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ombre_tests::binaries;
use serde_json::{Value, json};

use crate::machine::Machine;

/// Writes `<name>.json` and `<name>.md`, both with the machine at their head.
pub(crate) fn write(name: &str, markdown: &str, measured: &Value) -> Result<()> {
    let machine = Machine::look()?;
    let text = format!("{}\n\n{markdown}", machine.line());
    file(&format!("{name}.md"), &text)?;
    let all = json!({ "machine": machine, "measured": measured });
    file(
        &format!("{name}.json"),
        &serde_json::to_string_pretty(&all)?,
    )
}

/// Writes one file.
pub(crate) fn file(name: &str, text: &str) -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("`{}` cannot be written", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn folder() -> PathBuf {
    binaries::workspace().join("bench/results")
}
