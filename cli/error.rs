//! What a command tells its user when it cannot do its work.
//!
//! Takes errors of every room, gives one message, a hint where there is one, and an exit code.

use std::fmt::Display;

use compiler::program::pipeline::PipelineError;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was found, what was wanted, where.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// Whether the command was used wrongly (exit code 2) or its job failed (1).
    pub(crate) usage: bool,
}

impl Failure {
    /// The job failed.
    pub(crate) fn job(message: impl Display) -> Failure {
        Failure {
            message: message.to_string(),
            hint: None,
            usage: false,
        }
    }

    /// The command was used wrongly.
    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure {
            message: message.to_string(),
            hint: None,
            usage: true,
        }
    }

    /// The job failed for an error that puts its hint, if any, on lines of its own.
    pub(crate) fn of(error: impl Display) -> Failure {
        let text = error.to_string();
        match text.split_once('\n') {
            Some((message, hint)) => {
                let hint = hint.trim().trim_start_matches("hint: ");
                Failure::job(message).hint(hint)
            }
            None => Failure::job(text),
        }
    }

    /// The same failure with what to do about it.
    pub(crate) fn hint(mut self, hint: impl Display) -> Failure {
        self.hint = Some(hint.to_string());
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Failure {
        let usage = match &error {
            PipelineError::Pixels { .. }
            | PipelineError::NoPicture
            | PipelineError::TooLarge { .. } => true,
            PipelineError::UnknownInput { .. }
            | PipelineError::Missing { .. }
            | PipelineError::Damaged { .. } => false,
        };
        let failure = Failure::of(&error);
        Failure { usage, ..failure }
    }
}

/// Says where an error happened.
pub(crate) trait At<T> {
    /// The value, or a failed job that names `place` first.
    fn at(self, place: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> At<T> for Result<T, E> {
    fn at(self, place: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(format!("{place}: {error}")))
    }
}
