//! What a folder holds.

use keelson_api::v1alpha1::{FileEntry, ListFilesResponse};

use crate::output::{Body, Detail, Show};
use crate::table::Table;
use crate::units::{age, size};

impl Show for ListFilesResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["MODE", "USER", "GROUP", "SIZE", "CHANGED", "NAME"]);
        for entry in &self.entries {
            let changed = if detail.wide {
                entry.modified.clone()
            } else {
                age(&entry.modified, detail.now) + " ago"
            };
            table.row([
                mode(entry).into(),
                entry.user.as_str().into(),
                entry.group.as_str().into(),
                size(entry.size_bytes).into(),
                changed.into(),
                name(entry).into(),
            ]);
        }
        Body::Table(table)
    }
}

fn mode(entry: &FileEntry) -> String {
    let kind = match entry.kind.as_str() {
        "directory" => 'd',
        "symlink" => 'l',
        "file" => '-',
        _ => '?',
    };
    format!("{kind}{}", entry.mode)
}

fn name(entry: &FileEntry) -> String {
    match entry.kind.as_str() {
        "directory" => format!("{}/", entry.name),
        "symlink" => format!("{} -> {}", entry.name, entry.target),
        _ => entry.name.clone(),
    }
}
