//! Inputs of `grad`, and memory that it may use.

use std::path::Path;

use crate::edit::{floats, safetensors, write};
use crate::{Case, check, whole};

const GRAD: &str =
    "grad model --component vae_decoder --inputs x.safetensors --outputs y.safetensors";

/// Latents of 2x2 and a target of `shape`, all zeros.
pub(crate) fn target(folder: &Path, shape: [usize; 4]) {
    let bytes = 4 * shape.iter().product::<usize>();
    let header = format!(
        r#"{{"latent_sample":{{"dtype":"F32","shape":[1,4,2,2],"data_offsets":[0,64]}},
        "target":{{"dtype":"F32","shape":{shape:?},"data_offsets":[64,{}]}}}}"#,
        64 + bytes
    );
    let file = safetensors(header.as_bytes(), &vec![0; 64 + bytes]);
    write(folder, "x.safetensors", &file);
}

#[rustfmt::skip]
const CASES: [Case; 8] = [
    ("no target", |f| floats(f, "x.safetensors", "latent_sample", &[1, 4, 2, 2], 0.5), GRAD),
    ("a target alone", |f| floats(f, "x.safetensors", "target", &[1, 3, 16, 16], 0.5), GRAD),
    ("a target of another shape", |f| target(f, [1, 3, 4, 4]), GRAD),
    ("a target that fits", |f| target(f, [1, 3, 8, 8]), GRAD),
    ("hardly any memory", |f| target(f, [1, 3, 8, 8]),
        "grad model --component vae_decoder --inputs x.safetensors --outputs y.safetensors --memory 1kB"),
    ("no size", whole,
        "grad model --component vae_decoder --inputs x.safetensors --outputs y.safetensors --memory much"),
    ("memory without gradients", whole, "inspect model --component unet --memory 1GB"),
    ("indices only", |f| floats(f, "x.safetensors", "target", &[1], 0.5),
        "grad model --component text_encoder --inputs x.safetensors --outputs y.safetensors"),
];

#[test]
fn what_cannot_be_differentiated_is_refused() {
    check("grad", &CASES);
}
