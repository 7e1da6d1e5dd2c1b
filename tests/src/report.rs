//! Figures that the suites measure, collected in `out/test-report.json`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};

/// Puts one figure, or one group of them, under its name; others stay.
pub fn record(out: &Path, name: &str, figures: Value) -> anyhow::Result<()> {
    let path = out.join("test-report.json");
    let mut all: Map<String, Value> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged: remove it", path.display()))?,
        Err(_) => Map::new(),
    };
    all.insert(name.to_owned(), figures);
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec_pretty(&all)?)?;
    fs::rename(&temporary, &path)?;
    Ok(())
}
