//! Decoding in tiles through the command: what the tiles of diffusers' decoder blend to.
//!
//! `tests/scripts/tiled_decode.py` makes the reference from the latents of a golden run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{copy, golden, read_floats, scratch, splamc, thirds};

const RUN: &str = "pipeline/runs/euler6_nocfg_24x16";
/// Every third row and column of the reference.
const TILED: &str = "pipeline/vae_tiling.safetensors";
/// Its tiles have 7 columns, of which neighbours share 2, and 11 rows, of which they share 3.
const TILES: &[&str] = &["--vae-tile-size", "7x11", "--vae-tile-overlap", "0.3"];
/// As whole pictures are held to diffusers': a share of the largest magnitude.
const BOUND: f32 = 3e-4;

fn run(arguments: &[&str], folder: &Path) {
    let output = splamc().args(arguments).current_dir(folder).output();
    let output = output.expect("the command runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
}

/// The run's model in a folder of its own.
fn assemble(name: &str) -> PathBuf {
    let folder = scratch(name);
    copy(&golden("pipeline/model"), &folder.join("model"));
    let meta = fs::read_to_string(golden(RUN).join("meta.json")).expect("meta.json");
    let meta: Value = serde_json::from_str(&meta).expect("JSON");
    let mut config = meta["scheduler_config"].clone();
    config["_class_name"] = meta["scheduler"].clone();
    let path = folder.join("model/scheduler/scheduler_config.json");
    fs::write(path, config.to_string()).expect("the scheduler's configuration");
    folder
}

/// Samples the run; gives the file of the latents.
fn sample(folder: &Path, model: &str, options: &[&str]) -> PathBuf {
    let latents = golden(RUN).join("tensors.safetensors");
    let latents = latents.to_str().expect("a path in UTF-8");
    let line = [
        "sample",
        model,
        "-p",
        "a cat",
        "--steps",
        "6",
        "--cfg-scale",
        "1",
    ];
    let files = [
        "--latents-in",
        latents,
        "--latents-out",
        "out.st",
        "--exact",
    ];
    run(&[&line[..], &files, options].concat(), folder);
    folder.join("out.st")
}

#[test]
fn tiles_blend_to_the_picture_of_the_reference() {
    let folder = assemble("tiled");
    let wanted = &read_floats(&golden(TILED))["decoded_thirds"];
    let largest = wanted.values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let line = [
        "compile", "model", "--target", "cpu", "-W", "128", "-H", "192",
    ];
    run(&[&line[..], TILES, &["-o", "m.splam"]].concat(), &folder);
    // What is compiled says by itself that it decodes in tiles.
    for (model, options) in [("model", TILES), ("m.splam", &[])] {
        let found = thirds(&read_floats(&sample(&folder, model, options))["decoded"]);
        assert_eq!(found.shape, wanted.shape, "{model}");
        let pairs = found.values.iter().zip(&wanted.values);
        let error = pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(error <= BOUND * largest, "{model}: {error} of {largest}");
    }
    let manifest = fs::read(folder.join("m.splam/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let stored = serde_json::json!({
        "height": 11, "width": 7, "overlap_height": 3, "overlap_width": 2,
    });
    assert_eq!(manifest["vae_tiling"], stored);
}

#[test]
fn one_tile_over_all_changes_no_bit() {
    let folder = assemble("one-tile");
    let latents = |options: &[&str]| fs::read(sample(&folder, "model", options)).expect("latents");
    assert!(latents(&[]) == latents(&["--vae-tiling"]));
}
