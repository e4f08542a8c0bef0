//! `splamc train`: goldens of PyTorch through the command, trainings that are killed and go on, and
//! every method from data to pictures.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use compiler::value::tensor::{Tensor, Values};
use runtime::tensor_file;
use serde_json::Value;

use crate::encode::{png, write_pictures};
use crate::support::{copy, golden, read_floats, scratch, splamc, tensors};

/// How far a loss may be from PyTorch's, as a share of it.
const LOSS: f64 = 1e-5;

/// How far movements may be, as a share of each one's norm: AdamW's first update has the size of the
/// learning rate whatever the gradient, so that roundings of gradients near zero show.
const MOVEMENT: f64 = 2e-3;

/// A network with a schedule: teacher enough where nothing is encoded.
fn write_model(folder: &Path, config: &str, weights: &str) {
    let unet = folder.join("unet");
    fs::create_dir_all(&unet).expect("a folder");
    fs::copy(golden(config), unet.join("config.json")).expect("a configuration");
    let file = unet.join("diffusion_pytorch_model.safetensors");
    fs::copy(golden(weights), file).expect("weights");
    let scheduler = folder.join("scheduler");
    fs::create_dir_all(&scheduler).expect("a folder");
    let schedule = r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 1000,
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon"}"#;
    fs::write(scheduler.join("scheduler_config.json"), schedule).expect("a schedule");
}

/// Writes a file of draws.
fn write_draws(path: &Path, draws: &[(&str, Tensor)]) {
    let draws = draws.iter().map(|(name, tensor)| (*name, tensor));
    let parts = tensor_file::parts(draws).expect("the names are good");
    fs::write(path, parts.concat()).expect("a file");
}

/// `scale·x + shift` of whole numbers.
fn timesteps(indices: &Tensor, scale: i64, shift: i64) -> Tensor {
    let Values::Int(indices) = indices.values() else {
        panic!("indices are whole numbers");
    };
    let timesteps: Vec<i64> = indices.iter().map(|index| index * scale + shift).collect();
    Tensor::from_i64(&[timesteps.len()], &timesteps)
}

fn train(folder: &Path, arguments: &str) -> Output {
    let output = command(folder, arguments).output();
    output.expect("the command runs")
}

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = splamc();
    command
        .arg("train")
        .args(arguments.split_whitespace())
        .current_dir(folder);
    command
}

fn succeed(folder: &Path, arguments: &str) -> String {
    let output = train(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments}: {text}");
    text
}

fn fail(folder: &Path, arguments: &str, wanted: &str) {
    let output = train(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments} succeeds");
    assert!(text.contains(wanted), "{arguments}: {text} lacks {wanted}");
}

/// A number of the first line of the metrics.
fn metric(folder: &Path, name: &str) -> f64 {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).expect("metrics");
    let line = text.lines().next().expect("a line");
    let line: Value = serde_json::from_str(line).expect("JSON");
    line[name].as_f64().expect("a number")
}

fn assert_loss(folder: &Path, wanted: &Tensor) {
    let Values::Float(wanted) = wanted.values() else {
        panic!("losses are floats");
    };
    let (found, wanted) = (metric(folder, "loss"), wanted[0]);
    assert!(
        (found - wanted).abs() <= LOSS * wanted,
        "{found}, wanted {wanted}"
    );
}

/// What golden files keep of a tensor: at most 128 elements, spread over all of it.
fn thinned(values: &[f32]) -> Vec<f64> {
    const KEPT: usize = 128;
    let kept = |i: usize| f64::from(values[i]);
    match values.len() {
        n if n > KEPT => (0..KEPT).map(|i| kept(i * n / KEPT)).collect(),
        n => (0..n).map(kept).collect(),
    }
}

