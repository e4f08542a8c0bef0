//! Whole runs through the command: the latents of every step and the picture are diffusers'.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Floats, copy, golden, read_floats, read_png, scratch, splamc, thirds};

/// How far a run may lie from its goldens.
#[derive(Clone, Copy)]
struct Bars {
    /// Latents may be off by this share of their largest magnitude, what is decoded by three times
    /// that.
    latents: f64,
    /// Values of a picture may be off by more than `near` only once in `one_in`, and by more than
    /// `most` nowhere.
    near: u8,
    one_in: usize,
    most: u8,
}

/// Sums as they stand. The reference's own f32 error is 1.5e-5, and up to 8e-5 from one processor
/// to another.
const SAME: Bars = Bars {
    latents: 1e-4,
    near: 1,
    one_in: 1000,
    most: 3,
};

/// Sums in another order: Winograd's transforms, or the blocks of a graphics processor.
const CLOSE: Bars = Bars {
    latents: 1e-3,
    ..SAME
};

/// Values of 16 bits between kernels: some 1e-3 at each, over hundreds of them.
const HALF: Bars = Bars {
    latents: 2e-2,
    near: 4,
    one_in: 100,
    most: 255,
};

const EXACT: &[&str] = &["--exact"];
const FAST: &[&str] = &[];

/// One run: where its goldens lie and the UNet that replaces the model's, if any.
struct Run {
    golden: &'static str,
    tag: &'static str,
    unet: Option<&'static str>,
}

const RUNS: [Run; 13] = [
    Run {
        golden: "pipeline",
        tag: "ddim20_cfg7.5",
        unet: None,
    },
    Run {
        golden: "pipeline",
        tag: "dpmpp2m_8_cfg7.5",
        unet: None,
    },
    Run {
        golden: "pipeline",
        tag: "euler6_nocfg_24x16",
        unet: None,
    },
    Run {
        golden: "pipeline",
        tag: "lcm4_cfg1.5",
        unet: None,
    },
    Run {
        golden: "pipeline",
        tag: "lcm4_w8_timestepcond",
        unet: Some("pipeline/model_lcm/unet"),
    },
    Run {
        golden: "pipeline",
        tag: "pndm10_cfg5_b2",
        unet: None,
    },
    Run {
        golden: "sd21",
        tag: "ddim3_nocfg",
        unet: None,
    },
    Run {
        golden: "sd21",
        tag: "ddim5_cfg7.5_rescale0.7",
        unet: None,
    },
    Run {
        golden: "sd21",
        tag: "euler4_cfg6_rescale0.7_30x22_b2",
        unet: None,
    },
    Run {
        golden: "sdxl",
        tag: "ddim4_cfg4_empty_negative",
        unet: None,
    },
    Run {
        golden: "sdxl",
        tag: "ddim6_cfg5",
        unet: None,
    },
    Run {
        golden: "sdxl",
        tag: "euler4_trailing_cfg1",
        unet: None,
    },
    Run {
        golden: "sdxl",
        tag: "lcm4_sizes_crop",
        unet: None,
    },
];

/// The run's model in a folder of its own: the golden's, with the run's scheduler and UNet.
fn assemble(run: &Run, meta: &Value, folder: &Path) -> PathBuf {
    let model = folder.join("model");
    copy(&golden(&format!("{}/model", run.golden)), &model);
    if let Some(unet) = run.unet {
        fs::remove_dir_all(model.join("unet")).expect("the model's unet");
        copy(&golden(unet), &model.join("unet"));
    }
    configure(&model, meta);
    model
}

