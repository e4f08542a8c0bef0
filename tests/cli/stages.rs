//! What `inspect` tells of a model's kernels and of their memory.

use crate::edit::write;
use crate::protobuf::{model, node};
use crate::{scratch, splamc};

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
    for stage in ["region", "tile", "plan"] {
        let mut command = splamc();
        command.args(["inspect", "m.onnx", "--stage", stage]);
        let output = command.current_dir(&folder).output();
        let output = output.expect("the command runs");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("stages are UTF-8");
        insta::assert_snapshot!(stage, text);
    }
}
