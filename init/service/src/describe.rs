//! A definition in words, for people who look at a service from outside.

use std::path::Path;

use crate::{Exec, Liveness, Readiness, RestartPolicy, ServiceDefinition};

impl ServiceDefinition {
    /// When it counts as ready.
    pub fn readiness_in_words(&self) -> String {
        let words = match self.readiness() {
            Readiness::Exec(Exec { command, .. }) => check(&command),
            Readiness::Exited {} => "it ended with exit code 0".to_owned(),
            Readiness::Notify {} => "it said so (sd_notify READY=1)".to_owned(),
            Readiness::Started {} => "its process exists".to_owned(),
            Readiness::Tcp { address } => format!("{address} accepts connections"),
            Readiness::Unix { path, .. } => format!("{path} accepts connections"),
        };
        match self.ready_timeout() {
            None => words,
            Some(timeout) => format!("{words}, within {} s", timeout.as_secs()),
        }
    }

    /// What is checked while it runs; `None` when nothing is.
    pub fn liveness_in_words(&self) -> Option<String> {
        let probe = self.liveness.as_ref().map(|liveness| {
            let Liveness::Exec {
                command,
                interval_seconds,
                timeout_seconds,
                failures,
            } = liveness;
            format!(
                "{}: every {interval_seconds} s, answer within {timeout_seconds} s, {failures} failures in a row",
                check(command)
            )
        });
        let watchdog = self
            .watchdog_seconds
            .map(|seconds| format!("it reports at least every {seconds} s (sd_notify WATCHDOG=1)"));
        let words: Vec<String> = probe.into_iter().chain(watchdog).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// When it is started again.
    pub fn restart_policy_in_words(&self) -> String {
        let restart = &self.restart;
        match self.restart_policy() {
            RestartPolicy::Never => return "never".to_owned(),
            RestartPolicy::Always => "always",
            RestartPolicy::OnFailure => "after a failure",
        }
        .to_owned()
            + &format!(
                ": first after {} ms, then later and later up to {} s, from the beginning after {} s of work",
                restart.initial_delay_ms, restart.max_delay_seconds, restart.stable_seconds
            )
    }
}

/// A check by what people know of it: our own probe is named by its URL.
fn check(command: &[String]) -> String {
    let probe = command
        .first()
        .is_some_and(|program| Path::new(program).ends_with("keelson"))
        && command.get(1).is_some_and(|word| word == "probe");
    match command.last() {
        Some(url) if probe => format!("{url} answers well"),
        _ => format!("`{}` ends with exit code 0", command.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn words_say_what_is_checked() {
        let text = "name: x\ndescription: d\ncommand: [/bin/x]\nready: {notify: {}}\n\
                    readyTimeoutSeconds: 9\nwatchdogSeconds: 60\n\
                    liveness: {exec: {command: [/usr/bin/keelson, probe, 'http://127.0.0.1:1/livez'], \
                    intervalSeconds: 30, timeoutSeconds: 15}}\n";
        let definition = parse("x.yaml", text).unwrap();
        assert_eq!(
            definition.readiness_in_words(),
            "it said so (sd_notify READY=1), within 9 s"
        );
        assert_eq!(
            definition.liveness_in_words().unwrap(),
            "http://127.0.0.1:1/livez answers well: every 30 s, answer within 15 s, 3 failures in a row; \
             it reports at least every 60 s (sd_notify WATCHDOG=1)"
        );
        assert_eq!(
            definition.restart_policy_in_words(),
            "always: first after 0 ms, then later and later up to 30 s, from the beginning after 60 s of work"
        );
    }

    #[test]
    fn nothing_checked_is_nothing_said() {
        let text = "name: x\ndescription: d\nkind: oneshot\ncommand: [/bin/x]\n\
                    restart: {policy: never}\n";
        let definition = parse("x.yaml", text).unwrap();
        assert_eq!(definition.readiness_in_words(), "it ended with exit code 0");
        assert_eq!(definition.liveness_in_words(), None);
        assert_eq!(definition.restart_policy_in_words(), "never");
    }
}
