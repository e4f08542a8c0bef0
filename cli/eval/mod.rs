//! `splamc eval`: how good pictures, students and solvers are, as numbers.
//!
//! Takes folders of pictures and networks that judge them; prints scores, writes a result file that
//! says how each was made, and a plot. It computes no formula: `graphs` does.

mod captions;
mod clip;
mod consistency;
mod curve;
mod denoiser;
mod distance;
mod diversity;
mod features;
mod npz;
mod report;
mod solver;

use clap::Subcommand;

use crate::error::Failure;

/// Measure pictures, students and solvers.
///
/// Every score is printed; with --json a file says how it was made: files, counts, hashes, the
/// resize rule. Scores of different protocols are not comparable.
#[derive(clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Every score is printed to standard output; --json FILE says how it was made: files, \
    counts,\nhashes, the resize rule. Scores of different protocols are not comparable.\n\n\
    Examples:\n  \
    splamc eval fid samples/ coco.npz --features inception.onnx --json fid.json\n  \
    splamc eval clip samples/ --clip clip-vit-base-patch32/\n  \
    splamc eval solver-error sd15/ --plot error.svg\n\n\
    `splamc eval <command> --help` explains each."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    metric: Metric,
}

/// What is measured.
#[derive(Subcommand)]
enum Metric {
    Fid(distance::FidArguments),
    Kid(distance::KidArguments),
    Clip(clip::ClipArguments),
    Diversity(diversity::DiversityArguments),
    Consistency(consistency::ConsistencyArguments),
    SolverError(solver::SolverArguments),
    Curve(curve::CurveArguments),
}

/// Measures.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.metric {
        Metric::Fid(arguments) => distance::fid(arguments),
        Metric::Kid(arguments) => distance::kid(arguments),
        Metric::Clip(arguments) => clip::execute(arguments),
        Metric::Diversity(arguments) => diversity::execute(arguments),
        Metric::Consistency(arguments) => consistency::execute(arguments),
        Metric::SolverError(arguments) => solver::execute(arguments),
        Metric::Curve(arguments) => curve::execute(arguments),
    }
}
