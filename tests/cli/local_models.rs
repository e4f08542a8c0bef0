//! Models as download caches store them, and options that only look wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use crate::edit::{remove, write};
use crate::protobuf::{model_of, node, open_value};
use crate::support::{copy, golden, scratch, splamc};
use crate::{Case, check, whole};

const ENTRY: &str = "models--org--tiny";

/// Makes the model a cache entry with a snapshot of each name.
fn entry(folder: &Path, snapshots: &[&str], main: Option<&str>) {
    let entry = folder.join(ENTRY);
    fs::create_dir_all(entry.join("refs")).expect("a folder");
    fs::create_dir_all(entry.join("snapshots")).expect("a folder");
    for name in snapshots {
        copy(&folder.join("model"), &entry.join("snapshots").join(name));
    }
    if let Some(main) = main {
        write(&entry, "refs/main", main.as_bytes());
    }
}

/// Replaces a file of the model by a link to a blob that was not downloaded.
fn dangle(folder: &Path, file: &str) {
    let path = format!("model/{file}");
    remove(folder, &path);
    symlink("../../blobs/0123abcd", folder.join(path)).expect("a link");
}

const CACHED: &str = "sample models--org--tiny -p x --steps 1 -W 16 -H 16";
const SAMPLE: &str = "sample model -p x --steps 1 -W 16 -H 16";

#[rustfmt::skip]
const CASES: [Case; 14] = [
    ("the snapshot of the main branch", |f| entry(f, &["a", "b"], Some("b\n")), CACHED),
    ("the only snapshot", |f| entry(f, &["a"], None), CACHED),
    ("several snapshots and no branch", |f| entry(f, &["a", "b"], None), CACHED),
    ("no snapshot", |f| entry(f, &[], Some("a")), CACHED),
    ("weights that were not downloaded", |f| dangle(f, "unet/diffusion_pytorch_model.safetensors"), SAMPLE),
    ("a configuration that was not downloaded", |f| dangle(f, "vae/config.json"), SAMPLE),
    ("an index that was not downloaded", |f| dangle(f, "model_index.json"), SAMPLE),
    ("a vocabulary that was not downloaded", |f| dangle(f, "tokenizer/vocab.json"), SAMPLE),
    ("a graph that was not downloaded", |f| {
        symlink("../blobs/0123abcd", f.join("m.onnx")).expect("a link");
    }, "inspect m.onnx"),
    ("inputs behind a link to nothing", |f| {
        symlink("absent", f.join("x.safetensors")).expect("a link");
    }, "run model --component unet --inputs x.safetensors --outputs y.safetensors"),
    ("a prompt that begins with a dash", whole, "sample model -p -cat -n --dog --steps 1 -W 16 -H 16"),
    ("a seed that is negative", whole, "sample model -p x --seed -2"),
    ("a seed that is not a number", whole, "sample model -p x -s one"),
    ("a word close to a sampler's", whole, "sample model -p x --sampler eular"),
];

#[test]
fn models_of_caches_and_odd_options_are_understood() {
    check("local-models", &CASES);
}

fn run(folder: &Path, line: &str) -> Output {
    let mut command = splamc();
    command.args(line.split(' ')).current_dir(folder);
    command.output().expect("the command runs")
}

#[test]
fn a_random_seed_is_printed_and_stored_and_can_be_given_again() {
    let folder = scratch("cli-random-seed");
    copy(&golden("sd21/model"), &folder.join("model"));
    let mut seeds = Vec::new();
    for name in ["a.png", "b.png"] {
        let output = run(&folder, &format!("{SAMPLE} -s -1 -o {name}"));
        let told = String::from_utf8(output.stderr).expect("a message");
        let seed = told
            .trim()
            .strip_prefix("seed ")
            .expect("the seed alone")
            .to_owned();
        let content = fs::read(folder.join(name)).expect("a picture");
        let stored = format!("Seed: {seed},");
        assert!(
            content
                .windows(stored.len())
                .any(|own| own == stored.as_bytes()),
            "{name}"
        );
        run(&folder, &format!("{SAMPLE} -s {seed} -o again.png"));
        assert!(
            content == fs::read(folder.join("again.png")).expect("a picture"),
            "{name}"
        );
        seeds.push(seed);
    }
    assert_ne!(seeds[0], seeds[1]);
}

#[test]
fn drivers_print_no_errors_without_a_desktop() {
    let mut command = splamc();
    command
        .arg("devices")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("NODEVICE_SELECT");
    let output = command.output().expect("the command runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_graph_with_open_sizes_shows_its_interface() {
    let folder = scratch("cli-open-sizes");
    let relu = node("Relu", "", &["x"], &["y"]);
    let values = ["x", "y"].map(|name| open_value(name, "batch"));
    write(&folder, "m.onnx", &model_of(&[relu], &[], values));
    let open = run(&folder, "inspect m.onnx");
    let bound = run(&folder, "inspect m.onnx --bind batch=3");
    let [open, bound] = [open, bound].map(|output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    });
    insta::assert_snapshot!("open-sizes", open);
    assert!(
        bound.contains("x: f32[3, 4]") && bound.contains("FLOPs"),
        "{bound}"
    );
}
