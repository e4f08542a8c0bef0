//! What a distilled network says of itself: how it was trained, and how it wants to be sampled.
//!
//! Takes the files of a pipeline, returns what the metadata of its denoising network's weights, or
//! of its LoRA file, say (spec 1.12: weights alone do not tell one method from another). It reads no
//! weight.

use std::collections::BTreeMap;

use compiler::program::pipeline::Distilled;

use crate::checkpoint;
use crate::source::Source;

/// The file of matrices that a student consists of where its network is the teacher's, as diffusers
/// looks for it.
pub const LORA: &str = "pytorch_lora_weights.safetensors";

/// The file of the denoising network's weights.
const NETWORK: &str = "unet/diffusion_pytorch_model.safetensors";

/// Keys of the metadata.
const METHOD: &str = "splamc.method";
const STEPS: &str = "splamc.steps";
const GUIDANCE: &str = "splamc.guidance";
const DISTILLED_GUIDANCE: &str = "splamc.distilled_guidance";
const WINDOWS: &str = "splamc.windows";

/// The description of a distilled network as metadata of its file.
pub fn metadata(distilled: &Distilled) -> BTreeMap<String, String> {
    let facts = [
        ("format", Some("pt".to_owned())),
        (METHOD, Some(distilled.method.clone())),
        (STEPS, Some(distilled.steps.to_string())),
        (GUIDANCE, distilled.guidance.map(|scale| scale.to_string())),
        (DISTILLED_GUIDANCE, distilled.distilled_guidance.clone()),
        (
            WINDOWS,
            distilled.windows.map(|windows| windows.to_string()),
        ),
    ];
    let known = facts.into_iter();
    known
        .filter_map(|(key, text)| Some((key.to_owned(), text?)))
        .collect()
}

/// The description in the files of a pipeline, if its denoising network was distilled.
pub(crate) fn read(source: &dyn Source) -> Option<Distilled> {
    of_file(source, LORA).or_else(|| of_file(source, NETWORK))
}

/// Whether the denoising network of a pipeline is distilled with the matrices of [`LORA`] alone.
pub fn needs_lora(source: &dyn Source) -> bool {
    of_file(source, LORA).is_some()
}

fn of_file(source: &dyn Source, file: &str) -> Option<Distilled> {
    // What is wrong with the file is said when its weights are read.
    let bytes = source.bytes(file).ok()?;
    let mut texts = checkpoint::metadata(file, &bytes).ok()?;
    Some(Distilled {
        steps: texts.get(STEPS)?.parse().ok().filter(|&steps| steps > 0)?,
        guidance: texts.get(GUIDANCE).and_then(|text| text.parse().ok()),
        windows: texts.get(WINDOWS).and_then(|text| text.parse().ok()),
        distilled_guidance: texts.remove(DISTILLED_GUIDANCE),
        method: texts.remove(METHOD)?,
    })
}
