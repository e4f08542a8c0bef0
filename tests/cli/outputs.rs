//! Outputs: refused early where they cannot be written, and never lost to a job that fails.

use std::fs;

use crate::edit::{bytes, floats, write};
use crate::support::{copy, golden};
use crate::support::{scratch, splamc};
use crate::{Case, answer, check, whole};

#[rustfmt::skip]
const CASES: [Case; 8] = [
    ("a picture in a missing folder", whole, "sample model -p x --steps 1 -o absent/out.png"),
    ("a picture where a folder is", whole, "sample model -p x --steps 1 -o model"),
    ("latents in a missing folder", whole, "sample model -p x --steps 1 --latents-out absent/x"),
    ("tensors in a missing folder", |f| {
        floats(f, "x.safetensors", "latent_sample", &[1, 4, 4, 4], 0.5);
    }, "run model --component vae_decoder --inputs x.safetensors --outputs absent/y"),
    ("an artifact below a file", whole, "compile model --target cpu -o model/model_index.json/m.splam"),
    ("an empty name", whole, "sample model -p x --steps 1 -o ''"),
    ("a long prompt is cut, and said so", whole, LONG),
    ("a negative prompt without guidance", whole, "sample model -p x -n y --steps 1 --cfg-scale 1"),
];

/// 39 words and 40 marks: more than 75 tokens.
const LONG: &str = "sample model --steps 1 -W 16 -H 16 -p \
    a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,";

#[test]
fn outputs_are_checked_before_the_work() {
    check("outputs", &CASES);
}

#[test]
fn a_failed_job_leaves_the_old_output() {
    let folder = scratch("cli-old-output");
    copy(&golden("sd21/model"), &folder.join("model"));
    floats(
        &folder,
        "x.safetensors",
        "latent_sample",
        &[1, 4, 4, 4],
        0.5,
    );
    let jobs = [
        ("out.png", "sample model -p x --steps 1 -o out.png"),
        (
            "out.st",
            "run model --component vae_decoder --inputs x.safetensors --outputs out.st",
        ),
    ];
    for (output, line) in jobs {
        write(&folder, output, b"good");
        bytes(
            &folder,
            "model/vae/diffusion_pytorch_model.safetensors",
            |b| b[8] ^= 255,
        );
        assert!(answer(&folder, line).contains("exit 1"), "{line}");
        assert_eq!(
            fs::read(folder.join(output)).expect("the old file"),
            b"good"
        );
        bytes(
            &folder,
            "model/vae/diffusion_pytorch_model.safetensors",
            |b| b[8] ^= 255,
        );
        assert!(answer(&folder, line).contains("exit 0"), "{line}");
        assert_ne!(fs::read(folder.join(output)).expect("a new file"), b"good");
    }
}

#[test]
fn a_failed_compilation_leaves_the_old_artifact() {
    let folder = scratch("cli-old-artifact");
    copy(&golden("sd21/model"), &folder.join("model"));
    let line = "compile model --target cpu -W 16 -H 16 -o m.splam";
    assert!(answer(&folder, line).contains("exit 0"));
    bytes(
        &folder,
        "model/vae/diffusion_pytorch_model.safetensors",
        |b| b[8] ^= 255,
    );
    assert!(answer(&folder, line).contains("exit 1"));
    let sampled = answer(&folder, "sample m.splam -p x --steps 1");
    assert_eq!(sampled, "exit 0\n\n");
}

#[test]
fn weights_that_are_no_numbers_are_told() {
    let folder = scratch("cli-nan-weights");
    copy(&golden("sd21/model"), &folder.join("model"));
    bytes(
        &folder,
        "model/unet/diffusion_pytorch_model.safetensors",
        |content| {
            let end = content.len();
            content[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        },
    );
    let mut command = splamc();
    command.args(["inspect", "model", "--component", "unet"]);
    let output = command
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("a summary is UTF-8");
    let warnings = text.lines().filter(|line| line.contains("warning"));
    insta::assert_snapshot!("nan-weights", warnings.collect::<String>());
}
