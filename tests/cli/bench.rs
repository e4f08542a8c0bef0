//! `splamc bench --json`: the object's structure, and figures that fit each other. No test looks at
//! a time.

use std::path::Path;

use serde_json::Value;

use crate::support::{golden, scratch, splamc};

/// The model of every test of this file.
const MODEL: &str = "pipeline/model";

/// Runs `bench` with `arguments` after the model; gives the object and what was said.
fn bench(model: &Path, arguments: &[&str]) -> (Value, String) {
    let output = splamc()
        .arg("bench")
        .arg(model)
        .args(["--json", "--runs", "2", "--threads", "1"])
        .args(arguments)
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let object = serde_json::from_slice(&output.stdout).expect("one JSON object");
    (object, said)
}

fn number(object: &Value, key: &str) -> f64 {
    let found = object.pointer(key).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{key} is no number in {object:#}"))
}

/// The sum of `key` over the kernels.
fn sum(object: &Value, key: &str) -> f64 {
    let kernels = object["kernels"].as_array().expect("a list of kernels");
    kernels.iter().map(|row| number(row, key)).sum()
}

/// What holds for every component.
fn check(object: &Value, component: &str, inputs: &[(&str, &[u64])]) {
    assert_eq!(object["target"], "cpu");
    assert_eq!(object["component"], component);
    assert_eq!(object["dtype"], "f32");
    for (name, shape) in inputs {
        assert_eq!(
            object["shapes"]["inputs"][name],
            serde_json::json!(shape),
            "{name}"
        );
    }
    let seconds = ["min", "median", "max"].map(|key| number(object, &format!("/seconds/{key}")));
    assert!(seconds[0] > 0.0 && seconds.is_sorted(), "{seconds:?}");
    for rate in ["gemm_flops_per_second", "copy_bytes_per_second"] {
        let [best, before, after] = ["best", "before", "after"]
            .map(|when| number(object, &format!("/ceilings/{when}/{rate}")));
        assert!(before > 1e6 && after > 1e6, "{rate}: {before}, {after}");
        assert_eq!(best, before.max(after), "{rate}");
    }
    // Norms that are shared out among kernels count a little differently than as operators.
    let share = sum(object, "/flops") / number(object, "/flops");
    assert!((0.95..1.05).contains(&share), "{share} of the FLOPs");
    assert_eq!(sum(object, "/bytes"), number(object, "/bytes"));
    assert!(sum(object, "/seconds") <= seconds[1]);
    assert!(sum(object, "/calls") > 10.0);
    assert!(number(object, "/weight_bytes") > 1e4);
    assert!(number(object, "/peak_arena_bytes") > 1e3);
}

#[test]
fn components_are_measured() {
    let model = &golden(MODEL);
    let (unet, _) = bench(
        model,
        &["--component", "unet", "-b", "2", "-W", "64", "-H", "32"],
    );
    check(
        &unet,
        "unet",
        &[("sample", &[2, 4, 4, 8]), ("timestep", &[])],
    );
    let (text, _) = bench(model, &["--component", "text_encoder"]);
    check(&text, "text_encoder", &[("input_ids", &[1, 77])]);
}

#[test]
fn weights_that_are_left_out_are_made_up_aloud() {
    let compiled = scratch("bench_no_weights").join("unet.splam");
    let made = splamc()
        .arg("compile")
        .arg(golden(MODEL))
        .args([
            "--target",
            "cpu",
            "--component",
            "unet",
            "--no-weights",
            "-o",
        ])
        .arg(&compiled)
        .status();
    assert!(made.expect("the command starts").success());
    let (object, said) = bench(&compiled, &[]);
    check(&object, "unet", &[]);
    assert!(said.contains("random"), "{said}");
}

/// A training step is a program as others are: its kernels add up, and it knows its states.
#[test]
fn training_steps_are_measured() {
    let model = &golden(MODEL);
    for method in ["denoise", "lcm", "splad"] {
        let sizes = ["-b", "2", "-W", "64", "-H", "32"];
        let (step, _) = bench(model, &[&["--train", method], &sizes[..]].concat());
        assert_eq!(step["component"], "unet");
        let inputs = &step["shapes"]["inputs"];
        assert_eq!(inputs["latents"], serde_json::json!([2, 4, 4, 8]));
        let taught = inputs.get("uncond.encoder_hidden_states").is_some();
        assert_eq!(taught, method != "denoise");
        let outputs = &step["shapes"]["outputs"];
        assert_eq!(outputs["loss"], serde_json::json!([]));
        assert!(number(&step, "/seconds/median") > 0.0);
    }
}
