//! `splamc encode`: what it writes, how it goes on, and what it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::{Floats, golden, read_floats, scratch, splamc};
use crate::{Case, check};

/// A PNG of `rows` × `columns` pixels with a pattern of its own.
pub(crate) fn png(rows: u32, columns: u32, seed: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, columns, rows);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().expect("a header");
    writer
        .write_image_data(&pixels(rows, columns, seed))
        .expect("pixels");
    writer.finish().expect("an end");
    bytes
}

fn pixels(rows: u32, columns: u32, seed: u32) -> Vec<u8> {
    let value = |place: u32| (place.wrapping_mul(97 + seed) ^ (place >> 3)) as u8;
    (0..rows * columns * 3).map(value).collect()
}

/// A tar file of these members.
fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for (name, content) in members {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        file.extend(header);
        file.extend(content);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file.resize(file.len() + 1024, 0);
    file
}

/// Writes pictures `0.png` … with captions, 64 pixels wide and high.
pub(crate) fn write_pictures(folder: &Path, captions: &[&str]) {
    fs::create_dir_all(folder).expect("a folder");
    for (number, caption) in captions.iter().enumerate() {
        let file = png(64, 64, number as u32);
        fs::write(folder.join(format!("{number}.png")), file).expect("a picture");
        fs::write(folder.join(format!("{number}.txt")), caption).expect("a caption");
    }
}

fn encode(folder: &Path, model: &str, arguments: &str) -> Output {
    let output = splamc()
        .arg("encode")
        .arg(golden(model))
        .args(arguments.split(' '))
        .current_dir(folder)
        .output();
    output.expect("the command runs")
}

fn succeed(folder: &Path, model: &str, arguments: &str) -> String {
    let output = encode(folder, model, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments}: {text}");
    text
}

/// All tensors of the shards of a folder.
fn shards(folder: &Path) -> BTreeMap<String, Floats> {
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").display().to_string();
        if name.ends_with(".safetensors") && name.starts_with('0') {
            tensors.extend(read_floats(&path));
        }
    }
    tensors
}

/// Asserts that numbers are equal up to f32's rounding in sums of another order.
fn assert_near(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    let pairs = found.iter().zip(wanted);
    let error = pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    assert!(error <= 1e-4 * largest, "{what} is off by {error}");
}

#[test]
fn latents_and_embeddings_are_those_of_the_networks() {
    let folder = scratch("encode-networks");
    write_pictures(&folder.join("data"), &["", "a fox", "two foxes"]);
    let arguments = "--data data --out out --resolution 64 --center-crop --shard-samples 2";
    succeed(&folder, "pipeline/model", arguments);
    let tensors = shards(&folder.join("out"));
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let parts = ["encoder_hidden_states", "log_variance", "mean"];
    let wanted = (0..3).flat_map(|number| parts.map(|part| format!("{number}.{part}")));
    assert_eq!(names, wanted.collect::<Vec<_>>());

    // The pixels of a picture that has its size already.
    let values = pixels(64, 64, 1);
    let number = |value: &u8| (f32::from(*value) / 255.0 - 0.5) / 0.5;
    let plane = |channel| values.iter().skip(channel).step_by(3).map(number);
    let bytes: Vec<u8> = (0..3).flat_map(plane).flat_map(f32::to_le_bytes).collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 3, 64, 64], &bytes);
    let file = safetensors::serialize([("sample", view.expect("a tensor"))], None);
    fs::write(folder.join("in.safetensors"), file.expect("a file")).expect("a file");
    let output = splamc()
        .arg("run")
        .arg(golden("pipeline/model"))
        .args(["--component", "vae_encoder", "--inputs", "in.safetensors"])
        .args(["--outputs", "out.safetensors"])
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    assert!(output.status.success());
    let wanted = &read_floats(&folder.join("out.safetensors"))["latent_parameters"].values;
    let (mean, log_variance) = wanted.split_at(4 * 8 * 8);
    assert_eq!(tensors["1.mean"].shape, [4, 8, 8]);
    assert_near(&tensors["1.mean"].values, mean, "mean");
    assert_near(
        &tensors["1.log_variance"].values,
        log_variance,
        "log-variance",
    );

    // The first ids of the golden file are those of the empty text.
    let io = read_floats(&golden("pipeline/text_encoder_io.safetensors"));
    let wanted = &io["last_hidden_state"].values[..77 * 32];
    let empty = &tensors["0.encoder_hidden_states"];
    assert_eq!(empty.shape, [1, 77, 32]);
    assert_near(&empty.values, wanted, "the empty text");
    let without = read_floats(&folder.join("out/unconditional.safetensors"));
    assert_eq!(without["encoder_hidden_states"].values, empty.values);
}

