//! The shapes example: its pipeline is trained from nothing, and its judge tells pictures apart.

use std::fs;
use std::path::Path;

use runtime::tensor_file;

use crate::support::{read_floats, scratch, splamc};

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

/// The judge's questions, in the order of its logits, with their answers.
const QUESTIONS: [&[&str]; 5] = [
    &["circle", "square", "triangle", "cross"],
    &COLOURS,
    &COLOURS,
    &["small", "large"],
    &[
        "top left",
        "top right",
        "bottom left",
        "bottom right",
        "middle",
    ],
];

const COLOURS: [&str; 6] = ["red", "green", "blue", "yellow", "purple", "orange"];

/// What a picture shows, as its caption would say it: shape, colour, background, size, position.
fn shown(logits: &[f32]) -> [&'static str; 5] {
    let mut start = 0;
    QUESTIONS.map(|answers| {
        let own = &logits[start..start + answers.len()];
        start += answers.len();
        let best = (0..own.len()).max_by(|&a, &b| own[a].total_cmp(&own[b]));
        answers[best.expect("an answer")]
    })
}

/// The bundled student in four steps draws what captions say, in the eyes of the judge.
#[test]
fn the_bundled_student_draws_what_captions_say() {
    let folder = scratch("shapes-bundled");
    let (mut prompts, mut wanted) = (Vec::new(), Vec::new());
    for (number, shape) in QUESTIONS[0].iter().cycle().take(16).enumerate() {
        let [colour, other] = [number % 6, (number + 1 + number / 6) % 6].map(|at| COLOURS[at]);
        let article = if colour == "orange" { "an" } else { "a" };
        let below = if other == "orange" { "an" } else { "a" };
        prompts.push(format!(
            "{article} {colour} {shape} on {below} {other} background"
        ));
        wanted.push([*shape, colour, other]);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = splamc()
        .arg("sample")
        .arg(root.join("examples/shapes/model"))
        .args(prompts.iter().flat_map(|prompt| ["-p", prompt]))
        .args("-b 16 -s 1 --steps 4 -o p.png --latents-out drawn.safetensors".split(' '))
        .current_dir(&folder)
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let drawn = fs::read(folder.join("drawn.safetensors")).expect("a file");
    let drawn = tensor_file::read(&drawn.into()).expect("tensors");
    let parts = tensor_file::parts([("pictures", &drawn["decoded"])]).expect("names are good");
    fs::write(folder.join("pictures.safetensors"), parts.concat()).expect("a file");
    run(
        &folder,
        "run examples/shapes/judge.onnx --inputs pictures.safetensors --outputs seen.safetensors",
    );
    let seen = read_floats(&folder.join("seen.safetensors"));
    let logits = seen["logits"].values.chunks(30).map(shown);
    let differ = |(shown, wanted): &([&str; 5], &[&str; 3])| shown[..3] != wanted[..];
    let wrong: Vec<_> = logits.zip(&wanted).filter(differ).collect();
    assert!(wrong.len() <= 2, "shown and wanted: {wrong:?}");
}
