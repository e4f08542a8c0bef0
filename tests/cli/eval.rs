//! `splamc eval`: scores against other programs, and what it refuses.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::encode::write_pictures;
use crate::support::{golden, read_png, scratch, splamc};
use crate::{Case, check};

fn eval(folder: &Path, arguments: &str) -> Output {
    let output = splamc()
        .arg("eval")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output();
    output.expect("the command runs")
}

/// What a command prints to standard output.
fn succeed(folder: &Path, arguments: &str) -> String {
    let output = eval(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {text}");
    String::from_utf8(output.stdout).expect("scores are UTF-8")
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).expect("a result file");
    serde_json::from_slice(&text).expect("JSON")
}

/// The example's pictures in two halves, and the feature network.
fn write_halves(folder: &Path) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pictures");
    for (half, numbers) in [("one", 0..4), ("two", 4..8)] {
        fs::create_dir_all(folder.join(half)).expect("a folder");
        for number in numbers {
            for ending in ["png", "txt"] {
                let name = format!("{number}.{ending}");
                let copied = fs::copy(examples.join(&name), folder.join(half).join(&name));
                copied.expect("a file of the example");
            }
        }
    }
    write_network(folder);
}

fn write_network(folder: &Path) {
    let network = golden("evaluate/features.onnx");
    fs::copy(network, folder.join("net.onnx")).expect("a network");
}

#[test]
fn frechet_distances_of_pictures_are_those_of_other_programs() {
    let folder = scratch("eval-fid");
    write_halves(&folder);
    fs::write(folder.join("one/broken.png"), "no picture").expect("a file");
    let arguments = "fid one two --features net.onnx -b 3 --json fid.json --plot fid.svg \
                     --stats-out one.npz";
    let printed = succeed(&folder, arguments);
    let result = json(&folder.join("fid.json"));
    let found = result["fid"].as_f64().expect("a number");
    let wanted = json(&golden("evaluate/distances.json"))["pictures"]["fid"].as_f64();
    let wanted = wanted.expect("a number");
    assert!((found - wanted).abs() < 1e-5 * wanted, "{found} {wanted}");
    assert_eq!(printed, format!("fid {found:.6}\n"));
    let first = &result["sets"][0];
    assert_eq!(first["pictures"], 4);
    assert_eq!(first["skipped"][0]["name"], "broken.png");
    assert_eq!(result["protocol"]["resize"], "clean");
    let plot = fs::read_to_string(folder.join("fid.svg")).expect("a plot");
    assert!(plot.starts_with("<svg"));

    // Statistics stand for the pictures that they were made of.
    let arguments = "fid two one.npz --features net.onnx --json - ";
    let printed = succeed(&folder, arguments);
    let again: Value = serde_json::from_str(&printed).expect("JSON");
    let again = again["fid"].as_f64().expect("a number");
    assert!((again - found).abs() < 1e-9 * found, "{again} {found}");
}

#[test]
fn kernel_distances_draw_the_same_subsets_again() {
    let folder = scratch("eval-kid");
    write_halves(&folder);
    let arguments = "kid one two --features net.onnx --subsets 3 --subset-size 3 --json";
    succeed(&folder, &format!("{arguments} a.json --plot a.png"));
    succeed(&folder, &format!("{arguments} b.json"));
    let [a, b] = ["a.json", "b.json"].map(|name| json(&folder.join(name)));
    assert_eq!(a["kid"], b["kid"]);
    assert_eq!(a["kernel"]["subset_size"], 3);
    succeed(&folder, &format!("{arguments} c.json --seed 1"));
    assert_ne!(json(&folder.join("c.json"))["kid"], a["kid"]);
}

