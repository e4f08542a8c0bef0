//! Values that are NaN or infinite: the network that computed them first is named, with what to do,
//! and no picture is written.

use std::fs;
use std::path::Path;

use crate::edit::weight;
use crate::support::{copy, golden, scratch};
use crate::{Case, answer, check};

const SAMPLE: &str = "sample model -p x --steps 2 -W 16 -H 16";
const F16: &str = "sample model -p x --steps 2 -W 16 -H 16 --dtype f16";
const UNET: &str = "model/unet/diffusion_pytorch_model.safetensors";
const VAE: &str = "model/vae/diffusion_pytorch_model.safetensors";
const TEXT: &str = "model/text_encoder/model.safetensors";

fn set(folder: &Path, file: &str, name: &str, value: f32) {
    weight(folder, file, name, |_| value);
}

#[rustfmt::skip]
const CASES: [Case; 7] = [
    ("NaN in a weight of the text encoder", |f| set(f, TEXT, "final_layer_norm.bias", f32::NAN), SAMPLE),
    ("infinity in a weight of the denoiser", |f| set(f, UNET, "conv_in.bias", f32::INFINITY), SAMPLE),
    ("NaN in a weight of the decoder", |f| set(f, VAE, "decoder.conv_out.bias", f32::NAN), SAMPLE),
    ("a decoder that overflows in f16", |f| weight(f, VAE, "decoder.conv_in.weight", |x| x * 1e5), F16),
    ("a denoiser that overflows in f16", |f| weight(f, UNET, "conv_out.weight", |x| x * 1e6), F16),
    ("a decoder that overflows in f32", |f| weight(f, VAE, "decoder.conv_out.weight", |x| x * 3e38), SAMPLE),
    ("guidance beyond all numbers", |_| {}, "sample model -p x --steps 2 --cfg-scale 1e300"),
];

#[test]
fn what_is_not_finite_is_told_with_its_cause() {
    check("not-finite", &CASES);
}

#[test]
fn no_picture_is_written_of_what_is_not_finite() {
    let folder = scratch("cli-no-picture");
    copy(&golden("sd21/model"), &folder.join("model"));
    set(&folder, VAE, "decoder.conv_out.bias", f32::NAN);
    assert!(answer(&folder, SAMPLE).ends_with("exit 1\n\n"));
    assert!(!fs::exists(folder.join("out.png")).expect("a folder"));
}
