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

/// Compares all tensors of two files, within a share of the largest magnitude of each.
pub(crate) fn compare_floats(place: &str, found: &Path, wanted: &Path, tolerance: f64) {
    let (found, wanted) = (read_floats(found), read_floats(wanted));
    assert_eq!(found.len(), wanted.len(), "{place}");
    for (name, wanted) in &wanted {
        let found = &found[name];
        assert_eq!(found.shape, wanted.shape, "{place}: {name}");
        let largest = wanted.values.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let pairs = found.values.iter().zip(&wanted.values);
        let error = pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(
            f64::from(error) <= tolerance * f64::from(largest),
            "{place}: {name} is off by {error} of {largest}"
        );
    }
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
