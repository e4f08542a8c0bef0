//! LoRA files on the command line and in prompts: which fit, which are refused, and why.

use std::fs;
use std::path::Path;

use serde_json::{Map, json};

use crate::edit::{bytes, safetensors, write};
use crate::support::{copy, golden, read_floats, read_png, scratch, splamc};
use crate::{Case, check, whole};

/// A text projection of the model's denoiser, as diffusers and as kohya's scripts name it.
const TO_K: &str = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
const FLAT: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";

/// Writes a file of f32 tensors of one value.
fn file(folder: &Path, name: &str, tensors: &[(String, Vec<usize>)]) {
    let mut header = Map::new();
    let mut end = 0;
    for (key, shape) in tensors {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert(key.clone(), entry);
    }
    let data = 0.5_f32.to_le_bytes().repeat(end / 4);
    let header = json!(header).to_string();
    write(folder, name, &safetensors(header.as_bytes(), &data));
}

/// The factors of a layer that changes a weight `[out, in]`.
fn factors(layer: &str, ends: [&str; 2], [out, inner]: [usize; 2]) -> Vec<(String, Vec<usize>)> {
    vec![
        (format!("{layer}{}", ends[0]), vec![2, inner]),
        (format!("{layer}{}", ends[1]), vec![out, 2]),
    ]
}

fn peft(layer: &str, shape: [usize; 2]) -> Vec<(String, Vec<usize>)> {
    factors(layer, [".lora_A.weight", ".lora_B.weight"], shape)
}

fn kohya(layer: &str, shape: [usize; 2]) -> Vec<(String, Vec<usize>)> {
    factors(layer, [".lora_down.weight", ".lora_up.weight"], shape)
}

/// The file `ink.safetensors`, which fits.
fn ink(folder: &Path) {
    file(folder, "ink.safetensors", &peft(TO_K, [24, 24]));
}

/// The same in a folder of several.
fn styles(folder: &Path) {
    fs::create_dir_all(folder.join("styles/old")).expect("a folder");
    for name in [
        "styles/ink.safetensors",
        "styles/oil.safetensors",
        "styles/old/ink.safetensors",
    ] {
        file(folder, name, &peft(TO_K, [24, 24]));
    }
}

const INK: &str = "sample model -p x --steps 1 -W 16 -H 16 --lora ink.safetensors";

#[rustfmt::skip]
const FILES: [Case; 12] = [
    ("layers that fit nothing beside one that fits", |f| {
        let others = [peft(TO_K, [24, 24]), kohya("lora_unet_down_blocks_7_attentions_0_proj_in", [2, 2])];
        file(f, "ink.safetensors", &others.concat());
    }, INK),
    ("no layer that fits", |f| file(f, "ink.safetensors", &peft("unet.nothing", [2, 2])), INK),
    ("a file for another architecture", |f| {
        file(f, "ink.safetensors", &peft("transformer.single_transformer_blocks.0.attn.to_q", [2, 2]));
    }, INK),
    ("a file for SDXL", |f| file(f, "ink.safetensors", &kohya(FLAT, [24, 2048])), INK),
    ("an adapter of another kind", |f| {
        let tensors = [(format!("{FLAT}.hada_w1_a"), vec![2, 2])];
        file(f, "ink.safetensors", &tensors);
    }, INK),
    ("a layer with one factor", |f| file(f, "ink.safetensors", &peft(TO_K, [24, 24])[..1]), INK),
    ("factors that do not belong together", |f| {
        let tensors = [(format!("{TO_K}.lora_A.weight"), vec![2, 24]), (format!("{TO_K}.lora_B.weight"), vec![24, 3])];
        file(f, "ink.safetensors", &tensors);
    }, INK),
    ("weights that are no layers", |f| file(f, "ink.safetensors", &[("conv_in.weight".to_owned(), vec![2])]), INK),
    ("no file", whole, INK),
    ("a file that was cut", |f| {
        ink(f);
        bytes(f, "ink.safetensors", |content| content.truncate(200));
    }, INK),
    ("a pickled file", |f| write(f, "ink.pt", b"x"), "sample model -p x --lora ink.pt:0.5"),
    ("alpha in a file that is not there", |f| {
        let module = TO_K.strip_prefix("unet.").expect("its prefix");
        file(f, "ink.safetensors", &peft(&format!("base_model.model.{module}"), [24, 24]));
    }, INK),
];

