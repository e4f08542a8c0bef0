//! The options of `splamc train`.
//!
//! Plain data: what the command line says. Settings, which files can hold too, are in `settings`.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser};
use graphs::distill;

use crate::data::PictureOptions;
use crate::options::Execution;

use super::settings::Given;

/// Distil a few-step student from a teacher, or train a network.
///
/// A method (--method) or a preset (--preset) says what is learnt; with --method M, --help lists the
/// settings of M too. The folder --out receives
/// checkpoints, metrics.jsonl and the students: student/, as it was trained, and ema/, its moving
/// average, both ordinary pipelines that diffusers and `splamc sample` open. A training that was
/// stopped in any way goes on with --resume.
///
/// --guidance is in the standard form everywhere: 1 means no guidance. (LCM's own w is this scale minus 1.)
/// Steps count updates, whatever --accumulate is; --batch is one micro-batch.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc train sd15/ --preset splam-sd15 --data pictures/ --out run\n  \
    splamc train sd15/ --method lcm --guidance 8 --data pictures/ --out run --steps 2000\n  \
    splamc train sd15/ --out run --data pictures/ --resume       # after Ctrl-C or a crash\n  \
    splamc train --method splad --help                           # the settings of one method")]
pub(crate) struct Arguments {
    /// The teacher: a diffusers directory, of which a denoising network and a scheduler are enough
    /// where nothing is encoded. With --method denoise, the model to train.
    pub(super) teacher: PathBuf,
    /// What is learnt
    #[arg(long, value_parser = methods())]
    pub(super) method: Option<String>,
    /// The settings of a published training; flags and --config change them
    #[arg(long, value_parser = presets())]
    pub(super) preset: Option<String>,
    /// A TOML file with a value for each setting, under the names of the flags; also method,
    /// preset and data
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The folder to write to
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Go on with the training in --out from its last checkpoint
    #[arg(long)]
    pub(super) resume: bool,
    /// The data: a folder of pictures with captions, webdataset shards such as
    /// 'data/{000..127}.tar', or what `splamc encode` wrote
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<PathBuf>,
    #[command(flatten)]
    pub(super) pictures: PictureOptions,
    /// Mirror half of the pictures, drawn anew each time
    #[arg(long)]
    pub(super) flip: bool,
    /// Take the random numbers of each update from a safetensors file: stepN.noise, stepN.timesteps
    /// and stepN.<draw of the method>; with stepN.latents, stepN.cond and stepN.uncond no data are
    /// read
    #[arg(long, value_name = "FILE")]
    pub(super) draws: Option<PathBuf>,
    /// Start the student from another network than the teacher's: a diffusers directory
    #[arg(long, value_name = "DIR")]
    pub(super) student: Option<PathBuf>,
    /// Start the moving average from a safetensors file of parameters by diffusers' names
    #[arg(long, value_name = "FILE")]
    pub(super) ema_weights: Option<PathBuf>,
    /// The prompts of sampled pictures, one per line of a file; four of its own if not given
    #[arg(long, value_name = "FILE")]
    pub(super) prompts: Option<PathBuf>,
    /// How the matrices of LoRA methods are spelled: pytorch_lora_weights.safetensors for diffusers;
    /// with kohya also lora_kohya.safetensors
    #[arg(long, value_name = "FORMAT", default_value = "diffusers")]
    pub(super) lora_format: LoraFormat,
    /// Copy the teacher's other components into the students' directories instead of linking them
    #[arg(long)]
    pub(super) copy: bool,
    /// Use at most this much memory in all, such as 800MB or 16GiB: values are computed again
    /// instead of kept, with the same results
    #[arg(long, value_name = "SIZE", value_parser = crate::options::bytes)]
    pub(super) memory: Option<u64>,
    #[command(flatten)]
    pub(super) given: Given,
    #[command(flatten)]
    pub(super) execution: Execution,
}

/// How matrices of LoRA methods are spelled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LoraFormat {
    Diffusers,
    Kohya,
}

/// Reads the name of a method.
pub(crate) fn methods() -> PossibleValuesParser {
    let values = distill::methods();
    PossibleValuesParser::new(values.map(|entry| PossibleValue::new(entry.name).help(entry.about)))
}

fn presets() -> PossibleValuesParser {
    let values = distill::presets::PRESETS.iter();
    PossibleValuesParser::new(
        values.map(|preset| PossibleValue::new(preset.name).help(preset.about)),
    )
}
