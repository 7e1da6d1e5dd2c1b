//! `config contexts|use|add|remove`: the contexts file.

use std::path::{Path, PathBuf};

use keelson_client::{Context, Contexts, ContextsError, Identity};
use serde::Serialize;
use time::OffsetDateTime;

use super::Run;
use crate::arguments::AddContext;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, serialize};
use crate::session::contexts_file;
use crate::table::{Cell, Table, Tone};
use crate::terminal::{note, print};
use crate::units::{rfc3339, until};

pub(super) fn list(run: &Run, format: Format) -> Result<Exit, Failure> {
    let path = contexts_file()?;
    let contexts = Contexts::load(&path)?;
    let all: Vec<Summary> = contexts
        .contexts
        .iter()
        .map(|(name, context)| Summary::of(name, context, contexts.current.as_deref()))
        .collect();
    if let Format::Json | Format::Yaml = format {
        print(&serialize(&all, format)?)?;
        return Ok(Exit::Ok);
    }
    if all.is_empty() {
        return Err(ContextsError::NoneExist { path }.into());
    }
    let mut table = Table::new([
        "CURRENT",
        "NAME",
        "PERSON",
        "ROLE",
        "EXPIRES IN",
        "ENDPOINTS",
    ]);
    table.more(format == Format::Wide, ["NOT AFTER"]);
    for summary in &all {
        table.row(summary.cells(OffsetDateTime::now_utc()));
    }
    print(&table.render(run.terminal.colour))?;
    Ok(Exit::Ok)
}

/// A context without its key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    name: String,
    current: bool,
    endpoints: Vec<String>,
    person: String,
    role: String,
    not_after: String,
}

impl Summary {
    fn of(name: &str, context: &Context, current: Option<&str>) -> Self {
        let identity = Identity::of_pem(&context.certificate).ok();
        let role = identity.as_ref().and_then(|identity| identity.role);
        Self {
            name: name.to_owned(),
            current: current == Some(name),
            endpoints: context.endpoints.iter().map(ToString::to_string).collect(),
            role: role.map_or_else(String::new, |role| role.to_string()),
            not_after: identity
                .as_ref()
                .map_or_else(String::new, |identity| rfc3339(identity.not_after)),
            person: identity.map_or_else(String::new, |identity| identity.person),
        }
    }

    fn cells(&self, now: OffsetDateTime) -> [Cell; 7] {
        let expiry = match self.not_after.as_str() {
            "" => Cell::toned("not readable", Tone::Bad),
            time => match until(time, now) {
                over if over == "over" => Cell::toned(over, Tone::Bad),
                left => left.into(),
            },
        };
        [
            if self.current { "*" } else { " " }.into(),
            self.name.as_str().into(),
            self.person.as_str().into(),
            self.role.as_str().into(),
            expiry,
            self.endpoints.join(", ").into(),
            self.not_after.as_str().into(),
        ]
    }
}

pub(super) fn choose(name: &str) -> Result<Exit, Failure> {
    let path = contexts_file()?;
    let mut contexts = Contexts::load(&path)?;
    contexts.choose(Some(name), &path)?;
    contexts.current = Some(name.to_owned());
    contexts.save(&path)?;
    note(&format!("{name} is the current context"));
    Ok(Exit::Ok)
}

pub(super) fn remove(name: &str) -> Result<Exit, Failure> {
    let path = contexts_file()?;
    let mut contexts = Contexts::load(&path)?;
    contexts.choose(Some(name), &path)?;
    contexts.contexts.remove(name);
    if contexts.current.as_deref() == Some(name) {
        contexts.current = None;
    }
    contexts.save(&path)?;
    note(&format!("context {name} is removed"));
    Ok(Exit::Ok)
}

pub(super) fn add(add: AddContext) -> Result<Exit, Failure> {
    let replace = add.replace;
    let added = match add.from.clone() {
        Some(from) => of_file(&from)?,
        None => vec![of_parts(add)?],
    };
    let path = contexts_file()?;
    let mut contexts = Contexts::load(&path)?;
    for (name, context) in added {
        if contexts.contexts.contains_key(&name) && !replace {
            return Err(Failure::usage(format!(
                "there is a context {name:?} already; --replace puts the new one in its place"
            )));
        }
        if contexts.current.is_none() {
            contexts.current = Some(name.clone());
        }
        note(&format!("context {name} is added"));
        contexts.contexts.insert(name, context);
    }
    contexts.save(&path)?;
    Ok(Exit::Ok)
}

fn of_file(path: &Path) -> Result<Vec<(String, Context)>, Failure> {
    let contexts = Contexts::load(path)?;
    if contexts.contexts.is_empty() {
        return Err(Failure::usage(format!(
            "{} holds no context",
            path.display()
        )));
    }
    Ok(contexts.contexts.into_iter().collect())
}

fn of_parts(add: AddContext) -> Result<(String, Context), Failure> {
    let missing = || Failure::usage("a name, --authority, --certificate and --key belong together");
    let read = |path: Option<PathBuf>| {
        let path = path.ok_or_else(missing)?;
        std::fs::read_to_string(&path).map_err(Failure::file("read", &path))
    };
    let name = add.name.ok_or_else(missing)?;
    let context = Context {
        endpoints: add.endpoints,
        authority: read(add.authority)?,
        certificate: read(add.certificate)?,
        key: read(add.key)?,
        server_name: add.server_name,
    };
    // What cannot be used is better refused now than at the next call.
    keelson_client::Credentials::of_context(&context, OffsetDateTime::now_utc()).map_err(
        |source| Failure::Credentials {
            context: name.clone(),
            source,
        },
    )?;
    Ok((name, context))
}
