//! Whether a bundle may be installed on this node now: pure, with every reason at once.

use std::collections::BTreeMap;

use keelson_bootstate::{BuildId, HEADER_SIZE};
use keelson_bundle::{Machine, Manifest, Objection, objections};
use keelson_config::Datastore;

use super::handle::Options;
use super::memory::Memory;
use super::skew;
use super::system::System;

/// What is known of the node.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) system: &'a System,
    /// The build that runs, by the header of its slot.
    pub(crate) build: Option<BuildId>,
    /// Bytes of the partitions of the other slot.
    pub(crate) boot_bytes: u64,
    pub(crate) root_bytes: u64,
    pub(crate) datastore: Datastore,
    /// What is not well.
    pub(crate) ills: Vec<String>,
    pub(crate) memory: &'a Memory,
}

/// Everything that speaks against it, each with what to do.
pub(crate) fn check(
    manifest: &Manifest,
    components: &BTreeMap<String, String>,
    node: &Node<'_>,
    options: Options,
) -> Vec<String> {
    let mut found: Vec<String> = objections(
        manifest,
        &Machine {
            architecture: node.system.architecture,
            platform: &node.system.platform,
            version: node.system.version.clone(),
            // No hash begins with so many zeros.
            build: node
                .build
                .unwrap_or_else(|| BuildId::from_payload_hash(&[0; 32])),
        },
        options.allow_downgrade,
    )
    .iter()
    .map(in_words)
    .collect();
    found.extend(room(manifest, node));
    found.extend(skew::objections(
        &node.system.components,
        components,
        node.datastore,
    ));
    if !options.force {
        found.extend(unless_forced(manifest, node));
    }
    found
}

fn in_words(objection: &Objection) -> String {
    match objection {
        Objection::Downgrade { .. } => format!("{objection} (--allow-downgrade)"),
        _ => objection.to_string(),
    }
}

fn room(manifest: &Manifest, node: &Node<'_>) -> Vec<String> {
    let header = u64::try_from(HEADER_SIZE).unwrap_or_default();
    [
        (
            "boot",
            manifest.boot().size.saturating_add(header),
            node.boot_bytes,
        ),
        ("root", manifest.root().size, node.root_bytes),
    ]
    .into_iter()
    .filter(|(_, needs, has)| needs > has)
    .map(|(part, needs, has)| {
        format!(
            "its {part} part needs {} MiB and the partition has {}: write the image to the disk \
             to get the new layout",
            needs.div_ceil(MIB),
            has / MIB
        )
    })
    .collect()
}

const MIB: u64 = 1024 * 1024;

fn unless_forced(manifest: &Manifest, node: &Node<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let build = manifest.build().to_string();
    if node.build == Some(manifest.build()) {
        found.push("this very build runs here already".to_owned());
    }
    if let Some(failed) = node.memory.failure(&build) {
        found.push(format!(
            "this build was tried here at {} and failed: {} (--force tries it again)",
            failed.time, failed.reason
        ));
    }
    if !node.ills.is_empty() {
        found.push(format!(
            "the node is not healthy now, so the new version could not prove itself: {} (--force \
             goes on all the same)",
            node.ills.join("; ")
        ));
    }
    found
}
