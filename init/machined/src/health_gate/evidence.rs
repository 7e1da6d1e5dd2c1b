//! Gathers what a version is judged by.

use std::path::Path;

use keelson_api::v1alpha1::Check;
use keelson_config::CheckUrl;
use keelson_control::{AsyncClient, ClientError, ServiceState, ServiceStatus, Status, chain};
use serde_json::Value;
use time::OffsetDateTime;

use super::api_probe::ApiProbe;
use super::{API, CLUSTER, CONFIGURED, SERVICES, Sight, USER, user_checks};
use crate::paths::Paths;
use crate::upgrade::cluster::ApiServer;

/// What is looked at.
#[derive(Debug)]
pub(crate) struct Evidence {
    paths: Paths,
    boot_id: String,
    probe: ApiProbe,
    /// Kept between looks: a handshake with the API server costs more than the question.
    server: Option<(String, ApiServer)>,
}

impl Evidence {
    pub(crate) fn new(paths: &Paths, boot_id: &str) -> Self {
        Self {
            paths: paths.clone(),
            boot_id: boot_id.to_owned(),
            probe: ApiProbe::new(paths),
            server: None,
        }
    }

    /// Looks. `cluster`: the node is to be part of one, so a configuration has to be in use.
    pub(crate) async fn look(&mut self, cluster: bool, checks: &[CheckUrl]) -> Sight {
        let status = match self.pid1().await {
            Ok(status) => status,
            Err(error) => {
                return Sight {
                    checks: vec![failed(SERVICES, format!("PID 1: {}", chain(&error)))],
                    restarts: 0,
                };
            }
        };
        let mut seen = vec![configured(&status, cluster), services(&status, cluster)];
        let answer = self.probe.ask(OffsetDateTime::now_utc()).await;
        seen.push(check(
            API,
            answer.map(|()| "it answers through apid".to_owned()),
        ));
        if cluster {
            let node = self.node(&status).await;
            seen.push(check(CLUSTER, node));
        }
        if !checks.is_empty() {
            seen.push(user(checks).await);
        }
        Sight {
            checks: seen,
            restarts: status
                .services
                .iter()
                .map(|service| u64::from(service.restarts))
                .sum(),
        }
    }

    async fn pid1(&self) -> Result<Status, ClientError> {
        AsyncClient::connect_to(&self.paths.control_socket())
            .await?
            .status()
            .await
    }

    async fn node(&mut self, status: &Status) -> Result<String, String> {
        let name = status.facts.get("node-name").cloned().unwrap_or_default();
        if !status.conditions.iter().any(|name| name == "pki") {
            return Err("its keys and certificates are not there yet".to_owned());
        }
        let server = match self.server.take() {
            Some((known, server)) if known == name => server,
            _ => ApiServer::new(&self.paths, &name).map_err(|error| chain(&error))?,
        };
        let node = server.own_node().await;
        self.server = Some((name, server));
        let node = node.map_err(|error| chain(&error))?;
        judge_node(&node, &self.boot_id, &os_image(&self.paths.os_release())?)
    }
}

fn configured(status: &Status, cluster: bool) -> Check {
    let holds = |name: &str| status.conditions.iter().any(|condition| condition == name);
    let result = match (holds("config"), cluster) {
        (true, _) => Ok("a configuration is in use".to_owned()),
        (false, false) => Ok("it had no configuration before either".to_owned()),
        (false, true) if holds("maintenance") => Err(
            "the configuration on STATE cannot be used by this version; its console says why"
                .to_owned(),
        ),
        (false, true) => Err("no configuration is in use yet".to_owned()),
    };
    check(CONFIGURED, result)
}

/// Without a cluster most services wait for what never comes.
fn services(status: &Status, cluster: bool) -> Check {
    let ill: Vec<String> = status
        .services
        .iter()
        .filter(|service| match service.state {
            ServiceState::Ready | ServiceState::Disabled | ServiceState::Exited => false,
            ServiceState::Waiting => cluster,
            _ => true,
        })
        .map(in_words)
        .collect();
    let result = if ill.is_empty() {
        Ok(format!("all {} are well", status.services.len()))
    } else {
        Err(ill.join(", "))
    };
    check(SERVICES, result)
}

fn in_words(service: &ServiceStatus) -> String {
    let word = keelson_api::state_word(crate::api::services::state(service.state));
    match (&service.last_exit, service.waiting_for.is_empty()) {
        (_, false) => format!(
            "{} is {word} (for {})",
            service.name,
            service.waiting_for.join(", ")
        ),
        (Some(exit), true) => format!("{} is {word} ({exit})", service.name),
        (None, true) => format!("{} is {word}", service.name),
    }
}

