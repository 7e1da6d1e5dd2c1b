//! Lets a stage of the cache fail with any chain of errors.

/// The cache wants an error type; the chain below it is anyhow's.
#[derive(Debug)]
pub(crate) struct StageError {
    what: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl StageError {
    pub(crate) fn new(what: &'static str, source: anyhow::Error) -> Self {
        Self {
            what,
            source: source.into(),
        }
    }
}

impl std::fmt::Display for StageError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.what)
    }
}

impl std::error::Error for StageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
