//! From YAML to a definition.

use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use thiserror::Error;

use crate::{Exec, Kind, Liveness, Readiness, ServiceDefinition, fact_names};

/// Longest accepted file. Ours are below 4 KiB.
const MAX_BYTES: usize = 64 * 1024;

/// Parses one definition. `file_name` is `NAME.yaml` and must agree with the name inside.
pub fn parse(file_name: &str, text: &str) -> Result<ServiceDefinition, ParseError> {
    let file = || file_name.to_owned();
    if text.len() > MAX_BYTES {
        return Err(ParseError::TooLong {
            file: file(),
            bytes: text.len(),
        });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 4096, max_depth: 16, max_documents: 1 },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
    };
    let definition: ServiceDefinition =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                let key = error.path().to_string();
                serde::de::Error::custom(format_args!("{key}: {}", error.into_inner()))
            })
        })
        .map_err(|source| ParseError::Yaml {
            file: file(),
            source: Box::new(source),
        })?;
    check(&definition).map_err(|problem| ParseError::Invalid {
        file: file(),
        problem,
    })?;
    if file_name.strip_suffix(".yaml") != Some(definition.name.as_str()) {
        let problem = format!(
            "name {:?} does not match the file name",
            definition.name.as_str()
        );
        return Err(ParseError::Invalid {
            file: file(),
            problem,
        });
    }
    Ok(definition)
}

/// Why a file is no definition.
#[derive(Debug, Error)]
pub enum ParseError {
    /// Well-formed, but it cannot work.
    #[error("service definition {file}: {problem}")]
    Invalid {
        /// File name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// Larger than any definition can be.
    #[error("service definition {file} has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLong {
        /// File name.
        file: String,
        /// Its length.
        bytes: usize,
    },
    /// YAML or types are wrong; the cause has line and key.
    #[error("service definition {file} cannot be read")]
    Yaml {
        /// File name.
        file: String,
        /// Cause with line, column and key.
        source: Box<serde_saphyr::Error>,
    },
}

