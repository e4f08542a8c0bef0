//! The options of `splamc sample`.
//!
//! Plain data: what the command line says.

use std::path::PathBuf;

use clap::ValueEnum;
use graphs::samplers;

use crate::options::{self, Execution, Precision};
use crate::tiling::TilingOptions;

/// Sample pictures from a prompt.
///
/// The seed, sampler, steps, scale and noise mean what they mean in diffusers and A1111: the same
/// model and settings give the same picture.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc sample sd15/ -p 'a lighthouse at dawn' --steps 20 -s 42\n  \
    splamc sample lcm.splam -p 'a fox' --sampler lcm --steps 4 -o fox.png\n  \
    splamc sample sd15/ -p 'a wide valley' -W 1536 -H 768 --vae-tiling\n  \
    splamc sample sd15/ -p 'a cat' -p 'a dog' -b 2 -o pets.png   # pets-0.png, pets-1.png")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, or a compiled .splam.
    pub(super) model: PathBuf,
    /// The prompt; once, or once per picture in order.
    #[arg(short, long, required = true)]
    pub(super) prompt: Vec<String>,
    /// What the picture should not show; once, or once per picture in order.
    #[arg(short, long)]
    pub(super) negative: Vec<String>,
    /// The PNG file to write; with -b N, out-0.png to out-{N-1}.png.
    #[arg(short, long, default_value = "out.png")]
    pub(super) output: PathBuf,
    /// The sampler; the model's own configuration decides if none is given.
    #[arg(long, value_parser = sampler_names())]
    pub(super) sampler: Option<String>,
    /// Steps; 4 for few-step samplers and 20 for others if not given.
    #[arg(long)]
    pub(super) steps: Option<usize>,
    /// Guidance in the standard form: 1 is none. If not given: 7.5; 5 for SDXL; 8.5 for models that
    /// embed the scale; 1 for samplers of distilled models.
    #[arg(long, allow_negative_numbers = true)]
    pub(super) cfg_scale: Option<f64>,
    /// How timesteps are spaced; the sampler's own rule if not given.
    #[arg(long)]
    pub(super) spacing: Option<SpacingName>,
    /// Use Karras noise levels (the samplers that step along noise levels).
    #[arg(long, conflicts_with_all = ["exponential", "beta"])]
    pub(super) karras: bool,
    /// Use exponential noise levels, for the same samplers.
    #[arg(long, conflicts_with = "beta")]
    pub(super) exponential: bool,
    /// Use noise levels of the Beta distribution, for the same samplers.
    #[arg(long)]
    pub(super) beta: bool,
    /// Fresh noise at each step of DDIM and TCD, 0 to 1; 0 if not given.
    #[arg(long, allow_negative_numbers = true, value_parser = options::finite)]
    pub(super) eta: Option<f64>,
    /// Timesteps from noisy to clean, instead of --steps (Euler, Heun, DPM++, DDPM, LCM and TCD).
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = options::finite)]
    #[arg(allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["sigmas", "spacing", "karras", "exponential", "beta"])]
    pub(super) timesteps: Option<Vec<f64>>,
    /// Noise levels from noisy to clean, one more than steps and the last one 0 (Euler).
    #[arg(long, value_name = "A,B,…,0", value_delimiter = ',', value_parser = options::finite)]
    #[arg(allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["spacing", "karras", "exponential", "beta"])]
    pub(super) sigmas: Option<Vec<f64>>,
    /// Rescale guided outputs towards the deviation of the conditional ones, 0 to 1.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) guidance_rescale: f64,
    /// The seed; picture i of a batch uses seed + i with philox.
    #[arg(short, long, default_value_t = 0)]
    pub(super) seed: u64,
    /// What the seed means: philox as torch on CUDA and A1111's NV, torch-cpu as ComfyUI.
    #[arg(long, default_value = "philox")]
    pub(super) rng: Rng,
    /// Pictures to sample at once.
    #[arg(short, long)]
    pub(super) batch: Option<usize>,
    /// Width in pixels; the model's own size if not given.
    #[arg(short = 'W', long)]
    pub(super) width: Option<usize>,
    /// Height in pixels; the model's own size if not given.
    #[arg(short = 'H', long)]
    pub(super) height: Option<usize>,
    /// SDXL: the size that the picture is said to have been made from; its own if not given.
    #[arg(long, value_name = "WxH", value_parser = options::size)]
    pub(super) original_size: Option<[usize; 2]>,
    /// SDXL: what is said to be cropped off at the left and at the top; 0,0 if not given.
    #[arg(long, value_name = "X,Y", value_parser = options::corner)]
    pub(super) crop: Option<[usize; 2]>,
    /// SDXL: the size that the picture is said to be shown at; its own if not given.
    #[arg(long, value_name = "WxH", value_parser = options::size)]
    pub(super) target_size: Option<[usize; 2]>,
    /// The type of weights and values.
    #[arg(long)]
    pub(super) dtype: Option<Precision>,
    #[command(flatten)]
    pub(super) execution: Execution,
    #[command(flatten)]
    pub(super) tiling: TilingOptions,
    /// Read `init_latents` (and `step_noise`) from a safetensors file instead of the seed.
    #[arg(long)]
    pub(super) latents_in: Option<PathBuf>,
    /// Write `latents` of every step, `final_latents` and `decoded` to a safetensors file.
    #[arg(long)]
    pub(super) latents_out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SpacingName {
    Leading,
    Trailing,
    Linspace,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Rng {
    Philox,
    TorchCpu,
}

fn sampler_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(samplers::names().collect::<Vec<_>>())
}
