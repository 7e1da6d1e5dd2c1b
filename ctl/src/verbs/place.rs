//! How far a stream was read, so that it goes on there after the connection was lost.
//!
//! The node sends again whatever has the time of the last entry or a later one; what was shown
//! of that is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_api::v1alpha1::{Event, LogLine};
use time::OffsetDateTime;

use crate::units::{parse_time, rfc3339};

/// One line or event.
pub(super) trait Entry {
    /// Order is kept only among those of one source.
    fn source(&self) -> &str;
    fn time(&self) -> &str;
    /// What tells it from others of the same time.
    fn content(&self) -> String;
}

impl Entry for LogLine {
    fn source(&self) -> &str {
        &self.service
    }

    fn time(&self) -> &str {
        &self.time
    }

    fn content(&self) -> String {
        self.text.clone()
    }
}

impl Entry for Event {
    fn source(&self) -> &'static str {
        ""
    }

    fn time(&self) -> &str {
        &self.time
    }

    fn content(&self) -> String {
        // Only a restart of machined makes another event with this number, and later.
        format!("{} {} {}", self.sequence, self.kind, self.subject)
    }
}

/// A place in a stream.
#[derive(Debug)]
pub(super) struct Place {
    sources: BTreeMap<String, Reached>,
    /// By how much the time of one entry may differ between two readings.
    blur: Duration,
}

/// The place in one source.
#[derive(Debug)]
struct Reached {
    /// Of the last entry that was shown.
    time: OffsetDateTime,
    /// What was shown of this time, or of others that could be read as this one.
    shown: Vec<(OffsetDateTime, String)>,
    /// After a loss, while what comes may have been shown before.
    again: Option<Again>,
}

#[derive(Debug)]
struct Again {
    /// Of the entry before, for those that have no time of their own.
    time: Option<OffsetDateTime>,
    /// What was shown of this place and has not come again yet.
    awaited: Vec<(OffsetDateTime, String)>,
}

impl Place {
    pub(super) fn new(blur: Duration) -> Self {
        Self {
            sources: BTreeMap::new(),
            blur,
        }
    }

    /// The next reading begins before this place.
    pub(super) fn lost(&mut self) {
        for reached in self.sources.values_mut() {
            reached.again = Some(Again {
                time: None,
                awaited: reached.shown.clone(),
            });
        }
    }

    /// Nothing was shown yet.
    pub(super) fn is_start(&self) -> bool {
        self.sources.is_empty()
    }

    /// Where to go on with these sources, as the API wants it; none while one of them has shown
    /// nothing, for what it has now was not there before.
    pub(super) fn since<'a>(&self, mut sources: impl Iterator<Item = &'a str>) -> Option<String> {
        let first = sources.try_fold(None, |first: Option<OffsetDateTime>, source| {
            let time = self.sources.get(source)?.time;
            Some(Some(first.map_or(time, |first| first.min(time))))
        });
        first.flatten().map(rfc3339)
    }

    /// Whether an entry is to be shown: it was not shown before.
    pub(super) fn is_new(&mut self, entry: &impl Entry) -> bool {
        let own_time = parse_time(entry.time());
        let content = entry.content();
        let Some(reached) = self.sources.get_mut(entry.source()) else {
            // Without a time there is nothing to go on from; the next one has one.
            if let Some(time) = own_time {
                let reached = Reached {
                    time,
                    shown: vec![(time, content)],
                    again: None,
                };
                self.sources.insert(entry.source().to_owned(), reached);
            }
            return true;
        };
        if let Some(again) = &mut reached.again {
            again.time = own_time.or(again.time);
            let Some(time) = again.time else {
                return false;
            };
            if reached.time - time > self.blur {
                return false;
            }
            let known = again.awaited.iter().position(|(at, shown)| {
                *shown == content && (*at - time).unsigned_abs() <= self.blur
            });
            if let Some(known) = known {
                again.awaited.swap_remove(known);
                return false;
            }
            if time - reached.time > self.blur {
                reached.again = None;
            }
        }
        reached.take(own_time, content, self.blur);
        true
    }
}

impl Reached {
    fn take(&mut self, time: Option<OffsetDateTime>, content: String, blur: Duration) {
        self.time = time.unwrap_or(self.time);
        self.shown.retain(|(at, _)| self.time - *at <= blur);
        self.shown.push((self.time, content));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(service: &str, time: &str, text: &str) -> LogLine {
        let time = match time {
            "" => String::new(),
            second => format!("2026-01-31T12:00:{second}Z"),
        };
        LogLine {
            service: service.to_owned(),
            time,
            level: String::new(),
            text: text.to_owned(),
        }
    }

    fn shown(place: &mut Place, lines: &[LogLine]) -> Vec<String> {
        let new = lines.iter().filter(|line| place.is_new(*line));
        new.map(|line| line.text.clone()).collect()
    }

    #[test]
    fn nothing_is_shown_twice_and_nothing_is_left_out() {
        let mut place = Place::new(Duration::ZERO);
        let first = [
            line("a", "01.000", "one"),
            line("a", "02.000", "two"),
            line("a", "02.000", "two"),
            line("a", "", "note"),
            line("b", "01.500", "b"),
        ];
        assert_eq!(shown(&mut place, &first).len(), 5);
        assert_eq!(
            place.since(["a", "b"].into_iter()).unwrap(),
            "2026-01-31T12:00:01.5Z"
        );
        assert_eq!(place.since(["a", "c"].into_iter()), None);
        // Lost again before all of it came.
        place.lost();
        assert_eq!(shown(&mut place, &first[..2]), [""; 0]);
        for rest in [["two again", "three"], ["four", "five"]] {
            place.lost();
            let mut again = first.to_vec();
            again.extend([
                line("a", "02.000", "two again"),
                line("a", "03.000", "three"),
            ]);
            if rest[0] == "four" {
                again.extend([line("a", "03.000", "four"), line("a", "04.000", "five")]);
            }
            assert_eq!(shown(&mut place, &again), rest);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_hides_nothing_while_the_connection_lasts() {
        let mut place = Place::new(Duration::ZERO);
        let lines = [line("a", "09.000", "nine"), line("a", "01.000", "one")];
        assert_eq!(shown(&mut place, &lines), ["nine", "one"]);
    }

    #[test]
    fn times_that_are_computed_anew_may_differ_a_little() {
        let mut place = Place::new(Duration::from_secs(2));
        let before = [
            line("kernel", "01.000", "one"),
            line("kernel", "05.000", "five"),
            line("kernel", "05.001", "six"),
        ];
        assert_eq!(shown(&mut place, &before).len(), 3);
        place.lost();
        let again = [
            line("kernel", "01.002", "one"),
            line("kernel", "04.999", "five"),
            line("kernel", "05.000", "six"),
            line("kernel", "05.002", "seven"),
            line("kernel", "30.000", "Linux version"),
        ];
        assert_eq!(shown(&mut place, &again), ["seven", "Linux version"]);
    }
}
