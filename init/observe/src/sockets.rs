//! TCP and UDP sockets of the node's own network, with their owners.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use keelson_api::v1alpha1::Socket;

use crate::processes;
use crate::root::{ReadError, Root};

/// The tables in /proc/net.
const TABLES: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];

/// Most sockets in an answer: with 150 bytes each they stay below the longest message.
const MAX_SOCKETS: usize = 16_384;

/// All sockets, or only those that wait for others to connect or send.
///
/// # Errors
/// A table cannot be read; one the kernel does not have (no IPv6) is empty.
pub fn sockets(root: &Root, listening: bool) -> Result<Vec<Socket>, ReadError> {
    let mut lines = Vec::new();
    for protocol in TABLES {
        let text = match root.text(&format!("/proc/net/{protocol}")) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
            text => text?,
        };
        let rows = text.lines().skip(1).filter_map(|line| row(protocol, line));
        lines.extend(rows.filter(|row| !listening || row.listens()));
    }
    lines.truncate(MAX_SOCKETS);
    let owners = owners(root, &lines)?;
    Ok(lines
        .into_iter()
        .map(|row| {
            let (pid, process) = owners.get(&row.inode).cloned().unwrap_or_default();
            row.into_socket(pid, process)
        })
        .collect())
}

/// One line of a table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    protocol: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    send_queue: u64,
    receive_queue: u64,
    inode: u64,
}

/// States of net/tcp_states.h; a UDP socket is connected (as TCP's first) or closed.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

impl Row {
    fn is_tcp(&self) -> bool {
        self.protocol.starts_with("tcp")
    }

    fn listens(&self) -> bool {
        if self.is_tcp() {
            self.state == LISTEN
        } else {
            self.state != ESTABLISHED
        }
    }

    fn into_socket(self, pid: u32, process: String) -> Socket {
        // For one that listens these numbers count connections.
        let bytes = |queue| {
            if self.is_tcp() && self.state == LISTEN {
                0
            } else {
                queue
            }
        };
        Socket {
            protocol: self.protocol.to_owned(),
            state: state(self.is_tcp(), self.state),
            local_address: self.local.to_string(),
            remote_address: self.remote.to_string(),
            pid,
            process,
            receive_queue_bytes: bytes(self.receive_queue),
            send_queue_bytes: bytes(self.send_queue),
        }
    }
}

/// Names as ss(8) has them.
fn state(tcp: bool, state: u8) -> String {
    match state {
        CLOSE if !tcp => "",
        ESTABLISHED => "established",
        2 => "syn-sent",
        3 | 12 => "syn-recv",
        4 => "fin-wait-1",
        5 => "fin-wait-2",
        6 => "time-wait",
        CLOSE => "closed",
        8 => "close-wait",
        9 => "last-ack",
        LISTEN => "listen",
        11 => "closing",
        other => return other.to_string(),
    }
    .to_owned()
}

