//! The configuration of a node: any bytes are refused with an error that can be shown, or taken
//! to a value that survives being written.

use std::process::ExitCode;

use keelson_config::NodeConfig;
use keelson_fuzz_engine::Target;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds: Vec::new,
        longest: 8192,
    })
}

fn run(bytes: &[u8]) {
    match NodeConfig::parse(bytes, "fuzzed") {
        Ok(config) => survives(&config),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty());
        }
    }
}

fn survives(config: &NodeConfig) {
    let text = match config.to_yaml() {
        Ok(text) => text,
        Err(error) => panic!("a valid configuration cannot be written: {error:?}"),
    };
    match NodeConfig::parse(&text, "written") {
        Ok(again) => assert_eq!(again, *config, "{text}"),
        Err(error) => panic!("{error}\n{text}"),
    }
}