/// Compares what parameters moved by with a golden file's movements under a prefix.
fn assert_movements(
    found: &Path,
    before: &str,
    movements: &BTreeMap<String, Tensor>,
    prefix: &str,
) {
    let found = read_floats(found);
    let before = tensors(before);
    let mut compared = 0;
    for (name, wanted) in movements {
        let Some(name) = name.strip_prefix(prefix) else {
            continue;
        };
        let (Values::Float(wanted), Values::Float(before)) =
            (wanted.values(), before[name].values())
        else {
            panic!("parameters are floats");
        };
        let before: Vec<f32> = before.iter().map(|&x| x as f32).collect();
        let after = thinned(&found[name].values);
        let pairs = after.iter().zip(thinned(&before)).zip(&wanted);
        let squares = pairs.map(|((after, before), wanted)| (after - before - wanted).powi(2));
        let norm: f64 = wanted.iter().map(|x| x * x).sum();
        let apart = (squares.sum::<f64>() / norm.max(f64::MIN_POSITIVE)).sqrt();
        assert!(apart <= MOVEMENT, "{prefix}{name} is {apart:.1e} away");
        compared += 1;
    }
    assert!(compared > 0, "there are movements {prefix}");
}

#[test]
fn an_update_of_splad_is_pytorchs() {
    let folder = scratch("train-splad");
    let network = |part: &str, end: &str| format!("grads/splad_distill.{part}.{end}");
    for part in ["teacher", "student"] {
        let (config, weights) = (network(part, "config.json"), network(part, "safetensors"));
        write_model(&folder.join(part), &config, &weights);
    }
    let ema = network("ema", "safetensors");
    fs::copy(golden(&ema), folder.join("ema.safetensors")).expect("a copy");
    let io = tensors("grads/splad_distill.io.safetensors");
    let draws = [
        ("step0.noise", io["noise"].clone()),
        ("step0.timesteps", timesteps(&io["grid_index"], 20, -1)),
        ("step0.gamma", io["gamma"].clone()),
        ("step0.latents", io["latents"].clone()),
        ("step0.cond", io["cond"].clone()),
        ("step0.uncond", io["uncond"].clone()),
    ];
    write_draws(&folder.join("draws.safetensors"), &draws);
    let arguments = "teacher --method splad --student student --ema-weights ema.safetensors \
                     --draws draws.safetensors --k 100 --k-phi 20 --guidance 3 --lr 1e-3 \
                     --ema-decay 0.95 --exact";
    for (variant, options) in [
        ("default", ""),
        ("l2", "--loss l2"),
        ("official", "--gamma-embed official"),
        ("released", "--gamma-embed official --sigma variance"),
    ] {
        succeed(&folder, &format!("{arguments} {options} --out {variant}"));
        assert_loss(&folder.join(variant), &io[&format!("{variant}/loss")]);
    }
    let checkpoint = folder.join("default/checkpoint-1");
    let movements = tensors("grads/splad_distill.step.safetensors");
    let student = network("student", "safetensors");
    assert_movements(
        &checkpoint.join("student.safetensors"),
        &student,
        &movements,
        "delta.",
    );
    assert_movements(
        &checkpoint.join("ema.safetensors"),
        &ema,
        &movements,
        "ema_delta.",
    );
    // What people use has no condition, and another bias in its place.
    let used =
        read_floats(&folder.join("default/student/unet/diffusion_pytorch_model.safetensors"));
    assert!(!used.contains_key("time_embedding.cond_proj.weight"));
}

