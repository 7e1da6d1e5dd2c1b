//! The node binary: PID 1, its helpers and a few tools in one program.
//!
//! What it is depends on the name it is called by (`init`, `mount`, …) or, when that is
//! `keelson`, on its first argument. As `init` it is stage 1 inside the initramfs and stage 2
//! everywhere else.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use keelson_tools::Tool;

/// `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// What the program can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applet {
    Apid,
    Clusterd,
    Init,
    Machined,
    Netd,
    Probe,
    Storage,
}

impl Applet {
    const ALL: [(&str, Self); 7] = [
        ("apid", Self::Apid),
        ("clusterd", Self::Clusterd),
        ("init", Self::Init),
        ("machined", Self::Machined),
        ("netd", Self::Netd),
        ("probe", Self::Probe),
        ("storage", Self::Storage),
    ];

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, applet)| applet)
    }

    fn run(self, arguments: impl Iterator<Item = String>) -> ExitCode {
        match self {
            Self::Init if Path::new(keelson_stage1::MARKER).exists() => keelson_stage1::run(),
            Self::Init => keelson_init::run(arguments),
            Self::Apid => with_log(keelson_apid::run, arguments),
            Self::Clusterd => with_log(keelson_clusterd::run, arguments),
            Self::Machined => with_log(keelson_machined::run, arguments),
            Self::Netd => with_log(keelson_netd::run, arguments),
            Self::Probe => keelson_probe::run(arguments),
            Self::Storage => with_log(keelson_storage::run, arguments),
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let called = Path::new(&called)
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    if let Some(tool) = Tool::from_name(called) {
        return keelson_tools::run(tool, arguments);
    }
    // An argument that is no text is no argument of ours: shown in part, never a panic.
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    if let Some(applet) = Applet::by_name(called) {
        return applet.run(arguments);
    }
    let wanted = arguments.next().unwrap_or_default();
    if let Some(tool) = Tool::from_name(&wanted) {
        return keelson_tools::run(tool, arguments.map(OsString::from));
    }
    match Applet::by_name(&wanted) {
        Some(applet) => applet.run(arguments),
        None => {
            let names: Vec<&str> = Applet::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!(
                "keelson: {wanted:?} is not one of its programs: {}",
                names.join(", ")
            );
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Runs a helper with its log on standard error, where PID 1 reads and stamps it.
fn with_log<I: Iterator<Item = String>>(
    helper: impl FnOnce(I) -> ExitCode,
    arguments: I,
) -> ExitCode {
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .finish();
    // Fails only when one is set already, which is as good.
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(log);
    helper(arguments)
}
