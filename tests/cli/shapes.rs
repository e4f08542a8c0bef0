//! The shapes example: its pipeline is trained from nothing, and its judge tells pictures apart.

use std::fs;
use std::path::Path;

use crate::support::{scratch, splamc};

fn run(folder: &Path, arguments: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).display();
    let arguments = arguments.replace("examples/", &format!("{root}/examples/"));
    let output = splamc()
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments}: {text}");
    String::from_utf8(output.stdout).expect("scores are UTF-8")
}

#[test]
fn the_way_from_pictures_to_a_judged_student_is_whole() {
    let folder = scratch("shapes");
    let train =
        "train examples/shapes/untrained --data examples/pictures --resolution 64 --batch 2";
    run(
        &folder,
        &format!("{train} --method denoise --steps 2 --out teacher"),
    );
    let student = "train teacher/ema --data examples/pictures --resolution 64 --batch 2 --steps 1";
    run(
        &folder,
        &format!("{student} --method lcm --guidance 3 --out student"),
    );
    fs::create_dir_all(folder.join("drawn")).expect("a folder");
    let sample = "sample student/ema -b 3 -s 1 -o drawn/picture.png -p";
    let prompt = ["a red circle on a blue background"];
    let output = splamc()
        .args(sample.split_whitespace())
        .args(prompt)
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let judged =
        "eval fid drawn examples/pictures --features examples/shapes/judge.onnx --range signed";
    assert!(run(&folder, judged).contains("fid"));
}
