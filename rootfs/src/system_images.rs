//! The container images of system pods, as OCI archives in the root file system.

use std::path::Path;

use keelson_images::oci::{Entry, Image, Platform, WriteArchiveError};
use thiserror::Error;

use crate::build::Components;
use crate::component::Install;

/// An archive could not be written.
#[derive(Debug, Error)]
#[error("cannot make the container image {reference}")]
pub struct ImageError {
    reference: String,
    source: WriteArchiveError,
}

/// Writes one archive per program that is installed as an image; returns their file names.
pub(crate) fn write(components: &Components, folder: &Path) -> Result<Vec<String>, ImageError> {
    let mut names = Vec::new();
    for built in components.iter() {
        for program in &built.component.programs {
            let Install::Image {
                reference,
                path,
                user,
            } = &program.install
            else {
                continue;
            };
            let name = format!("{}.tar", program.name);
            let image = Image {
                entrypoint: vec![path.clone()],
                user: user.clone(),
                ..Image::new(built.version.fill(reference), Platform::amd64())
            };
            let program = Entry::file(path.as_str(), 0o755, &built.program(&program.name));
            image
                .write(entries(program), &folder.join(&name))
                .map_err(|source| ImageError {
                    reference: image.name.clone(),
                    source,
                })?;
            names.push(name);
        }
    }
    Ok(names)
}

/// The program and the folders that programs and the container runtime expect.
fn entries(program: Entry) -> Vec<Entry> {
    vec![
        program,
        Entry::directory("/etc", 0o755),
        Entry::directory("/tmp", 0o1777),
    ]
}
