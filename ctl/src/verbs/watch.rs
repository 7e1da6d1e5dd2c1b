//! `--watch`: the same question again and again, with a mark on the lines that changed.

use std::collections::HashSet;
use std::io::stdout;
use std::time::{Duration, Instant};

use keelson_client::{CallError, Node};
use keelson_control::chain;
use time::OffsetDateTime;

use super::{Run, look};
use crate::arguments::Get;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Answer, Fleet, conclude, report};
use crate::output::{Format, Layout, Show, render};
use crate::reconnect::{Next, Patience, tell_back};
use crate::session::Session;
use crate::terminal::{print, printable};
use crate::units::rfc3339;

/// A person can follow it, and the node hardly notices.
const INTERVAL: Duration = Duration::from_secs(2);

/// Asks until somebody ends it, or no node has answered for too long.
pub(super) async fn repeat<T: Show>(
    run: &Run,
    session: &Session,
    get: &Get,
    ask: impl AsyncFn(&Node) -> Result<T, CallError>,
) -> Result<Exit, Failure> {
    let output = get.output;
    let longest = get.reconnect.reconnect;
    let mut patience: Vec<Patience> = session
        .all()
        .iter()
        .map(|_| Patience::new(longest))
        .collect();
    let mut fleet = Fleet::new(session, session.all());
    let people = matches!(output.format, Format::Table | Format::Wide);
    let beginning = look::layout(run, output);
    let mut before = None;
    loop {
        let answers = fleet.look(&ask).await;
        let layout = look::layout(run, output);
        if people && run.terminal.output {
            let frame = frame(&answers, layout, beginning, &mut before)?;
            print(&format!("{CLEAR}{}", cut(&frame, height())))?;
        } else if answers.iter().any(|answer| answer.result.is_ok()) {
            let separator = match output.format {
                Format::Yaml => "---\n",
                Format::Json => "",
                Format::Table | Format::Wide => "\n",
            };
            print(&(render(&answers, layout)? + separator))?;
        }
        // On a terminal each frame says which nodes do not answer.
        let tell = !(people && run.terminal.output);
        if !any_hope(&answers, &mut patience, tell) {
            return Ok(conclude(&answers, |_| Exit::Ok));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether some node answers, or may do so again; says what is new about those that do not.
fn any_hope<T>(answers: &[Answer<T>], patience: &mut [Patience], tell: bool) -> bool {
    let mut hope = false;
    let mut given_up = Vec::new();
    for (answer, patience) in answers.iter().zip(patience) {
        let now = Instant::now();
        let Err(failure) = &answer.result else {
            hope = true;
            if let Some(away) = patience.works(now).filter(|_| tell) {
                tell_back(&answer.node, away);
            }
            continue;
        };
        match patience.fails(failure, now) {
            Next::Retry { news, .. } => {
                hope = true;
                if news && tell {
                    patience.tell_lost(&answer.node, failure);
                }
            }
            Next::GiveUp { news: true } => given_up.push((&answer.node, failure)),
            Next::GiveUp { news: false } => {}
        }
    }
    // Without hope the end says it of all.
    for (node, failure) in given_up.iter().filter(|_| hope && tell) {
        report(node, failure);
    }
    hope
}

/// Cursor to the corner, and everything after it erased.
const CLEAR: &str = "\x1b[H\x1b[J";

/// The lines to show, with `*` before those that were not there before. Lines are compared as
/// they were at the beginning: ages grow all the time.
fn frame<T: Show>(
    answers: &[Answer<T>],
    layout: Layout,
    beginning: Layout,
    before: &mut Option<HashSet<String>>,
) -> Result<String, Failure> {
    let steady = Layout {
        colour: false,
        ..beginning
    };
    let shown = render(answers, layout)?;
    let compared = render(answers, steady)?;
    let known = before.take();
    let mut text = format!("{}\n", rfc3339(whole_second(layout.now)));
    for (line, key) in shown.lines().zip(compared.lines()) {
        let words = squeeze(key);
        let new = known.as_ref().is_some_and(|known| !known.contains(&words));
        text.push_str(if new { "* " } else { "  " });
        text.push_str(line);
        text.push('\n');
        before.get_or_insert_default().insert(words);
    }
    for answer in answers {
        if let Err(failure) = &answer.result {
            text.push_str(&printable(&format!(
                "! {}: {}\n",
                answer.node,
                chain(failure)
            )));
        }
    }
    Ok(text)
}

/// Columns move when another row needs more room; that is no change.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

/// Rows of the terminal; what a VT100 had when it does not say.
fn height() -> usize {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_row > 2 => usize::from(size.ws_row),
        _ => 24,
    }
}

/// What fits, and how much does not.
fn cut(text: &str, height: usize) -> String {
    let count = text.lines().count();
    if count < height {
        return text.to_owned();
    }
    let fits = height.saturating_sub(2);
    let mut shown: String = text
        .lines()
        .take(fits)
        .map(|line| format!("{line}\n"))
        .collect();
    shown.push_str(&format!("  … {} more lines\n", count - fits));
    shown
}

#[cfg(test)]
mod tests {
    use keelson_api::v1alpha1::{ListServicesResponse, ServiceSummary};

    use super::*;
    use crate::units::parse_time;

    fn answers(restarts: &[u32]) -> Vec<Answer<ListServicesResponse>> {
        let service = |(i, restarts): (usize, &u32)| ServiceSummary {
            name: format!("service-{i}"),
            since: "2026-01-31T11:00:00Z".to_owned(),
            restarts: *restarts,
            ..Default::default()
        };
        vec![Answer {
            node: "n1".parse().unwrap(),
            result: Ok(ListServicesResponse {
                services: restarts.iter().enumerate().map(service).collect(),
            }),
        }]
    }

    #[test]
    fn only_what_changed_is_marked() {
        let at = |text: &str| Layout {
            format: Format::Table,
            colour: false,
            now: parse_time(text).unwrap(),
        };
        let (begin, later) = (at("2026-01-31T12:00:00Z"), at("2026-01-31T12:00:02Z"));
        let mut before = None;
        let first = frame(&answers(&[0, 0]), begin, begin, &mut before).unwrap();
        assert!(!first.contains('*'), "{first}");
        let second = frame(&answers(&[0, 1_000_000_000]), later, begin, &mut before).unwrap();
        let marked: Vec<&str> = second
            .lines()
            .filter(|line| line.starts_with('*'))
            .collect();
        assert_eq!(marked.len(), 1, "{second}");
        assert!(marked[0].contains("service-1"), "{second}");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let text = "1\n2\n3\n4\n5\n";
        assert_eq!(cut(text, 6), text);
        assert_eq!(cut(text, 5), "1\n2\n3\n  … 2 more lines\n");
    }
}
