//! What the command says: its help, and one table of everything that can be wrong.
//!
//! Each case is a damaged copy of a tiny model and a command line; the snapshots hold what goes to
//! standard error, the exit code, and nothing of the machine.

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod bench;
mod broken_off;
mod cuda;
mod devices;
mod distil;
mod edit;
mod encode;
mod eval;
mod grad;
mod kernels;
mod local_models;
mod lora;
mod not_finite;
mod onnx;
mod options;
mod outputs;
mod pipelines;
mod places;
mod protobuf;
mod runs;
mod shapes;
mod stages;
mod streams;
mod tensors;
mod tiles;
mod tiling;
mod train;
mod tuning;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use support::{copy, golden, scratch, splamc};

/// A command line on a damaged model: what is wrong, how it comes about, the arguments.
type Case = (&'static str, fn(&Path), &'static str);

/// Nothing is changed.
fn whole(_: &Path) {}

/// Runs each case in a folder of its own, where `model` is a copy of the golden pipeline, and holds
/// the transcript against snapshots. Arguments are separated by blanks, `''` is an empty one.
fn check(group: &str, cases: &[Case]) {
    for (part, cases) in cases.chunks(CASES_MAX).enumerate() {
        let name = format!("{group}-{}", part + 1);
        insta::assert_snapshot!(name, transcript(group, cases));
    }
}

/// Cases in one snapshot, so that each stays short enough to be read.
const CASES_MAX: usize = 12;

fn transcript(group: &str, cases: &[Case]) -> String {
    let mut text = String::new();
    for (title, damage, arguments) in cases {
        let folder = scratch(&format!("cli-{group}"));
        copy(&golden("sd21/model"), &folder.join("model"));
        damage(&folder);
        writeln!(text, "# {title}\n$ splamc {arguments}").expect("a string grows");
        text.push_str(&answer(&folder, arguments));
    }
    text
}

/// Standard error and the exit code of one command.
fn answer(folder: &Path, arguments: &str) -> String {
    let words = arguments.split(' ').map(|word| word.replace("''", ""));
    let output = splamc()
        .args(words)
        .current_dir(folder)
        .output()
        .expect("the command runs");
    let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert!(!stderr.contains("panicked"), "{arguments}: {stderr}");
    let code = output.status.code().expect("no signal ended the command");
    // A job that fails leaves nothing behind that looks like a result.
    for entry in fs::read_dir(folder).expect("a folder") {
        let name = entry.expect("an entry").file_name().display().to_string();
        assert!(!name.ends_with(".part"), "{arguments}: left {name}");
    }
    let stderr: Vec<&str> = stderr.lines().filter(|line| !line.is_empty()).collect();
    let stderr = stderr.iter().map(|line| format!("{}\n", hide_hashes(line)));
    format!("{}exit {code}\n\n", stderr.collect::<String>())
}

/// Hashes, whole or the 16 digits in names, change whenever a pass does: they read as `HASH`.
fn hide_hashes(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let hexadecimal = |c: &char| matches!(c, '0'..='9' | 'a'..='f');
        let digits = rest.chars().take_while(hexadecimal).count();
        match digits {
            0 => text.push(first),
            16 | 64 => text.push_str("HASH"),
            _ => text.push_str(&rest[..digits]),
        }
        rest = &rest[digits.max(first.len_utf8())..];
    }
    text
}

#[test]
fn help_fits_on_a_screen() {
    for name in [
        "",
        "compile",
        "run",
        "sample",
        "train",
        "plot",
        "eval",
        "eval fid",
        "eval kid",
        "eval clip",
        "eval diversity",
        "eval consistency",
        "eval solver-error",
        "grid",
        "grad",
        "encode",
        "web",
        "inspect",
        "bench",
        "devices",
    ] {
        let mut command = splamc();
        command.args(name.split_whitespace());
        let output = command.arg("--help").output().expect("the command runs");
        assert!(output.status.success(), "{name}");
        let text = String::from_utf8(output.stdout).expect("help is UTF-8");
        assert!(text.lines().count() < 110, "{name} has a long help");
        insta::assert_snapshot!(
            format!("help-{name}")
                .trim_end_matches('-')
                .replace(' ', "-"),
            text
        );
    }
}
