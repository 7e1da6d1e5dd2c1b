//! What is written as YAML is read back to the same configuration.

use keelson_config::{MachineId, NodeConfig};
use proptest::prelude::*;

#[test]
fn defaults_round_trip() {
    let id = MachineId::from_bytes([0xab; 16]);
    let config = NodeConfig::default_for(&id);
    let yaml = config.to_yaml().unwrap();
    assert_eq!(NodeConfig::parse(&yaml, "x").unwrap(), config, "{yaml}");
}

#[test]
fn the_full_example_round_trips() {
    let config = NodeConfig::parse(include_str!("full.yaml"), "x").unwrap();
    let yaml = config.to_yaml().unwrap();
    assert_eq!(NodeConfig::parse(&yaml, "x").unwrap(), config, "{yaml}");
}

#[test]
fn the_shortest_file_has_every_default() {
    let id = MachineId::from_bytes([1; 16]);
    let text = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n";
    assert_eq!(
        NodeConfig::parse(text, "x").unwrap().effective(&id),
        NodeConfig::default_for(&id)
    );
}

#[test]
fn effective_keeps_what_was_given() {
    let id = MachineId::from_bytes([1; 16]);
    let config = NodeConfig::parse(include_str!("full.yaml"), "x").unwrap();
    assert_eq!(config.clone().effective(&id), config);
}

/// Text of a valid configuration, with values that look like other YAML types.
fn valid_yaml() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a", "1", "0x1f", "1e3", "null", "true", "no", "n", "y", "on", "123", "1-2", "a.b",
    ]);
    let interface = (0_u8..200, any::<bool>(), prop::option::of(1280_u32..65_536)).prop_map(|(n, dhcp4, mtu)| {
        let mtu = mtu.map_or_else(String::new, |mtu| format!(", mtu: {mtu}"));
        format!("  - {{name: eth{n}, dhcp4: {dhcp4}, addresses: [172.16.{n}.1/24, \"2001:db8:{n}::1/64\"]{mtu}}}\n")
    });
    (
        name,
        prop::collection::vec(interface, 0..4),
        8_u8..=24,
        any::<bool>(),
    )
        .prop_map(|(name, interfaces, len, sqlite)| {
            let list = if interfaces.is_empty() {
                " []\n".to_owned()
            } else {
                format!("\n{}", interfaces.concat())
            };
            let datastore = if sqlite { "sqlite" } else { "etcd" };
            format!(
                "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: \"{name}\"\n\
                 network:\n  searchDomains: [\"{name}\"]\n  interfaces:{list}\
                 cluster:\n  datastore: {datastore}\n  podCIDR: 30.0.0.0/{}\n",
                len.max(9)
            )
        })
}

proptest! {
    #[test]
    fn valid_configurations_round_trip(yaml in valid_yaml()) {
        // Two interfaces may have drawn the same number; that refusal is tested elsewhere.
        if let Ok(config) = NodeConfig::parse(&yaml, "x") {
            let written = config.to_yaml().unwrap();
            let read = NodeConfig::parse(&written, "x").map_err(|e| TestCaseError::fail(e.report()))?;
            prop_assert_eq!(read, config, "{}", written);
        } else {
            let duplicate = NodeConfig::parse(&yaml, "x").unwrap_err();
            prop_assert!(duplicate.problem.contains("already"), "{}", duplicate.report());
        }
    }
}
