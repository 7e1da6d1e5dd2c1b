//! The commands, and what each of them does.

mod certificates;
mod configuration;
mod contexts;
mod edit;
mod files;
mod generate;
mod image;
mod look;
mod maintenance;
mod new_configuration;
mod place;
mod power;
mod services;
mod stream;
mod trial;
mod upgrade;
mod watch;

use crate::arguments::{
    Arguments, CertificateVerb, Common, ConfigurationVerb, DescribeVerb, EditVerb, ImageVerb, Verb,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::signals::interruptible;
use crate::terminal::Terminal;

/// What every verb may need.
#[derive(Debug)]
struct Run {
    common: Common,
    terminal: Terminal,
}

impl Run {
    fn session(&self) -> Result<Session, Failure> {
        Session::open(&self.common)
    }
}

/// Does what the command line says.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let run = Run {
        terminal: Terminal::of_process(arguments.common.no_color),
        common: arguments.common,
    };
    match arguments.verb {
        // Ctrl-C belongs to the editor while that runs.
        Verb::Edit(EditVerb::Config(edit)) => edit::configuration(&run, &edit).await,
        verb => interruptible(dispatch(&run, verb)).await,
    }
}

async fn dispatch(run: &Run, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Apply(apply) if apply.code.is_some() => maintenance::apply(run, &apply).await,
        Verb::Apply(apply) => configuration::apply(run, &apply).await,
        Verb::BootReport(output) => look::boot_report(run, output).await,
        Verb::Cat { path } => files::cat(run, &path).await,
        Verb::Cert(CertificateVerb::Issue(issue)) => certificates::issue(run, &issue).await,
        Verb::Cert(CertificateVerb::List(output)) => look::certificates(run, output).await,
        Verb::Cert(CertificateVerb::Revoke(revoke)) => certificates::revoke(run, &revoke).await,
        Verb::Completion { shell } => generate::completion(shell),
        Verb::Config(verb) => configure(run, verb).await,
        Verb::Describe(DescribeVerb::Service { name, output }) => {
            look::service(run, &name, output).await
        }
        Verb::Dmesg(dmesg) => stream::dmesg(run, &dmesg).await,
        Verb::Edit(EditVerb::Config(edit)) => edit::configuration(run, &edit).await,
        Verb::Events(events) => stream::events(run, events).await,
        Verb::Get(get) => look::get(run, &get).await,
        Verb::Health(output) => look::health(run, output).await,
        Verb::Image(ImageVerb::Inspect { file, output }) => image::inspect(&file, output),
        Verb::Image(ImageVerb::Verify(verify)) => image::verify(&verify).await,
        Verb::Kubeconfig(kubeconfig) => files::kubeconfig(run, &kubeconfig).await,
        Verb::Logs(logs) => stream::logs(run, logs).await,
        Verb::Ls { path, output } => look::folder(run, &path, output).await,
        Verb::Man { folder } => generate::man(&folder),
        Verb::Metrics => files::metrics(run).await,
        Verb::Reboot(reboot) => power::reboot(run, &reboot).await,
        Verb::Reset(reset) => power::reset(run, reset).await,
        Verb::Restart(names) => services::restart(run, &names.services).await,
        Verb::Rollback(rollback) => upgrade::rollback(run, &rollback).await,
        Verb::Shutdown { reason } => power::shutdown(run, &reason).await,
        Verb::Start(names) => services::start(run, &names.services).await,
        Verb::Status(output) => look::status(run, output).await,
        Verb::Stop(names) => services::stop(run, &names.services).await,
        Verb::Support { output } => files::support(run, output).await,
        Verb::Upgrade(upgrade) => upgrade::upgrade(run, &upgrade).await,
        Verb::Version(output) => look::version(run, output).await,
    }
}

async fn configure(run: &Run, verb: ConfigurationVerb) -> Result<Exit, Failure> {
    match verb {
        ConfigurationVerb::Show { revision: true, .. } => configuration::revision(run).await,
        ConfigurationVerb::Show {
            defaults, output, ..
        } => configuration::show(run, defaults, output.format).await,
        ConfigurationVerb::Schema => configuration::schema(run).await,
        ConfigurationVerb::Validate { file, local: true } => {
            configuration::validate_here(&file.path)
        }
        ConfigurationVerb::Validate { file, .. } => configuration::validate(run, &file.path).await,
        ConfigurationVerb::Diff { file, output } => {
            configuration::diff(run, &file.path, output).await
        }
        ConfigurationVerb::New(new) => new_configuration::write(run, new).await,
        ConfigurationVerb::Confirm => trial::confirm(run).await,
        ConfigurationVerb::Revert => trial::revert(run).await,
        ConfigurationVerb::Contexts(output) => contexts::list(run, output.format),
        ConfigurationVerb::Use { name } => contexts::choose(&name),
        ConfigurationVerb::Add(add) => contexts::add(add),
        ConfigurationVerb::Remove { name } => contexts::remove(&name),
    }
}
