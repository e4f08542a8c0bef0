//! Students of a teacher that is trained from nothing come nearer to it.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;
use std::thread;

use compiler::value::tensor::{Tensor, Values};
use runtime::tensor_file;
use serde_json::{Value, json};

use crate::encode::png;
use crate::support::{copy, golden, read_floats, scratch, splamc};

/// What each of four captions says, again and again: its pictures are waves of one phase, give or
/// take a sixth of a turn.
const WORDS: [&str; 4] = ["fox", "sea", "tea", "yes"];

/// Pictures of each caption.
const PICTURES: usize = 10;

/// How far the phases of a caption's pictures are spread, in turns.
const SPREAD: f64 = 0.38;

/// The teacher's guidance scale. It draws the phases of a caption together, which a student has to
/// learn: without guidance its pictures are as spread as the data.
const GUIDANCE: &str = "20";

fn caption(number: usize) -> String {
    [WORDS[number]; 40].join(" ")
}

fn run(folder: &Path, arguments: &str, more: &[String]) {
    let output = splamc()
        .args(arguments.split_whitespace())
        .args(more)
        .current_dir(folder)
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments}: {text}");
}

fn edit(file: &Path, edit: impl Fn(&mut Value)) {
    let text = fs::read(file).expect("a file");
    let mut value = serde_json::from_slice(&text).expect("JSON");
    edit(&mut value);
    fs::write(file, value.to_string()).expect("a file");
}

fn rewrite(file: &Path, edit: impl Fn(&str, Tensor) -> Tensor) {
    let bytes = fs::read(file).expect("a file");
    let tensors = tensor_file::read(&bytes.into()).expect("tensors");
    let tensors = tensors.into_iter();
    let tensors: Vec<(String, Tensor)> = tensors
        .map(|(name, tensor)| (name.clone(), edit(&name, tensor)))
        .collect();
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let parts = tensor_file::parts(named).expect("the names are good");
    fs::write(file, parts.concat()).expect("a file");
}

/// A pipeline whose small network has no weights, and whose text encoder tells words well apart.
fn write_pipeline(folder: &Path) {
    copy(&golden("sd21/model"), folder);
    edit(&folder.join("unet/config.json"), |config| {
        config["block_out_channels"] = json!([16, 24]);
        config["down_block_types"] = json!(["DownBlock2D", "CrossAttnDownBlock2D"]);
        config["up_block_types"] = json!(["CrossAttnUpBlock2D", "UpBlock2D"]);
        config["attention_head_dim"] = json!(4);
        config["norm_num_groups"] = json!(8);
    });
    fs::remove_file(folder.join("unet/diffusion_pytorch_model.safetensors")).expect("weights");
    rewrite(
        &folder.join("text_encoder/model.safetensors"),
        |name, tensor| match (name.contains("token_embedding"), tensor.values()) {
            (true, Values::Float(values)) => {
                let values: Vec<f32> = values.iter().map(|x| (x * 50.0) as f32).collect();
                Tensor::from_f32(tensor.shape(), &values)
            }
            (_, _) => tensor,
        },
    );
    let schedule = json!({
        "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "prediction_type": "v_prediction",
        "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1,
    });
    let file = folder.join("scheduler/scheduler_config.json");
    fs::write(file, schedule.to_string()).expect("a schedule");
}

/// Encoded data: four channels of 8 × 8 latents with waves a quarter of a turn apart.
fn write_data(folder: &Path) {
    let pictures = folder.join("pictures");
    fs::create_dir_all(&pictures).expect("a folder");
    for number in 0..WORDS.len() * PICTURES {
        let name = format!("{number:02}");
        fs::write(pictures.join(format!("{name}.png")), png(32, 32, 0)).expect("a picture");
        let words = caption(number / PICTURES);
        fs::write(pictures.join(format!("{name}.txt")), words).expect("a caption");
    }
    let encode = "encode untrained --data pictures --out data --resolution 32";
    run(folder, encode, &[]);
    /// What the pipeline multiplies stored latents with.
    const SCALING: f64 = 0.18215;
    rewrite(&folder.join("data/00000.safetensors"), |name, tensor| {
        let (number, what) = name.split_once('.').expect("a number and a name");
        let number: usize = number.parse().expect("a number");
        let spread = (number % PICTURES) as f64 / (PICTURES - 1) as f64 - 0.5;
        let turns = (number / PICTURES) as f64 / WORDS.len() as f64 + spread * SPREAD;
        let wave = |index: usize| {
            let (channel, column) = (index / 64, index % 8);
            let turns = turns + column as f64 / 8.0 + channel as f64 / 4.0;
            (2.0 / SCALING * (TAU * turns).cos()) as f32
        };
        let elements = tensor.elements();
        let values: Vec<f32> = match what {
            "mean" => (0..elements).map(wave).collect(),
            "log_variance" => vec![2.0 * (0.1 / SCALING as f32).ln(); elements],
            _ => return tensor,
        };
        Tensor::from_f32(tensor.shape(), &values)
    });
}

