//! House rules that a machine can check: arrows between rooms, cards, lists, unsafe code.

mod arrows;
mod imports;
mod schema;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each room may depend on, of the rooms. An arrow also allows everything beyond it.
const ARROWS: [(&str, &[&str]); 6] = [
    ("compiler", &[]),
    ("graphs", &["compiler"]),
    ("backends", &["compiler"]),
    ("runtime", &["backends", "compiler"]),
    ("examples/browser/core", &["graphs", "runtime", "compiler"]),
    (".", &["graphs", "runtime", "backends", "compiler"]),
];

/// Crates that one room alone may use.
const ONE_ROOM: [(&str, &str); 16] = [
    ("clap", "."),
    ("csv", "runtime"),
    ("cudarc", "backends"),
    ("flate2", "."),
    ("gemm", "backends"),
    ("image", "runtime"),
    ("indicatif", "."),
    ("memmap2", "."),
    ("naga", "backends"),
    ("nalgebra", "graphs"),
    ("png", "."),
    ("rustix", "backends"),
    ("tar", "runtime"),
    ("tempfile", "."),
    ("tokenizers", "runtime"),
    ("wgpu", "backends"),
];

/// What may lie at the top of the repository, dot-files apart.
const TOP: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "backends",
    "cli",
    "compiler",
    "examples",
    "graphs",
    "runtime",
    "tests",
];

/// Folders in which every file must stand in the list of its `mod.rs`, or of `main.rs`.
const LISTS: [&str; 12] = [
    "cli",
    "cli/eval",
    "compiler/src/kernel/optimize",
    "compiler/src/ops",
    "compiler/src/passes/raise",
    "compiler/src/passes/simplify",
    "compiler/src/region/form",
    "compiler/src/tile/programs",
    "graphs/src/distill",
    "graphs/src/evaluate",
    "graphs/src/onnx/ops",
    "graphs/src/samplers",
];

/// Where unsafe code is allowed.
const UNSAFE: [&str; 4] = [
    "cli/files.rs",
    "backends/src/cpu/",
    "backends/src/cuda/device/driver.rs",
    "tests/software_cuda/src/driver.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dependencies(room: &str) -> BTreeSet<String> {
    let path = root().join(room).join("Cargo.toml");
    let text = fs::read_to_string(&path).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    let mut names = BTreeSet::new();
    collect_dependencies(&manifest, &mut names);
    names
}

