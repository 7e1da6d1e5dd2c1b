//! `apply --code`: the first configuration of a node, and a certificate for who gives it.

use keelson_api::v1alpha1::MaintenanceApplyRequest;
use keelson_client::{Context, Contexts, Credentials, Endpoint, Fingerprint, presented};
use keelson_config::NodeConfig;
use keelson_control::chain;

use super::{Run, certificates, configuration};
use crate::arguments::Apply;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::prompt;
use crate::session::{Session, contexts_file};
use crate::terminal::{note, print};

pub(super) async fn apply(run: &Run, apply: &Apply) -> Result<Exit, Failure> {
    let [endpoint] = &run.common.nodes[..] else {
        return Err(Failure::usage(
            "--code is for one node in maintenance: name it with --node",
        ));
    };
    let yaml = configuration::read(&apply.file.path)?;
    let person = person(apply.person.as_deref(), std::env::var("USER").ok())?;
    // The code works once: whatever can fail on this side comes before it is sent.
    let path = contexts_file()?;
    let mut contexts = Contexts::load(&path)?;
    let name = context_name(apply.save_as.as_deref(), &yaml, endpoint);
    if contexts.contexts.contains_key(&name) {
        return Err(Failure::usage(format!(
            "there is a context {name:?} already; name another one with --save-as, or remove it"
        )));
    }
    contexts.save(&path)?;
    let key = certificates::new_key()?;
    let request = MaintenanceApplyRequest {
        yaml,
        code: apply.code.clone().unwrap_or_default(),
        certificate_request: certificates::request(&key, &person)?,
    };

    let fingerprint = match run.common.fingerprint {
        Some(fingerprint) => fingerprint,
        None => compare(run, endpoint).await?,
    };
    let credentials = Credentials::pinned(fingerprint).map_err(Failure::Fingerprint)?;
    let session = Session::pinned(&run.common, credentials)?;
    let failed = |error| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let answer = node
        .call(session.timeout, node.maintenance().apply(request))
        .await
        .map_err(|error| Failure::node(endpoint, error))?;

    let context = Context {
        endpoints: vec![endpoint.clone()],
        authority: answer.authority,
        certificate: answer.certificate,
        key: key.serialize_pem(),
        server_name: None,
    };
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    if let Err(error) = contexts.save(&path) {
        // Nobody else has this certificate: better on the screen than lost.
        note(&format!("keelsonctl: {}", chain(&error)));
        note("the node is configured; save what follows as your contexts file:");
        print(&serde_saphyr::to_string(&contexts)?)?;
        return Ok(Exit::Failed);
    }
    note(&format!(
        "{endpoint}: the configuration is in use; you are admin {person:?}, and {name:?} is the current context"
    ));
    Ok(Exit::Ok)
}

fn person(given: Option<&str>, user: Option<String>) -> Result<String, Failure> {
    given
        .map(str::to_owned)
        .or(user)
        .filter(|person| !person.is_empty())
        .ok_or_else(|| Failure::usage("USER is not set: say who you are with --person"))
}

/// The given name, else the node's host name, else its address.
fn context_name(given: Option<&str>, yaml: &str, endpoint: &Endpoint) -> String {
    let hostname = || NodeConfig::parse(yaml, "").ok()?.hostname;
    given
        .map(str::to_owned)
        .unwrap_or_else(|| hostname().map_or_else(|| endpoint.to_string(), |name| name.to_string()))
}

/// Shows what the node shows, for a person who sees its console.
async fn compare(run: &Run, endpoint: &Endpoint) -> Result<Fingerprint, Failure> {
    if !run.terminal.questions {
        return Err(Failure::usage(
            "give the fingerprint that the node's console shows with --fingerprint",
        ));
    }
    let shown = presented(endpoint)
        .await
        .map_err(|error| Failure::node(endpoint, error))?;
    let Some(own) = shown.first() else {
        return Err(Failure::other(format!("{endpoint} shows no certificate")));
    };
    note(&format!(
        "{endpoint} shows a certificate with the fingerprint"
    ));
    note(&format!("  {own}"));
    for authority in shown.iter().skip(1) {
        note("signed by an authority with the fingerprint");
        note(&format!("  {authority}"));
    }
    if prompt::confirmed("Does the node's console show the same?").await? {
        Ok(*own)
    } else {
        Err(Failure::other(
            "not confirmed; nothing was sent to the node",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_called_like_its_node() {
        let endpoint: Endpoint = "192.0.2.1:1".parse().unwrap();
        let yaml = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: node-1\n";
        assert_eq!(context_name(Some("x"), yaml, &endpoint), "x");
        assert_eq!(context_name(None, yaml, &endpoint), "node-1");
        assert_eq!(context_name(None, "a: b", &endpoint), "192.0.2.1:1");
    }

    #[test]
    fn somebody_must_have_done_it() {
        assert_eq!(person(None, Some("ana".to_owned())).unwrap(), "ana");
        assert_eq!(person(Some("eve"), Some("ana".to_owned())).unwrap(), "eve");
        assert!(person(None, Some(String::new())).is_err());
        assert!(person(None, None).is_err());
    }
}
