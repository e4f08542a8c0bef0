//! Damage to files, for tests.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// Writes the JSON file `name` again with one key set, or removed where `value` is `None`.
pub(crate) fn set(folder: &Path, name: &str, key: &str, value: Option<Value>) {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).expect("a JSON file");
    let mut object: Map<String, Value> = serde_json::from_str(&text).expect("an object");
    match value {
        Some(value) => drop(object.insert(key.to_owned(), value)),
        None => drop(object.remove(key)),
    }
    write(folder, name, Value::Object(object).to_string().as_bytes());
}

/// Writes a file.
pub(crate) fn write(folder: &Path, name: &str, content: &[u8]) {
    fs::write(folder.join(name), content).expect("a file is written");
}

/// Changes the bytes of a file.
pub(crate) fn bytes(folder: &Path, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(folder.join(name)).expect("a file");
    edit(&mut content);
    write(folder, name, &content);
}

/// Changes the header of a safetensors file.
pub(crate) fn header(folder: &Path, name: &str, edit: impl FnOnce(&mut Map<String, Value>)) {
    bytes(folder, name, |content| {
        let length = u64::from_le_bytes(content[..8].try_into().expect("8 bytes")) as usize;
        let mut header = serde_json::from_slice(&content[8..8 + length]).expect("a header");
        edit(&mut header);
        let header = Value::Object(header).to_string();
        let data = content.split_off(8 + length);
        *content = safetensors(header.as_bytes(), &data);
    });
}

/// Changes each value of an f32 tensor in a safetensors file.
pub(crate) fn weight(folder: &Path, file: &str, name: &str, change: impl Fn(f32) -> f32) {
    bytes(folder, file, |content| {
        let length = u64::from_le_bytes(content[..8].try_into().expect("8 bytes")) as usize;
        let header: Value = serde_json::from_slice(&content[8..8 + length]).expect("a header");
        let offset = |end: usize| {
            header[name]["data_offsets"][end]
                .as_u64()
                .expect("an offset")
        };
        let [start, end] = [0, 1].map(|end| 8 + length + offset(end) as usize);
        for value in content[start..end].chunks_exact_mut(4) {
            let old = f32::from_le_bytes((&*value).try_into().expect("4 bytes"));
            value.copy_from_slice(&change(old).to_le_bytes());
        }
    });
}

/// A safetensors file of a header and data.
pub(crate) fn safetensors(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Writes a safetensors file of one f32 tensor.
pub(crate) fn floats(folder: &Path, file: &str, name: &str, shape: &[usize], value: f32) {
    let count: usize = shape.iter().product();
    let data = value.to_le_bytes().repeat(count);
    let entry = serde_json::json!({
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, data.len()]}
    });
    write(
        folder,
        file,
        &safetensors(entry.to_string().as_bytes(), &data),
    );
}

/// Removes a file or a folder.
pub(crate) fn remove(folder: &Path, name: &str) {
    let path = folder.join(name);
    match path.is_dir() {
        true => fs::remove_dir_all(path).expect("a folder is removed"),
        false => fs::remove_file(path).expect("a file is removed"),
    }
}
