//! The node's configuration: showing, checking, comparing and applying it.

use std::io::Read;
use std::path::Path;

use keelson_api::v1alpha1::{
    ApplyConfigurationRequest, DiffConfigurationRequest, GetConfigurationRequest, SchemaRequest,
    ValidateConfigurationRequest,
};
use keelson_config::NodeConfig;

use super::{Run, look, trial};
use crate::arguments::{Apply, Output};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Answer, Fleet, conclude, look_any};
use crate::output::{Format, render, serialize};
use crate::terminal::{note, print, printable};
use crate::units::millis;

/// The configuration is text already: YAML as the node has it, or the same as JSON.
pub(super) async fn show(run: &Run, defaults: bool, format: Format) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let answers = Fleet::new(&session, session.all())
        .look(async |node| {
            let request = GetConfigurationRequest { defaults };
            node.call(t, node.configuration().get(request)).await
        })
        .await;
    let several = answers.len() > 1;
    let mut out = String::new();
    for answer in &answers {
        let Ok(configuration) = &answer.result else {
            continue;
        };
        if format == Format::Json {
            let value: serde_json::Value =
                serde_saphyr::from_str(&configuration.yaml).map_err(|_| {
                    Failure::other(format!("{}: its configuration is no YAML", answer.node))
                })?;
            out.push_str(&serialize(&value, Format::Json)?);
            continue;
        }
        if several {
            out.push_str(&format!("---\n# {}\n", answer.node));
        }
        out.push_str(&printable(&configuration.yaml));
    }
    print(&out)?;
    Ok(conclude(&answers, |_| Exit::Ok))
}

/// What `apply --if-revision` asks for.
pub(super) async fn revision(run: &Run) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let answers = Fleet::new(&session, session.all())
        .look(async |node| {
            let request = GetConfigurationRequest { defaults: false };
            node.call(t, node.configuration().get(request)).await
        })
        .await;
    for answer in &answers {
        let Ok(configuration) = &answer.result else {
            continue;
        };
        let revision = printable(&configuration.revision);
        print(&match answers.len() {
            1 => format!("{revision}\n"),
            _ => format!("{}   {revision}\n", answer.node),
        })?;
    }
    Ok(conclude(&answers, |_| Exit::Ok))
}

pub(super) async fn schema(run: &Run) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let schema = look_any(&session, async |node| {
        let request = SchemaRequest {};
        node.call(t, node.configuration().schema(request)).await
    })
    .await?;
    print(&printable(&schema.json))?;
    Ok(Exit::Ok)
}

pub(super) async fn validate(run: &Run, path: &Path) -> Result<Exit, Failure> {
    let yaml = read(path)?;
    let session = run.session()?;
    let t = session.timeout;
    let answers = Fleet::new(&session, session.all())
        .look(async |node| {
            let request = ValidateConfigurationRequest { yaml: yaml.clone() };
            node.call(t, node.configuration().validate(request)).await
        })
        .await;
    let output = Output {
        format: Format::Table,
    };
    print(&render(&answers, look::layout(run, output))?)?;
    Ok(conclude(&answers, |answer| {
        if answer.valid { Exit::Ok } else { Exit::Failed }
    }))
}

pub(super) fn validate_here(path: &Path) -> Result<Exit, Failure> {
    let text = read(path)?;
    match NodeConfig::parse(&text, &path.display().to_string()) {
        Ok(_) => {
            print("valid\n")?;
            Ok(Exit::Ok)
        }
        Err(error) => {
            print(&format!("{}\n", printable(error.report().trim_end())))?;
            Ok(Exit::Failed)
        }
    }
}

pub(super) async fn diff(run: &Run, path: &Path, output: Output) -> Result<Exit, Failure> {
    let yaml = read(path)?;
    let session = run.session()?;
    let t = session.timeout;
    let answers = Fleet::new(&session, session.all())
        .look(async |node| {
            let request = DiffConfigurationRequest { yaml: yaml.clone() };
            node.call(t, node.configuration().diff(request)).await
        })
        .await;
    print(&render(&answers, look::layout(run, output))?)?;
    Ok(conclude(&answers, |_| Exit::Ok))
}

pub(super) async fn apply(run: &Run, apply: &Apply) -> Result<Exit, Failure> {
    let yaml = read(&apply.file.path)?;
    let session = run.session()?;
    // A configuration holds the host name, so it fits one node.
    let endpoint = session.one("apply")?;
    let request = ApplyConfigurationRequest {
        yaml: yaml.clone(),
        dry_run: apply.dry_run,
        try_ms: apply.try_for.map_or(0, millis),
        expected_revision: apply.if_revision.clone().unwrap_or_default(),
    };
    let failed = |error| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let applied = node
        .call(session.timeout, node.configuration().apply(request))
        .await
        .map_err(|error| Failure::node(endpoint, error))?;
    let on_trial = !applied.trial_until.is_empty();
    let answer = Answer {
        node: endpoint.clone(),
        result: Ok(applied),
    };
    print(&render(&[answer], look::layout(run, apply.output))?)?;
    match apply.try_for {
        Some(try_for) if on_trial => trial::follow(run, &session, endpoint, &yaml, try_for).await,
        _ => {
            let done = if apply.dry_run {
                "nothing was changed"
            } else {
                "the configuration is in use"
            };
            note(&format!("{endpoint}: {done}"));
            Ok(Exit::Ok)
        }
    }
}

/// A configuration from a file or, for `-`, from standard input.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(Failure::file("read", path))?;
    Ok(text)
}
