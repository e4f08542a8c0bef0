//! Input files of `run` and of `sample --latents-in`.

use std::path::Path;

use serde_json::json;

use crate::edit::{floats, header, safetensors, write};
use crate::{Case, check, whole};

const RUN: &str =
    "run model --component vae_decoder --inputs x.safetensors --outputs y.safetensors";
const SAMPLE: &str = "sample model -p x --steps 1 --latents-in x.safetensors";
const DRAWN: &str = "sample model -p x --steps 2 --sampler lcm --latents-in x.safetensors";

fn latents(folder: &Path, name: &str, shape: &[usize]) {
    floats(folder, "x.safetensors", name, shape, 0.5);
}

#[rustfmt::skip]
const CASES: [Case; 20] = [
    ("no file", whole, RUN),
    ("no safetensors file", |f| write(f, "x.safetensors", b"hello, hello, hello"), RUN),
    ("an empty file", |f| write(f, "x.safetensors", b""), RUN),
    ("no tensors", |f| write(f, "x.safetensors", &safetensors(b"{}", b"")), RUN),
    ("another name", |f| latents(f, "latents", &[1, 4, 8, 8]), RUN),
    ("another rank", |f| latents(f, "latent_sample", &[4, 8, 8]), RUN),
    ("other channels", |f| latents(f, "latent_sample", &[1, 3, 8, 8]), RUN),
    ("no pictures", |f| latents(f, "latent_sample", &[0, 4, 8, 8]), RUN),
    ("integers", |f| {
        latents(f, "latent_sample", &[1, 4, 8, 8]);
        header(f, "x.safetensors", |h| h["latent_sample"]["dtype"] = json!("I32"));
    }, RUN),
    ("truths", |f| {
        latents(f, "latent_sample", &[1, 4, 8, 2]);
        header(f, "x.safetensors", |h| {
            h["latent_sample"]["dtype"] = json!("BOOL");
            h["latent_sample"]["shape"] = json!([1, 4, 8, 8]);
        });
    }, RUN),
    ("one of several components", |f| latents(f, "latent_sample", &[1, 4, 8, 8]),
        "run model --inputs x.safetensors --outputs y.safetensors"),
    ("no weights in the file", |f| {
        latents(f, "latent_sample", &[1, 4, 8, 8]);
        floats(f, "w.safetensors", "w", &[1], 0.0);
    }, "run model --component vae_decoder --inputs x.safetensors --outputs y.safetensors --weights w.safetensors"),
    ("latents by another name", |f| latents(f, "latents", &[1, 4, 8, 8]), SAMPLE),
    ("latents of another rank", |f| latents(f, "init_latents", &[4, 8, 8]), SAMPLE),
    ("latents of other channels", |f| latents(f, "init_latents", &[1, 5, 8, 8]), SAMPLE),
    ("latents of no extent", |f| latents(f, "init_latents", &[1, 4, 0, 8]), SAMPLE),
    ("latents for more pictures than asked for", |f| latents(f, "init_latents", &[2, 4, 8, 8]),
        "sample model -p x --steps 1 --latents-in x.safetensors -b 1"),
    ("latents that are no numbers", |f| {
        floats(f, "x.safetensors", "init_latents", &[1, 4, 4, 4], f32::NAN);
    }, SAMPLE),
    ("latents without the noise of later steps", |f| latents(f, "init_latents", &[1, 4, 8, 8]), DRAWN),
    ("a folder", |f| std::fs::create_dir(f.join("x.safetensors")).expect("a folder"), SAMPLE),
];

#[test]
fn inputs_that_do_not_fit_are_refused() {
    check("tensors", &CASES);
}