/// Points of a curve are the distances of pictures that other commands draw of the same model.
#[test]
fn curves_measure_what_models_and_checkpoints_draw() {
    let folder = scratch("eval-curve");
    write_halves(&folder);
    write_clip(&folder.join("clip"), &["config.json", "model.safetensors"]);
    let model = golden("pipeline/model").display().to_string();
    fs::write(folder.join("prompts.txt"), "a fox\na dog\na cat\n").expect("prompts");
    let curve = "--reference two --features net.onnx --prompts prompts.txt -s 5 -b 2 --clip clip";
    let arguments = format!(
        "curve {model}@euler:2,1 {curve} --cfg-scale 1,4 --json curve.json --plot curve.svg"
    );
    let printed = succeed(&folder, &arguments);
    assert_eq!(printed.lines().count(), 4, "{printed}");
    let result = json(&folder.join("curve.json"));
    let points = result["points"].as_array().expect("a list");
    let last = &points[3];
    assert_eq!(
        (&last["steps"], &last["cfg_scale"]),
        (&1.into(), &4.0.into())
    );
    let sample = format!(
        "sample {model} --sampler euler --steps 1 --cfg-scale 4 -s 5 -b 3 -p fox -o drawn/x.png"
    );
    let sample = sample.replace("fox", "a-fox -p a-dog -p a-cat");
    let sample = sample.split(' ').map(|word| match word.strip_prefix("a-") {
        Some(animal) => format!("a {animal}"),
        None => word.to_owned(),
    });
    fs::create_dir_all(folder.join("drawn")).expect("a folder");
    let output = splamc().args(sample).current_dir(&folder).output();
    assert!(output.expect("the command runs").status.success());
    for (score, measure) in [
        ("fid", "fid drawn two --features net.onnx"),
        ("clip", "clip drawn --clip clip"),
    ] {
        succeed(&folder, &format!("{measure} --json one.json"));
        let wanted = json(&folder.join("one.json"))[score].as_f64();
        let wanted = wanted.expect("a number");
        let found = last[score].as_f64().expect("a number");
        assert!(
            (found - wanted).abs() < 1e-5 * wanted.abs(),
            "{score}: {found} {wanted}"
        );
    }

    // The last checkpoint of a training is what its folder `ema` holds.
    let train = format!(
        "train {model} --method splad --data one --resolution 64 --batch 1 --steps 2 --lr 1e-2 \
         --save-every 1 --keep 2 --out run"
    );
    let output = splamc()
        .args(train.split_whitespace())
        .current_dir(&folder)
        .output();
    let output = output.expect("the command runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    succeed(
        &folder,
        &format!("curve run run/ema {curve} --json run.json"),
    );
    let result = json(&folder.join("run.json"));
    let points = result["points"].as_array().expect("a list");
    let updates: Vec<_> = points
        .iter()
        .map(|point| point["updates"].as_u64())
        .collect();
    assert_eq!(updates, [Some(1), Some(2), None]);
    assert_eq!(points[1]["fid"], points[2]["fid"]);
    assert_ne!(points[0]["fid"], points[1]["fid"]);
}

#[test]
fn solvers_err_more_in_one_long_step() {
    let folder = scratch("eval-solver");
    let model = golden("pipeline/model");
    fs::write(folder.join("prompts.txt"), "a fox\n\na dog\n").expect("prompts");
    let arguments = format!(
        "solver-error {} --prompts prompts.txt --jump 100 --short 20 --from 900 --cfg-scale 2 \
         --json error.json --plot error.svg",
        model.display()
    );
    let printed = succeed(&folder, &arguments);
    let result = json(&folder.join("error.json"));
    assert_eq!(result["timesteps"].as_array().map(Vec::len), Some(1));
    assert_eq!(result["prompts"][1], "a dog");
    let number = |name: &str| result[name].as_f64().expect("a number");
    assert!(
        number("jump_error") > number("short_jumps_error"),
        "{printed}"
    );
    assert!(number("short_jumps_error") > 0.0);
}