/// Whether the node is Ready by the word of this boot's kubelet, of this version.
fn judge_node(node: &Value, boot_id: &str, os_image: &str) -> Result<String, String> {
    let info = &node["status"]["nodeInfo"];
    if info["bootID"] != boot_id {
        return Err("kubelet has not reported since this boot".to_owned());
    }
    if info["osImage"] != os_image {
        return Err(format!(
            "kubelet reports {}, not {os_image:?}",
            info["osImage"]
        ));
    }
    let ready = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    match ready {
        Some(ready) if ready["status"] == "True" => {
            Ok(format!("Ready, by the kubelet of {os_image}"))
        }
        Some(ready) => Err(format!(
            "not Ready: {}",
            ready["message"].as_str().unwrap_or("no reason given")
        )),
        None => Err("kubelet has not said whether it is Ready".to_owned()),
    }
}

/// What kubelet calls the system: PRETTY_NAME of os-release.
fn os_image(path: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .ok_or_else(|| format!("{} has no PRETTY_NAME", path.display()))
}

/// All at the same time, so that one that hangs does not hide another.
async fn user(checks: &[CheckUrl]) -> Check {
    let tasks: Vec<_> = checks
        .iter()
        .cloned()
        .map(|check| tokio::spawn(async move { user_checks::ask(&check).await }))
        .collect();
    let mut failures = Vec::new();
    for task in tasks {
        match task.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failures.push(failure),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let result = if failures.is_empty() {
        Ok(format!("all {} answer", checks.len()))
    } else {
        Err(failures.join("; "))
    };
    check(USER, result)
}

fn check(name: &str, result: Result<String, String>) -> Check {
    Check {
        name: name.to_owned(),
        passed: result.is_ok(),
        reason: result.unwrap_or_else(|reason| reason),
    }
}

fn failed(name: &str, reason: String) -> Check {
    check(name, Err(reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, state: ServiceState) -> ServiceStatus {
        ServiceStatus {
            name: name.to_owned(),
            state,
            since_ms: 0,
            pid: None,
            next_try_ms: None,
            restarts: 0,
            waiting_for: Vec::new(),
            last_exit: None,
            last_lines: Vec::new(),
        }
    }

    fn status(conditions: &[&str], services: &[(&str, ServiceState)]) -> Status {
        Status {
            conditions: conditions.iter().map(|name| (*name).to_owned()).collect(),
            services: services
                .iter()
                .map(|(name, state)| service(name, *state))
                .collect(),
            ..Status::default()
        }
    }

    #[test]
    fn a_node_that_had_a_configuration_must_have_one() {
        for (conditions, cluster, passed) in [
            (&["config"][..], true, true),
            (&["config"], false, true),
            (&["maintenance"], false, true),
            (&["maintenance"], true, false),
            (&[], true, false),
        ] {
            let found = configured(&status(conditions, &[]), cluster);
            assert_eq!(found.passed, passed, "{conditions:?} {cluster}");
        }
    }

    #[test]
    fn services_that_wait_are_fine_without_a_cluster() {
        let waiting = status(
            &[],
            &[
                ("netd", ServiceState::Ready),
                ("kubelet", ServiceState::Waiting),
            ],
        );
        assert!(services(&waiting, false).passed);
        assert!(!services(&waiting, true).passed);
        for ill in [
            ServiceState::Backoff,
            ServiceState::CrashLoop,
            ServiceState::Starting,
            ServiceState::Stopped,
            ServiceState::Stopping,
        ] {
            let status = status(&[], &[("netd", ill)]);
            assert!(!services(&status, false).passed, "{ill:?}");
        }
    }

    #[test]
    fn only_this_boots_kubelet_of_this_version_counts() {
        let node = |boot: &str, image: &str, ready: &str| {
            json!({"status": {
                "nodeInfo": {"bootID": boot, "osImage": image},
                "conditions": [{"type": "Ready", "status": ready, "message": "runtime is down"}],
            }})
        };
        let judged = |node: &Value| judge_node(node, "now", "Keelson 0.2.0");
        assert!(judged(&node("now", "Keelson 0.2.0", "True")).is_ok());
        for (node, part) in [
            (node("before", "Keelson 0.2.0", "True"), "since this boot"),
            (
                node("now", "Keelson 0.1.0", "True"),
                "reports \"Keelson 0.1.0\"",
            ),
            (node("now", "Keelson 0.2.0", "False"), "runtime is down"),
            (json!({}), "since this boot"),
        ] {
            let reason = judged(&node).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn the_name_of_the_system_is_read_as_kubelet_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("os-release");
        std::fs::write(&path, "NAME=\"Keelson\"\nPRETTY_NAME=\"Keelson 0.2.0\"\n").unwrap();
        assert_eq!(os_image(&path).unwrap(), "Keelson 0.2.0");
        std::fs::write(&path, "NAME=x\n").unwrap();
        assert!(os_image(&path).is_err());
    }
}
