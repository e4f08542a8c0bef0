//! ONNX graphs that are refused, by node, operator, domain and opset.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::edit::{bytes, floats, write};
use crate::protobuf::{external, integers, model, node};
use crate::{Case, check};

const RUN: &str = "run m.onnx --inputs x.safetensors --outputs y.safetensors";

/// Writes `m.onnx` and its input `x` of 4 elements.
fn save(folder: &Path, content: &[u8]) {
    assert!(content.len() < 1024);
    write(folder, "m.onnx", content);
    floats(folder, "x.safetensors", "x", &[4], 1.0);
}

fn plus_weight(folder: &Path, location: &str) {
    let add = node("Add", "", &["x", "w"], &["y"]);
    save(folder, &model(&[add], &[external(location)], &[4], &[4]));
    write(folder, "w.bin", &1f32.to_le_bytes().repeat(4));
}

/// `y` is `x` reshaped to `shape`.
fn reshape(folder: &Path, shape: &[i64]) {
    let reshape = node("Reshape", "", &["x", "s"], &["y"]);
    save(
        folder,
        &model(&[reshape], &[integers("s", shape)], &[4], &[4]),
    );
}

/// `y` is `x` through one operator.
fn single(folder: &Path, op: &str, domain: &str) {
    let node = node(op, domain, &["x"], &["y"]);
    save(folder, &model(&[node], &[], &[4], &[4]));
}

/// A graph of which the end is missing.
fn cut(folder: &Path, length: fn(usize) -> usize) {
    single(folder, "Relu", "");
    bytes(folder, "m.onnx", |b| b.truncate(length(b.len())));
}

fn extents(folder: &Path, x: &[i64]) {
    let relu = node("Relu", "", &["x"], &["y"]);
    save(folder, &model(&[relu], &[], x, x));
}

#[rustfmt::skip]
const CASES: [Case; 22] = [
    ("an operator that is not supported", |f| single(f, "Hardmax", ""), RUN),
    ("an operator of a foreign domain", |f| single(f, "Relu", "com.example"), RUN),
    ("a domain without an opset", |f| single(f, "Relu", "org.nowhere"), RUN),
    ("a cycle", |f| {
        let nodes = [node("Add", "", &["x", "b"], &["y"]), node("Relu", "", &["y"], &["b"])];
        save(f, &model(&nodes, &[], &[4], &[4]));
    }, RUN),
    ("an output that nobody computes", |f| save(f, &model(&[], &[], &[4], &[4])), RUN),
    ("a huge extent", |f| extents(f, &[i64::MAX]), RUN),
    ("extents whose product overflows", |f| extents(f, &[1 << 40, 1 << 40]), RUN),
    ("a negative extent", |f| extents(f, &[-4]), RUN),
    ("a reshape to huge sizes", |f| reshape(f, &[i64::MAX, 2]), RUN),
    ("a reshape to negative sizes", |f| reshape(f, &[-7, 2]), RUN),
    ("a reshape with two unknowns", |f| reshape(f, &[-1, -1]), RUN),
    ("external data above the folder", |f| plus_weight(f, "../w.bin"), RUN),
    ("external data at an absolute path", |f| plus_weight(f, "/etc/hostname"), RUN),
    ("external data that is not there", |f| plus_weight(f, "other.bin"), RUN),
    ("external data that is too short", |f| {
        plus_weight(f, "w.bin");
        write(f, "w.bin", b"short");
    }, RUN),
    ("external data behind a link is read", |f| {
        plus_weight(f, "linked.bin");
        fs::create_dir(f.join("blobs")).expect("a folder");
        fs::rename(f.join("w.bin"), f.join("blobs/w")).expect("a file");
        symlink("blobs/w", f.join("linked.bin")).expect("a link");
    }, RUN),
    ("no protocol buffer", |f| save(f, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), RUN),
    ("a graph that was cut", |f| cut(f, |length| length / 2), RUN),
    ("a graph without its last byte", |f| cut(f, |length| length - 1), RUN),
    ("a node that is damaged", |f| {
        single(f, "Relu", "");
        bytes(f, "m.onnx", |b| b[6] = 0x0f);
    }, RUN),
    ("an empty file", |f| save(f, b""), RUN),
    ("sampling from one graph", |f| single(f, "Relu", ""), "sample m.onnx -p x"),
];

#[test]
fn graphs_are_refused_by_name() {
    check("onnx", &CASES);
}
