//! What tests of the command share: the binary, goldens, scratch folders, files read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::{Dtype, SafeTensors};

/// The command under test.
pub(crate) fn splamc() -> Command {
    Command::new(env!("CARGO_BIN_EXE_splamc"))
}

/// A folder of reference data.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// An empty folder that the next run of the same test empties again.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("an old folder");
    }
    fs::create_dir_all(&folder).expect("a new folder");
    folder
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("a copy")),
        }
    }
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
