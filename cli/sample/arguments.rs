//! The options of `splamc sample`.
//!
//! Plain data: what the command line says.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

use clap::ValueEnum;
use graphs::samplers;

use crate::options::{self, Execution, Precision};
use crate::tiling::TilingOptions;

/// What the names of LoRA files end in.
const ENDING: &str = ".safetensors";

/// Sample pictures from a prompt.
///
/// The seed, sampler, steps, scale and noise mean what they mean in diffusers and A1111: the same
/// model and settings give the same picture.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    splamc sample sd15/ -p 'a lighthouse at dawn' --steps 20 -s 42\n  \
    splamc sample lcm.splam -p 'a fox' --sampler lcm --steps 4 -o fox.png\n  \
    splamc sample sd15/ -p 'a fox' --lora ink.safetensors:0.7 --lora fur.safetensors\n  \
    splamc sample sd15/ -p 'a wide valley' -W 1536 -H 768 --vae-tiling\n  \
    splamc sample sd15/ -p 'a cat' -p 'a dog' -b 2 -o pets.png   # pets-0.png, pets-1.png")]
pub(crate) struct Arguments {
    /// The model: a diffusers or ONNX directory, or a compiled .splam.
    pub(super) model: PathBuf,
    /// The prompt; once, or once per picture in order.
    #[arg(short, long, required = true, allow_hyphen_values = true)]
    pub(super) prompt: Vec<String>,
    /// The negative prompt; once, or once per picture in order.
    #[arg(short, long, allow_hyphen_values = true)]
    pub(super) negative: Vec<String>,
    /// The PNG file to write, or - for standard output; with -b N, out-0.png to out-{N-1}.png.
    #[arg(short, long, default_value = "out.png")]
    pub(super) output: PathBuf,
    /// The sampler; that of the model's configuration if not given.
    #[arg(long, value_parser = sampler_names())]
    pub(super) sampler: Option<String>,
    /// The number of steps; if not given, 4 for few-step samplers and 20 for others.
    #[arg(long)]
    pub(super) steps: Option<usize>,
    /// The guidance scale in the standard form, where 1 means no guidance. The default is 7.5, 5 for
    /// SDXL, 8.5 for models that embed the scale, and 1 for samplers of distilled models.
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
    /// Rescale guided outputs towards the deviation of the conditional ones, from 0 to 1.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) guidance_rescale: f64,
    /// The seed, or -1 for a random one, which is printed; picture i of a batch uses seed + i with
    /// philox.
    #[arg(short, long, default_value = "0", allow_negative_numbers = true, value_parser = seed)]
    pub(super) seed: Seed,
    /// The random number generator: philox draws the noise of torch on CUDA and of A1111's NV,
    /// torch-cpu that of ComfyUI.
    #[arg(long, default_value = "philox")]
    pub(super) rng: Rng,
    /// The number of pictures computed at once.
    #[arg(short, long)]
    pub(super) batch: Option<usize>,
    /// Width in pixels; the model's own size if not given.
    #[arg(short = 'W', long)]
    pub(super) width: Option<usize>,
    /// Height in pixels; the model's own size if not given.
    #[arg(short = 'H', long)]
    pub(super) height: Option<usize>,
    /// SDXL: the original size to condition on; the picture's own if not given.
    #[arg(long, value_name = "WxH", value_parser = options::size)]
    pub(super) original_size: Option<[usize; 2]>,
    /// SDXL: the crop at the left and at the top to condition on; 0,0 if not given.
    #[arg(long, value_name = "X,Y", value_parser = options::corner)]
    pub(super) crop: Option<[usize; 2]>,
    /// SDXL: the target size to condition on; the picture's own if not given.
    #[arg(long, value_name = "WxH", value_parser = options::size)]
    pub(super) target_size: Option<[usize; 2]>,
    /// The type of weights and values; f32, or an exported graph's own types, if not given.
    #[arg(long)]
    pub(super) dtype: Option<Precision>,
    #[command(flatten)]
    pub(super) execution: Execution,
    #[command(flatten)]
    pub(super) tiling: TilingOptions,
    /// Add a LoRA file in kohya's, diffusers' or PEFT's layout to the weights; repeatable. SCALE is 1
    /// if not given
    #[arg(long, value_name = "FILE[:SCALE]", value_parser = lora)]
    pub(super) lora: Vec<(PathBuf, f64)>,
    /// The folder of the LoRA files that <lora:NAME:SCALE> tags in prompts name
    #[arg(long, value_name = "DIR")]
    pub(super) lora_dir: Option<PathBuf>,
    /// Read `init_latents` (and `step_noise`) from a safetensors file instead of the seed.
    #[arg(long)]
    pub(super) latents_in: Option<PathBuf>,
    /// Write `latents` of every step, `final_latents` and `decoded` to a safetensors file, or to
    /// standard output with -.
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

/// What the noise is drawn from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed {
    pub(super) number: u64,
    /// Whether nobody chose it.
    pub(super) is_random: bool,
}

/// A whole number, or -1 for a random one of 32 bits, which every tool takes.
fn seed(text: &str) -> Result<Seed, String> {
    let is_random = text == "-1";
    let number = match is_random {
        // Every hasher starts from random keys of the system.
        true => Ok(RandomState::new().build_hasher().finish() >> 32),
        false => text.parse(),
    };
    match number {
        Ok(number) => Ok(Seed { number, is_random }),
        Err(_) => Err(format!(
            "expected -1 or a whole number from 0 to {}",
            u64::MAX
        )),
    }
}

fn sampler_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(samplers::names().collect::<Vec<_>>())
}

/// A file and its strength, as `FILE[:SCALE]`.
fn lora(text: &str) -> Result<(PathBuf, f64), String> {
    match text.rsplit_once(':') {
        // A colon may be a part of the path, as in `C:\styles`.
        Some((path, scale)) if scale.parse::<f64>().is_ok() || path.ends_with(ENDING) => {
            Ok((path.into(), options::finite(scale)?))
        }
        Some(_) | None => Ok((text.into(), 1.0)),
    }
}