/// `sl local remote state tx:rx timer:when retransmits uid timeout inode …`
fn row(protocol: &'static str, line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (send, receive) = fields.get(4)?.split_once(':')?;
    Some(Row {
        protocol,
        local: address(fields.get(1)?)?,
        remote: address(fields.get(2)?)?,
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        send_queue: u64::from_str_radix(send, 16).ok()?,
        receive_queue: u64::from_str_radix(receive, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// `0100007F:0016`: words of four bytes, each printed as a number of this machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Number and name of the process that has each socket open; the lowest one where several have.
fn owners(root: &Root, rows: &[Row]) -> Result<BTreeMap<u64, (u32, String)>, ReadError> {
    let mut wanted: Vec<u64> = rows.iter().map(|row| row.inode).collect();
    wanted.sort_unstable();
    wanted.dedup();
    // Connections in time-wait have left their process.
    wanted.retain(|inode| *inode != 0);
    let mut owners = BTreeMap::new();
    for pid in processes::pids(root)? {
        if owners.len() == wanted.len() {
            break;
        }
        // Not ours to see, or gone.
        let Ok(files) = std::fs::read_dir(root.path(format!("/proc/{pid}/fd"))) else {
            continue;
        };
        let mut name = None;
        for file in files.flatten() {
            let inode = std::fs::read_link(file.path())
                .ok()
                .and_then(|target| inode(target.to_str()?));
            if let Some(inode) = inode.filter(|inode| wanted.binary_search(inode).is_ok()) {
                let name =
                    name.get_or_insert_with(|| processes::name(root, pid).unwrap_or_default());
                owners.entry(inode).or_insert_with(|| (pid, name.clone()));
            }
        }
    }
    Ok(owners)
}

/// `socket:[12345]`
fn inode(target: &str) -> Option<u64> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::fs::symlink;

    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0016 00000000:0000 0A 00000000:00000005 00:00000000 00000000     0        0 1050 1 00000000adc507df 100 0 0 10 0
   1: 0F02000A:1932 0202000A:C350 01 00000010:00000020 01:00000014 00000000     0        0 1051 2 00000000adc507df 20 4 30 10 -1
   2: 0F02000A:1932 0202000A:C351 06 00000000:00000000 03:00000014 00000000     0        0 0 3 0000000000000000
";
    const UDP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  12: 000080FE000000000000000001000000:0222 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000   100        0 1052 2 0000000000000000 0
";

    // The numbers in the samples are those of a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn tables_and_owners_come_together() {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("proc/net");
        fs::create_dir_all(&net).unwrap();
        fs::write(net.join("tcp"), TCP).unwrap();
        fs::write(net.join("udp6"), UDP6).unwrap();
        for (pid, name, inode) in [
            (70, "api) server\n", 1050),
            (71, "child\n", 1050),
            (9, "dhcp\n", 1052),
        ] {
            let fd = dir.path().join(format!("proc/{pid}/fd"));
            fs::create_dir_all(&fd).unwrap();
            symlink("/dev/null", fd.join("0")).unwrap();
            symlink(format!("socket:[{inode}]"), fd.join("3")).unwrap();
            fs::write(dir.path().join(format!("proc/{pid}/comm")), name).unwrap();
        }
        let root = Root::at(dir.path());
        let socket = |protocol: &str, state: &str, local: &str, remote: &str| Socket {
            protocol: protocol.to_owned(),
            state: state.to_owned(),
            local_address: local.to_owned(),
            remote_address: remote.to_owned(),
            ..Socket::default()
        };
        let listener = Socket {
            pid: 70,
            process: "api) server".to_owned(),
            ..socket("tcp", "listen", "127.0.0.1:22", "0.0.0.0:0")
        };
        let dhcp = Socket {
            pid: 9,
            process: "dhcp".to_owned(),
            ..socket("udp6", "", "[fe80::1]:546", "[::]:0")
        };
        let connection = Socket {
            send_queue_bytes: 16,
            receive_queue_bytes: 32,
            ..socket("tcp", "established", "10.0.2.15:6450", "10.0.2.2:50000")
        };
        let gone = socket("tcp", "time-wait", "10.0.2.15:6450", "10.0.2.2:50001");
        assert_eq!(
            sockets(&root, false).unwrap(),
            [listener.clone(), connection, gone, dhcp.clone()]
        );
        assert_eq!(sockets(&root, true).unwrap(), [listener, dhcp]);
    }

    #[test]
    fn sockets_of_this_process_are_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = sockets(&Root::machine(), true).unwrap();
        for (protocol, address) in [
            ("tcp", tcp.local_addr().unwrap()),
            ("udp", udp.local_addr().unwrap()),
        ] {
            let socket = found
                .iter()
                .find(|one| one.protocol == protocol && one.local_address == address.to_string())
                .unwrap();
            assert_eq!(socket.pid, std::process::id());
            assert!(!socket.process.is_empty());
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String, state_number: u8) {
            let _ = row("tcp", &text);
            let _ = row("tcp6", &format!("0: {text} {text} {text} {text} 0 0 0 0 {text}"));
            let _ = (address(&text), inode(&text), state(true, state_number));
        }
    }
}
