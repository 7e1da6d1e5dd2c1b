//! From a definition to a process: accounts, expansion, environment, limits.

use std::collections::BTreeMap;
use std::ffi::NulError;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use keelson_control::NOTIFY_SOCKET;
use keelson_service::{
    Accounts, Capability, ExpandError, Readiness, Resources, Rlimit, ServiceDefinition, expand,
};
use keelson_sys::spawn::{Capabilities, Child, Credentials, Limit, Plan, SpawnError, spawn};
use rustix::pipe::{PipeFlags, pipe_with};
use thiserror::Error;

use crate::cgroup::Tree;
use crate::directories;

const PATH: &str = "/usr/bin:/usr/sbin";

/// Why a service cannot be started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("cannot prepare its cgroup")]
    Cgroup(#[source] io::Error),
    #[error("cannot make directory {path}")]
    Directory { path: String, source: io::Error },
    #[error("cannot fill in {text:?}")]
    Expand { text: String, source: ExpandError },
    #[error("an argument or variable contains a NUL character")]
    Nul(#[source] NulError),
    #[error("cannot make its log pipe")]
    Pipe(#[source] io::Error),
    #[error("cannot start it")]
    Spawn(#[source] SpawnError),
    #[error("group {name} does not exist in /etc/group")]
    UnknownGroup { name: String },
    #[error("user {name} does not exist in /etc/passwd")]
    UnknownUser { name: String },
}

/// A service that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    /// Program and arguments, facts filled in.
    pub(crate) command: Vec<String>,
    /// Reading end of its output.
    pub(crate) output: OwnedFd,
}

/// What processes are started with.
#[derive(Debug)]
pub(crate) struct Launcher {
    accounts: Accounts,
    tree: Option<Tree>,
    null: File,
}

impl Launcher {
    /// `tree` is absent in a namespace that has no cgroups.
    pub(crate) fn new(accounts: Accounts, tree: Option<Tree>) -> io::Result<Self> {
        Ok(Self {
            accounts,
            tree,
            null: File::options().read(true).write(true).open("/dev/null")?,
        })
    }

    /// Users and groups of this machine.
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Number of a user.
    pub(crate) fn uid(&self, name: &str) -> Option<u32> {
        self.accounts.user(name).map(|user| user.uid)
    }

    /// Starts a service.
    pub(crate) fn start(
        &self,
        definition: &ServiceDefinition,
        resources: &Resources,
        facts: &BTreeMap<String, String>,
    ) -> Result<Started, StartError> {
        let command = fill_command(&definition.command, facts)?;
        let plan = self.plan(definition, &command, facts)?;
        self.make_directories(definition, &plan.credentials)?;
        let name = definition.name.as_str();
        let cgroup = self
            .tree
            .as_ref()
            .map(|tree| tree.make_leaf(name, resources));
        let cgroup = cgroup.transpose().map_err(StartError::Cgroup)?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)
            .and_then(|(read, write)| {
                // Only our end: a program that logs faster than it is read must wait, not fail.
                rustix::io::ioctl_fionbio(&read, true)?;
                Ok((read, write))
            })
            .map_err(|error| StartError::Pipe(error.into()))?;
        let cgroup = cgroup.as_ref().map(AsFd::as_fd);
        let child =
            spawn(&plan, self.null.as_fd(), write.as_fd(), cgroup).map_err(StartError::Spawn)?;
        Ok(Started {
            child,
            command,
            output: read,
        })
    }

    /// Starts a probe of a service: its user, its cgroup, no output.
    pub(crate) fn start_probe(
        &self,
        definition: &ServiceDefinition,
        command: &[String],
        facts: &BTreeMap<String, String>,
    ) -> Result<Child, StartError> {
        let command = fill_command(command, facts)?;
        let plan = self.plan(definition, &command, facts)?;
        let cgroup = self
            .tree
            .as_ref()
            .map(|tree| tree.open_leaf(definition.name.as_str()));
        let cgroup = cgroup.transpose().map_err(StartError::Cgroup)?;
        let cgroup = cgroup.as_ref().map(AsFd::as_fd);
        spawn(&plan, self.null.as_fd(), self.null.as_fd(), cgroup).map_err(StartError::Spawn)
    }

    fn plan(
        &self,
        definition: &ServiceDefinition,
        command: &[String],
        facts: &BTreeMap<String, String>,
    ) -> Result<Plan, StartError> {
        let mut environment = BTreeMap::from([
            ("PATH".to_owned(), PATH.to_owned()),
            ("HOME".to_owned(), "/".to_owned()),
        ]);
        if definition.readiness() == (Readiness::Notify {}) || definition.watchdog_seconds.is_some()
        {
            environment.insert("NOTIFY_SOCKET".to_owned(), NOTIFY_SOCKET.to_owned());
        }
        if let Some(seconds) = definition.watchdog_seconds {
            let micros = u64::from(seconds) * 1_000_000;
            environment.insert("WATCHDOG_USEC".to_owned(), micros.to_string());
        }
        for (key, value) in &definition.environment {
            environment.insert(key.clone(), fill(value, facts)?);
        }
        let environment = environment
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let mut plan =
            Plan::new(command.iter().map(String::as_str), environment).map_err(StartError::Nul)?;
        plan.credentials = self.credentials(definition)?;
        plan.capabilities = match (&definition.capabilities, plan.credentials.uid) {
            (Some(capabilities), _) => Capabilities::Exactly(Capability::mask(capabilities)),
            (None, 0) => Capabilities::Unchanged,
            (None, _) => Capabilities::Exactly(0),
        };
        plan.no_new_privileges = definition.no_new_privileges;
        plan.oom_score_adj = definition.oom_score_adj;
        let limits = definition.limits;
        plan.limits = vec![
            (Limit::Core, value(limits.core)),
            (Limit::OpenFiles, value(limits.nofile)),
        ];
        plan.limits
            .extend(limits.nproc.map(|nproc| (Limit::Processes, value(nproc))));
        Ok(plan)
    }

    fn credentials(&self, definition: &ServiceDefinition) -> Result<Credentials, StartError> {
        let (mut uid, mut gid) = (0, 0);
        if let Some(name) = &definition.user {
            let unknown = || StartError::UnknownUser { name: name.clone() };
            let user = self.accounts.user(name).ok_or_else(unknown)?;
            (uid, gid) = (user.uid, user.gid);
        }
        let group = |name: &String| {
            self.accounts
                .group(name)
                .ok_or_else(|| StartError::UnknownGroup { name: name.clone() })
        };
        if let Some(name) = &definition.group {
            gid = group(name)?;
        }
        let groups = definition
            .supplementary_groups
            .iter()
            .map(group)
            .collect::<Result<_, _>>()?;
        Ok(Credentials { uid, gid, groups })
    }

    fn make_directories(
        &self,
        definition: &ServiceDefinition,
        own: &Credentials,
    ) -> Result<(), StartError> {
        for directory in &definition.directories {
            let (uid, gid) = match &directory.owner {
                None => (own.uid, own.gid),
                Some(name) => {
                    let unknown = || StartError::UnknownUser { name: name.clone() };
                    let user = self.accounts.user(name).ok_or_else(unknown)?;
                    (user.uid, user.gid)
                }
            };
            let path = &directory.path;
            directories::make(Path::new(path), directory.mode.bits(), uid, gid).map_err(
                |source| StartError::Directory {
                    path: path.clone(),
                    source,
                },
            )?;
        }
        Ok(())
    }
}

/// Puts facts into all but the program, which is never computed.
fn fill_command(
    command: &[String],
    facts: &BTreeMap<String, String>,
) -> Result<Vec<String>, StartError> {
    let mut words = command.iter();
    let program = words.next().into_iter().map(|program| Ok(program.clone()));
    program
        .chain(words.map(|argument| fill(argument, facts)))
        .collect()
}

fn fill(text: &str, facts: &BTreeMap<String, String>) -> Result<String, StartError> {
    expand(text, facts).map_err(|source| StartError::Expand {
        text: text.to_owned(),
        source,
    })
}

fn value(limit: Rlimit) -> Option<u64> {
    match limit {
        Rlimit::Max(value) => Some(value),
        Rlimit::Unlimited => None,
    }
}

#[cfg(test)]
mod tests {
    use keelson_control::chain;

    use super::*;

    fn launcher() -> Launcher {
        let accounts = Accounts::parse(
            "root:x:0:0::/:/\netcd:x:911:911::/:/\n",
            "etcd:x:911:\nother:x:50:\n",
        )
        .unwrap();
        Launcher::new(accounts, None).unwrap()
    }

    fn plan(extra: &str) -> Result<Plan, StartError> {
        let text = format!("name: x\ndescription: d\ncommand: [/bin/x, \"${{ip}}\"]\n{extra}");
        let definition = keelson_service::parse("x.yaml", &text).unwrap();
        let facts = BTreeMap::from([("ip".to_owned(), "::1".to_owned())]);
        let command = fill_command(&definition.command, &facts)?;
        launcher().plan(&definition, &command, &facts)
    }

    #[test]
    fn a_user_without_capabilities_has_none_and_root_keeps_all() {
        assert_eq!(
            plan("user: etcd").unwrap().capabilities,
            Capabilities::Exactly(0)
        );
        assert_eq!(plan("").unwrap().capabilities, Capabilities::Unchanged);
        let named = plan("user: etcd\ncapabilities: [NET_ADMIN]").unwrap();
        assert_eq!(named.capabilities, Capabilities::Exactly(1 << 12));
        assert_eq!(
            plan("capabilities: []").unwrap().capabilities,
            Capabilities::Exactly(0)
        );
    }

    #[test]
    fn groups_come_from_the_files() {
        let plan = plan("user: etcd\ngroup: other\nsupplementaryGroups: [etcd]").unwrap();
        assert_eq!(
            plan.credentials,
            Credentials {
                uid: 911,
                gid: 50,
                groups: vec![911]
            }
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let problem = |extra: &str| chain(&plan(extra).unwrap_err());
        assert!(problem("user: nobody").contains("user nobody"));
        assert!(problem("group: nobody").contains("group nobody"));
        assert!(problem("environment: {A: \"${nope}\"}").ends_with("unknown fact \"nope\""));
    }
}