#[rustfmt::skip]
const WORDS: [Case; 9] = [
    ("a strength that is no number", whole, "sample model -p x --lora ink.safetensors:nan"),
    ("a strength that is a word", whole, "sample model -p x --lora ink.safetensors:much"),
    ("a folder without files of known names", styles, "sample model -p x --lora styles"),
    ("a tag without a folder", whole, "sample model -p <lora:ink:1> --steps 1 -W 16 -H 16"),
    ("a tag of no file", styles, "sample model -p <lora:oli:1> --lora-dir styles"),
    ("a tag of two files", |f| {
        styles(f);
        fs::rename(f.join("styles/ink.safetensors"), f.join("styles/new.safetensors")).expect("renamed");
        fs::create_dir(f.join("styles/more")).expect("a folder");
        fs::rename(f.join("styles/new.safetensors"), f.join("styles/more/ink.safetensors")).expect("renamed");
    }, "sample model -p <lora:ink:1> --lora-dir styles"),
    ("a tag with two scales", styles, "sample model -p <lora:oil:1:1> --lora-dir styles"),
    ("different tags", styles, "sample model -p <lora:oil:1> -p <lora:old/ink:1> -b 2 --lora-dir styles"),
    ("a tag in the negative prompt", styles, "sample model -p x -n <lora:oil:1> --steps 1 -W 16 -H 16 --lora-dir styles"),
];

#[test]
fn files_that_do_not_fit_are_refused_with_the_reason() {
    check("lora-files", &FILES);
}

#[test]
fn words_that_name_no_file_are_refused() {
    check("lora-words", &WORDS);
}

#[test]
fn tags_and_options_and_compiled_models_draw_the_same_picture() {
    let folder = scratch("cli-lora");
    copy(&golden("sd21/model"), &folder.join("model"));
    styles(&folder);
    let run = |words: &str, name: &str| {
        let out = [
            "-o",
            &format!("{name}.png"),
            "--latents-out",
            &format!("{name}.st"),
        ]
        .join(" ");
        let words = format!("{words} {out}");
        let output = splamc()
            .args(words.split(' '))
            .current_dir(&folder)
            .output();
        let output = output.expect("the command runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}: {told}");
    };
    let latents = |name: &str| {
        read_floats(&folder.join(format!("{name}.st")))["final_latents"]
            .values
            .clone()
    };
    let difference = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        let largest = b.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        pairs.fold(0.0, f32::max) / largest
    };
    let sample = "sample model -p a,fox --steps 2 -W 16 -H 16";
    run(sample, "plain");
    run(
        &format!("{sample} --lora styles/oil.safetensors:0.5"),
        "option",
    );
    let tagged = sample.replace("a,fox", "<lora:oil:0.5>a,fox");
    run(&format!("{tagged} --lora-dir styles"), "tag");
    run(
        &format!(
            "{sample} --lora styles/oil.safetensors:0.25 --lora styles/old/ink.safetensors:0.25"
        ),
        "two",
    );
    let (option, tag) = (latents("option"), latents("tag"));
    assert!(
        difference(&option, &latents("plain")) > 1e-3,
        "the file changes the picture"
    );
    assert_eq!(option, tag);
    assert!(
        difference(&latents("two"), &option) < 1e-5,
        "strengths add up"
    );
    let pictures = ["option", "tag"].map(|name| read_png(&folder.join(format!("{name}.png"))));
    assert!(pictures[0] == pictures[1]);
    let text = fs::read(folder.join("tag.png")).expect("a picture");
    let kept = b"<lora:oil:0.5>a,fox";
    assert!(
        text.windows(kept.len()).any(|own| own == kept),
        "the text keeps the prompt"
    );

    let compile = "compile model --target cpu --exact -W 16 -H 16 -o m.splam";
    let output = splamc()
        .args(compile.split(' '))
        .current_dir(&folder)
        .output();
    assert!(output.expect("the command runs").status.success());
    let compiled = sample.replace("model", "m.splam");
    run(
        &format!("{compiled} --lora styles/oil.safetensors:0.5"),
        "compiled",
    );
    assert!(difference(&latents("compiled"), &option) < 1e-4);
}
