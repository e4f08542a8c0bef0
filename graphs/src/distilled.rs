//! What a distilled network says of itself: how it was trained, and how it wants to be sampled.
//!
//! Takes the files of a pipeline, returns what the metadata of its denoising network's weights say
//! (spec 1.12: weights alone do not tell one method from another). It reads no weight.

use std::collections::BTreeMap;

use compiler::program::pipeline::Distilled;

use crate::checkpoint;
use crate::source::Source;

/// The file that holds it.
const FILE: &str = "unet/diffusion_pytorch_model.safetensors";

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
    // What is wrong with the file is said when its weights are read.
    let file = source.bytes(FILE).ok()?;
    let mut texts = checkpoint::metadata(FILE, &file).ok()?;
    Some(Distilled {
        steps: texts.get(STEPS)?.parse().ok().filter(|&steps| steps > 0)?,
        guidance: texts.get(GUIDANCE).and_then(|text| text.parse().ok()),
        windows: texts.get(WINDOWS).and_then(|text| text.parse().ok()),
        distilled_guidance: texts.remove(DISTILLED_GUIDANCE),
        method: texts.remove(METHOD)?,
    })
}
