//! A line every few seconds.

use std::time::{Duration, Instant};

/// Often enough to see that it lives.
const INTERVAL: Duration = Duration::from_secs(5);

/// How far the fuzzer is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) executions: u64,
    /// Edges between basic blocks that some input went along.
    pub(crate) edges: usize,
    /// Inputs kept because they did something new.
    pub(crate) inputs: usize,
}

/// Says it now and then.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    told: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            told: now,
        }
    }

    /// Prints a line when it is time for one.
    pub(crate) fn tell(&mut self, numbers: impl FnOnce() -> Numbers) {
        if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            println!("{}", line(self.elapsed(), numbers()));
        }
    }

    /// Prints the last line.
    pub(crate) fn end(&self, numbers: Numbers) {
        println!("{}", line(self.elapsed(), numbers));
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

fn line(elapsed: Duration, numbers: Numbers) -> String {
    let Numbers {
        executions,
        edges,
        inputs,
    } = numbers;
    let seconds = elapsed.as_secs();
    let per_second = executions / seconds.max(1);
    format!(
        "{seconds:>4} s  {executions:>9} executions ({per_second}/s)  {edges:>6} edges  {inputs:>5} inputs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_all_numbers() {
        let numbers = Numbers {
            executions: 120_000,
            edges: 812,
            inputs: 41,
        };
        assert_eq!(
            line(Duration::from_secs(30), numbers),
            "  30 s     120000 executions (4000/s)     812 edges     41 inputs"
        );
    }
}
