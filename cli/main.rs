//! The command `splamc`: arguments in, one command run, an exit code out.
//!
//! Data goes to standard output, progress and messages to standard error. Exit code 0 only when
//! the work is done, 1 when the job failed, 2 when the command was used wrongly, 141 when standard
//! output was closed, as shells report it of other programs.

mod ahead;
mod artifact_folder;
mod bench;
mod cache;
mod chart;
mod columns;
mod compile;
mod compiled;
mod data;
mod devices;
mod driver;
mod encode;
mod error;
mod eval;
mod files;
mod grad;
mod gradient;
mod grid;
mod inspect;
mod kernels;
mod loaded;
mod lora;
mod memory;
mod model;
mod options;
mod outputs;
mod plot;
mod png;
mod progress;
mod run;
mod sample;
mod sampled;
mod stages;
mod stdout;
mod teacher;
mod tensors;
mod tiling;
mod train;
mod tuning;
mod web;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Failure, FailureKind};

/// A portable compiler for few-step diffusion models.
///
/// MODEL is a diffusers directory (model_index.json), a directory of ONNX graphs (unet/model.onnx,
/// text_encoder/, vae_decoder/), one .onnx file, or a compiled .splam directory.
#[derive(Parser)]
#[command(
    name = "splamc",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_flag = true
)]
struct Cli {
    /// Print help.
    // One form of help, short enough for one screen.
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

/// Declares the commands, in the order of the help: each is the name and the file that has its
/// `Arguments` and executes them.
macro_rules! commands {
    ($($name:ident: $file:ident),* $(,)?) => {
        #[derive(Subcommand)]
        enum Command {
            $($name(Box<$file::Arguments>)),*
        }

        impl Command {
            fn execute(&self) -> Result<(), Failure> {
                match self {
                    $(Command::$name(arguments) => $file::execute(arguments)),*
                }
            }
        }
    };
}

commands! {
    Compile: compile,
    Run: run,
    Sample: sample,
    Train: train,
    Plot: plot,
    Eval: eval,
    Grid: grid,
    Inspect: inspect,
    Bench: bench,
    Grad: grad,
    Encode: encode,
    Web: web,
    Devices: devices,
}

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => cli.command.execute(),
        Err(misuse) if misuse.use_stderr() => {
            // Where messages cannot be printed, the exit code is left.
            let _ = misuse.print();
            return ExitCode::from(2);
        }
        // Help and version are data.
        Err(help) => stdout::check(help.print()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// Prints what failed, and on a line of its own what to do.
fn report(failure: &Failure) {
    if failure.kind == FailureKind::ClosedPipe {
        return;
    }
    progress::note(format!("error: {}", failure.message));
    if let Some(hint) = &failure.hint {
        progress::note(format!("  hint: {hint}"));
    }
}
