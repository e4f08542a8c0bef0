//! Sampling for other commands: the same run as `splamc sample`, its pictures as numbers.
//!
//! Takes a model, prompts and flags as the command line spells them; returns decoded pictures.

use std::path::Path;

use clap::{Args, Command, FromArgMatches};
use compiler::value::tensor::Tensor;

use crate::error::{At, Failure};
use crate::sample::{self, Arguments};
use crate::{files, tensors};

/// Prompts where no file names others.
const PROMPTS: [&str; 4] = [
    "a photo of a red fox in the snow",
    "a lighthouse at dawn, oil painting",
    "portrait of an old fisherman, studio light",
    "a bowl of fruit on a wooden table",
];

/// What is sampled.
pub(crate) struct Request<'a> {
    /// One picture for each.
    pub(crate) prompts: &'a [String],
    /// The seed of the first picture; later ones follow.
    pub(crate) seed: u64,
    /// Rows and columns in pixels; the model's own if not given.
    pub(crate) size: Option<[usize; 2]>,
    /// Further flags.
    pub(crate) flags: Vec<String>,
}

/// Writes the pictures that `splamc sample` makes of a model into a folder.
pub(crate) fn write(model: &Path, request: &Request<'_>, folder: &Path) -> Result<(), Failure> {
    run(model, request, &folder.join("picture.png"), &[])
}

/// The pictures that `splamc sample` makes of a model: f32 `[prompts, 3, height, width]`, values from
/// -1 to 1. Files are written below `scratch` and removed.
pub(crate) fn decoded(
    model: &Path,
    request: &Request<'_>,
    scratch: &Path,
) -> Result<Tensor, Failure> {
    let scratch = tempfile::tempdir_in(scratch).at(scratch.display())?;
    let latents = scratch.path().join("latents.safetensors");
    let output = scratch.path().join("out.png");
    let traced = ["--latents-out".to_owned(), latents.display().to_string()];
    run(model, request, &output, &traced)?;
    let mut stored = tensors::read(&latents)?;
    let missing = || Failure::job(format!("{}: no pictures were made", model.display()));
    stored.remove("decoded").ok_or_else(missing)
}

/// Runs `splamc sample`.
fn run(model: &Path, request: &Request<'_>, output: &Path, more: &[String]) -> Result<(), Failure> {
    let mut words = vec![model.display().to_string()];
    for prompt in request.prompts {
        words.extend(["-p".to_owned(), prompt.clone()]);
    }
    let mut options = vec![
        ("-b", request.prompts.len().to_string()),
        ("-s", request.seed.to_string()),
        ("-o", output.display().to_string()),
    ];
    if let Some([height, width]) = request.size {
        options.extend([("-H", height.to_string()), ("-W", width.to_string())]);
    }
    for (flag, value) in options {
        words.extend([flag.to_owned(), value]);
    }
    words.extend(request.flags.iter().chain(more).cloned());
    let command = Command::new("sample").no_binary_name(true);
    let matches = Arguments::augment_args(command).try_get_matches_from(words);
    let arguments = matches.and_then(|found| Arguments::from_arg_matches(&found));
    sample::execute(&arguments.map_err(Failure::of)?)
}

/// The prompts in a file, one per line; four of our own without one.
pub(crate) fn prompts(file: Option<&Path>) -> Result<Vec<String>, Failure> {
    match file {
        Some(path) => read_prompts(path),
        None => Ok(PROMPTS.map(str::to_owned).to_vec()),
    }
}

/// The prompts in a file, one per line.
fn read_prompts(path: &Path) -> Result<Vec<String>, Failure> {
    let bytes = files::read(path)?;
    let text = std::str::from_utf8(&bytes).at(path.display())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let prompts: Vec<String> = lines.map(str::to_owned).collect();
    match prompts.is_empty() {
        true => Err(Failure::job(format!(
            "{}: there is no prompt",
            path.display()
        ))),
        false => Ok(prompts),
    }
}