/// Dependencies of every kind but those of tests, also under `[target.…]`.
fn collect_dependencies(table: &toml::Table, names: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else {
            continue;
        };
        match key.as_str() {
            "dependencies" | "build-dependencies" => names.extend(inner.keys().cloned()),
            "target" => {
                for (_, platform) in inner {
                    collect_dependencies(platform.as_table().expect("a table"), names);
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn rust_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for room in [
        "compiler", "graphs", "backends", "runtime", "cli", "tests", "examples",
    ] {
        // A folder that is still empty is not in a clone.
        if root().join(room).is_dir() {
            walk(&root().join(room), &mut files);
        }
    }
    assert!(files.len() > 50, "the walk found the sources");
    files
}

fn walk(folder: &Path, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(root())
                .expect("below the root")
                .display()
                .to_string();
            files.push((name, fs::read_to_string(&path).expect("UTF-8 source")));
        }
    }
}

#[test]
fn arrows_between_rooms_point_one_way() {
    let rooms: BTreeSet<&str> = ["backends", "compiler", "graphs", "runtime", "splamc"].into();
    for (room, allowed) in ARROWS {
        for name in dependencies(room) {
            let is_room = rooms.contains(name.as_str());
            assert!(
                !is_room || allowed.contains(&name.as_str()),
                "{room} may not use {name}"
            );
        }
    }
}

#[test]
fn heavy_crates_have_one_room() {
    for (room, _) in ARROWS {
        for name in dependencies(room) {
            let home = ONE_ROOM.iter().find(|(heavy, _)| *heavy == name);
            assert!(
                home.is_none_or(|(_, home)| *home == room),
                "{room} may not use {name}"
            );
        }
    }
}

#[test]
fn the_top_level_holds_what_the_design_says() {
    // What people make here (pictures, compiled models) is not the house's: only what git keeps.
    let listed = Command::new("git")
        .arg("ls-files")
        .current_dir(root())
        .output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for path in listed.unwrap_or_default().lines() {
        let name = path.split('/').next().unwrap_or(path);
        assert!(
            name.starts_with('.') || TOP.contains(&name),
            "unexpected {name}"
        );
    }
}

#[test]
fn every_file_begins_with_a_card() {
    for (name, text) in rust_files() {
        assert!(text.starts_with("//! "), "{name} has no `//!` card");
    }
}

#[test]
fn every_part_stands_in_its_list() {
    for folder in LISTS {
        let list = ["mod.rs", "main.rs"].map(|file| root().join(folder).join(file));
        let list = list.iter().find_map(|path| fs::read_to_string(path).ok());
        let list = list.expect("a list");
        let mut declared = Vec::new();
        for line in list.lines() {
            let line = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            if let Some(name) = line
                .strip_prefix("mod ")
                .and_then(|rest| rest.strip_suffix(';'))
            {
                declared.push(name.to_owned());
            }
        }
        for entry in fs::read_dir(root().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let stem = path.file_stem().expect("a name").display().to_string();
            assert!(
                ["mod", "main"].contains(&&*stem) || declared.contains(&stem),
                "{folder}/{stem} is not listed"
            );
        }
        assert!(
            declared.is_sorted(),
            "the list of {folder} is not sorted: {declared:?}"
        );
    }
}

#[test]
fn unsafe_code_stays_in_its_places_and_says_why_it_is_safe() {
    for (name, text) in rust_files() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if !code.contains("unsafe {") && !code.contains("unsafe fn") {
                continue;
            }
            let place = format!("{name}:{}", number + 1);
            assert!(
                name.starts_with("tests/tidy/")
                    || UNSAFE.iter().any(|allowed| name.starts_with(allowed)),
                "{place} is unsafe"
            );
            let before = &lines[number.saturating_sub(8)..number];
            assert!(
                name.starts_with("tests/tidy/")
                    || before.iter().any(|line| line.contains("SAFETY:")),
                "{place} has no SAFETY comment"
            );
        }
    }
}

#[test]
fn the_project_speaks_of_itself_alone() {
    for (name, text) in rust_files() {
        for word in ["todo!", "unimplemented!", "/work/", "FIXME"] {
            assert!(
                name.starts_with("tests/tidy/") || !text.contains(word),
                "{name} says {word}"
            );
        }
    }
}

/// Macros that panic where a stream is closed or full.
const PRINTING: [&str; 4] = ["println!", "print!", "eprintln!", "eprint!"];

#[test]
fn nothing_is_printed_by_macros_that_panic() {
    for (name, text) in rust_files() {
        if name.starts_with("tests/") || name.contains("/tests/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let macros = PRINTING.iter().filter(|own| line.contains(**own));
            let found: Vec<_> = macros.collect();
            let place = format!("{name}:{}", number + 1);
            assert!(
                found.is_empty(),
                "{place} prints by {found:?}: use cli/stdout.rs or progress.rs"
            );
        }
    }
}

/// Folders of the backends, each with what its code must not name.
const STRANGERS: [(&str, &[&str]); 4] = [
    ("cpu", &["gpu", "webgpu", "cuda"]),
    ("gpu", &["cpu", "webgpu", "cuda"]),
    ("webgpu", &["cpu", "cuda"]),
    ("cuda", &["cpu", "webgpu"]),
];

#[test]
fn dialects_of_gpus_do_not_see_each_other() {
    for (folder, strangers) in STRANGERS {
        let inside = format!("backends/src/{folder}/");
        for (name, text) in rust_files() {
            if !name.starts_with(&inside) || name.contains("/tests/") {
                continue;
            }
            for line in text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
            {
                for stranger in strangers {
                    let path = format!("crate::{stranger}::");
                    assert!(!line.contains(&path), "{name} names {path}: {line}");
                }
            }
        }
    }
}