#[test]
fn students_are_as_consistent_as_the_teacher_they_are() {
    let folder = scratch("eval-consistency");
    let model = golden("pipeline/model");
    write_pictures(&folder.join("data"), &["a fox", "a dog", "a cat"]);
    let model = model.display();
    let arguments = format!(
        "consistency {model} {model} --data data --resolution 64 --center-crop --k 300 -b 2 \
         --json delta.json --plot delta.png"
    );
    let printed = succeed(&folder, &arguments);
    let result = json(&folder.join("delta.json"));
    assert_eq!(result["data"]["samples"], 2);
    let rows = result["timesteps"].as_array().expect("a list");
    let timesteps: Vec<_> = rows.iter().map(|row| row["timestep"].as_u64()).collect();
    assert_eq!(timesteps, [Some(999), Some(699), Some(399)]);
    for row in rows {
        let [rms, l2] = ["rms", "l2"].map(|name| row[name].as_f64().expect("a number"));
        assert!(rms > 0.0 && l2 > rms, "{row}");
    }
    assert!(printed.contains("delta_teacher_step"), "{printed}");
}

/// A CLIP with its tokenizer: as transformers writes it, or as its halves.
fn write_clip(folder: &Path, files: &[&str]) {
    fs::create_dir_all(folder.join("onnx")).expect("a folder");
    for name in files {
        let file = Path::new(name).file_name().expect("a name");
        let copied = fs::copy(golden("evaluate/clip").join(file), folder.join(name));
        copied.expect("a network");
    }
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        let file = golden("sd21/model/tokenizer").join(name);
        fs::copy(file, folder.join(name)).expect("a file of a tokenizer");
    }
}

const HALVES: [&str; 2] = ["onnx/text_model.onnx", "onnx/vision_model.onnx"];

#[test]
fn clip_scores_are_those_of_transformers() {
    let folder = scratch("eval-clip");
    write_halves(&folder);
    write_clip(&folder.join("halves"), &HALVES);
    write_clip(&folder.join("whole"), &["config.json", "model.safetensors"]);
    let wanted = &json(&golden("evaluate/distances.json"))["clip"];
    for model in ["halves", "whole"] {
        let arguments = format!("clip one --clip {model} -b 3 --json clip.json --plot clip.svg");
        let printed = succeed(&folder, &arguments);
        let result = json(&folder.join("clip.json"));
        let rows = result["pictures"].as_array().expect("a list");
        assert_eq!(rows.len(), 4);
        for (place, row) in rows.iter().enumerate() {
            let found = row["score"].as_f64().expect("a number");
            let wanted = wanted[place].as_f64().expect("a number");
            // Versions of Pillow round a level differently.
            assert!((found - wanted).abs() < 0.1, "{model}: {row} {wanted}");
        }
        let mean = result["clip"].as_f64().expect("a number");
        assert_eq!(printed, format!("clip {mean:.6}\n"));
        assert_eq!(result["protocol"]["resize"], "bicubic");
    }
}

#[test]
fn captions_are_read_from_pictures_too() {
    let folder = scratch("eval-captions");
    write_clip(&folder.join("clip"), &HALVES);
    fs::create_dir(folder.join("data")).expect("a folder");
    let model = golden("pipeline/model");
    let output = splamc()
        .arg("sample")
        .arg(model)
        .args([
            "-p", "a fox", "-n", "a dog", "--steps", "1", "-W", "64", "-H", "64",
        ])
        .args(["-o", "data/fox.png"])
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    assert!(output.status.success());
    succeed(&folder, "clip data --clip clip --json clip.json");
    let row = &json(&folder.join("clip.json"))["pictures"][0];
    assert_eq!(row["caption"], "a fox");
}

