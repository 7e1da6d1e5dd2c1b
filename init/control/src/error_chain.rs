//! Renders an error with its causes on one line.

use std::error::Error;

/// Joins an error and its sources: `cannot mount /var: /dev/vda8: no such device`.
///
/// The one place where causes are printed, so no `Display` needs to repeat its source.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {path}")]
    struct Outer {
        path: &'static str,
        #[source]
        source: std::io::Error,
    }

    #[test]
    fn joins_every_cause_once() {
        let error = Outer {
            path: "/x",
            source: std::io::Error::other("no such device"),
        };
        assert_eq!(chain(&error), "cannot read /x: no such device");
    }
}
