//! Decoding in tiles through the command: what the tiles of diffusers' decoder blend to.
//!
//! `tests/scripts/tiled_decode.py` makes the reference from the latents of a golden run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Floats, copy, golden, read_floats, scratch, splamc, thirds};
use serde_json::Value;

const RUN: &str = "pipeline/runs/euler6_nocfg_24x16";
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
