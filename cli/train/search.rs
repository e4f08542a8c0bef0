//! The first value that is not finite, found by a replay.
//!
//! Takes a training that a NaN or an infinite number ended; runs its updates again from the last
//! checkpoint, with probes, and says in words which value went first. It writes nothing.

use runtime::training::checkpoint;
use runtime::training::run::TrainingError;

use crate::error::Failure;
use crate::progress;

use super::arguments::Arguments;
use super::run::{Fault, prepared};

/// A replay that would take longer, in seconds, is left out.
const SECONDS_MAX: f64 = 120.0;

/// The failure for an update that is not finite, with what went first and what to do.
pub(super) fn explained(arguments: &Arguments, fault: Fault) -> Failure {
    let updates = fault.step + 1 - fault.saved;
    let is_known = matches!(
        &fault.error,
        TrainingError::NotFinite { first: Some(_), .. }
    );
    let is_short = updates as f64 * fault.seconds <= SECONDS_MAX;
    let found = match is_short && !is_known {
        true => replay(arguments, &fault),
        false => None,
    };
    let failure = Failure::of(found.unwrap_or(fault.error));
    match fault.saved {
        0 => failure.hint("there is no checkpoint yet; a lower --lr or --dtype f32 may help"),
        saved => failure.hint(format!(
            "the last good checkpoint is {}; go on with --resume and a lower --lr",
            arguments.out.join(checkpoint::folder(saved)).display()
        )),
    }
}

/// The same fault again, with its first value. A replay that fails in another way tells nothing.
fn replay(arguments: &Arguments, fault: &Fault) -> Option<TrainingError> {
    progress::note("running the last updates again to find the first value that is not finite");
    let (run, mut batches) = prepared(arguments, fault.saved > 0, true).ok()?;
    let trainer = run.trainer().ok()?;
    let (mut step, mut updated) = (
        run.from(),
        run.resumed.as_ref().map_or(0, |own| own.updated),
    );
    while step <= fault.step {
        match trainer.update(step, updated, batches.as_mut()) {
            Ok(report) => {
                step = report.step;
                updated += u64::from(report.updated);
            }
            Err(error @ TrainingError::NotFinite { .. }) => return Some(error),
            Err(_) => return None,
        }
    }
    None
}