#[test]
fn an_update_of_lcm_is_pytorchs() {
    let folder = scratch("train-lcm");
    let weights = "grads/lcm_distill.student.safetensors";
    for part in ["teacher", "student"] {
        let config = format!("grads/lcm_distill.{part}.config.json");
        write_model(&folder.join(part), &config, weights);
    }
    // The student's weights but for its condition are the teacher's.
    let mut of_teacher = tensors(weights);
    of_teacher
        .remove("time_embedding.cond_proj.weight")
        .expect("the student has a condition");
    let named = of_teacher
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor));
    let parts = tensor_file::parts(named).expect("the names are good");
    let file = folder.join("teacher/unet/diffusion_pytorch_model.safetensors");
    fs::write(file, parts.concat()).expect("weights");
    let io = tensors("grads/lcm_distill.io.safetensors");
    let draws = [
        ("step0.noise", io["noise"].clone()),
        ("step0.timesteps", timesteps(&io["index"], 20, 19)),
        ("step0.w", io["w"].clone()),
        ("step0.latents", io["x0"].clone()),
        ("step0.cond", io["cond"].clone()),
        ("step0.uncond", io["uncond"].clone()),
    ];
    write_draws(&folder.join("draws.safetensors"), &draws);
    let arguments = "teacher --method lcm --student student --draws draws.safetensors --out out \
                     --guidance 3..14 --online-target --exact";
    succeed(&folder, arguments);
    assert_loss(&folder.join("out"), &io["loss"]);
}

