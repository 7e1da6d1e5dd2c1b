//! `edit config`: the configuration in an editor, checked before it is sent. What was typed is
//! never lost: whenever something goes wrong the file stays and is named.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use keelson_api::v1alpha1::{
    ApplyConfigurationRequest, ApplyConfigurationResponse, GetConfigurationRequest,
    GetConfigurationResponse, ValidateConfigurationRequest,
};
use keelson_client::Endpoint;

use super::{Run, look, trial};
use crate::arguments::{EditConfiguration, Output};
use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::fleet::{self, Answer};
use crate::output::{Format, render};
use crate::prompt;
use crate::session::Session;
use crate::signals::interruptible;
use crate::terminal::{note, print};
use crate::units::millis;

pub(super) async fn configuration(run: &Run, edit: &EditConfiguration) -> Result<Exit, Failure> {
    let session = run.session()?;
    let endpoint = session.one("edit config")?;
    let editor = editor(|name| std::env::var_os(name))?;
    let before = interruptible(fetch(&session, endpoint)).await?;
    let path = draft(&before.yaml)?;
    match edited(run, &session, endpoint, edit, &editor, &before, &path).await {
        Ok(exit) => {
            std::fs::remove_file(&path).map_err(Failure::file("remove", &path))?;
            Ok(exit)
        }
        Err(failure) => {
            note(&format!("your text is kept in {}", path.display()));
            Err(failure)
        }
    }
}

async fn edited(
    run: &Run,
    session: &Session,
    endpoint: &Endpoint,
    edit: &EditConfiguration,
    editor: &OsString,
    before: &GetConfigurationResponse,
    path: &Path,
) -> Result<Exit, Failure> {
    let yaml = loop {
        open(editor, path)?;
        let text = std::fs::read_to_string(path).map_err(Failure::file("read", path))?;
        if text == before.yaml {
            note("nothing was changed");
            return Ok(Exit::Ok);
        }
        let Some(problem) = interruptible(check(session, endpoint, &text)).await? else {
            break text;
        };
        note(problem.trim_end());
        let again =
            run.terminal.questions && interruptible(prompt::confirmed("Edit it again?")).await?;
        if !again {
            return Err(Failure::other(format!(
                "{endpoint}: the configuration is not valid, nothing was changed"
            )));
        }
    };
    interruptible(async {
        let applied = apply(session, endpoint, edit, &yaml, &before.revision).await?;
        let on_trial = !applied.trial_until.is_empty();
        let answer = Answer {
            node: endpoint.clone(),
            result: Ok(applied),
        };
        let output = Output {
            format: Format::Table,
        };
        print(&render(&[answer], look::layout(run, output))?)?;
        match edit.try_for {
            Some(try_for) if on_trial => {
                trial::follow(run, session, endpoint, &yaml, try_for).await
            }
            _ => {
                note(&format!("{endpoint}: the configuration is in use"));
                Ok(Exit::Ok)
            }
        }
    })
    .await
}

async fn fetch(
    session: &Session,
    endpoint: &Endpoint,
) -> Result<GetConfigurationResponse, Failure> {
    fleet::look(session, endpoint, async |node| {
        let request = GetConfigurationRequest { defaults: false };
        node.call(session.timeout, node.configuration().get(request))
            .await
    })
    .await
}

/// What is wrong with it; none when it is valid. The connection is a new one: editing takes
/// minutes.
async fn check(
    session: &Session,
    endpoint: &Endpoint,
    yaml: &str,
) -> Result<Option<String>, Failure> {
    let answer = fleet::look(session, endpoint, async |node| {
        let yaml = yaml.to_owned();
        let request = ValidateConfigurationRequest { yaml };
        node.call(session.timeout, node.configuration().validate(request))
            .await
    })
    .await?;
    Ok((!answer.valid).then_some(answer.problem))
}

async fn apply(
    session: &Session,
    endpoint: &Endpoint,
    edit: &EditConfiguration,
    yaml: &str,
    revision: &str,
) -> Result<ApplyConfigurationResponse, Failure> {
    let failed = |error: NodeFailure| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let request = ApplyConfigurationRequest {
        yaml: yaml.to_owned(),
        dry_run: false,
        try_ms: edit.try_for.map_or(0, millis),
        // What somebody else changed while this was edited is not undone by it.
        expected_revision: revision.to_owned(),
    };
    node.call(session.timeout, node.configuration().apply(request))
        .await
        .map_err(|error| failed(error.into()))
}

/// A file for this person only, which stays until it is removed.
fn draft(text: &str) -> Result<PathBuf, Failure> {
    let folder = std::env::temp_dir();
    let mut file = tempfile::Builder::new()
        .prefix("keelson-config-")
        .suffix(".yaml")
        .tempfile_in(&folder)
        .map_err(Failure::file("make a file in", &folder))?;
    file.write_all(text.as_bytes())
        .map_err(Failure::file("write", file.path()))?;
    let path = file.path().to_owned();
    let (_, path) = file
        .keep()
        .map_err(|error| Failure::file("keep", &path)(error.error))?;
    Ok(path)
}

fn editor(variable: impl Fn(&str) -> Option<OsString>) -> Result<OsString, Failure> {
    ["VISUAL", "EDITOR"]
        .iter()
        .filter_map(|name| variable(name))
        .find(|value| !value.is_empty())
        .ok_or_else(|| {
            Failure::usage("set EDITOR to the editor you like, or use `config show` and `apply`")
        })
}

/// Runs the editor; the variable may hold options, so a shell takes it apart, as in other
/// programs.
fn open(editor: &OsString, path: &Path) -> Result<(), Failure> {
    let mut script = editor.clone();
    script.push(" \"$1\"");
    let status = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg("keelsonctl")
        .arg(path)
        .status()
        .map_err(Failure::file("start the editor for", path))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::other(format!(
            "the editor ended with {status}; nothing was changed"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visual_editor_comes_first_and_an_empty_one_is_none() {
        let both = |name: &str| Some(OsString::from(name.to_lowercase()));
        assert_eq!(editor(both).unwrap(), "visual");
        let one = |name: &str| Some(OsString::from(if name == "EDITOR" { "vi" } else { "" }));
        assert_eq!(editor(one).unwrap(), "vi");
        assert!(editor(|_| None).is_err());
    }
}
