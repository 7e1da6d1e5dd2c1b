//! Reads a configuration with all the rules, those included that only a node can check.

use keelson_config::{ConfigError, HIDDEN, NodeConfig};
use keelson_control::chain;

/// Reads it.
pub(crate) fn read(text: &[u8], source_name: &str) -> Result<NodeConfig, ConfigError> {
    let config = NodeConfig::parse(text, source_name)?;
    for (i, authority) in config.api.client_authorities.iter().enumerate() {
        if let Err(error) = keelson_pki::client_authority(authority.as_str().as_bytes()) {
            return Err(ConfigError::at_key(
                // It was parsed, so it is text.
                &String::from_utf8_lossy(text),
                source_name,
                &format!("api.clientAuthorities[{i}]"),
                &chain(&error),
                "give the certificate of the authority that signs people's certificates",
            ));
        }
    }
    Ok(config)
}

/// A configuration as it may be shown: as it was given, unless it holds secrets.
pub(crate) fn without_secrets(
    text: &str,
    config: &NodeConfig,
) -> Result<String, keelson_config::EmitError> {
    let hidden = config.to_yaml()?;
    Ok(if hidden.contains(HIDDEN) {
        hidden
    } else {
        text.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_found_with_its_place() {
        let text = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\napi:\n  clientAuthorities:\n  \
                    - |\n    -----BEGIN CERTIFICATE-----\n    MIIB\n    -----END CERTIFICATE-----\n";
        let error = read(text.as_bytes(), "x.yaml").unwrap_err();
        let line = error.to_string();
        assert!(
            line.starts_with(
                "x.yaml:6:5: api.clientAuthorities[0]: the certificate cannot be read"
            ),
            "{line}"
        );
    }

    #[test]
    fn a_configuration_without_secrets_is_shown_as_given() {
        let text = "# mine\napiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n";
        let config = read(text.as_bytes(), "x").unwrap();
        assert_eq!(without_secrets(text, &config).unwrap(), text);
    }
}
