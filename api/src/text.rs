//! Numbers of the wire as words for people.

use crate::v1alpha1::{ServiceState, UpgradePhase};

/// The word for a state.
#[must_use]
pub fn state_word(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Unspecified => "unknown",
        ServiceState::Backoff => "backoff",
        ServiceState::CrashLoop => "crash-loop",
        ServiceState::Disabled => "disabled",
        ServiceState::Exited => "exited",
        ServiceState::Ready => "ready",
        ServiceState::Starting => "starting",
        ServiceState::Stopped => "stopped",
        ServiceState::Stopping => "stopping",
        ServiceState::Waiting => "waiting",
    }
}

/// The word for how far an upgrade is.
#[must_use]
pub fn phase_word(phase: UpgradePhase) -> &'static str {
    match phase {
        UpgradePhase::Unspecified => "unknown",
        UpgradePhase::None => "none",
        UpgradePhase::Checking => "checking",
        UpgradePhase::Receiving => "receiving",
        UpgradePhase::Paused => "paused",
        UpgradePhase::Verifying => "verifying",
        UpgradePhase::Staged => "staged",
        UpgradePhase::Draining => "draining",
        UpgradePhase::Rebooting => "rebooting",
        UpgradePhase::Trial => "trial",
        UpgradePhase::Failed => "failed",
    }
}

/// For serde: the word for a phase's number.
#[cfg(feature = "serde")]
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form serde's serialize_with asks for"
)]
pub(crate) fn upgrade_phase<S: serde::Serializer>(
    number: &i32,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let phase = UpgradePhase::try_from(*number).unwrap_or(UpgradePhase::Unspecified);
    serializer.serialize_str(phase_word(phase))
}

/// For serde: the word for a state's number.
#[cfg(feature = "serde")]
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form serde's serialize_with asks for"
)]
pub(crate) fn service_state<S: serde::Serializer>(
    number: &i32,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let state = ServiceState::try_from(*number).unwrap_or(ServiceState::Unspecified);
    serializer.serialize_str(state_word(state))
}