#[test]
fn sdxl_has_two_encoders_pooled_text_and_sizes() {
    let folder = scratch("encode-sdxl");
    fs::create_dir_all(folder.join("data")).expect("a folder");
    fs::write(folder.join("data/a.png"), png(64, 131, 1)).expect("a picture");
    let row = "{\"file_name\": \"a.png\", \"text\": [\"a fox\", \"a dog\"]}\n";
    fs::write(folder.join("data/metadata.jsonl"), row).expect("captions");
    let arguments = "--data data --out out --resolution 64 --center-crop";
    succeed(&folder, "sdxl/model", arguments);
    let tensors = shards(&folder.join("out"));
    // Original size, crop (131 − 64 = 67, half of it rounded to even), target.
    let sizes = [64.0, 131.0, 0.0, 34.0, 64.0, 64.0];
    assert_eq!(tensors["0.time_ids"].shape, [2, 6]);
    assert_eq!(tensors["0.time_ids"].values, [sizes, sizes].concat());
    assert_eq!(tensors["0.encoder_hidden_states"].shape[..2], [2, 77]);
    assert_eq!(tensors["0.text_embeds"].shape[0], 2);
    let (first, second) = tensors["0.text_embeds"]
        .values
        .split_at(tensors["0.text_embeds"].values.len() / 2);
    assert_ne!(first, second);
    // SDXL has zeros for no caption, and sizes are the pictures'.
    let without = read_floats(&folder.join("out/unconditional.safetensors"));
    let names: Vec<&str> = without.keys().map(String::as_str).collect();
    assert_eq!(names, ["encoder_hidden_states", "text_embeds"]);
    let values = without.values().flat_map(|tensor| &tensor.values);
    assert!(values.into_iter().all(|value| *value == 0.0));
}

#[test]
fn work_that_was_ended_goes_on() {
    let folder = scratch("encode-resume");
    write_pictures(&folder.join("data"), &["a", "b", "c", "d", "e"]);
    let arguments = "--data data --out out --resolution 64 --shard-samples 2";
    succeed(&folder, "pipeline/model", arguments);
    let read = |name: &str| fs::read(folder.join("out").join(name)).expect("a file");
    let names = [
        "00000.safetensors",
        "00001.safetensors",
        "00001.json",
        "00002.safetensors",
    ];
    let before = names.map(read);
    // A shard without its list is not complete, one with it is not encoded again.
    fs::remove_file(folder.join("out/00001.json")).expect("a list");
    fs::write(folder.join("out/00001.safetensors"), "cut").expect("a cut shard");
    fs::write(folder.join("out/00000.safetensors"), "kept").expect("a marked shard");
    succeed(&folder, "pipeline/model", arguments);
    assert_eq!(read("00000.safetensors"), b"kept");
    assert_eq!(
        names[1..].iter().map(|name| read(name)).collect::<Vec<_>>(),
        before[1..]
    );
    succeed(&folder, "pipeline/model", arguments);

    let output = encode(&folder, "pipeline/model", &format!("{arguments} --seed 1"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("other options"),
        "{text}"
    );
    let output = encode(&folder, "pipeline/model", "--data out --out other");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("encoded already"),
        "{text}"
    );
}

#[test]
fn shards_hold_what_folders_do() {
    let folder = scratch("encode-shards");
    write_pictures(&folder.join("data"), &["a", "b", "c"]);
    let member = |name: String| {
        let content = fs::read(folder.join("data").join(&name)).expect("a file");
        (name, content)
    };
    for (shard, numbers) in [(9, 0..2), (10, 2..3)] {
        let names = numbers.flat_map(|number| [format!("{number}.png"), format!("{number}.txt")]);
        let members: Vec<_> = names.map(member).collect();
        let path = folder.join(format!("part-{shard:02}.tar"));
        fs::write(path, tar(&members)).expect("a shard");
    }
    let arguments = "--resolution 64 --out";
    succeed(
        &folder,
        "pipeline/model",
        &format!("--data data {arguments} 1"),
    );
    let pattern = "--data part-{09..10}.tar";
    succeed(
        &folder,
        "pipeline/model",
        &format!("{pattern} {arguments} 2"),
    );
    let [first, second] = ["1", "2"]
        .map(|out| fs::read(folder.join(out).join("00000.safetensors")).expect("a shard"));
    assert_eq!(first, second);
    let list = fs::read(folder.join("2/00000.json")).expect("a list");
    let list: Value = serde_json::from_slice(&list).expect("JSON");
    assert_eq!(list["samples"][2]["name"], "part-10.tar: 2.png");
    assert_eq!(list["samples"][2]["captions"][0], "c");
}

