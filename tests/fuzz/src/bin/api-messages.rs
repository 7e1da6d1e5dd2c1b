//! Requests of the node API as they come from the wire: read, written and read again they are
//! the same.

use std::fmt::Debug;
use std::process::ExitCode;

use keelson_api::v1alpha1 as api;
use keelson_fuzz_engine::Target;
use prost::Message;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 4096,
    })
}

fn run(bytes: &[u8]) {
    let (call, body) = keelson_fuzz::choose(bytes, CALLS.len());
    if let Some((_, check)) = CALLS.get(call) {
        check(body);
    }
}

fn check<M: Message + Default + PartialEq + Debug>(body: &[u8]) {
    let Ok(message) = M::decode(body) else {
        return;
    };
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len(), "{message:?}");
    match M::decode(written.as_slice()) {
        Ok(again) => assert_eq!(again, message),
        Err(error) => panic!("{message:?} cannot be read again: {error}"),
    }
}

/// A call and the check of its request.
type Call = (&'static str, fn(&[u8]));

/// Every call of ours; a test holds it against the table of the API.
#[rustfmt::skip]
const CALLS: &[Call] = &[
    ("Certificates/Issue", check::<api::IssueCertificateRequest>),
    ("Certificates/List", check::<api::ListCertificatesRequest>),
    ("Certificates/Revoke", check::<api::RevokeCertificateRequest>),
    ("Configuration/Apply", check::<api::ApplyConfigurationRequest>),
    ("Configuration/Confirm", check::<api::ConfirmConfigurationRequest>),
    ("Configuration/Diff", check::<api::DiffConfigurationRequest>),
    ("Configuration/Get", check::<api::GetConfigurationRequest>),
    ("Configuration/Revert", check::<api::RevertConfigurationRequest>),
    ("Configuration/Schema", check::<api::SchemaRequest>),
    ("Configuration/Validate", check::<api::ValidateConfigurationRequest>),
    ("Files/List", check::<api::ListFilesRequest>),
    ("Files/Read", check::<api::ReadFileRequest>),
    ("Logs/Kernel", check::<api::KernelLogRequest>),
    ("Logs/Read", check::<api::ReadLogsRequest>),
    ("Maintenance/Apply", check::<api::MaintenanceApplyRequest>),
    ("Resources/Addresses", check::<api::AddressesRequest>),
    ("Resources/Cgroups", check::<api::CgroupsRequest>),
    ("Resources/Disks", check::<api::DisksRequest>),
    ("Resources/Memory", check::<api::MemoryRequest>),
    ("Resources/Mounts", check::<api::MountsRequest>),
    ("Resources/Processes", check::<api::ProcessesRequest>),
    ("Resources/Routes", check::<api::RoutesRequest>),
    ("Resources/Sockets", check::<api::SocketsRequest>),
    ("Services/Describe", check::<api::DescribeServiceRequest>),
    ("Services/List", check::<api::ListServicesRequest>),
    ("Services/Restart", check::<api::RestartServiceRequest>),
    ("Services/Start", check::<api::StartServiceRequest>),
    ("Services/Stop", check::<api::StopServiceRequest>),
    ("System/BootReport", check::<api::BootReportRequest>),
    ("System/Events", check::<api::EventsRequest>),
    ("System/Health", check::<api::HealthRequest>),
    ("System/Kubeconfig", check::<api::KubeconfigRequest>),
    ("System/Reboot", check::<api::RebootRequest>),
    ("System/Reset", check::<api::ResetRequest>),
    ("System/Shutdown", check::<api::ShutdownRequest>),
    ("System/Status", check::<api::StatusRequest>),
    ("System/SupportBundle", check::<api::SupportBundleRequest>),
    ("System/Version", check::<api::VersionRequest>),
    ("Upgrades/Activate", check::<api::ActivateUpgradeRequest>),
    ("Upgrades/Begin", check::<api::BeginUpgradeRequest>),
    ("Upgrades/Cancel", check::<api::CancelUpgradeRequest>),
    ("Upgrades/Pause", check::<api::PauseUpgradeRequest>),
    ("Upgrades/Resume", check::<api::ResumeUpgradeRequest>),
    ("Upgrades/Rollback", check::<api::RollbackRequest>),
    ("Upgrades/Send", check::<api::SendUpgradeRequest>),
    ("Upgrades/Slots", check::<api::ListSlotsRequest>),
    ("Upgrades/Status", check::<api::UpgradeStatusRequest>),
    ("Upgrades/Verify", check::<api::VerifySlotRequest>),
];

/// One body for all: the fields of different requests have the same numbers.
fn seeds() -> Vec<Vec<u8>> {
    let body = api::ReadLogsRequest {
        services: vec!["etcd".to_owned(), "kubelet".to_owned()],
        follow: true,
        since: "2026-11-21T10:00:00.000Z".to_owned(),
        tail: 300,
    };
    let reset = api::ResetRequest {
        node_name: "node-1".to_owned(),
        partitions: vec!["STATE".to_owned(), "DATA".to_owned()],
        power_off: true,
    };
    let bodies = [body.encode_to_vec(), reset.encode_to_vec()];
    (0..=u8::MAX)
        .take(CALLS.len())
        .flat_map(|call| {
            bodies
                .iter()
                .map(move |body| [&[call], body.as_slice()].concat())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use keelson_api::access::RULES;

    use super::*;

    #[test]
    fn every_call_is_here() {
        let ours: Vec<_> = RULES
            .iter()
            .filter_map(|rule| rule.method.strip_prefix("/keelson.node.v1alpha1."))
            .collect();
        let here: Vec<_> = CALLS.iter().map(|(call, _)| *call).collect();
        assert_eq!(here, ours);
    }
}
