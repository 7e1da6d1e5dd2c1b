//! Every path machined touches, under a root that tests replace.

use std::path::{Path, PathBuf};

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// PID 1's socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.at(keelson_control::CONTROL_SOCKET)
    }

    /// Survives reboots; root only.
    pub(crate) fn machine_id(&self) -> PathBuf {
        self.at("/system/state/machine-id")
    }

    /// The user's configuration, as given.
    pub(crate) fn stored_config(&self) -> PathBuf {
        self.at("/system/state/config/keelson.yaml")
    }

    /// Digest of the file on the firmware partition that was imported last.
    pub(crate) fn import_record(&self) -> PathBuf {
        self.at("/system/state/config/imported.sha256")
    }

    /// A configuration on trial: gone with the next boot, as it must be.
    pub(crate) fn trial(&self) -> PathBuf {
        self.at("/run/keelson/machined/trial.json")
    }

    /// The network settings that netd was started with.
    pub(crate) fn network_in_force(&self) -> PathBuf {
        self.at("/run/keelson/machined/network.json")
    }

    /// The address the cluster of this boot was made for.
    pub(crate) fn cluster_address(&self) -> PathBuf {
        self.at("/run/keelson/machined/node-ip")
    }

    /// Authorities and keys; root only.
    pub(crate) fn vault(&self) -> PathBuf {
        self.at("/system/state/pki")
    }

    /// The certificates people were given.
    pub(crate) fn people(&self) -> PathBuf {
        self.at("/system/state/people.json")
    }

    /// What apid needs to know besides its keys.
    pub(crate) fn access(&self) -> PathBuf {
        self.at("/run/keelson/apid/access.json")
    }

    /// What etcd and kine make when they start for the first time.
    pub(crate) fn datastores(&self) -> [PathBuf; 2] {
        [
            self.at("/var/lib/etcd/member"),
            self.at("/var/lib/kine/state.db"),
        ]
    }

    /// The configuration in force, defaults filled in, for every reader.
    pub(crate) fn node_config(&self) -> PathBuf {
        self.at("/run/keelson/node-config.yaml")
    }

    /// What `/etc` of the read-only root leads to.
    pub(crate) fn etc(&self, file: &str) -> PathBuf {
        self.at("/run/keelson/etc").join(file)
    }

    /// Component configurations and what everyone may read of the PKI.
    pub(crate) fn rendered(&self) -> PathBuf {
        self.at("/run/keelson/rendered")
    }

    /// One folder per user with that user's keys.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.at("/run/keelson/secrets")
    }

    /// Where PID 1 writes the logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.at("/var/log/keelson")
    }

    /// Where apid finds the API.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.at(keelson_api::MACHINED_SOCKET)
    }

    /// A certificate to call the node API with while a version is on trial; root only.
    pub(crate) fn gate_pair(&self) -> PathBuf {
        self.at("/run/keelson/machined/gate.pem")
    }

    /// What upgrades must not forget.
    pub(crate) fn upgrades(&self) -> PathBuf {
        self.at("/system/state/upgrade")
    }

    /// What the image says of itself.
    pub(crate) fn build(&self) -> PathBuf {
        self.at("/usr/share/keelson/build.json")
    }

    /// Everything that survives upgrades and reboots but for /var.
    pub(crate) fn state(&self) -> PathBuf {
        self.at("/system/state")
    }

    /// Whose signatures count.
    pub(crate) fn trust(&self) -> PathBuf {
        self.at("/usr/share/keelson/trust")
    }

    /// What the system calls itself.
    pub(crate) fn os_release(&self) -> PathBuf {
        self.at("/usr/lib/os-release")
    }

    /// Names this boot.
    pub(crate) fn boot_id(&self) -> PathBuf {
        self.at("/proc/sys/kernel/random/boot_id")
    }

    /// What stage 1 found out about this boot.
    pub(crate) fn boot_facts(&self) -> PathBuf {
        self.at(keelson_control::BootFacts::PATH)
    }

    /// Left by PID 1 once the node is Ready.
    pub(crate) fn boot_report(&self) -> PathBuf {
        self.at("/run/keelson/boot-report.json")
    }

    /// kubelet's certificate store.
    pub(crate) fn kubelet_store(&self) -> PathBuf {
        self.at("/var/lib/kubelet/pki")
    }

    /// What containerd made of its template in an earlier boot.
    pub(crate) fn old_pod_network(&self) -> PathBuf {
        self.at("/etc/cni/net.d/10-containerd-net.conflist")
    }

    /// Definitions of the image's services.
    pub(crate) fn services(&self) -> PathBuf {
        self.at("/usr/share/keelson/services")
    }

    /// Templates of the image.
    pub(crate) fn templates(&self) -> PathBuf {
        self.at("/usr/share/keelson/templates")
    }

    /// The root of it all: `/` but for tests.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The machine's network cards and other links.
    pub(crate) fn links(&self) -> PathBuf {
        self.at("/sys/class/net")
    }

    /// Names of virtio ports, one folder each.
    pub(crate) fn virtio_ports(&self) -> PathBuf {
        self.at("/sys/class/virtio-ports")
    }

    /// A device by its kernel name.
    pub(crate) fn device(&self, name: &str) -> PathBuf {
        self.at("/dev").join(name)
    }

    fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}
