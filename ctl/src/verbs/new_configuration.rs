//! `config new`: a working configuration from options or a few questions.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use keelson_config::{
    ApiVersion, Cidr, ClusterName, Hostname, InterfaceAddress, InterfaceName, Kind, NodeConfig,
    Route, RouteTarget, ServerName,
};
use serde::Serialize;

use super::Run;
use crate::arguments::{Datastore, NewConfiguration};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::prompt;
use crate::terminal::{note, print};

pub(super) async fn write(run: &Run, mut new: NewConfiguration) -> Result<Exit, Failure> {
    let output = new.output.take();
    if let Some(path) = &output
        && path.exists()
    {
        return Err(Failure::usage(format!("{} exists already", path.display())));
    }
    if new == NewConfiguration::default() && run.terminal.questions {
        new = questions().await?;
    }
    let text = text(&new)?;
    match output {
        None => print(&text)?,
        Some(path) => {
            keelson_durable::replace(&path, text.as_bytes(), 0o644)?;
            note(&format!(
                "{} is written; `keelsonctl apply -f` gives it to a node",
                path.display()
            ));
        }
    }
    Ok(Exit::Ok)
}

/// Only what was given: defaults stay the node's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: ApiVersion,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a Hostname>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Cluster<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Network<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nameservers: &'a [IpAddr],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    time_servers: &'a [ServerName],
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a InterfaceName,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dhcp4: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    addresses: &'a [InterfaceAddress],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

#[derive(Serialize)]
struct Cluster<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a ClusterName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datastore: Option<keelson_config::Datastore>,
    #[serde(rename = "podCIDR", skip_serializing_if = "Option::is_none")]
    pod_cidr: Option<&'a Cidr>,
    #[serde(rename = "serviceCIDR", skip_serializing_if = "Option::is_none")]
    service_cidr: Option<&'a Cidr>,
}

/// The configuration as YAML, which a node accepts.
fn text(new: &NewConfiguration) -> Result<String, Failure> {
    let interface = new.interface.as_ref().map(|name| Interface {
        name,
        dhcp4: new.dhcp || new.addresses.is_empty(),
        addresses: &new.addresses,
        routes: new.gateways.iter().map(|via| default_route(*via)).collect(),
    });
    let network = Network {
        interfaces: interface.into_iter().collect(),
        nameservers: &new.name_servers,
        time_servers: &new.time_servers,
    };
    let says_network = !network.interfaces.is_empty()
        || !network.nameservers.is_empty()
        || !network.time_servers.is_empty();
    let cluster = Cluster {
        name: new.cluster_name.as_ref(),
        datastore: new.datastore.map(Into::into),
        pod_cidr: new.pod_cidr.as_ref(),
        service_cidr: new.service_cidr.as_ref(),
    };
    let says_cluster = cluster.name.is_some()
        || cluster.datastore.is_some()
        || cluster.pod_cidr.is_some()
        || cluster.service_cidr.is_some();
    let document = Document {
        api_version: ApiVersion::V1Alpha1,
        kind: Kind::NodeConfig,
        hostname: new.hostname.as_ref(),
        network: says_network.then_some(network),
        cluster: says_cluster.then_some(cluster),
    };
    let text = serde_saphyr::to_string(&document)?;
    NodeConfig::parse(&text, "the new configuration")
        .map_err(|error| Failure::usage(error.report()))?;
    Ok(text)
}

fn default_route(via: IpAddr) -> Route {
    Route {
        to: RouteTarget::Default,
        via,
    }
}

async fn questions() -> Result<NewConfiguration, Failure> {
    note("Some questions; an empty answer takes what is in brackets.");
    let mut new = NewConfiguration {
        hostname: value("Host name of the node [made from its machine id]").await?,
        ..Default::default()
    };
    if word("Address by DHCP, or static? [dhcp]", &["dhcp", "static"]).await? == Some("static") {
        new.interface = Some(required("Name of the interface, such as eth0").await?);
        new.addresses = vec![required("Address with prefix length, such as 192.0.2.10/24").await?];
        new.gateways = value("Gateway [none]").await?.into_iter().collect();
        new.name_servers = value("DNS server [none]").await?.into_iter().collect();
    }
    new.cluster_name = value("Name of the cluster [keelson]").await?;
    new.datastore = match word("Datastore, etcd or sqlite? [etcd]", &["etcd", "sqlite"]).await? {
        Some("sqlite") => Some(Datastore::Sqlite),
        _ => None,
    };
    Ok(new)
}

