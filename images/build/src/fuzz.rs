//! Fuzzes the programs of tests/fuzz: compiles them with coverage, lets each run for a while, and
//! says what was found and how to see it again.

mod compile;
mod lock;
mod process;
pub(crate) mod rustc;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, ensure};

use self::compile::Programs;
use self::process::follow;
use crate::progress::Stages;

/// What to fuzz.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How long each target runs.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
    /// Run the target once on this file instead, and show what it does.
    #[arg(long, requires = "target")]
    repeat: Option<PathBuf>,
}

/// The target with a panic in it. It shows that the others would be told of theirs.
const PLANTED: &str = "planted";

/// The planted panic is found within seconds, or coverage is not what it should be.
const PLANTED_SECONDS: u64 = 60;

/// Fuzzes, or repeats one input.
pub(crate) fn run(repo: &Path, options: &Options) -> anyhow::Result<()> {
    lock::check(repo)?;
    let mut targets = targets(repo)?;
    if let Some(only) = &options.target {
        ensure!(
            targets.contains(only),
            "there is no target {only}; targets: {}",
            targets.join(", ")
        );
        targets.retain(|target| target == only);
    }
    let mut stages = Stages::new(3);
    let programs = stages.run("compile", |status| Programs::compile(repo, status))?;
    if let (Some(target), Some(input)) = (&options.target, &options.repeat) {
        return repeat(&programs, target, input);
    }
    stages.run("tests", |_| Programs::test(repo))?;
    stages.run("self-test", |_| find_planted(repo, &programs))?;
    let all = targets.len();
    let failed = fuzz_all(repo, &programs, targets, options.seconds);
    ensure!(
        failed.is_empty(),
        "{} of {all} targets found something: {}",
        failed.len(),
        failed.join(", ")
    );
    println!("{all} targets found nothing in {}", stages.elapsed());
    Ok(())
}

/// One program each in tests/fuzz/src/bin.
fn targets(repo: &Path) -> anyhow::Result<Vec<String>> {
    let folder = repo.join("tests/fuzz/src/bin");
    let list = || format!("cannot list {}", folder.display());
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            && name != PLANTED
        {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

/// As many targets at a time as there are processors; gives those that found something.
fn fuzz_all(repo: &Path, programs: &Programs, targets: Vec<String>, seconds: u64) -> Vec<String> {
    let waiting = Mutex::new(VecDeque::from(targets));
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            // Another thread's panic leaves the list as good as it was.
            let next = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(target) = next else {
                return;
            };
            if let Err(error) = fuzz(repo, programs, &target, seconds) {
                println!("{target:<16} FAILED: {error:#}");
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(target);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn fuzz(repo: &Path, programs: &Programs, target: &str, seconds: u64) -> anyhow::Result<()> {
    let found = found_folder(repo, target)?;
    let say = |line: &str| println!("{target:<16} {line}");
    let told = |verdict: anyhow::Result<()>, input: &Path| {
        let input = input.strip_prefix(repo).unwrap_or(input).display();
        let again = format!("make test-fuzz TARGET={target} REPEAT={input}");
        verdict.map_err(|error| anyhow!("{error:#}\n  input: {input}\n  again: {again}"))
    };
    // What was found before and is still there needs no search.
    for (_, input) in inputs(&found)? {
        let mut command = programs.command(target);
        let outcome = follow(command.arg("repeat").arg(&input), Duration::ZERO, |_| {})?;
        told(outcome.success(), &input)?;
    }
    let started = SystemTime::now();
    let mut command = programs.command(target);
    command
        .args(["fuzz", &seconds.to_string()])
        .args([&found, &found]);
    let corpus = repo.join("tests/fuzz/corpus").join(target);
    if corpus.is_dir() {
        command.arg(corpus);
    }
    let outcome = follow(&mut command, Duration::from_secs(seconds), say)?;
    let verdict = outcome.success();
    let new = inputs(&found)?
        .into_iter()
        .rfind(|(written, _)| *written >= started);
    match new {
        Some((_, input)) => told(verdict, &input),
        None => verdict,
    }
}

/// Compiled like all others, a target must find the panic that was planted in it.
fn find_planted(repo: &Path, programs: &Programs) -> anyhow::Result<()> {
    let found = found_folder(repo, PLANTED)?;
    let mut command = programs.command(PLANTED);
    command
        .args(["fuzz", &PLANTED_SECONDS.to_string()])
        .arg(&found);
    let outcome = follow(&mut command, Duration::from_secs(PLANTED_SECONDS), |_| {})?;
    let inputs = inputs(&found)?;
    fs::remove_dir_all(&found).with_context(|| format!("cannot remove {}", found.display()))?;
    ensure!(
        outcome.success().is_err() && !inputs.is_empty(),
        "the planted panic was not found in {PLANTED_SECONDS} s: without coverage the fuzzer is \
         blind; does this rustc still know the flags in images/build/src/fuzz/compile.rs?"
    );
    Ok(())
}

fn repeat(programs: &Programs, target: &str, input: &Path) -> anyhow::Result<()> {
    let status = programs
        .command(target)
        .env("RUST_BACKTRACE", "1")
        .arg("repeat")
        .arg(input)
        .status()
        .with_context(|| format!("could not start {target}"))?;
    ensure!(status.success(), "{target} failed ({status})");
    Ok(())
}

fn found_folder(repo: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let folder = repo.join("out/fuzz").join(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// What was found, the newest last, with the time it was written; hidden files are LibAFL's own.
fn inputs(folder: &Path) -> anyhow::Result<Vec<(SystemTime, PathBuf)>> {
    let list = || format!("cannot list {}", folder.display());
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder).with_context(list)? {
        let entry = entry.with_context(list)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            inputs.push((written.with_context(list)?, entry.path()));
        }
    }
    inputs.sort();
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_were_not_found() {
        let folder = std::env::temp_dir().join(format!("keelson-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".1f"), "x").unwrap();
        fs::write(folder.join("1f"), "x").unwrap();
        let paths: Vec<_> = inputs(&folder)
            .unwrap()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        assert_eq!(paths, [folder.join("1f")]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn targets_are_the_programs_without_the_planted_one() {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let targets = targets(&repo).unwrap();
        assert!(targets.contains(&"config".to_owned()), "{targets:?}");
        assert!(!targets.contains(&PLANTED.to_owned()));
    }
}
