//! Pipelines with a part missing, damaged, or of a kind that is not supported.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::json;

use crate::edit::{self, bytes, header, remove, set, write};
use crate::support::{copy, golden, scratch};
use crate::{Case, answer, check, whole};

const SAMPLE: &str = "sample model -p x --steps 1";
const UNET: &str = "model/unet/diffusion_pytorch_model.safetensors";

fn sdxl(folder: &Path) {
    copy(&golden("sdxl_unet"), &folder.join("sdxl"));
}

#[rustfmt::skip]
const KINDS: [Case; 6] = [
    ("a pipeline of another class, compiled", |f| {
        set(f, "model/model_index.json", "_class_name", Some(json!("AltDiffusionPipeline")));
    }, "compile model --target cpu -o m.splam"),
    ("a pipeline of another class, sampled", |f| {
        set(f, "model/model_index.json", "_class_name", Some(json!("AltDiffusionPipeline")));
        set(f, "model/model_index.json", "text_encoder", Some(json!(["alt_diffusion", "Roberta"])));
    }, SAMPLE),
    ("an inpainting network, compiled", inpainting, "compile model --target cpu -o m.splam"),
    ("an inpainting network, sampled", inpainting, SAMPLE),
    ("the decoder of a pipeline of another class", |f| {
        set(f, "model/model_index.json", "_class_name", Some(json!("AltDiffusionPipeline")));
    }, "compile model --target cpu -W 16 -H 16 --component vae_decoder -o m.splam"),
    ("an inpainting network without weights", |f| {
        inpainting(f);
        remove(f, UNET);
    }, SAMPLE),
];

fn inpainting(folder: &Path) {
    set(
        folder,
        "model/unet/config.json",
        "in_channels",
        Some(json!(9)),
    );
}

/// What git-lfs leaves in place of a file.
fn pointer(folder: &Path, name: &str) {
    let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167536\n";
    write(folder, name, text.as_bytes());
}

#[rustfmt::skip]
const POINTERS: [Case; 8] = [
    ("weights", |f| pointer(f, UNET), SAMPLE),
    ("a configuration", |f| pointer(f, "model/unet/config.json"), SAMPLE),
    ("the index", |f| pointer(f, "model/model_index.json"), "inspect model"),
    ("the sampler's configuration", |f| pointer(f, "model/scheduler/scheduler_config.json"), SAMPLE),
    ("a vocabulary", |f| pointer(f, "model/tokenizer/vocab.json"), SAMPLE),
    ("merges", |f| pointer(f, "model/tokenizer/merges.txt"), "compile model --target cpu -W 16 -H 16 -o m.splam"),
    ("an ONNX graph", |f| pointer(f, "m.onnx"), "inspect m.onnx"),
    ("latents", |f| pointer(f, "l.safetensors"), "sample model -p x --latents-in l.safetensors"),
];