/// Gives a model the run's scheduler; where there is an index, it decides on the class.
fn configure(model: &Path, meta: &Value) {
    let mut config = meta["scheduler_config"].clone();
    config["_class_name"] = meta["scheduler"].clone();
    let path = model.join("scheduler/scheduler_config.json");
    fs::write(path, config.to_string()).expect("the scheduler's configuration");
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list
            .iter()
            .map(|text| text.as_str().expect("a text").to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

/// The arguments of `splamc sample` for a run, but the model and the outputs.
fn arguments(meta: &Value, latents: &Path) -> Vec<String> {
    let mut arguments = Vec::new();
    for prompt in texts(&meta["prompt"]) {
        arguments.extend(["-p".to_owned(), prompt]);
    }
    for negative in texts(&meta["negative_prompt"]) {
        arguments.extend(["-n".to_owned(), negative]);
    }
    let option = |name: &str, value: String| [name.to_owned(), value];
    arguments.extend(option("--steps", meta["steps"].to_string()));
    arguments.extend(option("--cfg-scale", meta["guidance_scale"].to_string()));
    if let Some(rescale) = meta["guidance_rescale"].as_f64() {
        arguments.extend(option("--guidance-rescale", rescale.to_string()));
    }
    for (name, key, separator) in [
        ("--original-size", "original_size_hw", 'x'),
        ("--crop", "crops_coords_top_left_yx", ','),
        ("--target-size", "target_size_hw", 'x'),
    ] {
        if let Some([y, x]) = meta[key].as_array().map(Vec::as_slice) {
            arguments.extend(option(name, format!("{x}{separator}{y}")));
        }
    }
    arguments.extend(option("--latents-in", latents.display().to_string()));
    arguments
}

/// Samples with these options; gives the file of the latents.
fn sample(run: &Run, model: &Path, folder: &Path, form: &str, options: &[&str]) -> PathBuf {
    let runs = golden(run.golden).join("runs").join(run.tag);
    let meta = meta(run);
    let (png, out) = (
        folder.join(format!("{form}.png")),
        folder.join(format!("{form}.st")),
    );
    let mut command = splamc();
    command
        .arg("sample")
        .arg(model)
        .args(arguments(&meta, &runs.join("tensors.safetensors")));
    command.arg("--latents-out").arg(&out).arg("-o").arg(&png);
    let output = command.args(options).output().expect("the command runs");
    let place = format!("{} {} {form}", run.golden, run.tag);
    assert!(
        output.status.success(),
        "{place}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    out
}

/// Samples, and compares with the goldens as far as the bars allow.
fn check(run: &Run, model: &Path, folder: &Path, form: &str, options: &[&str], bars: Bars) {
    let runs = golden(run.golden).join("runs").join(run.tag);
    let out = sample(run, model, folder, form, options);
    let place = format!("{} {} {form}", run.golden, run.tag);
    let mut found = read_floats(&out);
    found.insert("decoded_thirds".to_owned(), thirds(&found["decoded"]));
    let wanted = read_floats(&runs.join("tensors.safetensors"));
    for (name, bound) in [
        ("latents", bars.latents),
        ("final_latents", bars.latents),
        ("decoded_thirds", 3.0 * bars.latents),
    ] {
        // Some runs hold no decoded values beside their pictures.
        if let Some(wanted) = wanted.get(name) {
            close(&place, name, &found[name], wanted, bound);
        }
    }
    let batch = wanted["final_latents"].shape[0];
    for picture in 0..batch {
        let name = match batch {
            1 => format!("{form}.png"),
            _ => format!("{form}-{picture}.png"),
        };
        let wanted = runs.join(format!("image_{picture}.png"));
        same_picture(&place, &folder.join(name), &wanted, bars);
    }
}

fn close(place: &str, name: &str, found: &Floats, wanted: &Floats, bound: f64) {
    assert_eq!(found.shape, wanted.shape, "{place}: {name}");
    let largest = wanted
        .values
        .iter()
        .fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let pairs = found.values.iter().zip(&wanted.values);
    let error = pairs.fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
    assert!(
        error <= bound * largest,
        "{place}: {name} is off by {error} of {largest}"
    );
}

fn same_picture(place: &str, found: &Path, wanted: &Path, bars: Bars) {
    let (found, wanted) = (read_png(found), read_png(wanted));
    assert_eq!(found.len(), wanted.len(), "{place}: pixels");
    let differences = found.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b));
    let differences: Vec<u8> = differences.collect();
    let far = differences.iter().filter(|&&off| off > bars.near).count();
    assert!(
        far * bars.one_in <= differences.len(),
        "{place}: {far} of {} values are off by more than {}",
        differences.len(),
        bars.near
    );
    let most = differences.iter().max().copied().unwrap_or(0);
    assert!(most <= bars.most, "{place}: a value is off by {most}");
}

fn meta(run: &Run) -> Value {
    let path = golden(run.golden)
        .join("runs")
        .join(run.tag)
        .join("meta.json");
    let text = fs::read_to_string(path).expect("meta.json");
    serde_json::from_str(&text.replace("-Infinity", "\"-inf\"")).expect("JSON")
}

#[test]
fn a_diffusers_directory_gives_the_pictures_of_diffusers() {
    let folder = scratch("diffusers");
    for run in &RUNS {
        let folder = folder.join(run.tag);
        let model = assemble(run, &meta(run), &folder);
        check(run, &model, &folder, "exact", EXACT, SAME);
        check(run, &model, &folder, "fast", FAST, CLOSE);
    }
}

fn compile(model: &Path, meta: &Value, artifact: &Path, options: &[&str]) {
    let batch = texts(&meta["prompt"]).len();
    let mut command = splamc();
    command.arg("compile").arg(model).arg("-o").arg(artifact);
    command.args([
        "-W",
        &meta["width"].to_string(),
        "-H",
        &meta["height"].to_string(),
    ]);
    let output = command
        .args(["-b", &batch.to_string()])
        .args(options)
        .output()
        .expect("the command runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_compiled_model_gives_the_pictures_of_diffusers() {
    let folder = scratch("compiled");
    for run in &RUNS {
        let (folder, meta) = (folder.join(run.tag), meta(run));
        let model = assemble(run, &meta, &folder);
        let artifact = folder.join("model.splam");
        // What is compiled exact stays so without the option.
        compile(&model, &meta, &artifact, &["--target", "cpu", "--exact"]);
        let exact = sample(run, &model, &folder, "exact", EXACT);
        fs::remove_dir_all(&model).expect("the artifact stands alone");
        check(run, &artifact, &folder, "compiled", FAST, SAME);
        let latents =
            [exact, folder.join("compiled.st")].map(|path| fs::read(path).expect("latents"));
        assert!(latents[0] == latents[1], "{}", run.tag);
    }
}

#[test]
fn exported_graphs_give_the_pictures_of_diffusers() {
    let folder = scratch("exported");
    // Exports take latents whose sides halve evenly: most runs have odd ones.
    let sd21 = Run {
        golden: "sd21",
        tag: "ddim5_cfg7.5_rescale0.7",
        unet: None,
    };
    let sdxl = Run {
        golden: "sdxl",
        tag: "sdxl_onnx_ddim4",
        unet: None,
    };
    for (export, run) in [
        ("onnx_torchscript", &sd21),
        ("onnx_dynamo", &sd21),
        ("onnx_sdxl", &sdxl),
    ] {
        let folder = folder.join(export);
        let model = folder.join("model");
        copy(&golden(export), &model);
        let meta = meta(run);
        configure(&model, &meta);
        check(run, &model, &folder, export, EXACT, SAME);

        let artifact = folder.join("model.splam");
        compile(&model, &meta, &artifact, &["--target", "cpu"]);
        check(
            run,
            &artifact,
            &folder,
            &format!("{export}-compiled"),
            FAST,
            CLOSE,
        );
    }
}

/// Programs for graphics processors need an adapter; software takes the place of one.
fn has_adapter() -> bool {
    let output = splamc().arg("devices").output().expect("the command runs");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let usable = table
        .lines()
        .any(|line| line.starts_with("wgsl") && !line.contains("not usable"));
    if !usable {
        #[expect(clippy::print_stderr, reason = "a test that compares nothing says so")]
        {
            eprintln!("no WebGPU adapter here, nothing is compared: install mesa-vulkan-drivers");
        }
    }
    usable
}

/// Runs on an adapter. Software compiles each kernel for seconds: these runs have few, and all that
/// runs differ in but odd sizes, which the suite of operators has.
fn check_on_adapter(dtype: &str, tags: [&str; 2], bars: Bars) {
    if !has_adapter() {
        return;
    }
    let folder = scratch(&format!("adapter-{dtype}"));
    for run in RUNS.iter().filter(|run| tags.contains(&run.tag)) {
        let folder = folder.join(run.tag);
        let model = assemble(run, &meta(run), &folder);
        let options = ["--target", "wgsl", "--dtype", dtype];
        check(run, &model, &folder, dtype, &options, bars);
    }
}

#[test]
fn an_adapter_gives_the_pictures_of_diffusers_in_f32() {
    let tags = ["pndm10_cfg5_b2", "ddim4_cfg4_empty_negative"];
    check_on_adapter("f32", tags, CLOSE);
}

#[test]
fn an_adapter_gives_the_pictures_of_diffusers_in_f16() {
    let tags = ["lcm4_cfg1.5", "ddim5_cfg7.5_rescale0.7"];
    check_on_adapter("f16", tags, HALF);
}

/// All files of a folder by their names.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).expect("a file"))),
        }
    }
    found
}

/// Reads what an adapter would be given, and checks it.
fn load(artifact: &Path) {
    let mut command = splamc();
    command.arg("inspect").arg(artifact);
    let output = command.args(["--stage", "code"]).output();
    let output = output.expect("the command runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
}

#[test]
fn a_model_compiled_for_adapters_gives_the_pictures_of_diffusers() {
    let folder = scratch("compiled-wgsl");
    let adapter = has_adapter();
    for tag in ["euler6_nocfg_24x16", "euler4_trailing_cfg1"] {
        let run = RUNS.iter().find(|run| run.tag == tag);
        let run = run.expect("the run is in the list");
        let (folder, meta) = (folder.join(run.tag), meta(run));
        let model = assemble(run, &meta, &folder);
        let artifact = folder.join("model.splam");
        compile(&model, &meta, &artifact, &["--target", "wgsl"]);
        let first = files(&artifact);
        compile(&model, &meta, &artifact, &["--target", "wgsl"]);
        assert!(first == files(&artifact), "{tag}: other bytes");
        fs::remove_dir_all(&model).expect("the artifact stands alone");
        match adapter {
            true => check(run, &artifact, &folder, "compiled", &[], CLOSE),
            false => load(&artifact),
        }
    }
}
