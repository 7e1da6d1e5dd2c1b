//! Reads the version of one module out of a `go.mod` file.

use thiserror::Error;

/// The upstream is not where its version should be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("go.mod does not require {module}")]
pub struct NotRequired {
    module: String,
}

/// The version that `text` (a `go.mod`) requires of `module`, without its `v`.
pub(crate) fn required_version(text: &str, module: &str) -> Result<String, NotRequired> {
    let mut in_require = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("require"), Some("("), None) => in_require = true,
            (Some(")"), None, None) => in_require = false,
            (Some("require"), Some(name), Some(version)) if name == module => {
                return Ok(bare(version));
            }
            (Some(name), Some(version), None) if in_require && name == module => {
                return Ok(bare(version));
            }
            _ => {}
        }
    }
    Err(NotRequired {
        module: module.to_owned(),
    })
}

fn bare(version: &str) -> String {
    let version = version.strip_suffix("+incompatible").unwrap_or(version);
    version.strip_prefix('v').unwrap_or(version).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_MOD: &str = "module x\n\ngo 1.26\n\nrequire one v1.2.3\n\nrequire (\n\ttwo/v2 v2.0.0 // indirect\n\tthree v3.0.0+incompatible\n)\n\nreplace (\n\tfour => four v4.0.0\n)\n";

    #[test]
    fn versions_are_found_in_lines_and_blocks() {
        assert_eq!(required_version(GO_MOD, "one").unwrap(), "1.2.3");
        assert_eq!(required_version(GO_MOD, "two/v2").unwrap(), "2.0.0");
        assert_eq!(required_version(GO_MOD, "three").unwrap(), "3.0.0");
    }

    #[test]
    fn a_replacement_is_no_requirement() {
        let error = required_version(GO_MOD, "four").unwrap_err();
        assert_eq!(error.to_string(), "go.mod does not require four");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            let _ = required_version(&text, "x");
        }
    }
}