#[rustfmt::skip]
const PARTS: [Case; 28] = [
    ("nothing there", whole, "sample absent -p x"),
    ("a folder that is no model", |f| fs::create_dir(f.join("empty")).expect("a folder"), "inspect empty"),
    ("a file that is no model", |f| write(f, "notes.txt", b"x"), "inspect notes.txt"),
    ("a pickled checkpoint", |f| write(f, "model.ckpt", b"x"), "inspect model.ckpt"),
    ("pickled weights only", |f| {
        remove(f, UNET);
        write(f, "model/unet/diffusion_pytorch_model.bin", b"x");
    }, SAMPLE),
    ("no weights", |f| remove(f, UNET), SAMPLE),
    ("no index of components, which the folders make up for", |f| remove(f, "model/model_index.json"), SAMPLE),
    ("no network", |f| {
        remove(f, "model/unet");
        set(f, "model/model_index.json", "unet", None);
    }, SAMPLE),
    ("no network behind its name", |f| remove(f, "model/unet"), SAMPLE),
    ("no autoencoder", |f| {
        remove(f, "model/vae");
        set(f, "model/model_index.json", "vae", None);
    }, SAMPLE),
    ("no tokenizer", |f| remove(f, "model/tokenizer"), SAMPLE),
    ("a tokenizer that the index says is absent", |f| {
        set(f, "model/model_index.json", "tokenizer", Some(json!([null, null])));
    }, SAMPLE),
    ("no vocabulary", |f| remove(f, "model/tokenizer/vocab.json"), SAMPLE),
    ("a vocabulary that is no JSON", |f| write(f, "model/tokenizer/vocab.json", b"{\"a\""), SAMPLE),
    ("merges that make no word", |f| write(f, "model/tokenizer/merges.txt", b"a b c\nd"), SAMPLE),
    ("no sampler", |f| remove(f, "model/scheduler"), SAMPLE),
    ("an SDXL pipeline", sdxl, "sample sdxl -p x"),
    ("an unknown class of components", |f| {
        set(f, "model/model_index.json", "unet", Some(json!(["diffusers", "UNet3DConditionModel"])));
    }, SAMPLE),
    ("an unknown component", |f| {
        set(f, "model/model_index.json", "transformer", Some(json!(["diffusers", "X"])));
    }, SAMPLE),
    ("an index that is no JSON", |f| write(f, "model/model_index.json", b"[1"), SAMPLE),
    ("an unknown sampler class", |f| {
        set(f, "model/scheduler/scheduler_config.json", "_class_name", Some(json!("ScoreSdeVeScheduler")));
        set(f, "model/model_index.json", "scheduler", Some(json!(["diffusers", "ScoreSdeVeScheduler"])));
    }, SAMPLE),
    ("an unknown sampler class that an option replaces", |f| {
        set(f, "model/scheduler/scheduler_config.json", "_class_name", Some(json!("ScoreSdeVeScheduler")));
        set(f, "model/model_index.json", "scheduler", Some(json!(["diffusers", "ScoreSdeVeScheduler"])));
    }, "sample model -p x --steps 2 --sampler dpm++2m"),
    ("another sampler class in the index", |f| {
        set(f, "model/model_index.json", "scheduler", Some(json!(["diffusers", "LCMScheduler"])));
    }, SAMPLE),
    ("another sampler class in a configuration written by hand", |f| {
        let config = json!({"_class_name": "LCMScheduler", "beta_schedule": "scaled_linear"});
        let path = f.join("model/scheduler/scheduler_config.json");
        fs::write(path, config.to_string()).expect("written");
    }, SAMPLE),
    ("unknown options of the sampler", |f| {
        set(f, "model/scheduler/scheduler_config.json", "swirl", Some(json!(3)));
        set(f, "model/scheduler/scheduler_config.json", "new", Some(json!(null)));
    }, SAMPLE),
    ("fewer tokens than embeddings", |f| {
        set(f, "model/tokenizer/vocab.json", "day</w>", None);
        bytes(f, "model/tokenizer/merges.txt", |b| b.truncate(b.len() - "da y</w>\n".len()));
    }, SAMPLE),
    ("fewer tokens than embeddings of an ONNX graph", |f| {
        copy(&golden("onnx_torchscript"), &f.join("onnx"));
        set(f, "onnx/text_encoder/config.json", "vocab_size", Some(json!(940)));
    }, "sample onnx -p x --steps 1 -W 32 -H 32"),
    ("noise levels out of range", |f| {
        set(f, "model/scheduler/scheduler_config.json", "beta_end", Some(json!(-3)));
    }, SAMPLE),
];

#[rustfmt::skip]
const NETWORKS: [Case; 16] = [
    ("a header longer than the file", |f| {
        bytes(f, UNET, |b| b[..8].copy_from_slice(&u64::MAX.to_le_bytes()));
    }, SAMPLE),
    ("a header cut off", |f| bytes(f, UNET, |b| b.truncate(1000)), SAMPLE),
    ("data cut off", |f| bytes(f, UNET, |b| b.truncate(700_000)), SAMPLE),
    ("a header that is no JSON", |f| write(f, UNET, &edit::safetensors(b"{\"a\":", b"")), SAMPLE),
    ("offsets that overlap", |f| header(f, UNET, |h| {
        h["conv_norm_out.bias"]["data_offsets"] = json!([0, 32]);
    }), SAMPLE),
    ("offsets beyond the file", |f| header(f, UNET, |h| {
        h["conv_in.bias"]["data_offsets"] = json!([u64::MAX - 32, u64::MAX]);
    }), SAMPLE),
    ("an unknown dtype", |f| header(f, UNET, |h| h["conv_in.bias"]["dtype"] = json!("F7")), SAMPLE),
    ("integers as weights", |f| header(f, UNET, |h| h["conv_in.bias"]["dtype"] = json!("I32")), SAMPLE),
    ("a shape whose product overflows", |f| header(f, UNET, |h| {
        h["conv_in.bias"]["shape"] = json!([u64::MAX, u64::MAX]);
    }), SAMPLE),
    ("another shape", |f| header(f, UNET, |h| h["conv_in.bias"]["shape"] = json!([2, 4])), SAMPLE),
    ("a tensor missing", |f| header(f, UNET, |h| {
        let tensor = h.remove("conv_in.bias").expect("a tensor");
        h.insert("conv_in.bia".to_owned(), tensor);
    }), SAMPLE),
    ("a tensor too many", |f| header(f, UNET, |h| {
        h.insert("extra".to_owned(), json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}));
    }), SAMPLE),
    ("a configuration of a kind that is not supported", |f| {
        set(f, "model/unet/config.json", "class_embed_type", Some(json!("timestep")));
    }, SAMPLE),
    ("a key that nobody knows", |f| set(f, "model/unet/config.json", "swirl", Some(json!(3))), SAMPLE),
    ("widths that groups do not divide", |f| {
        set(f, "model/unet/config.json", "norm_num_groups", Some(json!(5)));
    }, SAMPLE),
    ("a width that no machine holds", |f| {
        set(f, "model/unet/config.json", "cross_attention_dim", Some(json!(1u64 << 60)));
    }, SAMPLE),
];

