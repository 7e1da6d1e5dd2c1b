//! Questions to the person in front of the terminal.

use std::io::{Write, stderr, stdin};

use crate::failure::Failure;

/// Asks and waits for a line, without blanks around it; `None` at the end of the input.
pub(crate) async fn ask(question: &str) -> Result<Option<String>, Failure> {
    {
        let mut err = stderr().lock();
        err.write_all(question.as_bytes())
            .and_then(|()| err.flush())
            .map_err(Failure::Prompt)?;
    }
    line().await
}

/// Asks for yes or no; anything but yes is no.
pub(crate) async fn confirmed(question: &str) -> Result<bool, Failure> {
    let answer = ask(&format!("{question} [y/N] ")).await?;
    Ok(matches!(answer.as_deref(), Some("y" | "Y" | "yes")))
}

/// The next line of standard input. Reading happens on a thread of its own, so that signals and
/// deadlines still count.
pub(crate) async fn line() -> Result<Option<String>, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin()
            .read_line(&mut line)
            .map(|length| (length > 0).then_some(line))
    });
    let line = read
        .await
        .map_err(|error| Failure::Prompt(error.into()))?
        .map_err(Failure::Prompt)?;
    Ok(line.map(|line| line.trim().to_owned()))
}
