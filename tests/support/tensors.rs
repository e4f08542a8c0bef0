//! Golden files as the libraries take them: folders as sources, tensors by name; and how far
//! numbers lie apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use compiler::value::array::Array;
use compiler::value::tensor::Tensor;
use graphs::checkpoint;

use super::golden;

/// Files by their paths: a source of models.
pub(crate) type Folder = BTreeMap<String, Bytes>;

/// All files below the golden folder `name`.
pub(crate) fn folder(name: &str) -> Folder {
    let mut files = Folder::new();
    collect(&golden(name), "", &mut files);
    assert!(!files.is_empty(), "no golden files in {name}");
    files
}

fn collect(folder: &Path, prefix: &str, files: &mut Folder) {
    for entry in fs::read_dir(folder).expect("a golden folder is there") {
        let path = entry.expect("a golden folder can be listed").path();
        let file = path.file_name().expect("entries have names");
        let name = format!("{prefix}{}", file.to_string_lossy());
        match path.is_dir() {
            true => collect(&path, &format!("{name}/"), files),
            false => {
                let bytes = fs::read(&path).expect("a golden file can be read");
                files.insert(name, bytes.into());
            }
        }
    }
}

/// The tensors of the golden safetensors file `name`.
pub(crate) fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(golden(name)).expect("a golden file is there");
    checkpoint::parse(name, &bytes.into()).expect("a golden file is valid")
}

/// Asserts that shapes are equal and the largest difference is at most `tolerance` times the
/// largest magnitude of `wanted`.
pub(crate) fn assert_close(found: &Array, wanted: &Array, tolerance: f64, what: &str) {
    assert_eq!(found.shape, wanted.shape, "shape of {what}");
    let largest = wanted.floats().iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    let pairs = found.floats().iter().zip(wanted.floats());
    let error = pairs.fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()));
    assert!(
        error <= tolerance * largest,
        "{what} lies {:.2e} of its largest magnitude away, wanted {tolerance:.0e}",
        error / largest
    );
}
