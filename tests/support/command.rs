//! The binary, and its files read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use safetensors::{Dtype, SafeTensors};

/// The command under test.
pub(crate) fn splamc() -> Command {
    Command::new(env!("CARGO_BIN_EXE_splamc"))
}

/// An f32 tensor.
pub(crate) struct Floats {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// The f32 tensors of a safetensors file.
pub(crate) fn read_floats(path: &Path) -> BTreeMap<String, Floats> {
    let bytes = fs::read(path).expect("a safetensors file");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() == Dtype::F32 {
            let chunks = view.data().chunks_exact(4);
            let values = chunks.map(|c| f32::from_le_bytes(c.try_into().expect("4 bytes")));
            let shape = view.shape().to_vec();
            tensors.insert(
                name,
                Floats {
                    shape,
                    values: values.collect(),
                },
            );
        }
    }
    tensors
}

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

/// Every third row and column of pictures.
pub(crate) fn thirds(pictures: &Floats) -> Floats {
    let &[batch, channels, rows, columns] = pictures.shape.as_slice() else {
        panic!("pictures have four axes, found {:?}", pictures.shape);
    };
    let lines = pictures.values.chunks(columns).enumerate();
    let kept = lines.filter(|(line, _)| (line % rows).is_multiple_of(3));
    let values = kept.flat_map(|(_, line)| line.iter().step_by(3).copied());
    Floats {
        shape: vec![batch, channels, rows.div_ceil(3), columns.div_ceil(3)],
        values: values.collect(),
    }
}

/// The RGB values of a PNG.
pub(crate) fn read_png(path: &Path) -> Vec<u8> {
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = png::Decoder::new(std::io::BufReader::new(file))
        .read_info()
        .expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    assert_eq!(info.color_type, png::ColorType::Rgb, "{}", path.display());
    pixels.truncate(info.buffer_size());
    pixels
}
