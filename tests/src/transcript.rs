//! What keelsonctl prints on a real node, as a page for docs/.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Keelsonctl;

/// A page in the making.
#[derive(Debug)]
pub struct Transcript<'a> {
    keelsonctl: &'a Keelsonctl,
    page: String,
}

impl<'a> Transcript<'a> {
    /// An empty one.
    pub fn new(keelsonctl: &'a Keelsonctl) -> Self {
        let page = "# Transcripts\n\nMade by the suite `tests/tests/api.rs` on a single node in a VM; `make docs` copies \
                    what its last run wrote.\n"
            .to_owned();
        Self { keelsonctl, page }
    }

    /// Runs a command, which must succeed, and adds it with what it printed.
    pub fn shows(&mut self, heading: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self.keelsonctl.run(arguments)?;
        anyhow::ensure!(
            !output.trim().is_empty(),
            "keelsonctl {} printed nothing",
            arguments.join(" ")
        );
        if !heading.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.page, "\n## {heading}");
        }
        let _ = write!(
            self.page,
            "\n```\n$ keelsonctl {}\n{}\n```\n",
            arguments.join(" "),
            output.trim_end()
        );
        Ok(())
    }

    /// Writes the page.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(fs::write(path, &self.page)?)
    }
}
