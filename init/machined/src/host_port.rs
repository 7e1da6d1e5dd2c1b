//! Tells the machine that runs this one as a virtual machine what goes on, when it offers a port.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_api::access::Role;
use keelson_control::{AsyncClient, Event, chain};
use keelson_pki::ApiPki;
use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;

use crate::paths::Paths;

/// The port's name, given by the VM runner.
const PORT_NAME: &str = "dev.keelson.host";

/// A port nobody reads at the other end refuses bytes without a way to wait for a reader: epoll
/// reports such a port as hung up all the time.
const RETRY: Duration = Duration::from_millis(250);

/// Whom the machine's runner is in the node's eyes. It could read every disk and all memory.
const PERSON: &str = "admin";

/// Whether the machine's runner listens.
pub(crate) fn is_offered(paths: &Paths) -> bool {
    find_port(&paths.virtio_ports()).is_some()
}

/// Common name and organization of the runner's certificate.
pub(crate) fn person() -> (String, String) {
    (PERSON.to_owned(), Role::Admin.organization())
}

/// What the runner needs to call the node API, as JSON.
pub(crate) fn context(api: &ApiPki) -> Option<String> {
    const KEY: &str = "-----BEGIN PRIVATE KEY-----";
    let pair = api.host_pair()?;
    let (certificate, key) = pair.split_at(pair.find(KEY)?);
    let context = serde_json::json!({
        "authority": api.authority.certificate_pem(),
        "certificate": certificate,
        "key": key,
    });
    Some(context.to_string())
}

/// What is sent besides PID 1's events.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(crate) kubeconfig: watch::Receiver<Option<String>>,
    /// As [`context`] makes it.
    pub(crate) context: watch::Receiver<Option<String>>,
}

/// Sends kubeconfig and context, whenever there are new ones, and every event of PID 1, as JSON
/// lines. Without a port there is nothing to do.
pub(crate) async fn relay(paths: Paths, mut news: News) {
    let Some(device) = find_port(&paths.virtio_ports()).map(|name| paths.device(&name)) else {
        return;
    };
    loop {
        if let Err(error) = relay_once(&paths, &device, &mut news).await {
            tracing::warn!("host port: {}", chain(error.as_ref()));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Until PID 1 ends the subscription, as it does when nobody reads at the host's end for long.
async fn relay_once(
    paths: &Paths,
    device: &Path,
    news: &mut News,
) -> Result<(), Box<dyn std::error::Error>> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut port = File::from(rustix::fs::open(device, flags, Mode::empty())?);
    let mut events = AsyncClient::connect_to(&paths.control_socket())
        .await?
        .subscribe()
        .await?;
    // What was sent before the subscription ended may not have been read.
    news.kubeconfig.mark_changed();
    news.context.mark_changed();
    loop {
        let line = tokio::select! {
            event = events.next() => match event {
                Some(event) => event_line(&event?)?,
                None => return Ok(()),
            },
            changed = news.kubeconfig.changed() => {
                changed?;
                match news.kubeconfig.borrow_and_update().as_deref() {
                    Some(text) => kubeconfig_line(text),
                    None => continue,
                }
            }
            changed = news.context.changed() => {
                changed?;
                match news.context.borrow_and_update().as_deref() {
                    Some(json) => format!("{{\"context\":{json}}}\n"),
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
    fn a_context_holds_three_pem_texts() {
        let root = tempfile::tempdir().unwrap();
        let facts = keelson_pki::ApiFacts {
            node_name: "node-1".to_owned(),
            addresses: [].into(),
            host: Some(person()),
        };
        let mut vault = keelson_pki::DirectoryVault::new(root.path().to_owned());
        let now = time::OffsetDateTime::now_utc();
        let api = keelson_pki::establish_api(&mut vault, &facts, now).unwrap();
        let value: serde_json::Value = serde_json::from_str(&context(&api).unwrap()).unwrap();
        let parts = [
            ("authority", "CERTIFICATE"),
            ("certificate", "CERTIFICATE"),
            ("key", "PRIVATE KEY"),
        ];
        for (part, label) in parts {
            let text = value[part].as_str().unwrap();
            assert!(
                text.starts_with(&format!("-----BEGIN {label}-----")),
                "{part}"
            );
            assert_eq!(text.matches("-----BEGIN").count(), 1, "{part}");
        }
        let certificate = value["certificate"].as_str().unwrap();
        let summary = keelson_pki::summary(certificate.as_bytes()).unwrap();
        assert_eq!(summary.subject, "O=keelson:admin, CN=admin");
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
