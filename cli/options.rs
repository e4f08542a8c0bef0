//! Options that several commands share, spelled once.
//!
//! Takes words of the command line, gives values of the other rooms' types.

use clap::{Args, ValueEnum};
use compiler::DType;

use crate::model::Model;

/// A part of a pipeline that is one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ComponentName {
    /// The denoising network.
    Unet,
    /// Latents to pictures.
    VaeDecoder,
    /// Pictures to latents.
    VaeEncoder,
    /// Prompts to embeddings.
    TextEncoder,
}

impl ComponentName {
    /// The name in paths, artifacts and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ComponentName::Unet => "unet",
            ComponentName::VaeDecoder => "vae_decoder",
            ComponentName::VaeEncoder => "vae_encoder",
            ComponentName::TextEncoder => "text_encoder",
        }
    }
}

/// How programs are executed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Execution {
    /// Threads; all cores if not given
    #[arg(long, value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Only direct sums: no Winograd convolutions, which are faster and round a little more; a
    /// .splam compiled with --exact has no others
    #[arg(long)]
    pub(crate) exact: bool,
}

impl Execution {
    /// What a session of `model` takes.
    pub(crate) fn options(&self, model: &Model) -> runtime::session::Options {
        runtime::session::Options {
            threads: self.threads,
            exact: self.exact || model.is_exact(),
        }
    }
}

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// This machine's processor.
    Cpu,
}

/// The type of weights and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats with 32-bit arithmetic.
    F16,
    /// The upper halves of 32-bit floats, with 32-bit arithmetic.
    Bf16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> DType {
        match precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

/// A size bound to a symbol, as `NAME=SIZE`.
pub(crate) fn binding(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("wanted NAME=SIZE")?;
    match size.parse() {
        Ok(0) | Err(_) => Err(format!(
            "found size {size:?}, wanted a whole number of 1 or more"
        )),
        Ok(size) => Ok((name.to_owned(), size)),
    }
}

/// More threads than any machine has cores are a slip of the keyboard.
const THREADS_MAX: usize = 1024;

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=THREADS_MAX) => Ok(threads),
        Ok(_) | Err(_) => Err(format!("wanted a whole number from 1 to {THREADS_MAX}")),
    }
}