#[test]
fn diversity_is_of_pictures_of_one_prompt() {
    let folder = scratch("eval-diversity");
    write_pictures(&folder.join("data"), &["a fox", "a dog", "a fox", "a cat"]);
    write_network(&folder);
    succeed(&folder, "diversity data --json pixels.json");
    let result = json(&folder.join("pixels.json"));
    let prompts = result["prompts"].as_array().expect("a list");
    assert_eq!(prompts.len(), 1);
    assert_eq!(prompts[0]["prompt"], "a fox");
    assert_eq!(prompts[0]["distance"], result["diversity"]);
    let pictures = ["0.png", "2.png"].map(|name| read_png(&folder.join("data").join(name)));
    let pairs = pictures[0].iter().zip(&pictures[1]);
    let squares = pairs.map(|(a, b)| (f64::from(a.abs_diff(*b)) / 127.5).powi(2));
    let wanted = (squares.sum::<f64>() / pictures[0].len() as f64).sqrt();
    let found = result["diversity"].as_f64().expect("a number");
    assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
    succeed(
        &folder,
        "diversity data --features net.onnx --json features.json",
    );
    assert_ne!(
        json(&folder.join("features.json"))["diversity"],
        result["diversity"]
    );
}

fn data(folder: &Path) {
    write_pictures(&folder.join("data"), &["a fox", "a dog"]);
    write_network(folder);
}

/// A set of which no picture can be read.
fn broken(folder: &Path) {
    data(folder);
    for name in ["0.png", "1.png"] {
        fs::write(folder.join("data").join(name), "no picture").expect("a file");
    }
}

/// Statistics without a covariance.
fn no_statistics(folder: &Path) {
    data(folder);
    fs::write(folder.join("stats.npz"), "PK").expect("a file");
}

#[test]
fn what_is_wrong_is_said() {
    let cases: [Case; 14] = [
        ("no network", data, "eval fid data data"),
        (
            "nothing to measure against",
            data,
            "eval fid data --features net.onnx",
        ),
        (
            "no pictures",
            data,
            "eval fid none data --features net.onnx",
        ),
        (
            "no picture that can be read",
            broken,
            "eval fid data data --features net.onnx",
        ),
        (
            "damaged statistics",
            no_statistics,
            "eval fid data stats.npz --features net.onnx",
        ),
        (
            "another size",
            data,
            "eval fid data data --features net.onnx --size 32",
        ),
        (
            "no such output",
            data,
            "eval kid data data --features net.onnx --output pool",
        ),
        (
            "a plot of another format",
            data,
            "eval fid data data --features net.onnx --plot a.gif",
        ),
        (
            "a network that takes no picture",
            data,
            "eval fid data data --features model",
        ),
        ("no CLIP", data, "eval clip data --clip model"),
        ("one picture of each caption", data, "eval diversity data"),
        (
            "jumps that do not divide",
            data,
            "eval solver-error model --short 30",
        ),
        (
            "a curve of no steps",
            data,
            "eval curve model:0 --reference data --features net.onnx --prompts prompts.txt",
        ),
        (
            "jumps that are too long",
            data,
            "eval solver-error model --from 1000",
        ),
    ];
    check("eval", &cases);
}

#[test]
fn grids_have_captions_around_their_pictures() {
    let folder = scratch("eval-grid");
    let model = golden("pipeline/model");
    fs::write(folder.join("prompts.txt"), "a fox\na dog\n").expect("prompts");
    let output = splamc()
        .arg("grid")
        .arg(&model)
        .arg(format!("{}@euler:3", model.display()))
        .args([
            "--prompts",
            "prompts.txt",
            "--steps",
            "1,2",
            "--cfg-scale",
            "1",
        ])
        .args(["-W", "64", "-H", "64", "-o", "grid.png"])
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let pixels = read_png(&folder.join("grid.png"));
    // Three columns of pictures enlarged to twice their size, two rows, two lines above and one below
    // each row.
    let (width, line) = (3 * 128, 20);
    assert_eq!(pixels.len(), width * (2 * 128 + 4 * line) * 3);
    let is_dark = |pixels: &[u8]| pixels.iter().any(|value| *value < 128);
    assert!(is_dark(&pixels[..width * line * 3]), "there is a caption");
    let below = (2 * line + 128) * width * 3;
    assert!(
        is_dark(&pixels[below..][..width * line * 3]),
        "there is a prompt"
    );
}
