//! What a virtual machine consists of, as data, and the QEMU command line that says so.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Acceleration, Clock};

/// Name of the virtio-serial port on which the node talks to the runner.
pub const HOST_CHANNEL_PORT: &str = "dev.keelson.host";

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSpec {
    /// Shown by QEMU and in messages.
    pub name: String,
    /// How the guest's instructions are run.
    pub acceleration: Acceleration,
    /// Memory of the guest.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u8,
    /// What starts it.
    pub firmware: Firmware,
    /// An EFI program that UEFI starts instead of looking at disks.
    pub kernel: Option<PathBuf>,
    /// In the order in which the guest numbers them.
    pub disks: Vec<Disk>,
    /// In the order in which the guest numbers them.
    pub networks: Vec<Network>,
    /// Added to the kernel command line by systemd's stub or by GRUB; empty for none.
    pub kernel_arguments: Vec<String>,
    /// What the guest's clock shows at start.
    pub clock: Clock,
    /// From the reset vector, or from the memory of a saved machine.
    pub start: Start,
}

/// What starts the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, which keeps nothing.
    Bios,
    /// UEFI on two flash chips.
    Uefi {
        /// Code, never written.
        code: PathBuf,
        /// This machine's variables: a qcow2 file, so that saved machines can lay an overlay over it.
        variables: PathBuf,
    },
}

/// One virtio disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Image file.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// What a flush of the guest means.
    pub durability: Durability,
    /// A file in which every write, discard and flush is written down (format of Linux'
    /// dm-log-writes).
    pub write_log: Option<PathBuf>,
}

/// Format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// QEMU's own: thin, may have a backing file.
    Qcow2,
    /// The bytes of the disk.
    Raw,
}

impl DiskFormat {
    /// The name QEMU's tools use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// What a flush of the guest means for the image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Flushed data is in the image file, so it survives the end of QEMU at any moment.
    Flushed,
    /// Flushes are ignored: several times faster, and everything may be lost unless QEMU ends
    /// by itself.
    Throwaway,
}

/// One virtio network card, or rather what it is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// QEMU's own network with DHCP at 10.0.2.2.
    User(UserNetwork),
    /// Ethernet frames, each after its length in four bytes (big-endian), on a unix socket that
    /// somebody listens on: a switch between machines, or a test that plays the network.
    Frames {
        /// The socket.
        socket: PathBuf,
    },
}

/// How far QEMU's own network reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNetwork {
    /// Guest ports that are reachable on free ports of 127.0.0.1, see
    /// [`crate::Vm::forwarded_port`].
    pub forwards: Vec<u16>,
    /// What the guest reaches beyond its own network.
    pub reach: Reach,
    /// Services of the host that the guest sees in its own network, whatever its reach.
    pub services: Vec<HostService>,
}

/// What a guest reaches beyond its own network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nothing: no packet of the guest leaves this process.
    #[default]
    Isolated,
    /// What the host reaches, through its address translation, and the host's DNS at 10.0.2.3.
    Everything,
}

/// A TCP service on the host, as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostService {
    /// An address in 10.0.2.0/24 that nothing else has.
    pub address: Ipv4Addr,
    /// The port there.
    pub port: u16,
    /// The unix socket on which the service listens.
    pub socket: PathBuf,
}

/// How a machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Firmware, loader, kernel.
    PowerOn,
    /// Waits for the memory of a saved machine.
    Restore,
}

/// The sockets and files through which one running QEMU is watched and driven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Everything the guest wrote to its first serial port.
    pub serial_log: PathBuf,
    /// We listen; QEMU connects the guest's port [`HOST_CHANNEL_PORT`] to it.
    pub host_channel: PathBuf,
    /// QEMU listens: QMP for whoever started it.
    pub qmp: PathBuf,
    /// QEMU listens: QMP for anybody else (`keelson-vm stop`).
    pub control: PathBuf,
}

impl Endpoints {
    /// Sockets in `sockets`, log in `state`.
    pub fn in_folders(sockets: &Path, state: &Path) -> Self {
        Self {
            serial_log: state.join("serial.log"),
            host_channel: sockets.join("host.sock"),
            qmp: sockets.join("qmp.sock"),
            control: sockets.join("control.sock"),
        }
    }
}