/// The last latents of sixteen pictures, four of each caption.
fn sampled(folder: &Path, model: &str, options: &str) -> Vec<f32> {
    let file = format!("{}.safetensors", model.replace('/', "-"));
    let prompts = (0..16).flat_map(|picture| ["-p".to_owned(), caption(picture % WORDS.len())]);
    let prompts: Vec<String> = prompts.collect();
    let sample = format!("-b 16 -s 7 -H 32 -W 32 --latents-out {file} -o {file}.png");
    run(
        folder,
        &format!("sample {model} {sample} {options}"),
        &prompts,
    );
    let latents = read_floats(&folder.join(file));
    latents["final_latents"].values.clone()
}

/// The root of the mean square of the differences.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

/// Every method with its updates, a learning rate, and settings that suit few updates.
const METHODS: [(&str, u32, &str, &str); 4] = [
    ("lcm", 400, "2e-3", "--k 200"),
    ("lcm-lora", 700, "1e-2", "--k 200 --rank 32 --alpha 32"),
    (
        "perflow",
        250,
        "3e-3",
        "--guidance-mode fixed --solver-steps 4",
    ),
    (
        "splad",
        350,
        "2e-3",
        "--k 200 --k-phi 50 --gamma-embed matched",
    ),
];

/// How far a student's pictures in one step and in four are from `wanted`, before its training and
/// after.
fn distil(
    folder: &Path,
    (method, updates, lr, options): (&str, u32, &str, &str),
    wanted: &[f32],
) -> String {
    let train = format!(
        "train taught/ema --data data --method {method} --guidance {GUIDANCE} --batch 8 \
         --ema-decay 0.95 --save-every 0 --threads 1 {options}"
    );
    let begin = format!("--steps 1 --lr 0 --out begin-{method}");
    run(folder, &format!("{train} {begin}"), &[]);
    let end = format!("--steps {updates} --lr {lr} --warmup 10 --lr-schedule linear");
    run(folder, &format!("{train} {end} --out end-{method}"), &[]);
    let mut report = String::new();
    for steps in [1, 4] {
        let of = |model: &str| {
            let own = format!("{model}-{method}/ema");
            apart(&sampled(folder, &own, &format!("--steps {steps}")), wanted)
        };
        let (before, after) = (of("begin"), of("end"));
        if after > before / 2.0 {
            report += &format!("{method} in {steps} steps: {before:.3} before, {after:.3} after\n");
        }
    }
    report
}

/// Every student at least halves how far it is from its teacher's pictures from the same noise, in
/// one step and in four.
#[test]
fn students_come_near_their_teacher() {
    let folder = scratch("distil");
    write_pipeline(&folder.join("untrained"));
    write_data(&folder);
    let teach = "train untrained --method denoise --data data --out taught --batch 16 --steps 500 \
                 --lr 3e-3 --warmup 30 --lr-schedule linear --ema-decay 0.99 --ema-warmup \
                 --caption-dropout 0.1 --save-every 0 --copy";
    run(&folder, teach, &[]);
    let teacher = "--sampler ddim --spacing trailing --steps 50 --cfg-scale";
    let wanted = sampled(&folder, "taught/ema", &format!("{teacher} {GUIDANCE}"));
    let (folder, wanted) = (&folder, &wanted);
    let reports: Vec<String> = thread::scope(|scope| {
        let students = METHODS.map(|method| scope.spawn(move || distil(folder, method, wanted)));
        let reports = students.map(|student| student.join().expect("a report"));
        reports.into()
    });
    assert_eq!(reports.concat(), "", "every student is to be twice as near");
}

/// A model that begins without weights has no pictures of its own: its grids show the student's,
/// and there is nothing to compare with.
#[test]
fn a_training_from_nothing_draws_its_student() {
    let folder = scratch("distil-from-nothing");
    write_pipeline(&folder.join("untrained"));
    write_data(&folder);
    let train = "train untrained --method denoise --data data --batch 2 --steps 2";
    run(
        &folder,
        &format!("{train} --sample-every 2 --out taught"),
        &[],
    );
    assert!(folder.join("taught/samples/step-000002.png").is_file());
    let refused = splamc()
        .args(train.split_whitespace())
        .args(["--validate", "2", "--out", "compared"])
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("the teacher, which has no weights"), "{text}");
}
