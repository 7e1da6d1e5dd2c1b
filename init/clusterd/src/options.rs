//! The command line, as the service definition writes it.

use std::path::PathBuf;

use thiserror::Error;

/// Everything clusterd is told at start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) server: String,
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) manifests: PathBuf,
    pub(crate) node: String,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum OptionsError {
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("unknown argument \"{0}\" (known: --server --ca --cert --key --manifests --node)")]
    Unknown(String),
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, OptionsError> {
        let [
            mut server,
            mut ca,
            mut cert,
            mut key,
            mut manifests,
            mut node,
        ] = [const { None }; 6];
        while let Some(name) = args.next() {
            let slot = match name.as_str() {
                "--server" => &mut server,
                "--ca" => &mut ca,
                "--cert" => &mut cert,
                "--key" => &mut key,
                "--manifests" => &mut manifests,
                "--node" => &mut node,
                _ => return Err(OptionsError::Unknown(name)),
            };
            *slot = Some(args.next().ok_or(OptionsError::NoValue(name))?);
        }
        let required = |value: Option<String>, name| value.ok_or(OptionsError::Missing(name));
        Ok(Self {
            server: required(server, "--server")?,
            ca: required(ca, "--ca")?.into(),
            certificate: required(cert, "--cert")?.into(),
            key: required(key, "--key")?.into(),
            manifests: required(manifests, "--manifests")?.into(),
            node: required(node, "--node")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, OptionsError> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_whole_line_is_understood_in_any_order() {
        let options =
            parse("--node n --ca a --cert c --key k --manifests m --server https://x:1").unwrap();
        assert_eq!(options.node, "n");
        assert_eq!(options.server, "https://x:1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            parse("--node"),
            Err(OptionsError::NoValue("--node".to_owned()))
        );
        assert_eq!(parse("--x y"), Err(OptionsError::Unknown("--x".to_owned())));
        assert_eq!(parse("--node n"), Err(OptionsError::Missing("--server")));
    }
}
