//! `splamc train`: a teacher in, a few-step student out.
//!
//! Takes a teacher, a method and data; writes checkpoints, metrics and students into a folder. It
//! knows methods by their table, and computes nothing.

pub(crate) mod arguments;
mod draws;
pub(crate) mod export;
pub(crate) mod folder;
mod pictures;
mod run;
mod search;
pub(crate) mod settings;
mod source;
pub(crate) mod step;

use crate::error::Failure;

pub(crate) use arguments::Arguments;
use run::{Ended, prepared};

/// Trains.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let (run, batches) = prepared(arguments, arguments.resume, false)?;
    // Nothing refuses the training any more.
    run.folder.cut_logs(run.from())?;
    let ended = run.train(batches);
    drop(run);
    match ended {
        Ok(()) => Ok(()),
        Err(Ended::Failed(failure)) => Err(failure),
        Err(Ended::NotFinite(fault)) => Err(search::explained(arguments, fault)),
    }
}
