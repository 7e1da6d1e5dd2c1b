//! The command line's description, with the commands in groups.

use clap::{Command, CommandFactory};

use crate::arguments::Arguments;
use crate::exit::Exit;

/// Commands that belong together, in the order in which people meet them.
pub(crate) const GROUPS: &[(&str, &[&str])] = &[
    (
        "Look at nodes",
        &[
            "status",
            "health",
            "get",
            "describe",
            "logs",
            "dmesg",
            "events",
            "boot-report",
            "metrics",
            "version",
        ],
    ),
    ("Configure", &["config", "apply", "edit"]),
    (
        "Act",
        &["restart", "start", "stop", "reboot", "shutdown", "reset"],
    ),
    ("Change the version", &["upgrade", "rollback", "image"]),
    ("Give access", &["kubeconfig", "cert"]),
    ("Support", &["support", "ls", "cat"]),
    ("This program", &["completion", "man"]),
];

/// The whole command line.
pub(crate) fn command() -> Command {
    let command = Arguments::command();
    let mut text = String::from("{about}\n\n{usage-heading} keelsonctl [OPTIONS] COMMAND\n");
    for (title, names) in GROUPS {
        text.push_str(&format!("\n{title}:\n"));
        for name in *names {
            let about = command
                .find_subcommand(name)
                .and_then(Command::get_about)
                .map_or_else(String::new, ToString::to_string);
            text.push_str(&format!("  {name:<12} {about}\n"));
        }
    }
    text.push_str("\nOptions of every command:\n{options}{after-help}\n");
    let mut more = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        more.push_str(&format!("  {:<5}{}\n", exit.code(), exit.meaning()));
    }
    more.push_str("\nContexts: ~/.config/keelson/config, or the file KEELSONCONFIG names");
    command.help_template(text).after_long_help(more)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        let unique: BTreeSet<&str> = grouped.iter().copied().collect();
        assert_eq!(unique.len(), grouped.len());
        let command = Arguments::command();
        let all: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(unique, all);
    }

    /// Such an argument would be taken for the one of every command.
    #[test]
    fn no_command_has_an_argument_called_like_one_of_every_command() {
        fn check(command: &Command, global: &BTreeSet<&str>) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                assert!(!global.contains(id), "{}: {id}", command.get_name());
            }
            for sub in command.get_subcommands() {
                check(sub, global);
            }
        }
        let command = Arguments::command();
        let global = command
            .get_arguments()
            .map(|arg| arg.get_id().as_str())
            .collect();
        for sub in command.get_subcommands() {
            check(sub, &global);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        let help = command().render_help().to_string();
        assert!(help.contains("Act:\n  restart "), "{help}");
        assert!(help.contains("--timeout"), "{help}");
        assert!(
            help.lines().count() < 56,
            "the help must fit a screen:\n{help}"
        );
        let long = command().render_long_help().to_string();
        assert!(
            long.contains("  6    some of several nodes failed"),
            "{long}"
        );
    }
}
