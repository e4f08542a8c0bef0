//! Failures of commands.
//!
//! Takes errors of every room, returns one message, a hint where there is one, and an exit code.

use std::fmt::Display;
use std::io::ErrorKind;

use compiler::program::pipeline::PipelineError;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is wrong, where, and what was expected.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// Whose fault it is.
    pub(crate) kind: FailureKind,
}

/// Why a command failed, as its exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The job failed.
    Job,
    /// The command was used wrongly.
    Usage,
    /// Whoever read standard output has enough. It is not a fault, and nothing is printed.
    ClosedPipe,
}

impl Failure {
    /// The job failed.
    pub(crate) fn job(message: impl Display) -> Failure {
        Failure {
            message: message.to_string(),
            hint: None,
            kind: FailureKind::Job,
        }
    }

    /// The command was used wrongly.
    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure {
            message: message.to_string(),
            hint: None,
            kind: FailureKind::Usage,
        }
    }

    /// Standard output is a pipe that was closed.
    pub(crate) fn closed_pipe() -> Failure {
        Failure {
            message: "standard output was closed".to_owned(),
            hint: None,
            kind: FailureKind::ClosedPipe,
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
        match self.kind {
            FailureKind::Job => 1,
            FailureKind::Usage => 2,
            // What shells report of a program that the signal SIGPIPE, number 13, ended.
            FailureKind::ClosedPipe => 128 + 13,
        }
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
        let kind = match &error {
            PipelineError::Pixels { .. }
            | PipelineError::NoPicture
            | PipelineError::TooLarge { .. } => FailureKind::Usage,
            PipelineError::UnknownInput { .. }
            | PipelineError::Missing { .. }
            | PipelineError::Damaged { .. } => FailureKind::Job,
        };
        let failure = Failure::of(&error);
        Failure { kind, ..failure }
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

/// What the system says of a file, in the words of our messages.
pub(crate) fn said(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        ErrorKind::NotADirectory => "a part of the path is a file, not a directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        ErrorKind::StorageFull => "no space is left on the device".to_owned(),
        // The kinds are the system's, and open: its own words do for the rest.
        _ => error.to_string(),
    }
}
