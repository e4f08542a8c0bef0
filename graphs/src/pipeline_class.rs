//! Which pipelines turn a prompt into a picture with the networks of Stable Diffusion.
//!
//! Takes the class and the networks of a pipeline, returns an error that names the kind of another
//! one. It reads no weights.

use compiler::program::pipeline::{Component, Extent, InputRole, Pipeline, Task};

use crate::ImportError;
use crate::models::fields::Fields;
use crate::source::Source;

/// What libraries that run ONNX graphs put before diffusers' classes.
const PREFIXES: [&str; 2] = ["ORT", "Onnx"];

/// Classes whose networks draw pictures from prompts alone. Those for pictures and masks as inputs
/// have the same networks, unless their channels tell otherwise.
const CLASSES: [&str; 11] = [
    "LatentConsistencyModelImg2ImgPipeline",
    "LatentConsistencyModelPipeline",
    "RectifiedFlowPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionPAGPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLPAGPipeline",
    "StableDiffusionXLPipeline",
];

/// What networks with other numbers of input channels are for, where latents have 4.
const CHANNELS: [(usize, &str); 4] = [
    (5, "a depth-to-image network"),
    (7, "an upscaling network"),
    (8, "a network that edits pictures (InstructPix2Pix)"),
    (9, "an inpainting network"),
];

/// The class without the prefix of another library: those classes differ in nothing else.
pub(crate) fn base(class: &str) -> &str {
    let mut prefixes = PREFIXES.iter();
    let base = prefixes.find_map(|prefix| class.strip_prefix(prefix));
    base.unwrap_or(class)
}

/// Refuses pipelines that do not turn a prompt into a picture, or do so with other networks.
///
/// # Errors
/// When the class is another one, or the denoising network takes or returns more than latents.
pub fn expect_text_to_image(pipeline: &Pipeline) -> Result<(), ImportError> {
    match &pipeline.class {
        Some(class) if !is_text_to_image(class) => return Err(refuse(class)),
        Some(_) | None => {}
    }
    let channels = |task| pipeline.of_task(task).ok().and_then(latent_channels);
    match (channels(Task::Denoise), channels(Task::Decode)) {
        (Some(seen), Some(latents)) if seen != latents => {
            let known = CHANNELS.iter().find(|(count, _)| *count == seen);
            let kind = known.map_or("an unknown network", |(_, kind)| kind);
            Err(ImportError::Kind {
                found: format!("{kind}: its input has {seen} channels and latents {latents}"),
                hint: "splamc run takes its graphs one by one",
            })
        }
        (_, _) => Ok(()),
    }
}

/// The error for the pipeline in `source` if its index names an unsupported class.
pub(crate) fn refusal(source: &dyn Source) -> Option<ImportError> {
    let index = "model_index.json";
    let fields = Fields::parse(index, &source.read(index).ok()?).ok()?;
    let class = fields.class()?;
    (!is_text_to_image(&class)).then(|| refuse(&class))
}

fn is_text_to_image(class: &str) -> bool {
    CLASSES.contains(&base(class))
}

fn refuse(class: &str) -> ImportError {
    ImportError::Kind {
        found: class.to_owned(),
        hint: "if its networks are those of Stable Diffusion, write StableDiffusionPipeline or \
               StableDiffusionXLPipeline as _class_name in model_index.json",
    }
}

fn latent_channels(component: &Component) -> Option<usize> {
    match component.input(InputRole::Latents)?.shape.get(1)? {
        Extent::Fixed(channels) => Some(*channels),
        Extent::Batch
        | Extent::LatentRows
        | Extent::LatentColumns
        | Extent::PictureRows
        | Extent::PictureColumns => None,
    }
}