/// Asks until the answer is empty or can be read.
async fn value<T: FromStr<Err: Display>>(question: &str) -> Result<Option<T>, Failure> {
    loop {
        match prompt::ask(&format!("{question}: ")).await? {
            None => return Err(Failure::other("the questions were not answered")),
            Some(answer) if answer.is_empty() => return Ok(None),
            Some(answer) => match answer.parse() {
                Ok(value) => return Ok(Some(value)),
                Err(error) => note(&error.to_string()),
            },
        }
    }
}

/// Asks until there is an answer.
async fn required<T: FromStr<Err: Display>>(question: &str) -> Result<T, Failure> {
    loop {
        if let Some(value) = value(question).await? {
            return Ok(value);
        }
        note("this one is needed");
    }
}

/// Asks until the answer is empty or one of these words.
async fn word(question: &str, words: &[&'static str]) -> Result<Option<&'static str>, Failure> {
    loop {
        let Some(answer) = value::<String>(question).await? else {
            return Ok(None);
        };
        match words.iter().find(|word| **word == answer) {
            Some(word) => return Ok(Some(word)),
            None => note(&format!("one of: {}", words.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, ConfigurationVerb, Verb};

    fn new(options: &str) -> NewConfiguration {
        let words = "keelsonctl config new"
            .split(' ')
            .chain(options.split_whitespace());
        match Arguments::try_parse_from(words).unwrap().verb {
            Verb::Config(ConfigurationVerb::New(new)) => new,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_options_every_default_holds() {
        assert_eq!(
            text(&new("")).unwrap(),
            "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n"
        );
    }

    #[test]
    fn every_option_arrives() {
        let yaml = text(&new(
            "--hostname node-1 --interface eth0 --address 192.0.2.10/24 --address 2001:db8::10/64 \
             --gateway 192.0.2.1 --gateway fe80::1 --dns 192.0.2.53 --dns 2001:db8:: \
             --time-server time.example.org --cluster-name home --datastore sqlite \
             --pod-cidr 10.1.0.0/16 --service-cidr 10.2.0.0/16",
        ))
        .unwrap();
        let config = NodeConfig::parse(&yaml, "test").unwrap();
        assert_eq!(config.hostname.unwrap().as_str(), "node-1");
        let interface = &config.network.interfaces[0];
        assert_eq!((interface.addresses.len(), interface.dhcp4), (2, false));
        assert_eq!(interface.routes[1].via.to_string(), "fe80::1");
        assert_eq!(config.network.nameservers[1].to_string(), "2001:db8::");
        assert_eq!(
            config.network.time_servers[0].to_string(),
            "time.example.org"
        );
        assert_eq!(config.cluster.name.as_str(), "home");
        assert_eq!(config.cluster.datastore, keelson_config::Datastore::Sqlite);
        assert_eq!(config.cluster.service_cidr.to_string(), "10.2.0.0/16");
    }

    #[test]
    fn names_that_look_like_numbers_stay_names() {
        let yaml = text(&new("--hostname 1e3 --cluster-name true")).unwrap();
        let config = NodeConfig::parse(&yaml, "test").unwrap();
        assert_eq!(config.hostname.unwrap().as_str(), "1e3");
        assert_eq!(config.cluster.name.as_str(), "true");
    }

    #[test]
    fn what_no_node_would_take_is_refused_here() {
        let off_link = "--interface eth0 --address 192.0.2.10/24 --gateway 198.51.100.1";
        let error = text(&new(off_link)).unwrap_err().to_string();
        assert!(error.contains("not on the link"), "{error}");
        let words = ["keelsonctl", "config", "new", "--address", "192.0.2.10/24"];
        assert!(Arguments::try_parse_from(words).is_err());
    }
}
