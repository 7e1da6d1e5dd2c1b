//! The reference page of the command line, generated from its own description.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::exit::Exit;
use crate::help;

/// Name of the page inside docs/reference.
pub const FILE: &str = "keelsonctl.md";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut command = help::command().bin_name("keelsonctl");
    command.build();
    let mut out = String::from(INTRODUCTION);
    options(
        &mut out,
        command.get_arguments().filter(|arg| arg.is_global_set()),
    );
    out.push_str("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    for exit in Exit::ALL {
        let _ = writeln!(out, "| {} | {} |", exit.code(), exit.meaning());
    }
    for (title, names) in help::GROUPS {
        let _ = writeln!(out, "\n## {title}");
        for name in *names {
            if let Some(sub) = command.find_subcommand(name) {
                section(&mut out, sub, &format!("keelsonctl {name}"));
            }
        }
    }
    out
}

const INTRODUCTION: &str = "\
<!-- Generated from ctl/ by `cargo run -p keelsonctl --features docs --bin keelsonctl-docs`; a test compares it. -->

# keelsonctl

Operates Keelson nodes from outside, through the node API (gRPC over mutual TLS, port 9440).

A context holds the addresses of some nodes, the authority they are trusted by, and a person's
certificate with its key. Contexts are in `~/.config/keelson/config`, or in the file that
`KEELSONCONFIG` names. What only looks asks all nodes of the context at the same time, and one
node's error does not hide what others answer; what changes something acts on several nodes only
when they are named with `--node`.

Answers go to standard output, everything else to standard error. JSON and YAML are the messages
of the API; with several nodes they are a list of entries with `node`, and `answer` or `error`.

## Options of every command

";

fn section(out: &mut String, command: &Command, path: &str) {
    let subcommands: Vec<&Command> = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
        .collect();
    if !subcommands.is_empty() {
        for sub in subcommands {
            section(out, sub, &format!("{path} {}", sub.get_name()));
        }
        return;
    }
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let _ = writeln!(out, "\n### {path}\n\n{}.\n\n`{usage}`\n", escaped(&about));
    let shown = |arg: &&Arg| !arg.is_global_set() && arg.get_id() != "help";
    if command.get_arguments().any(|arg| shown(&arg)) {
        options(out, command.get_arguments().filter(shown));
    }
    let text = out.trim_end().len();
    out.truncate(text);
    out.push('\n');
}

fn options<'a>(out: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    out.push_str("| argument | meaning |\n| --- | --- |\n");
    for argument in arguments {
        let mut meaning = argument
            .get_long_help()
            .or_else(|| argument.get_help())
            .map(ToString::to_string)
            .unwrap_or_default();
        let takes_value = argument.get_action().takes_values();
        let lists_values = takes_value && !argument.is_hide_possible_values_set();
        for value in argument
            .get_possible_values()
            .iter()
            .filter(|_| lists_values)
        {
            let help = value.get_help().map(ToString::to_string);
            let help = help.map_or_else(String::new, |help| format!(": {help}"));
            let _ = write!(meaning, "<br>`{}`{help}", value.get_name());
        }
        let default: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let default = default.join(", ");
        if takes_value && !default.is_empty() {
            let _ = write!(meaning, " (default: `{default}`)");
        }
        let _ = writeln!(out, "| `{}` | {} |", spelled(argument), escaped(&meaning));
    }
}

/// How an argument is written.
fn spelled(argument: &Arg) -> String {
    let names: Vec<&str> = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| name.as_str())
        .collect();
    let value = names.join(" ");
    let optional = argument
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    let Some(long) = argument.get_long() else {
        return value;
    };
    let short = argument
        .get_short()
        .map_or_else(String::new, |short| format!("-{short}, "));
    match (argument.get_action().takes_values(), optional) {
        (false, _) => format!("{short}--{long}"),
        (true, true) => format!("{short}--{long}[={value}]"),
        (true, false) => format!("{short}--{long} {value}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
        .replace("\n\n", ". ")
        .replace('\n', " ")
}