impl VmSpec {
    /// The arguments of `qemu-system-x86_64`.
    pub fn arguments(&self, endpoints: &Endpoints) -> Vec<String> {
        let mut arguments = Arguments::default();
        arguments.flag("-nodefaults").flag("-no-user-config");
        arguments.option("-display", "none");
        arguments.option("-name", &escape(&self.name));
        arguments.option("-machine", "q35");
        let (accelerator, processor) = self.acceleration.arguments();
        arguments
            .option("-accel", accelerator)
            .option("-cpu", processor);
        arguments.option("-smp", &self.cpus.to_string());
        arguments.option("-m", &format!("{}M", self.memory_mib));
        arguments.option("-rtc", &self.clock.argument(SystemTime::now()));
        // Like a board: a node that stops feeding its watchdog is reset.
        arguments
            .option("-device", "i6300esb")
            .option("-action", "watchdog=reset");
        arguments.option("-device", "virtio-rng-pci");
        if !self.kernel_arguments.is_empty() {
            let value = self.kernel_arguments.join(" ");
            arguments.option(
                "-smbios",
                &format!(
                    "type=11,value=io.systemd.stub.kernel-cmdline-extra={}",
                    escape(&value)
                ),
            );
        }
        if let Some(kernel) = &self.kernel {
            arguments.option("-kernel", &kernel.to_string_lossy());
        }
        self.push_characters(&mut arguments, endpoints);
        self.push_storage(&mut arguments);
        for (index, network) in self.networks.iter().enumerate() {
            arguments.option("-netdev", &network.argument(index));
            // No option ROM: the firmware would try the network after the disk.
            arguments.option(
                "-device",
                &format!("virtio-net-pci,netdev=net{index},romfile="),
            );
        }
        if self.start == Start::Restore {
            arguments.option("-incoming", "defer");
        }
        arguments.0
    }

    fn push_characters(&self, arguments: &mut Arguments, endpoints: &Endpoints) {
        // QEMU makes them in this order: once the host channel has called us, QMP listens.
        for (id, path) in [("qmp", &endpoints.qmp), ("control", &endpoints.control)] {
            arguments.option(
                "-chardev",
                &format!(
                    "socket,id={id},path={},server=on,wait=off",
                    path_value(path)
                ),
            );
            arguments.option("-mon", &format!("chardev={id},mode=control"));
        }
        arguments.option(
            "-chardev",
            &format!(
                "socket,id=host,path={}",
                path_value(&endpoints.host_channel)
            ),
        );
        arguments.option("-device", "virtio-serial-pci,id=channels");
        arguments.option(
            "-device",
            &format!("virtserialport,bus=channels.0,chardev=host,name={HOST_CHANNEL_PORT}"),
        );
        // A file and not a socket with a log: QEMU writes to such a log twice what a busy reader
        // made it write again.
        arguments.option(
            "-chardev",
            &format!("file,id=serial,path={}", path_value(&endpoints.serial_log)),
        );
        arguments.option("-serial", "chardev:serial");
    }

    fn push_storage(&self, arguments: &mut Arguments) {
        if let Firmware::Uefi { code, variables } = &self.firmware {
            arguments.option(
                "-drive",
                &format!(
                    "if=pflash,unit=0,format=raw,readonly=on,file={}",
                    path_value(code)
                ),
            );
            arguments.option(
                "-drive",
                &format!(
                    "if=pflash,unit=1,format=qcow2,file={}",
                    path_value(variables)
                ),
            );
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let cache = match disk.durability {
                Durability::Flushed => "writeback",
                Durability::Throwaway => "unsafe",
            };
            arguments.option(
                "-drive",
                &format!(
                    "if=none,id=disk{index},cache={cache},discard=unmap,{}",
                    disk.image()
                ),
            );
            arguments.option(
                "-device",
                &format!("virtio-blk-pci,drive=disk{index},serial=disk{index},bootindex={index}"),
            );
        }
    }
}

impl Disk {
    fn image(&self) -> String {
        let (format, path) = (self.format.name(), path_value(&self.path));
        match &self.write_log {
            None => format!("format={format},file={path}"),
            // Without the interval the log counts as empty until QEMU ends by itself.
            Some(log) => format!(
                "driver=blklogwrites,file.driver={format},file.file.driver=file,\
                 file.file.filename={path},log.driver=file,log.filename={},\
                 log-sector-size=512,log-super-update-interval=1",
                path_value(log)
            ),
        }
    }
}

impl Network {
    fn argument(&self, index: usize) -> String {
        match self {
            Self::User(user) => user.argument(index),
            Self::Frames { socket } => format!(
                "stream,id=net{index},server=off,addr.type=unix,addr.path={}",
                path_value(socket)
            ),
        }
    }
}

impl UserNetwork {
    fn argument(&self, index: usize) -> String {
        let mut argument = format!("user,id=net{index}");
        if self.reach == Reach::Isolated {
            argument.push_str(",restrict=on");
        }
        for port in &self.forwards {
            // Port 0: the host picks a free one, and nobody can take it in between.
            argument.push_str(&format!(",hostfwd=tcp:127.0.0.1:0-:{port}"));
        }
        for HostService {
            address,
            port,
            socket,
        } in &self.services
        {
            // One socat per connection: QEMU itself can only relay a single one.
            let relay = format!("socat - UNIX-CONNECT:{}", socket.display());
            argument.push_str(&format!(
                ",guestfwd=tcp:{address}:{port}-cmd:{}",
                escape(&relay)
            ));
        }
        argument
    }
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: &str) -> &mut Self {
        self.flag(name).flag(value)
    }
}