#[test]
fn pictures_have_the_size_of_their_aspect() {
    let folder = scratch("encode-buckets");
    fs::create_dir_all(folder.join("data")).expect("a folder");
    for (name, rows, columns) in [("a", 200, 200), ("b", 100, 210), ("c", 300, 160)] {
        fs::write(
            folder.join(format!("data/{name}.png")),
            png(rows, columns, 1),
        )
        .expect("a file");
        fs::write(folder.join(format!("data/{name}.txt")), name).expect("a file");
    }
    let arguments = "--data data --out out --resolution 192 --aspect-buckets";
    succeed(&folder, "sdxl/model", arguments);
    let tensors = shards(&folder.join("out"));
    let shapes = ["0.mean", "1.mean", "2.mean"].map(|name| tensors[name].shape.clone());
    assert_eq!(shapes, [[4, 24, 24], [4, 16, 32], [4, 32, 16]]);
}

#[test]
fn few_unreadable_samples_are_skipped() {
    let folder = scratch("encode-skipped");
    write_pictures(&folder.join("data"), &["a", "b", "c"]);
    fs::write(folder.join("data/1.png"), "no picture").expect("a file");
    let arguments = "--data data --out out --resolution 64";
    let text = succeed(&folder, "pipeline/model", arguments);
    assert!(
        text.contains("1.png is skipped: it is not a picture"),
        "{text}"
    );
    let tensors = shards(&folder.join("out"));
    assert!(tensors.contains_key("2.mean") && !tensors.contains_key("1.mean"));
    for name in ["0.png", "2.png"] {
        fs::write(folder.join("data").join(name), "no picture").expect("a file");
    }
    let output = encode(
        &folder,
        "pipeline/model",
        "--data data --out all --resolution 64",
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("3 of 3 samples cannot be used, expected at most 2: 0.png (it is"),
        "{text}"
    );
}

fn pictures(folder: &Path) {
    write_pictures(&folder.join("data"), &["a"]);
}

fn no_captions(folder: &Path) {
    pictures(folder);
    fs::remove_file(folder.join("data/0.txt")).expect("a caption");
}

fn metadata(folder: &Path) {
    pictures(folder);
    let text = "file,text\n0.png,a\n";
    fs::write(folder.join("data/metadata.csv"), text).expect("captions");
}

fn cut_shard(folder: &Path) {
    let file = tar(&[
        ("a.png".to_owned(), vec![0; 3000]),
        ("a.txt".to_owned(), vec![0; 3]),
    ]);
    fs::write(folder.join("a.tar"), &file[..2000]).expect("a shard");
}

fn pointer(folder: &Path) {
    let text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438\n";
    fs::write(folder.join("a.tar"), text).expect("a pointer");
}

fn no_encoder(folder: &Path) {
    pictures(folder);
    fs::remove_dir_all(folder.join("model/vae")).expect("an autoencoder");
}

const CASES: [Case; 10] = [
    ("no data", |_| {}, "encode model --data data --out out"),
    (
        "no captions",
        no_captions,
        "encode model --data data --out out",
    ),
    (
        "no column of names",
        metadata,
        "encode model --data data --out out",
    ),
    (
        "a cut shard",
        cut_shard,
        "encode model --data a.tar --out out",
    ),
    (
        "a pointer of git-lfs",
        pointer,
        "encode model --data a.tar --out out",
    ),
    (
        "a missing shard",
        |_| {},
        "encode model --data x-{00..03}.tar --out out",
    ),
    (
        "a file of another kind",
        pictures,
        "encode model --data data/0.png --out out",
    ),
    (
        "an odd size",
        pictures,
        "encode model --data data --out out --resolution 50",
    ),
    (
        "the folder of the data",
        pictures,
        "encode model --data data --out data",
    ),
    (
        "no autoencoder",
        no_encoder,
        "encode model --data data --out out",
    ),
];

#[test]
fn what_cannot_be_encoded_is_said() {
    check("encode", &CASES);
}
