//! The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use thiserror::Error;

/// Numbers of one kind about several things.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Letters, digits, `_` and `:`.
    pub name: &'static str,
    /// For people, one sentence.
    pub help: &'static str,
    /// How the numbers behave.
    pub kind: Kind,
    /// The numbers; of two with the same labels the first one counts.
    pub samples: Vec<Sample>,
}

/// How numbers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a new beginning at 0.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names (letters, digits, `_`) and any text.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

/// A number in the base unit of its family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Bytes, packets, events.
    Count(u64),
    /// A share or an average.
    Float(f64),
    /// Microseconds, written as seconds.
    Micros(u64),
    /// Milliseconds, written as seconds.
    Millis(u64),
    /// Seconds since 1970.
    Timestamp(i64),
}

/// A name that Prometheus would refuse, and with it everything else.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{name:?} is no name for a metric or a label")]
pub struct NameError {
    /// The name.
    pub name: String,
}

impl Family {
    /// Numbers that only grow.
    pub fn counter(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample>,
    ) -> Self {
        Self {
            name,
            help,
            kind: Kind::Counter,
            samples: samples.into_iter().collect(),
        }
    }

    /// Numbers that go up and down.
    pub fn gauge(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample>,
    ) -> Self {
        Self {
            kind: Kind::Gauge,
            ..Self::counter(name, help, samples)
        }
    }
}

impl Sample {
    /// A number with its labels.
    #[must_use]
    pub fn new(labels: Vec<(&'static str, String)>, value: Value) -> Self {
        Self { labels, value }
    }
}

/// Writes families one after the other; those without a number are left out.
///
/// # Errors
/// A name is none.
pub fn render(families: &[Family]) -> Result<String, NameError> {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        check(family.name, true)?;
        let name = family.name;
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        line(
            &mut out,
            format_args!("# HELP {name} {}", escaped(family.help, false)),
        );
        line(&mut out, format_args!("# TYPE {name} {kind}"));
        let mut seen = BTreeSet::new();
        for sample in &family.samples {
            let labels = labels(&sample.labels)?;
            // Prometheus throws everything away when something comes twice.
            if !seen.contains(&labels) {
                line(&mut out, format_args!("{name}{labels} {}", sample.value));
                seen.insert(labels);
            }
        }
    }
    Ok(out)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(number) => write!(f, "{number}"),
            Self::Float(number) if number.is_nan() => f.write_str("NaN"),
            Self::Float(number) if number.is_infinite() => {
                f.write_str(if number > 0.0 { "+Inf" } else { "-Inf" })
            }
            Self::Float(number) => write!(f, "{number}"),
            Self::Micros(number) => {
                write!(f, "{}.{:06}", number / 1_000_000, number % 1_000_000)
            }
            Self::Millis(number) => write!(f, "{}.{:03}", number / 1000, number % 1000),
            Self::Timestamp(seconds) => write!(f, "{seconds}"),
        }
    }
}

fn labels(labels: &[(&'static str, String)]) -> Result<String, NameError> {
    if labels.is_empty() {
        return Ok(String::new());
    }
    let mut pairs = Vec::with_capacity(labels.len());
    for (name, value) in labels {
        check(name, false)?;
        pairs.push(format!("{name}=\"{}\"", escaped(value, true)));
    }
    Ok(format!("{{{}}}", pairs.join(",")))
}

fn escaped(text: &str, quoted: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

fn check(name: &'static str, colons: bool) -> Result<(), NameError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    // Those with two underscores in front belong to Prometheus.
    let reserved = !colons && name.starts_with("__");
    if name.is_empty() || digit || reserved || !name.chars().all(good) {
        return Err(NameError {
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}
