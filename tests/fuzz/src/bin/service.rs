//! Definitions of services: any text is refused with an error that can be shown, or taken and put
//! into words for people.

use std::error::Error;
use std::process::ExitCode;

use keelson_fuzz_engine::Target;
use keelson_service::{ExpandError, expand, fact_names, parse};

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds: Vec::new,
        longest: 8192,
    })
}

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse(&file_name(text), text) {
        Ok(definition) => {
            let _ = definition.readiness_in_words();
            let _ = definition.liveness_in_words();
            let _ = definition.restart_policy_in_words();
            for word in &definition.command {
                template(word);
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let _ = error.source().map(ToString::to_string);
        }
    }
    template(text);
}

/// The name inside must be that of the file.
fn file_name(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("name:"));
    format!("{}.yaml", name.unwrap_or_default().trim())
}

/// With all its facts known, a template can be filled.
fn template(text: &str) {
    match fact_names(text) {
        Ok(names) => {
            let facts = names
                .into_iter()
                .map(|name| (name.to_owned(), "${value}".to_owned()))
                .collect();
            if let Err(error) = expand(text, &facts) {
                panic!("{text:?}: {error}");
            }
        }
        Err(error) => assert!(
            matches!(error, ExpandError::Unclosed { .. }),
            "{text:?}: {error}"
        ),
    }
}
