//! Programs on NVIDIA's graphics processors through the command, where a driver in software takes
//! the place of NVIDIA's: what is called, in which order and with which addresses is what a
//! processor would see.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use serde_json::Value;

use crate::support::{compare_floats, golden, scratch, splamc};

/// What the driver is told to be, by names of its environment.
type Settings<'a> = &'a [(&'a str, &'a str)];

/// A folder where the driver's library is found; `None` where libraries have other names.
fn driver(name: &str) -> Option<PathBuf> {
    let built = env::current_exe().expect("a test has a path");
    let built = built.with_file_name("libsoftware_cuda.so");
    let folder = scratch(name);
    // The name that is looked for first, so that no other driver of the machine is found.
    fs::copy(built, folder.join("libcuda.so")).ok()?;
    Some(folder)
}

/// The command, where the driver is found.
fn command(driver: &Path, settings: Settings) -> Command {
    let mut command = splamc();
    command.env("LD_LIBRARY_PATH", driver);
    command.envs(settings.iter().copied());
    command
}

fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_processor_is_listed_with_its_capability_and_memory() {
    let Some(driver) = driver("cuda_devices") else {
        return;
    };
    let listed = |settings: Settings| -> Value {
        let output = command(&driver, settings)
            .args(["devices", "--json"])
            .output();
        let text = done(&output.expect("the command starts"));
        let all: Value = serde_json::from_str(&text).expect("one object");
        let targets = all["targets"].as_array().expect("a list").iter();
        let mut cuda = targets.filter(|target| target["target"] == "cuda");
        cuda.next().expect("the target is listed").clone()
    };
    let found = listed(&[("SOFTWARE_CUDA_CAPABILITY", "90")]);
    assert_eq!(found["usable"], true);
    assert_eq!(found["name"], "Software Processor");
    assert_eq!(found["compute_capability"], "9.0");
    assert_eq!(found["driver_cuda_version"], "12.8");
    assert_eq!(found["memory_bytes"], 1 << 30);
    let rows = [
        (
            ("SOFTWARE_CUDA_CAPABILITY", "75"),
            "compute capability 7.5, wanted 8.0",
        ),
        (
            ("SOFTWARE_CUDA_VERSION", "11040"),
            "the driver knows CUDA 11.4, wanted 12.0",
        ),
        (("SOFTWARE_CUDA_DEVICES", "0"), "CUDA_ERROR_NO_DEVICE"),
    ];
    for (setting, wanted) in rows {
        let found = listed(&[setting]);
        assert_eq!(found["usable"], false, "{setting:?}");
        let reason = found["reason"].as_str().expect("a reason");
        assert!(reason.contains(wanted), "{setting:?}: {reason}");
    }
}

#[test]
fn a_processor_that_cannot_run_a_model_is_a_sentence() {
    let Some(driver) = driver("cuda_refused") else {
        return;
    };
    let model = golden("pipeline/model");
    let rows: [(Settings, &[&str], &str); 4] = [
        (
            &[("SOFTWARE_CUDA_CAPABILITY", "75")],
            &[],
            "Software Processor opens no device: compute capability 7.5",
        ),
        (
            &[("SOFTWARE_CUDA_VERSION", "11040")],
            &[],
            "hint: install a newer driver",
        ),
        (
            &[],
            &["--adapter", "Tesla"],
            "found no adapter \"Tesla\" among 0 Software Processor",
        ),
        (
            &[("SOFTWARE_CUDA_MEMORY", "100000")],
            &[],
            "Software Processor has no memory left for",
        ),
    ];
    for (settings, options, wanted) in rows {
        let output = command(&driver, settings)
            .arg("sample")
            .arg(&model)
            .args(["-p", "a", "-W", "64", "-H", "64", "--steps", "1"])
            .args(["--target", "cuda", "-o"])
            .arg(driver.join("refused.png"))
            .args(options)
            .output();
        let said = refused(&output.expect("the command starts"));
        assert!(said.contains(wanted), "{settings:?}: {said}");
    }
    assert!(!driver.join("refused.png").exists());
}

/// A whole pipeline draws what the processor of the host draws, from its directory and from an
/// artifact, with launches that are recorded once and replayed.
#[test]
fn a_pipeline_draws_what_the_host_draws() {
    let Some(driver) = driver("cuda_sample") else {
        return;
    };
    let model = golden("pipeline/model").display().to_string();
    let artifact = driver.join("model.splam").display().to_string();
    let size = ["-W", "64", "-H", "64"];
    let compiled = splamc()
        .args(["compile", &model, "--target", "cuda", "-o", &artifact])
        .args(size)
        .output();
    done(&compiled.expect("the command starts"));
    let sample = |name: &str, model: &str, options: &[&str]| {
        let latents = driver.join(format!("{name}.safetensors"));
        let output = command(&driver, &[])
            .args([
                "sample",
                model,
                "-p",
                "a",
                "--steps",
                "2",
                "--cfg-scale",
                "1",
                "-o",
            ])
            .arg(driver.join(format!("{name}.png")))
            .arg("--latents-out")
            .arg(&latents)
            .args(options)
            .output();
        done(&output.expect("the command starts"));
        latents
    };
    let wanted = sample("host", &model, &[&size[..], &["--exact"]].concat());
    let cuda = ["--target", "cuda"];
    let found = sample("cuda", &model, &[&size[..], &cuda].concat());
    compare_floats("a directory", &found, &wanted, 1e-4);
    let found = sample("artifact", &artifact, &[]);
    compare_floats("an artifact", &found, &wanted, 1e-4);
}

/// A training step keeps its states on the processor: two updates leave what the host's leave.
#[test]
fn updates_leave_what_those_of_the_host_leave() {
    let Some(driver) = driver("cuda_train") else {
        return;
    };
    let model = golden("pipeline/model");
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pictures");
    let train = |name: &str, options: &[&str]| {
        let out = driver.join(name);
        let output = command(&driver, &[])
            .arg("train")
            .arg(&model)
            .args(["--method", "denoise", "--data"])
            .arg(&pictures)
            .args([
                "--resolution",
                "16",
                "--batch",
                "1",
                "--steps",
                "2",
                "--lr",
                "1e-3",
                "--out",
            ])
            .arg(&out)
            .args(options)
            .output();
        done(&output.expect("the command starts"));
        out.join("checkpoint-2/student.safetensors")
    };
    let wanted = train("host", &[]);
    let found = train("cuda", &["--target", "cuda"]);
    compare_floats("parameters", &found, &wanted, 1e-3);
}
