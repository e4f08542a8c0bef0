//! Models compiled for WebGPU adapters: what the manifest says, and what is refused. None of it
//! needs an adapter.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::edit::{bytes, remove};
use crate::support::{copy, golden, scratch};
use crate::{Case, answer, check, hide_hashes, whole};

/// Compiles the model for 16 x 16 pixels as `m.splam`.
fn compile(folder: &Path, options: &str) {
    let line = format!("compile model -W 16 -H 16 -o m.splam {options}");
    assert_eq!(answer(folder, &line), "exit 0\n\n");
}

fn wgsl(folder: &Path) {
    compile(folder, "--target wgsl");
}

fn cpu(folder: &Path) {
    compile(folder, "--target cpu --dtype f16");
}

/// The file of all kernels.
fn kernels(folder: &Path) -> String {
    let entries = fs::read_dir(folder.join("m.splam")).expect("an artifact");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names = names.map(|name| name.into_string().expect("UTF-8"));
    let name = names.find(|name| name.starts_with("kernels-") && name.ends_with(".wgsl"));
    format!("m.splam/{}", name.expect("a file of kernels"))
}

const TEXT: &str = "inspect m.splam --component text_encoder --stage code --kernel x";

#[rustfmt::skip]
const CASES: [Case; 11] = [
    ("compiled for adapters, run on the processor", wgsl, "sample m.splam -p x --target cpu"),
    ("compiled for the processor, run on an adapter", cpu, "sample m.splam -p x --target wgsl"),
    ("compiled for the processor, measured on an adapter", cpu, "bench m.splam --component unet --target wgsl"),
    ("another size than compiled for adapters", wgsl, "sample m.splam -p x -W 32 -H 32"),
    ("kernels before they were printed", wgsl, "inspect m.splam --stage kernel"),
    ("a kernel that is not there", wgsl, TEXT),
    ("damaged kernels", |f| {
        wgsl(f);
        bytes(f, &kernels(f), |b| b[100] ^= 1);
    }, TEXT),
    ("missing kernels", |f| {
        wgsl(f);
        remove(f, &kernels(f));
    }, TEXT),
    ("kernels of the processor as text", whole, "compile model --target cpu --dump code"),
    ("times of an adapter's kernels", whole, "compile model --target wgsl --tune quick"),
    ("what no binding holds", whole, "compile model --target wgsl --component vae_decoder -W 4096 -H 4096"),
];

#[test]
fn what_adapters_cannot_run_is_refused() {
    check("adapters", &CASES);
}

/// Roles of files, without the numbers that change with every kernel.
#[test]
fn the_manifest_says_what_a_device_must_offer() {
    let folder = scratch("cli-manifest");
    copy(&golden("sd21/model"), &folder.join("model"));
    compile(
        &folder,
        "--target wgsl --component text_encoder --no-weights",
    );
    let text = fs::read_to_string(folder.join("m.splam/manifest.json")).expect("a manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    let peak = manifest["requirements"]["peak_bytes"].take();
    assert_eq!(peak, manifest["programs"][0]["peak_bytes"].take());
    assert!(peak.as_u64() > Some(0));
    let limits = manifest["requirements"]["limits"].as_object_mut();
    for (_, needed) in limits.expect("limits") {
        assert!(needed.take().as_u64() > Some(0));
    }
    let files = manifest["files"].take();
    let files = files.as_object().expect("files");
    let roles: BTreeSet<String> = files.keys().cloned().collect();
    manifest["files"] = roles.into_iter().collect();
    let shown = serde_json::to_string_pretty(&manifest).expect("JSON");
    insta::assert_snapshot!("manifest-wgsl", hide_hashes(&shown));
}