/// What must not change when a training is killed: everything that its last checkpoint holds.
fn contents(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = [
        "student.safetensors",
        "ema.safetensors",
        "optimizer.safetensors",
        "state.json",
    ];
    let read = |name: &str| {
        let path = checkpoint.join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files
        .iter()
        .map(|name| ((*name).to_owned(), read(name)))
        .collect()
}

/// Everything that could be drawn anew: order, crops, flips, captions, posteriors, noise.
const SHUFFLED: &str = "model --method lcm --data data --batch 2 --accumulate 2 --steps 6 \
                        --resolution 64 --flip --caption-dropout 0.5 --save-every 2 --keep 2 \
                        --lr 1e-3 --threads 1";

#[test]
fn a_killed_training_goes_on_as_if_it_had_not_been() {
    let folder = scratch("train-killed");
    copy(&golden("pipeline/model"), &folder.join("model"));
    write_pictures(
        &folder.join("data"),
        &["a fox", "two foxes", "", "a cat", "snow"],
    );
    succeed(&folder, &format!("{SHUFFLED} --out whole"));
    let wanted = contents(&folder.join("whole/checkpoint-6"));
    for (number, milliseconds) in [700, 1500, 2300].into_iter().enumerate() {
        let out = format!("killed-{number}");
        let mut child = command(&folder, &format!("{SHUFFLED} --out {out}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        sleep(Duration::from_millis(milliseconds));
        // It may be done already on a fast machine.
        let _ = child.kill();
        child.wait().expect("it ends");
        succeed(&folder, &format!("{SHUFFLED} --out {out} --resume"));
        let found = contents(&folder.join(&out).join("checkpoint-6"));
        assert!(found == wanted, "{out} differs");
        let metrics = fs::read_to_string(folder.join(&out).join("metrics.jsonl")).expect("metrics");
        let steps: Vec<u64> = metrics
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["step"].as_u64())
            .map(|step| step.expect("a number"))
            .collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn an_interrupted_training_is_saved() {
    let folder = scratch("train-interrupted");
    copy(&golden("pipeline/model"), &folder.join("model"));
    write_pictures(&folder.join("data"), &["a fox", "two foxes"]);
    let run = "model --method denoise --data data --resolution 64 --out out --steps 1000";
    let child = command(&folder, run)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let metrics = folder.join("out/metrics.jsonl");
    for _ in 0..600 {
        if metrics.exists() {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(
        killed
            .expect("there is a command to send signals")
            .success()
    );
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("which is saved") && text.contains("--resume"),
        "{text}"
    );
    let steps = fs::read_to_string(metrics)
        .expect("metrics")
        .lines()
        .count();
    assert!(
        folder
            .join(format!("out/checkpoint-{steps}/state.json"))
            .is_file()
    );
}

#[test]
fn what_would_be_another_training_is_refused() {
    let folder = scratch("train-refused");
    copy(&golden("pipeline/model"), &folder.join("model"));
    write_pictures(&folder.join("data"), &["a fox", "two foxes"]);
    let run = "model --data data --resolution 64 --out out";
    succeed(&folder, &format!("{run} --steps 1 --method denoise"));
    fail(
        &folder,
        &format!("{run} --method denoise"),
        "go on with --resume",
    );
    fail(
        &folder,
        &format!("{run} --resume --method lcm"),
        "is one of denoise, not of lcm",
    );
    fail(
        &folder,
        &format!("{run} --resume --batch 2"),
        "batch is 2, but the training to resume",
    );
    write_pictures(&folder.join("data"), &["a fox", "two foxes", "three foxes"]);
    fail(
        &folder,
        &format!("{run} --resume --steps 2"),
        "began with other data",
    );
    fs::write(
        folder.join("config.toml"),
        "method = \"lcm\"\nguidanse = 3\n",
    )
    .expect("a file");
    let config = "model --data data --config config.toml --out other";
    fail(&folder, config, "the nearest one is \"guidance\"");
    fail(
        &folder,
        "model --data data --method lcm --k-phi 20 --out other",
        "has no setting k-phi",
    );
    fail(
        &folder,
        "model --method lcm --out other",
        "no data are given",
    );
    fail(
        &folder,
        "model --method splad --k 30 --data data --out other",
        "k is 30, expected 1 to",
    );
    let tiny = golden("sd21/model");
    let tiny = tiny.display();
    // Its schedule is one of zero terminal signal.
    fail(
        &folder,
        &format!("{tiny} --method perflow --data data --out other"),
        "output is ddim_eps, expected velocity",
    );
    assert!(!folder.join("other").exists(), "nothing is made before");
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    let folder = scratch("train-not-finite");
    let weights = "grads/splad_distill.teacher.safetensors";
    write_model(
        &folder.join("model"),
        "grads/splad_distill.teacher.config.json",
        weights,
    );
    let io = tensors("grads/splad_distill.io.safetensors");
    let draws = |noise: Tensor| {
        let draws = [
            ("step0.noise", noise),
            ("step0.timesteps", timesteps(&io["grid_index"], 20, -1)),
            ("step0.latents", io["latents"].clone()),
            ("step0.cond", io["cond"].clone()),
        ];
        write_draws(&folder.join("draws.safetensors"), &draws);
    };
    let run = "model --method denoise --draws draws.safetensors";
    let noise = &io["noise"];
    // Its square is beyond f32.
    let huge = vec![1e30; noise.elements()];
    draws(Tensor::from_f32(noise.shape(), &huge));
    let wanted = "update 1: the loss is inf; the first value that is not finite is the result of \
                  mul";
    fail(&folder, &format!("{run} --out huge"), wanted);
    let mut poisoned = tensors(weights);
    let bias = poisoned.get_mut("conv_out.bias").expect("a bias");
    *bias = Tensor::from_f32(bias.shape(), &vec![f32::NAN; bias.elements()]);
    let named = poisoned
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor));
    let parts = tensor_file::parts(named).expect("the names are good");
    let file = folder.join("model/unet/diffusion_pytorch_model.safetensors");
    fs::write(file, parts.concat()).expect("weights");
    draws(noise.clone());
    let wanted = "the first value that is not finite is the parameter \"student\"";
    fail(&folder, &format!("{run} --out poisoned"), wanted);
}

#[test]
fn a_training_that_goes_on_elsewhere_says_so() {
    let folder = scratch("train-elsewhere");
    copy(&golden("pipeline/model"), &folder.join("model"));
    write_pictures(&folder.join("data"), &["a fox", "two foxes"]);
    let run = "model --method denoise --data data --resolution 64 --out out";
    succeed(&folder, &format!("{run} --steps 1 --threads 1"));
    let text = succeed(&folder, &format!("{run} --resume --steps 2 --threads 2"));
    let found = text.lines().find(|line| line.contains("last bits"));
    let found = found.unwrap_or_else(|| panic!("{text}"));
    assert!(
        found.contains("2 threads of") && found.contains("instead of 1 threads of"),
        "{found}"
    );
}

/// Trains a student by a method on encoded data and samples it in 1, 2 and 4 steps.
fn check_method(name: &str, options: &str) {
    let folder = scratch(&format!("train-{name}"));
    copy(&golden("pipeline/model"), &folder.join("model"));
    write_pictures(&folder.join("data"), &["a fox", "two foxes", "a cat"]);
    let encoded = splamc()
        .args("encode model --data data --out encoded --resolution 64".split(' '))
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    assert!(encoded.status.success());
    let arguments = format!("model --method {name} --data encoded --steps 2 --out out {options}");
    succeed(&folder, &arguments);
    for steps in ["1", "2", "4"] {
        let output = splamc()
            .args(["sample", "out/ema", "-p", "a fox", "--steps", steps])
            .current_dir(&folder)
            .output()
            .expect("the command runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name} in {steps} steps: {text}");
    }
}

#[test]
fn students_of_every_method_are_sampled_by_their_own_samplers() {
    check_method("denoise", "");
    check_method("lcm", "--guidance 3..8");
    check_method("splad", "--k 40");
    check_method("perflow", "--solver-steps 2");
    check_method("lcm-lora", "--rank 2 --alpha 4 --lora-format kohya");
}

#[test]
fn a_student_that_consists_of_matrices_is_sampled_with_them() {
    let folder = scratch("train-matrices");
    copy(&golden("pipeline/model"), &folder.join("model"));
    write_pictures(&folder.join("data"), &["a fox", "two foxes"]);
    let run = "model --method lcm-lora --data data --resolution 64 --out out --steps 2 --rank 2";
    succeed(&folder, &format!("{run} --lr 0.1"));
    let run = |arguments: &str| {
        let output = splamc()
            .args(arguments.split_whitespace())
            .current_dir(&folder)
            .output()
            .expect("the command runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {text}");
    };
    let sampled = |model: &str| {
        run(&format!(
            "sample {model} -p fox -s 1 -H 64 -W 64 --steps 2 --latents-out latents.safetensors"
        ));
        read_floats(&folder.join("latents.safetensors"))["final_latents"]
            .values
            .clone()
    };
    let own = sampled("out/ema");
    let by_hand = "model --sampler lcm --cfg-scale 1";
    let lora = "--lora out/ema/pytorch_lora_weights.safetensors";
    assert_eq!(own, sampled(&format!("{by_hand} {lora}")));
    assert_ne!(own, sampled(by_hand));
    // Named once more it is not added twice.
    assert_eq!(own, sampled(&format!("out/ema {lora}")));
    run("compile out/ema --target cpu -H 64 -W 64 -o student.splam");
    assert_eq!(own, sampled("student.splam"));
}

/// Pictures of two shapes are trained on by two programs with the same states, also after a resume.
#[test]
fn buckets_are_parts_of_one_training() {
    let folder = scratch("train-buckets");
    copy(&golden("pipeline/model"), &folder.join("model"));
    let data = folder.join("data");
    fs::create_dir_all(&data).expect("a folder");
    for (number, [rows, columns]) in [[64, 64], [48, 80], [64, 64], [48, 80]]
        .into_iter()
        .enumerate()
    {
        let seed = number as u32;
        fs::write(data.join(format!("{number}.png")), png(rows, columns, seed)).expect("a picture");
        fs::write(data.join(format!("{number}.txt")), "a fox").expect("a caption");
    }
    let run = "model --method denoise --data data --resolution 64 --aspect-buckets --threads 1 \
               --lr 1e-3 --save-every 0";
    succeed(&folder, &format!("{run} --out whole --steps 6"));
    succeed(&folder, &format!("{run} --out parts --steps 3"));
    succeed(&folder, &format!("{run} --out parts --steps 6 --resume"));
    let [whole, parts] =
        ["whole", "parts"].map(|out| contents(&folder.join(out).join("checkpoint-6")));
    assert!(whole == parts, "a resumed training differs");
}
