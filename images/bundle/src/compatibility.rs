//! Whether a bundle is for a machine: pure decisions that give their reasons.

use std::fmt;

use keelson_bootstate::BuildId;
use semver::Version;

use crate::manifest::{Architecture, Manifest};

/// What a machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine<'a> {
    /// Its processors.
    pub architecture: Architecture,
    /// The kind of machine its image was made for.
    pub platform: &'a str,
    /// Version of the running system.
    pub version: Version,
    /// Build of the running system: what a delta can be unpacked against.
    pub build: BuildId,
}

/// Why a bundle must not be installed on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// For other processors.
    Architecture {
        /// What the bundle is for.
        bundle: Architecture,
        /// What the machine has.
        machine: Architecture,
    },
    /// A delta against another system than the running one.
    Base {
        /// The build that it needs.
        needed: BuildId,
        /// The build that runs.
        running: BuildId,
    },
    /// Older than what runs.
    Downgrade {
        /// The bundle's version.
        offered: Version,
        /// The version that runs.
        running: Version,
    },
    /// For another kind of machine.
    Platform {
        /// What the bundle is for.
        bundle: String,
        /// What the machine is.
        machine: String,
    },
    /// What runs is too old to go there in one step.
    TooOld {
        /// The oldest version to come from.
        minimum: Version,
        /// The version that runs.
        running: Version,
    },
}

/// Everything that speaks against a bundle on a machine. An older version is no objection when
/// somebody asked for it; a build of the same version never is.
pub fn objections(manifest: &Manifest, machine: &Machine<'_>, downgrade: bool) -> Vec<Objection> {
    let mut found = Vec::new();
    if manifest.architecture() != machine.architecture {
        found.push(Objection::Architecture {
            bundle: manifest.architecture(),
            machine: machine.architecture,
        });
    }
    if manifest.platform() != machine.platform {
        found.push(Objection::Platform {
            bundle: manifest.platform().into(),
            machine: machine.platform.into(),
        });
    }
    // What follows a + tells builds apart and says nothing about their order.
    let running = &machine.version;
    if !downgrade && manifest.version().cmp_precedence(running).is_lt() {
        found.push(Objection::Downgrade {
            offered: manifest.version().clone(),
            running: running.clone(),
        });
    }
    if running.cmp_precedence(manifest.minimum_version()).is_lt() {
        found.push(Objection::TooOld {
            minimum: manifest.minimum_version().clone(),
            running: running.clone(),
        });
    }
    if let Some(needed) = manifest.base().filter(|base| *base != machine.build) {
        found.push(Objection::Base {
            needed,
            running: machine.build,
        });
    }
    found
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture { bundle, machine } => {
                write!(f, "it is for {bundle}, this machine is {machine}")
            }
            Self::Base { needed, running } => write!(
                f,
                "it is a delta against build {needed}, build {running} runs here: take the full bundle"
            ),
            Self::Downgrade { offered, running } => write!(
                f,
                "it has version {offered}, older than {running} which runs here: a downgrade must be asked for"
            ),
            Self::Platform { bundle, machine } => {
                write!(f, "it is for platform {bundle}, this is platform {machine}")
            }
            Self::TooOld { minimum, running } => write!(
                f,
                "it can only replace version {minimum} or newer, {running} runs here: go there first"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;

    fn build(byte: u8) -> BuildId {
        BuildId::from_payload_hash(&[byte; 32])
    }

    fn machine(version: &str) -> Machine<'static> {
        Machine {
            architecture: Architecture::Amd64,
            platform: "amd64",
            version: version.parse().unwrap(),
            build: build(9),
        }
    }

    /// The objections to version 0.3.0 that can replace 0.2.0 and newer.
    fn to(machine: &Machine<'_>, downgrade: bool) -> Vec<String> {
        let manifest = manifest("0.3.0", "0.2.0", None);
        objections(&manifest, machine, downgrade)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn versions_are_compared_by_precedence() {
        for running in ["0.2.0", "0.2.1", "0.3.0-rc.1", "0.3.0", "0.3.0+other"] {
            assert_eq!(to(&machine(running), false), [""; 0], "{running}");
        }
        for running in ["0.3.1-rc.1", "0.10.0", "1.0.0"] {
            let found = to(&machine(running), false);
            let reason = format!(
                "it has version 0.3.0, older than {running} which runs here: a downgrade must be asked for"
            );
            assert_eq!(found, [reason], "{running}");
            assert_eq!(to(&machine(running), true), [""; 0], "{running}");
        }
        for running in ["0.1.9", "0.2.0-rc.1"] {
            let reason = format!(
                "it can only replace version 0.2.0 or newer, {running} runs here: go there first"
            );
            for downgrade in [false, true] {
                assert_eq!(
                    to(&machine(running), downgrade),
                    [reason.as_str()],
                    "{running}"
                );
            }
        }
    }

    #[test]
    fn all_reasons_are_told_at_once() {
        let other = Machine {
            architecture: Architecture::Arm64,
            platform: "board",
            ..machine("0.4.0")
        };
        let reasons = to(&other, false);
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert_eq!(reasons[0], "it is for amd64, this machine is arm64");
        assert_eq!(
            reasons[1],
            "it is for platform amd64, this is platform board"
        );
    }

    #[test]
    fn a_delta_needs_its_base() {
        let delta = manifest("0.3.0", "0.2.0", Some(build(9)));
        assert_eq!(objections(&delta, &machine("0.2.0"), false), []);
        let elsewhere = Machine {
            build: build(8),
            ..machine("0.2.0")
        };
        assert_eq!(
            objections(&delta, &elsewhere, false),
            [Objection::Base {
                needed: build(9),
                running: build(8)
            }]
        );
    }
}
