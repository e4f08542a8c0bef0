//! `compile --tune quick`: a cache beside the artifact, never in it, that changes no result.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::{copy, golden, read_floats, scratch, splamc};

/// Runs one command in `folder`; `arguments` are separated by blanks.
fn run(folder: &Path, arguments: &str) -> Output {
    let mut command = splamc();
    command.args(arguments.split(' ')).current_dir(folder);
    command.output().expect("the command runs")
}

/// As [`run`], of a command that must work; gives what it said.
fn said(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let said = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert!(output.status.success(), "{arguments}: {said}");
    said
}

/// The files of an artifact with their bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push((
                path.file_name().expect("a name").display().to_string(),
                fs::read(&path).expect("a file"),
            )),
        }
    }
    files.sort();
    files
}

const COMPILE: &str = "compile model --target cpu -W 16 -H 16 -o";
const SAMPLE: &str = "--threads 2 -p fox --steps 2 --latents-out";

#[test]
fn tuning_lies_beside_the_artifact_and_changes_no_picture() {
    let folder = scratch("tune-quick");
    copy(&golden("sd21/model"), &folder.join("model"));
    said(&folder, &format!("{COMPILE} plain.splam"));
    said(
        &folder,
        &format!("{COMPILE} tuned.splam --tune quick --threads 2"),
    );
    assert_eq!(
        files(&folder.join("plain.splam")),
        files(&folder.join("tuned.splam"))
    );
    let cache = folder.join("tuned.splam.tune.json");
    let text = fs::read_to_string(&cache).expect("a cache");
    let object: Value = serde_json::from_str(&text).expect("one JSON object");
    let cases = object["cases"].as_array().expect("a list of cases");
    assert!(!cases.is_empty());
    for case in cases {
        assert_eq!(case["threads"], 2);
        for way in case["measured"].as_array().expect("a list of ways") {
            assert!(way["seconds"].as_f64().expect("a number") > 0.0);
        }
    }
    // Everything is known already.
    said(
        &folder,
        &format!("{COMPILE} tuned.splam --tune quick --threads 2"),
    );
    let again = fs::read_to_string(&cache).expect("a cache");
    assert!(again.len() >= text.len());

    for name in ["plain", "tuned"] {
        let line = format!("sample {name}.splam {SAMPLE} {name}.safetensors -o {name}.png");
        assert_eq!(said(&folder, &line), "");
    }
    let latents = |name: &str| {
        let mut found = read_floats(&folder.join(format!("{name}.safetensors")));
        found.remove("final_latents").expect("latents").values
    };
    let pairs = latents("plain").into_iter().zip(latents("tuned"));
    let error = pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(error < 1e-3, "latents differ by {error}");
}

#[test]
fn a_broken_cache_is_told_and_ignored() {
    let folder = scratch("tune-broken");
    copy(&golden("sd21/model"), &folder.join("model"));
    said(&folder, &format!("{COMPILE} m.splam"));
    let line = format!("sample m.splam {SAMPLE} out.safetensors");
    assert_eq!(said(&folder, &line), "");
    let latents = fs::read(folder.join("out.safetensors")).expect("latents");
    let cache = folder.join("m.splam.tune.json");
    for text in [
        "",
        "{",
        "[[[[",
        "{\"format\": 9, \"producer\": \"\", \"cases\": []}",
    ] {
        fs::write(&cache, text).expect("written");
        let said = said(&folder, &line);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with("warning: ") && said.contains("tune.json"),
            "{said}"
        );
        assert_eq!(
            fs::read(folder.join("out.safetensors")).expect("latents"),
            latents
        );
    }
    // Tuning replaces what cannot be used.
    said(&folder, &format!("{COMPILE} m.splam --tune quick"));
    assert_eq!(said(&folder, &line), "");
}
