//! Tells the machine that runs this one as a virtual machine what goes on, when it offers a port.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_control::{AsyncClient, Event, chain};
use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;

use crate::paths::Paths;

/// The port's name, given by the VM runner.
const PORT_NAME: &str = "dev.keelson.host";

/// A port nobody reads at the other end refuses bytes without a way to wait for a reader: epoll
/// reports such a port as hung up all the time.
const RETRY: Duration = Duration::from_millis(250);

/// Sends the kubeconfig, whenever there is a new one, and every event of PID 1, as JSON lines.
/// Without a port there is nothing to do.
pub(crate) async fn relay(paths: Paths, mut kubeconfig: watch::Receiver<Option<String>>) {
    let Some(device) = find_port(&paths.virtio_ports()).map(|name| paths.device(&name)) else {
        return;
    };
    loop {
        if let Err(error) = relay_once(&paths, &device, &mut kubeconfig).await {
            tracing::warn!("host port: {}", chain(error.as_ref()));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Until PID 1 ends the subscription, as it does when nobody reads at the host's end for long.
async fn relay_once(
    paths: &Paths,
    device: &Path,
    kubeconfig: &mut watch::Receiver<Option<String>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut port = File::from(rustix::fs::open(device, flags, Mode::empty())?);
    let mut events = AsyncClient::connect_to(&paths.control_socket())
        .await?
        .subscribe()
        .await?;
    // What was sent before the subscription ended may not have been read.
    kubeconfig.mark_changed();
    loop {
        let line = tokio::select! {
            event = events.next() => match event {
                Some(event) => event_line(&event?)?,
                None => return Ok(()),
            },
            changed = kubeconfig.changed() => {
                changed?;
                match kubeconfig.borrow_and_update().as_deref() {
                    Some(text) => kubeconfig_line(text),
                    None => continue,
                }
            }
        };
        write(&mut port, &line).await?;
    }
}

fn event_line(event: &Event) -> Result<String, serde_json::Error> {
    Ok(format!("{{\"event\":{}}}\n", serde_json::to_string(event)?))
}

fn kubeconfig_line(text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!("{{\"kubeconfig\":{text}}}\n")
}

async fn write(port: &mut File, line: &str) -> io::Result<()> {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match port.write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The kernel name of the port with our name.
fn find_port(ports: &Path) -> Option<String> {
    std::fs::read_dir(ports)
        .ok()?
        .filter_map(Result::ok)
        .find(|port| has_name(&port.path()))
        .and_then(|port| port.file_name().into_string().ok())
}

fn has_name(port: &Path) -> bool {
    let name: PathBuf = port.join("name");
    std::fs::read_to_string(name).is_ok_and(|name| name.trim_end() == PORT_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_its_name() {
        let ports = tempfile::tempdir().unwrap();
        for (device, name) in [
            ("vport0p1", "org.other\n"),
            ("vport0p2", "dev.keelson.host\n"),
        ] {
            std::fs::create_dir(ports.path().join(device)).unwrap();
            std::fs::write(ports.path().join(device).join("name"), name).unwrap();
        }
        assert_eq!(find_port(ports.path()).as_deref(), Some("vport0p2"));
        assert_eq!(find_port(&ports.path().join("absent")), None);
    }

    #[test]
    fn every_message_is_one_line_of_json() {
        let line = kubeconfig_line("a: \"b\"\nc: d\n");
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["kubeconfig"], "a: \"b\"\nc: d\n");
        let event = Event::Condition {
            name: "pki".to_owned(),
            raised: true,
        };
        let value: serde_json::Value = serde_json::from_str(&event_line(&event).unwrap()).unwrap();
        assert_eq!(value["event"]["condition"]["name"], "pki");
    }
}