fn path_value(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// QEMU separates the parts of a value by commas; a comma inside a part is written twice.
pub(crate) fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VmSpec {
        VmSpec {
            name: "one".to_owned(),
            acceleration: Acceleration::Emulation,
            memory_mib: 2048,
            cpus: 2,
            firmware: Firmware::Uefi {
                code: "/root/code.fd".into(),
                variables: "/state/variables.qcow2".into(),
            },
            kernel: None,
            disks: vec![Disk {
                path: "/state/disk.qcow2".into(),
                format: DiskFormat::Qcow2,
                durability: Durability::Throwaway,
                write_log: None,
            }],
            networks: vec![Network::User(UserNetwork {
                forwards: vec![6443],
                ..UserNetwork::default()
            })],
            kernel_arguments: vec!["mitigations=off".to_owned(), "tsc=reliable".to_owned()],
            clock: Clock::Host,
            start: Start::PowerOn,
        }
    }

    fn command_line(spec: &VmSpec) -> String {
        spec.arguments(&Endpoints::in_folders(Path::new("/s"), Path::new("/state")))
            .join(" ")
    }

    #[test]
    fn the_whole_command_line() {
        let expected = "-nodefaults -no-user-config -display none -name one -machine q35 \
            -accel tcg,thread=multi -cpu max,-erms,-fsrm,-pcid,-smap -smp 2 -m 2048M \
            -rtc base=utc -device i6300esb -action watchdog=reset -device virtio-rng-pci \
            -smbios type=11,value=io.systemd.stub.kernel-cmdline-extra=mitigations=off tsc=reliable \
            -chardev socket,id=qmp,path=/s/qmp.sock,server=on,wait=off -mon chardev=qmp,mode=control \
            -chardev socket,id=control,path=/s/control.sock,server=on,wait=off \
            -mon chardev=control,mode=control \
            -chardev socket,id=host,path=/s/host.sock -device virtio-serial-pci,id=channels \
            -device virtserialport,bus=channels.0,chardev=host,name=dev.keelson.host \
            -chardev file,id=serial,path=/state/serial.log \
            -serial chardev:serial \
            -drive if=pflash,unit=0,format=raw,readonly=on,file=/root/code.fd \
            -drive if=pflash,unit=1,format=qcow2,file=/state/variables.qcow2 \
            -drive if=none,id=disk0,cache=unsafe,discard=unmap,format=qcow2,file=/state/disk.qcow2 \
            -device virtio-blk-pci,drive=disk0,serial=disk0,bootindex=0 \
            -netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:6443 \
            -device virtio-net-pci,netdev=net0,romfile=";
        assert_eq!(command_line(&spec()), expected);
    }

    #[test]
    fn bios_has_no_flash_chips() {
        let mut spec = spec();
        spec.firmware = Firmware::Bios;
        let line = command_line(&spec);
        assert!(!line.contains("pflash"), "{line}");
        assert!(line.contains("bootindex=0"), "{line}");
    }

    #[test]
    fn what_a_test_may_change() {
        let mut spec = spec();
        spec.acceleration = Acceleration::Kvm;
        spec.clock = Clock::Epoch;
        spec.start = Start::Restore;
        spec.kernel_arguments.clear();
        spec.networks = vec![Network::Frames {
            socket: "/s/lan.sock".into(),
        }];
        spec.disks[0].durability = Durability::Flushed;
        spec.disks[0].write_log = Some("/state/a,b.log".into());
        let line = command_line(&spec);
        for part in [
            "-accel kvm -cpu host",
            "-rtc base=1970-01-01T00:00:00",
            "-netdev stream,id=net0,server=off,addr.type=unix,addr.path=/s/lan.sock",
            "cache=writeback,discard=unmap,driver=blklogwrites,file.driver=qcow2,",
            "log.filename=/state/a,,b.log,log-sector-size=512",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(line.ends_with("-incoming defer"));
        assert!(!line.contains("-smbios"));
    }

    #[test]
    fn a_network_with_services_and_one_that_reaches_out() {
        let services = vec![HostService {
            address: Ipv4Addr::new(10, 0, 2, 100),
            port: 5000,
            socket: "/s/registry.sock".into(),
        }];
        let mut user = UserNetwork {
            services,
            ..UserNetwork::default()
        };
        assert_eq!(
            user.argument(0),
            "user,id=net0,restrict=on,\
             guestfwd=tcp:10.0.2.100:5000-cmd:socat - UNIX-CONNECT:/s/registry.sock"
        );
        user.services.clear();
        user.reach = Reach::Everything;
        assert_eq!(user.argument(1), "user,id=net1");
    }

    #[test]
    fn no_disk_and_no_card() {
        let mut spec = spec();
        spec.disks.clear();
        spec.networks.clear();
        let line = command_line(&spec);
        assert!(!line.contains("virtio-blk"));
        assert!(!line.contains("netdev"));
    }

    #[test]
    fn a_comma_stays_inside_its_value() {
        let mut spec = spec();
        spec.name = "a,readonly=on".to_owned();
        assert!(command_line(&spec).contains("-name a,,readonly=on "));
    }
}