const SMALL: &str = "sample m.splam -p x --steps 1";

/// Compiles the model for 16 x 16 pixels as `m.splam`.
fn compile(folder: &Path) {
    let line = "compile model --target cpu -W 16 -H 16 -o m.splam";
    assert_eq!(answer(folder, line), "exit 0\n\n");
}

/// Changes a byte in the middle of the file of an artifact whose name begins with `start`.
fn flip(folder: &Path, start: &str) {
    compile(folder);
    let artifact = folder.join("m.splam");
    let parent = artifact.join(Path::new(start).parent().expect("a parent"));
    let entries = fs::read_dir(parent).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").path());
    let relative = |path: &Path| {
        path.strip_prefix(&artifact)
            .expect("inside")
            .display()
            .to_string()
    };
    let mut names: Vec<String> = names.map(|path| relative(&path)).collect();
    names.sort();
    let name = names.iter().find(|name| name.starts_with(start));
    bytes(&artifact, name.expect("a file of that name"), |content| {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    });
}

#[rustfmt::skip]
const ARTIFACTS: [Case; 12] = [
    ("a manifest that was edited", |f| {
        compile(f);
        bytes(f, "m.splam/manifest.json", |b| b.insert(2, b' '));
    }, SMALL),
    ("a damaged plan", |f| flip(f, "plan"), SMALL),
    ("damaged weights", |f| flip(f, "weights"), SMALL),
    ("damaged merges", |f| flip(f, "tokenizer/merges"), SMALL),
    ("a damaged vocabulary", |f| flip(f, "tokenizer/vocab"), SMALL),
    ("a manifest that is no JSON", |f| {
        compile(f);
        write(f, "m.splam/manifest.json", b"{");
    }, SMALL),
    ("another size", compile, "sample m.splam -p x --steps 1 -W 32 -H 32"),
    ("more pictures", compile, "sample m.splam -p x --steps 1 -b 2"),
    ("a missing component", compile, "inspect m.splam --component vae_encoder"),
    ("compiled from what is compiled", compile, "compile m.splam --target cpu -o n.splam"),
    ("a folder that is in use", |f| {
        fs::create_dir(f.join("mine")).expect("a folder");
        write(f, "mine/notes.txt", b"x");
    }, "compile model --target cpu -o mine"),
    ("a file that is in use", |f| write(f, "mine", b"x"), "compile model --target cpu -o mine"),
];

#[test]
fn a_missing_part_is_named() {
    check("parts", &PARTS);
}

#[test]
fn the_kind_of_a_pipeline_is_named_at_once() {
    check("kinds", &KINDS);
}

#[test]
fn files_that_git_lfs_has_not_fetched_are_named() {
    check("pointers", &POINTERS);
}

#[test]
fn a_lying_checkpoint_or_configuration_is_refused() {
    check("networks", &NETWORKS);
}

#[test]
fn a_damaged_or_unfitting_artifact_is_refused() {
    check("artifacts", &ARTIFACTS);
}

#[test]
fn a_network_of_sdxl_runs_alone() {
    let folder = scratch("cli-sdxl");
    sdxl(&folder);
    bytes(&folder, "sdxl/io.safetensors", |content| {
        let file = SafeTensors::deserialize(content).expect("a safetensors file");
        let inputs = file
            .tensors()
            .into_iter()
            .filter(|(name, _)| name != "out_sample");
        *content = safetensors::serialize(inputs, None).expect("a safetensors file");
    });
    let line = "run sdxl --component unet --inputs sdxl/io.safetensors --outputs y.safetensors";
    assert_eq!(answer(&folder, line), "exit 0\n\n");
}
