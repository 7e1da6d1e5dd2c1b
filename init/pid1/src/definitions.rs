//! Reads the service definitions of the image.

use std::fs;
use std::path::Path;

use keelson_control::chain;
use keelson_service::ServiceDefinition;

use crate::node::NodeError;

/// All definitions of a folder in the order of their names; of one that is wrong, what is.
pub(crate) fn load(folder: &Path) -> Result<Vec<Result<ServiceDefinition, String>>, NodeError> {
    let error = |source| NodeError::Services {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        names.push(entry.map_err(error)?.file_name());
    }
    names.sort();
    Ok(names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| name.ends_with(".yaml"))
        .map(|name| {
            let text = fs::read_to_string(folder.join(name))
                .map_err(|error| format!("cannot read service definition {name}: {error}"))?;
            keelson_service::parse(name, &text).map_err(|error| chain(&error))
        })
        .collect())
}
