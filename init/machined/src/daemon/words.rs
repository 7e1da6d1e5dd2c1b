//! What a node in maintenance says on its console.

use std::net::IpAddr;

/// What a person can do about a node without a usable configuration, besides the API.
pub(super) const HOW_TO_FEED: &str = "configuration: the node waits in maintenance mode, without \
     Kubernetes. Put a keelson.yaml on the first partition (FAT) of its disk; it is read again \
     every 30 s and at every start";

/// How to give the node a configuration through its API.
pub(super) fn invitation(addresses: &[IpAddr], fingerprint: &str, code: &str) -> Vec<String> {
    let Some(first) = addresses.first() else {
        return vec![
            "maintenance: the node has no address that others can call, so keelsonctl cannot \
             reach it; see to its network"
                .to_owned(),
        ];
    };
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    vec![
        format!("maintenance: or send one to {} with", all.join(", ")),
        format!(
            "  keelsonctl apply --code {code} --fingerprint {fingerprint} -n {first} -f keelson.yaml"
        ),
        format!("maintenance: one-time code {code}"),
        format!("maintenance: fingerprint of this node's authority (SHA-256) {fingerprint}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_typed_as_it_stands() {
        let addresses = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let lines = invitation(&addresses, "ab12", "K7QW-9M2X");
        assert!(lines[0].contains("192.0.2.7, 2001:db8::7"));
        assert_eq!(
            lines[1].trim(),
            "keelsonctl apply --code K7QW-9M2X --fingerprint ab12 -n 192.0.2.7 -f keelson.yaml"
        );
        assert!(invitation(&[], "ab12", "K7QW-9M2X")[0].contains("no address"));
    }
}