fn check(definition: &ServiceDefinition) -> Result<(), String> {
    check_command("command", &definition.command)?;
    if let Some(Readiness::Exec(Exec {
        command,
        timeout_seconds,
        ..
    })) = &definition.ready
    {
        check_command("ready.exec.command", command)?;
        at_least_one("ready.exec.timeoutSeconds", *timeout_seconds)?;
    }
    if let Some(Liveness::Exec {
        command,
        interval_seconds,
        timeout_seconds,
        failures,
    }) = &definition.liveness
    {
        check_command("liveness.exec.command", command)?;
        at_least_one("liveness.exec.intervalSeconds", *interval_seconds)?;
        at_least_one("liveness.exec.timeoutSeconds", *timeout_seconds)?;
        at_least_one("liveness.exec.failures", *failures)?;
    }
    if let Some(seconds) = definition.watchdog_seconds {
        at_least_one("watchdogSeconds", seconds)?;
    }
    at_least_one("stop.timeoutSeconds", definition.stop.timeout_seconds)?;
    at_least_one(
        "restart.maxDelaySeconds",
        definition.restart.max_delay_seconds,
    )?;
    let waits_for_exit = definition.readiness() == Readiness::Exited {};
    if waits_for_exit != (definition.kind == Kind::Oneshot) {
        return Err("ready: exited goes with kind: oneshot, and with nothing else".to_owned());
    }
    if definition.needs.services.contains(&definition.name) {
        return Err("needs.services: a service cannot need itself".to_owned());
    }
    for value in definition.environment.values() {
        fact_names(value).map_err(|error| format!("environment: {error}"))?;
    }
    for directory in &definition.directories {
        absolute("directories.path", &directory.path)?;
    }
    if let Some(Readiness::Unix { path, .. }) = &definition.ready {
        absolute("ready.unix.path", path)?;
    }
    if !(-1000..=1000).contains(&definition.oom_score_adj) {
        return Err("oomScoreAdj: must be between -1000 and 1000".to_owned());
    }
    match definition.resources.cpu_weight {
        Some(weight) if !(1..=10_000).contains(&weight) => {
            Err("resources.cpuWeight: must be between 1 and 10000".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_command(key: &str, command: &[String]) -> Result<(), String> {
    let program = command.first().ok_or_else(|| format!("{key}: is empty"))?;
    absolute(key, program)?;
    for argument in command {
        if argument.contains('\0') {
            return Err(format!("{key}: an argument contains a NUL character"));
        }
        fact_names(argument).map_err(|error| format!("{key}: {error}"))?;
    }
    Ok(())
}

fn absolute(key: &str, path: &str) -> Result<(), String> {
    let clean = path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if clean {
        Ok(())
    } else {
        Err(format!(
            "{key}: {path:?} must be an absolute path without .."
        ))
    }
}

fn at_least_one(key: &str, value: u32) -> Result<(), String> {
    if value > 0 {
        Ok(())
    } else {
        Err(format!("{key}: must be at least 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RestartPolicy, Rlimit, Signal};

    const FULL: &str = r#"
name: kine
description: SQLite datastore
command: [/usr/bin/kine, "--listen=${etcd-endpoint}"]
environment: {GOGC: "50"}
user: kine
group: kine
supplementaryGroups: [etcd]
capabilities: [NET_BIND_SERVICE]
noNewPrivileges: true
kind: daemon
essential: true
only: {datastore: sqlite}
needs: {services: [storage], conditions: [pki]}
provides: [thing]
providesFacts: [thing-fact]
ready: {unix: {path: /run/kine/kine.sock, owner: kube-apiserver}}
liveness: {exec: {command: [/usr/bin/keelson, probe], intervalSeconds: 10, timeoutSeconds: 5, failures: 3}}
watchdogSeconds: 30
stop: {signal: SIGINT, timeoutSeconds: 5, killCgroup: false, clearFirst: [kubepods], clearTimeoutSeconds: 7}
restart: {policy: on-failure, initialDelayMs: 100, maxDelaySeconds: 10, stableSeconds: 20}
resources: {memoryHigh: 1000000, memoryMax: 2000000, cpuWeight: 50, pidsMax: 100}
oomScoreAdj: -900
limits: {nofile: 1024, core: 0, nproc: unlimited}
directories: [{path: /var/lib/kine, mode: "0700"}]
"#;

    fn minimal(extra: &str) -> String {
        format!("name: x\ndescription: d\ncommand: [/bin/x]\n{extra}")
    }

    fn problem(extra: &str) -> String {
        let error = parse("x.yaml", &minimal(extra)).unwrap_err();
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{error}: {cause}")
    }

    #[test]
    fn every_key_is_read() {
        let definition = parse("kine.yaml", FULL).unwrap();
        assert_eq!(definition.stop.signal, Signal::SIGINT);
        assert_eq!(definition.limits.nproc, Some(Rlimit::Unlimited));
        assert_eq!(definition.limits.nofile, Rlimit::Max(1024));
        assert_eq!(definition.directories[0].mode.bits(), 0o700);
        assert_eq!(definition.restart_policy(), RestartPolicy::OnFailure);
        assert_eq!(
            definition.only.get("datastore").map(String::as_str),
            Some("sqlite")
        );
    }

    #[test]
    fn little_has_to_be_said() {
        let definition = parse("x.yaml", &minimal("")).unwrap();
        assert_eq!(definition.readiness(), Readiness::Started {});
        assert_eq!(definition.restart_policy(), RestartPolicy::Always);
        assert!(definition.no_new_privileges && definition.stop.kill_cgroup);
        let oneshot = parse("x.yaml", &minimal("kind: oneshot")).unwrap();
        assert_eq!(oneshot.readiness(), Readiness::Exited {});
        assert_eq!(oneshot.restart_policy(), RestartPolicy::OnFailure);
    }

    #[test]
    fn mistakes_name_file_key_and_line() {
        for (extra, parts) in [
            ("nope: 1", &["x.yaml", "nope", "4"][..]),
            ("name: y", &["x.yaml", "duplicate"]),
            ("needs: {services: x}", &["needs.services"]),
            ("limits: {nofile: -1}", &["limits.nofile"]),
            (
                "directories: [{path: /a, mode: 999}]",
                &["directories[0].mode", "octal"],
            ),
            (
                "capabilities: [CAP_CHOWN]",
                &["capabilities[0]", "without CAP_"],
            ),
            ("noNewPrivileges: yes", &["noNewPrivileges"]),
            (
                "directories: [{path: /a/../b}]",
                &["directories.path", "absolute"],
            ),
            (
                "ready: {exec: {command: []}}",
                &["ready.exec.command", "empty"],
            ),
            ("needs: {services: [x]}", &["cannot need itself"]),
            ("ready: {exited: {}}", &["oneshot"]),
            ("environment: {A: \"${\"}", &["environment"]),
        ] {
            let text = problem(extra);
            for part in parts {
                assert!(text.contains(part), "{extra}: {part:?} not in {text}");
            }
        }
    }

    #[test]
    fn the_file_name_must_agree() {
        let error = parse("y.yaml", &minimal("")).unwrap_err();
        assert!(error.to_string().contains("does not match the file name"));
    }

    #[test]
    fn hostile_files_end_quickly() {
        assert!(parse("x.yaml", &"[".repeat(2 * 1024 * 1024)).is_err());
        assert!(parse("x.yaml", &"[".repeat(60_000)).is_err());
        assert!(parse("x.yaml", "").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse("x.yaml", &text);
        }
    }
}
