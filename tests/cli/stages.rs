//! What `inspect` tells of a model's kernels and of their memory.

use std::path::Path;

use compiler::tile;

use crate::edit::write;
use crate::protobuf::{model, node};
use crate::support::{golden, scratch, splamc};

/// What `inspect` prints of a stage of a model.
fn stage(folder: &Path, model: &str, stage: &str) -> String {
    let mut command = splamc();
    command.args(["inspect", model, "--stage", stage]);
    let output = command.current_dir(folder).output();
    let output = output.expect("the command runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("stages are UTF-8")
}

/// The last sum takes the place of the first softmax: nobody else reads that any more.
#[test]
fn kernels_are_told_with_their_costs_and_places() {
    let folder = scratch("cli-stages");
    let nodes = [
        node("Softmax", "", &["x"], &["a"]),
        node("Softmax", "", &["a"], &["b"]),
        node("Softmax", "", &["b"], &["c"]),
        node("Add", "", &["c", "a"], &["d"]),
        node("Softmax", "", &["d"], &["y"]),
    ];
    write(&folder, "m.onnx", &model(&nodes, &[], &[2, 6], &[2, 6]));
    for name in ["region", "tile", "plan"] {
        insta::assert_snapshot!(name, stage(&folder, "m.onnx", name));
    }
}

#[test]
fn block_programs_of_a_pipeline_read_back() {
    let text = stage(&golden("pipeline"), "model", "tile");
    let programs = tile::parse(&text).expect("what is printed is read");
    assert!(programs.len() > 100, "found {} programs", programs.len());
    let printed: String = programs.iter().map(ToString::to_string).collect();
    assert_eq!(tile::parse(&printed), Ok(programs));
    let comment = |line: &&str| line.trim_start().starts_with('#');
    let lines = text.lines().filter(|line| !comment(line));
    assert!(lines.eq(printed.lines()));
}
