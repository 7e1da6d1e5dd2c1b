//! What the node tells the runner through its virtio-serial port: one JSON object per line.

use keelson_control::Event;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostMessage {
    /// An event of PID 1.
    Event(Event),
    /// What `keelsonctl` needs to speak to this node as an administrator.
    Context(NodeContext),
    /// The administrator's kubeconfig, for a server at 127.0.0.1:6443.
    Kubeconfig(String),
}

/// An administrator's certificate for the node API, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeContext {
    /// What the node's own certificate is checked against.
    pub authority: String,
    /// The administrator's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl HostMessage {
    /// Reads one line; the error says what is wrong with it.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_node() {
        let message = HostMessage::parse("{\"kubeconfig\":\"apiVersion: v1\\n\"}").unwrap();
        assert_eq!(
            message,
            HostMessage::Kubeconfig("apiVersion: v1\n".to_owned())
        );
        let line = "{\"event\":{\"condition\":{\"name\":\"node-ready\",\"raised\":true}}}";
        let HostMessage::Event(Event::Condition { name, raised }) =
            HostMessage::parse(line).unwrap()
        else {
            panic!("not a condition: {line}");
        };
        assert_eq!((name.as_str(), raised), ("node-ready", true));
        assert!(HostMessage::parse("{\"rm\":\"-rf\"}").is_err());
        assert!(HostMessage::parse("").is_err());
    }
}
