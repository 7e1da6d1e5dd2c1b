//! Asks one URL and says by its exit code whether the answer is good: `keelson probe`.
//!
//! `http` and `https` URLs must answer with a status from 200 to 299, `grpc+unix:///path` must
//! answer gRPC's health call with "serving". PID 1 runs it to learn whether a service is ready,
//! and whether it still works. It lives for one answer, so it blocks
//! on plain sockets and starts no runtime. Without `--timeout` it asks once; with it, again and
//! again until the answer is good or the time is over. Prints nothing on success.

#![forbid(unsafe_code)]

mod deadline;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http;
mod target;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use keelson_control::chain;
use keelson_tls::{Identity, client_config};
use rustls::ClientConfig;

use crate::target::{Question, Scheme};

/// Longest wait for one answer. PID 1 ends a check sooner, by the service's definition, and counts
/// that as "no answer in time", which on a slow machine says less than a bad answer.
const ONE_ANSWER: Duration = Duration::from_secs(60);

/// Between two questions: short against anything worth waiting for, long against what one costs.
const PAUSE: Duration = Duration::from_millis(200);

const USAGE: &str =
    "usage: keelson probe [--ca FILE] [--cert FILE --key FILE] [--timeout SECONDS] URL";

/// Runs `keelson probe`: exit code 0 good, 1 not, 2 wrong arguments.
pub fn run(args: impl Iterator<Item = String>) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("keelson probe: {}; {USAGE}", chain(&error));
            return ExitCode::from(2);
        }
    };
    match probe(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson probe: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    question: Question,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    timeout: Option<Duration>,
}

/// The arguments make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UsageError {
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("there is no option {0}")]
    UnknownOption(String),
    #[error("exactly one URL is needed")]
    NotOneUrl,
    #[error("--cert and --key belong together")]
    HalfAnIdentity,
    #[error("--timeout needs a number of seconds, not {0:?}")]
    Timeout(String),
    #[error("an https URL needs --ca: nothing else is trusted")]
    NoCa,
    #[error("wrong URL")]
    Url(#[source] target::BadUrl),
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, UsageError> {
        let (mut ca, mut cert, mut key, mut timeout, mut url) = (None, None, None, None, None);
        while let Some(argument) = args.next() {
            if !argument.starts_with("--") {
                if url.replace(argument).is_some() {
                    return Err(UsageError::NotOneUrl);
                }
                continue;
            }
            let place = match argument.as_str() {
                "--ca" => &mut ca,
                "--cert" => &mut cert,
                "--key" => &mut key,
                "--timeout" => &mut timeout,
                _ => return Err(UsageError::UnknownOption(argument)),
            };
            *place = Some(args.next().ok_or(UsageError::NoValue(argument))?);
        }
        let url = url.ok_or(UsageError::NotOneUrl)?;
        let question = Question::parse(&url).map_err(UsageError::Url)?;
        if let Question::Http(target) = &question
            && target.scheme == Scheme::Https
            && ca.is_none()
        {
            return Err(UsageError::NoCa);
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((path(cert), path(key))),
            (None, None) => None,
            _ => return Err(UsageError::HalfAnIdentity),
        };
        let timeout = timeout
            .map(|text| seconds(&text).ok_or(UsageError::Timeout(text)))
            .transpose()?;
        Ok(Self {
            question,
            ca: ca.map(path),
            identity,
            timeout,
        })
    }
}

fn path(text: String) -> PathBuf {
    OsString::from(text).into()
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn probe(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let tls = match &options.ca {
        Some(ca) => Some(Arc::new(tls(ca, options)?)),
        None => None,
    };
    let start = Instant::now();
    loop {
        let end = match options.timeout {
            Some(timeout) => timeout.saturating_sub(start.elapsed()),
            None => ONE_ANSWER,
        };
        let one = end.min(ONE_ANSWER);
        let answer: Result<(), Box<dyn std::error::Error>> = match &options.question {
            Question::Grpc(socket) => grpc::ask(socket, one).map_err(Into::into),
            Question::Http(target) => http::ask(target, tls.as_ref(), one).map_err(Into::into),
        };
        let error = match answer {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if options
            .timeout
            .is_none_or(|timeout| start.elapsed() + PAUSE >= timeout)
        {
            return Err(error);
        }
        thread::sleep(PAUSE);
    }
}

fn tls(ca: &std::path::Path, options: &Options) -> Result<ClientConfig, keelson_tls::TlsError> {
    let identity = options
        .identity
        .as_ref()
        .map(|(certificate, key)| Identity {
            certificate: certificate.as_path(),
            key: key.as_path(),
        });
    client_config(ca, identity)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Result<Options, UsageError> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_understood() {
        let options =
            parse("--ca /ca --cert /c --key /k --timeout 2.5 https://127.0.0.1:6443/readyz")
                .unwrap();
        assert_eq!(options.timeout, Some(Duration::from_millis(2500)));
        assert_eq!(options.identity, Some(("/c".into(), "/k".into())));
        let Question::Http(target) = options.question else {
            panic!("{options:?}")
        };
        assert_eq!(target.port, 6443);
        assert_eq!(parse("http://127.0.0.1:10256/healthz").unwrap().ca, None);
    }

    #[test]
    fn nonsense_is_named() {
        let cases = [
            ("", "exactly one URL"),
            ("http://a http://b", "exactly one URL"),
            ("--ca", "--ca needs a value"),
            ("--verbose http://a", "no option --verbose"),
            ("https://127.0.0.1:1/", "needs --ca"),
            ("--cert /c http://a", "belong together"),
            ("--timeout soon http://a", "\"soon\""),
            ("--timeout -1 http://a", "\"-1\""),
            ("--timeout NaN http://a", "\"NaN\""),
            ("ftp://a/", "wrong URL"),
        ];
        for (line, expected) in cases {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_handled(arguments: Vec<String>) {
            let _ = Options::parse(arguments.into_iter());
        }
    }
}
