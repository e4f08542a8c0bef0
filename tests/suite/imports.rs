//! What importing a diffusers directory refuses, and what the refusal says; and which files and
//! folders it accepts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use compiler::DType;
use compiler::graph::Role;
use compiler::value::stored::{ReadError, Stored};
use compiler::value::tensor::Tensor;
use graphs::diffusers;
use graphs::models::{Options, Timestep};
use graphs::source::{Source, SourceError};
use graphs::{ImportError, checkpoint, pipeline, pipeline_class};
use serde_json::{Value, json};

use crate::support::{Folder, folder};

const OPTIONS: Options = Options {
    dtype: DType::F32,
    timestep: Timestep::Scalar,
    hidden_states: false,
};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// Opens and builds every component.
fn import(files: &Folder) -> Result<Vec<String>, ImportError> {
    let pipeline = diffusers::open(files)?;
    let build = |component: &diffusers::Component| {
        let built = component.build(files, &OPTIONS)?;
        assert_eq!(built.func.params(Role::Weight).count(), built.weights.len());
        Ok(component.name.clone())
    };
    pipeline.components.iter().map(build).collect()
}

fn check(files: &Folder, wanted: &str, what: &str) {
    let message = match import(files) {
        Ok(components) => format!("{components:?}"),
        Err(error) => error.to_string(),
    };
    assert!(
        message.contains(wanted),
        "{what}: found {message:?}, wanted {wanted:?}"
    );
}

/// The files with the keys of `config` replaced in the JSON object at `path`.
fn with_config(mut files: Folder, path: &str, config: &Value) -> Folder {
    let mut object: Value = serde_json::from_slice(&files[path]).expect("it is JSON");
    for (key, value) in config.as_object().expect("an object") {
        object[key] = value.clone();
    }
    files.insert(path.to_owned(), object.to_string().into());
    files
}

fn renamed(mut files: Folder, from: &str, to: &str) -> Folder {
    let bytes = files.remove(from).expect("the file is there");
    files.insert(to.to_owned(), bytes);
    files
}

fn without(mut files: Folder, path: &str) -> Folder {
    files.remove(path).expect("the file is there");
    files
}

/// The files with the tensors of the UNet changed.
fn with_tensors(mut files: Folder, change: impl Fn(&mut BTreeMap<String, Tensor>)) -> Folder {
    let mut tensors = checkpoint::parse(UNET, &files[UNET]).expect("the golden is valid");
    change(&mut tensors);
    files.insert(UNET.to_owned(), safetensors(&tensors));
    files
}

/// A safetensors file.
fn safetensors(tensors: &BTreeMap<String, Tensor>) -> Bytes {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let begin = data.len();
        data.extend_from_slice(tensor.bytes());
        let dtype = tensor.dtype().name().to_uppercase();
        let place = [begin, data.len()];
        let entry = json!({"dtype": dtype, "shape": tensor.shape(), "data_offsets": place});
        header.insert(name.clone(), entry);
    }
    let header = Value::from(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&data);
    file.into()
}

#[test]
fn configurations_of_other_networks_are_refused_by_their_keys() {
    let unet = |config: Value| ("unet_a", "unet/config.json", config);
    let vae = |config: Value| ("vae_old_keys", "vae/config.json", config);
    let text = |config: Value| ("text_encoders/bare", "text_encoder/config.json", config);
    let cases = [
        (
            unet(json!({"_note": 3, "dropout": 0.1, "decay": 0.9999})),
            r#"["unet"]"#,
        ),
        (
            unet(json!({"norm_eps": null, "act_fn": "swish"})),
            r#"["unet"]"#,
        ),
        (unet(json!({"mid_block_scale_factor": 1.0})), r#"["unet"]"#),
        (
            unet(json!({"_class_name": "UNet3D"})),
            r#""_class_name" in "unet/config.json" is "UNet3D""#,
        ),
        (
            unet(json!({"dual_cross_attention": true})),
            r#""dual_cross_attention" in "unet/config.json" is true, wanted false"#,
        ),
        (
            unet(json!({"class_embed_type": "timestep"})),
            r#"is "timestep", wanted null"#,
        ),
        (
            unet(json!({"act_fn": "gelu"})),
            r#"is "gelu", wanted "silu" or "swish""#,
        ),
        (
            unet(json!({"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]})),
            r#"is "AttnDownBlock2D", wanted "CrossAttnDownBlock2D" or "DownBlock2D""#,
        ),
        (
            unet(json!({"up_block_types": ["UpBlock2D"]})),
            "wanted a list with 2 names",
        ),
        (
            unet(json!({"attention_head_dim": 3})),
            "wanted numbers of heads that divide the channels",
        ),
        (
            unet(json!({"attention_head_dim": [2]})),
            "wanted a number of heads, or a list of 2 such",
        ),
        (
            unet(json!({"attention_head_dim": 1, "num_attention_heads": 2})),
            r#"["unet"]"#,
        ),
        (
            unet(json!({"layers_per_block": 1_000_000_000})),
            "wanted a number of layers",
        ),
        (
            unet(json!({"block_out_channels": []})),
            "wanted a list of 1 to 8 integers",
        ),
        (
            unet(json!({"block_out_channels": [15, 32]})),
            "wanted an even first number",
        ),
        (unet(json!({"norm_num_groups": 7})), "group_norm"),
        (
            unet(json!({"norm_num_groups": null})),
            "wanted a number of groups",
        ),
        (
            unet(json!({"addition_embed_type": "text"})),
            r#"wanted null or "text_time""#,
        ),
        (
            unet(json!({"addition_embed_type": "text_time"})),
            r#""addition_time_embed_dim" in "unet/config.json" is null"#,
        ),
        (
            unet(json!({"transformer_layers_per_block": [[1, 1], 1]})),
            "wanted a list of 2, since",
        ),
        (
            unet(json!({"cross_attention_dim": [16, 8]})),
            "wanted one width for all levels",
        ),
        (
            unet(json!({"freq_shift": "none"})),
            r#"is "none", wanted a number"#,
        ),
        (vae(json!({"latents_mean": [0.0]})), r#""latents_mean""#),
        (
            vae(json!({"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]})),
            r#"is "AttnDownEncoderBlock2D""#,
        ),
        (
            vae(json!({"scaling_factor": 0.5, "force_upcast": false})),
            r#"["vae_encoder", "vae_decoder"]"#,
        ),
        (
            text(json!({"hidden_act": "relu"})),
            r#"is "relu", wanted "quick_gelu""#,
        ),
        (
            text(json!({"num_attention_heads": 3})),
            "wanted a divisor of hidden_size 20",
        ),
        (
            text(json!({"eos_token_id": [1, 2]})),
            "is [1,2], wanted one id",
        ),
        (
            text(json!({"quantization_config": {}})),
            r#""quantization_config" in "text_encoder/config.json" is {}, wanted null"#,
        ),
        (
            text(json!({"use_cache": true, "id2label": {"0": "a"}})),
            r#"["text_encoder"]"#,
        ),
    ];
    for ((name, path, config), wanted) in cases {
        check(
            &with_config(folder(name), path, &config),
            wanted,
            &config.to_string(),
        );
    }
}

/// diffusers and transformers ignore keys that they do not know; so do we, and list them.
#[test]
fn unknown_keys_are_listed_unless_they_say_nothing() {
    let files = [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
    ];
    for file in files {
        for (value, is_listed) in [
            (json!(null), false),
            (json!(3), true),
            (json!(["a", "B"]), true),
        ] {
            let config = with_config(folder("pipeline/model"), file, &json!({"new": value}));
            let model = pipeline::open(&config).expect("it opens");
            let found: Vec<String> = model.ignored.iter().map(ToString::to_string).collect();
            let wanted = format!("{file:?} has the unknown keys [\"new\"], which are ignored");
            let wanted = if is_listed { vec![wanted] } else { Vec::new() };
            assert_eq!(found, wanted, "{file}: {value}");
        }
    }
}

/// What the index says of a class holds, whatever the component's own file says.
#[test]
fn the_index_decides_on_classes() {
    let model = || folder("pipeline/model");
    let index = "model_index.json";
    let all = r#"["text_encoder", "unet", "vae_encoder", "vae_decoder"]"#;
    let cases = [
        ("unet/config.json", json!({"_class_name": "UNet2DModel"})),
        ("vae/config.json", json!({"_class_name": "AutoencoderTiny"})),
        (
            "text_encoder/config.json",
            json!({"architectures": ["CLIPModel"]}),
        ),
    ];
    for (file, change) in cases {
        let files = with_config(model(), file, &change);
        check(&files, all, file);
        let message = match import(&without(files, index)) {
            Ok(components) => format!("{components:?}"),
            Err(error) => error.to_string(),
        };
        assert!(
            message.contains(file),
            "{file} without the index: {message}"
        );
    }
    let scheduler = |value: Value| {
        let files = with_config(model(), index, &json!({"scheduler": value}));
        pipeline::open(&files)
            .expect("it opens")
            .pipeline
            .scheduler_class
    };
    let class = Some("PNDMScheduler".to_owned());
    assert_eq!(scheduler(json!(["diffusers", "PNDMScheduler"])), class);
    assert_eq!(scheduler(json!([null, null])), None);
    assert_eq!(
        pipeline::open(&without(model(), index))
            .expect("it opens")
            .pipeline
            .scheduler_class,
        None
    );
}

/// Pipelines for other tasks are named by their class or by their network's channels, before their
/// networks are looked at.
#[test]
fn pipelines_of_other_kinds_are_named() {
    #[track_caller]
    fn check(files: &Folder, wanted: &str) {
        let opened = pipeline::open(files);
        let kind = opened.and_then(|model| pipeline_class::expect_text_to_image(&model.pipeline));
        let found = kind.map_or_else(|error| error.to_string(), |()| "draws".to_owned());
        assert!(found.contains(wanted), "found {found:?}, wanted {wanted:?}");
    }
    let model = || folder("pipeline/model");
    let of_class =
        |class: Value| with_config(model(), "model_index.json", &json!({"_class_name": class}));
    for (class, draws) in [
        ("StableDiffusionPipeline", true),
        ("ORTStableDiffusionPipeline", true),
        ("OnnxStableDiffusionPipeline", true),
        ("StableDiffusionImg2ImgPipeline", true),
        ("LatentConsistencyModelPipeline", true),
        ("AltDiffusionPipeline", false),
        ("StableDiffusionGLIGENPipeline", false),
        ("StableDiffusionInstructPix2PixPipeline", false),
        ("StableDiffusionUpscalePipeline", false),
        ("StableUnCLIPPipeline", false),
        ("FluxPipeline", false),
    ] {
        let wanted = match draws {
            true => "draws".to_owned(),
            false => format!("found {class}, expected a text-to-image pipeline"),
        };
        check(&of_class(json!(class)), &wanted);
        check(&of_class(json!(["module", class])), &wanted);
        if !draws {
            // Its parts are of kinds that are not supported either.
            let part = json!({"text_encoder": ["alt_diffusion", "RobertaSeries"]});
            check(
                &with_config(of_class(json!(class)), "model_index.json", &part),
                &wanted,
            );
        }
    }
    for (channels, wanted) in [
        (4, "draws"),
        (
            5,
            "a depth-to-image network: its input has 5 channels and latents 4",
        ),
        (7, "an upscaling network: its input has 7 channels"),
        (8, "InstructPix2Pix"),
        (
            9,
            "an inpainting network: its input has 9 channels and latents 4",
        ),
        (12, "an unknown network: its input has 12 channels"),
    ] {
        check(
            &with_config(
                model(),
                "unet/config.json",
                &json!({"in_channels": channels}),
            ),
            wanted,
        );
    }
}

/// Values that a configuration should not have, under every key of it: an answer, never a panic.
#[test]
fn absurd_values_are_answered() {
    let huge = u64::MAX;
    let values = [
        json!(0),
        json!(-1),
        json!(1),
        json!(huge),
        json!(1e300),
        json!(""),
        json!([]),
        json!({}),
        json!(true),
        json!([[]]),
        json!([0, 0]),
        json!([huge, 1]),
        json!(65536),
    ];
    for (name, path) in [
        ("unet_a", "unet/config.json"),
        ("vae_old_keys", "vae/config.json"),
        ("text_encoders/bare", "text_encoder/config.json"),
        ("pipeline/model", "model_index.json"),
    ] {
        let files = folder(name);
        let config: Value = serde_json::from_slice(&files[path]).expect("it is JSON");
        for key in config.as_object().expect("an object").keys() {
            for value in &values {
                let change = json!({ key: value });
                let answer = import(&with_config(files.clone(), path, &change));
                assert!(answer.is_err() || answer.is_ok_and(|built| !built.is_empty()));
            }
        }
    }
}

#[test]
fn checkpoints_that_do_not_fit_are_refused_by_their_tensors() {
    let ones = |shape: &[usize]| Tensor::from_f32(shape, &vec![1.0; shape.iter().product()]);
    let files = || folder("unet_a");
    let missing = with_tensors(files(), |tensors| {
        tensors.remove("conv_in.bias");
        tensors.remove("conv_out.bias");
    });
    check(
        &missing,
        r#"unet lacks 2 tensors, the first is "conv_in.bias", wanted as f32[16]"#,
        "missing",
    );
    let extra = with_tensors(files(), |tensors| {
        for name in ["a", "b", "c", "d", "e"] {
            tensors.insert(name.to_owned(), ones(&[1]));
        }
    });
    check(
        &extra,
        "unet has no place for 5 tensors, found a, b, c, d, …",
        "extra",
    );
    let shape = with_tensors(files(), |tensors| {
        tensors.insert("conv_in.bias".to_owned(), ones(&[4, 4]));
    });
    check(
        &shape,
        r#"tensor "conv_in.bias" of unet is f32[4, 4], wanted f32[16]"#,
        "shape",
    );
    let kind = with_tensors(files(), |tensors| {
        tensors.insert("conv_in.bias".to_owned(), Tensor::from_i64(&[16], &[1; 16]));
    });
    check(&kind, "is i64[16], wanted f32[16]", "kind");
    let double = with_tensors(files(), |tensors| {
        let bias = tensors["conv_in.bias"].cast(DType::F64);
        tensors.insert("conv_in.bias".to_owned(), bias);
        tensors.insert(
            "conv_out.bias".to_owned(),
            Tensor::from_f32(&[4], &[f32::NAN; 4]),
        );
    });
    check(&double, r#"["unet"]"#, "wider floats, and NaN, are weights");
}

#[test]
fn weights_are_found_under_the_names_that_libraries_write() {
    let at = |name: &str| format!("unet/{name}");
    let plain = || folder("unet_a");
    let variant = renamed(
        plain(),
        UNET,
        &at("diffusion_pytorch_model.fp16.safetensors"),
    );
    check(&variant, r#"["unet"]"#, "one variant");
    let mut both = variant.clone();
    both.insert(at("diffusion_pytorch_model.bf16.safetensors"), Bytes::new());
    check(&both, "found the variants", "two variants");
    let mut preferred = plain();
    preferred.insert(at("diffusion_pytorch_model.fp16.safetensors"), Bytes::new());
    preferred.insert(at("diffusion_pytorch_model.bin"), Bytes::new());
    check(&preferred, r#"["unet"]"#, "without variant first");
    let pickled = renamed(plain(), UNET, &at("diffusion_pytorch_model.bin"));
    check(
        &pickled,
        r#"as "diffusion_pytorch_model.bin" only, wanted safetensors"#,
        "pickled",
    );
    let hint = import(&pickled).err().and_then(|error| error.hint());
    assert!(hint.is_some_and(|hint| hint.contains("save_pretrained")));
    check(
        &without(plain(), UNET),
        r#"found no weights in "unet""#,
        "none",
    );

    let shards = || folder("unet_files/sharded");
    let shard = at("diffusion_pytorch_model-00002-of-00003.safetensors");
    let gone = without(shards(), &shard);
    check(
        &gone,
        r#"names the shard "diffusion_pytorch_model-00002-of-00003.safetensors""#,
        "missing shard",
    );
    let mut same = shards();
    let first = same[&at("diffusion_pytorch_model-00001-of-00003.safetensors")].clone();
    same.insert(shard, first);
    check(&same, "found it not there", "wrong shard");
    let index = at("diffusion_pytorch_model.safetensors.index.json");
    for escape in ["../vae/a.safetensors", "/etc/passwd"] {
        let map = json!({"weight_map": {"a": escape}});
        let files = with_config(shards(), &index, &map);
        check(&files, "wanted a relative path that stays within", escape);
    }
}

#[test]
fn pipelines_are_what_their_index_says() {
    let index = "model_index.json";
    let model = || folder("pipeline/model");
    let all = r#"["text_encoder", "unet", "vae_encoder", "vae_decoder"]"#;
    check(&model(), all, "as written");
    check(&without(model(), index), all, "without index");
    check(
        &without(model(), "vae/config.json"),
        r#"found no file "vae/config.json""#,
        "lost",
    );
    check(&Folder::new(), "found neither", "empty");
    let cases = [
        (
            json!({"vae": ["diffusers", "AutoencoderTiny"]}),
            r#"is "AutoencoderTiny", wanted "AutoencoderKL""#,
        ),
        (
            json!({"unet": ["diffusers", "OnnxRuntimeModel"]}),
            r#"is "OnnxRuntimeModel""#,
        ),
        (json!({"unet": 3}), "wanted a library and a class"),
        (
            json!({"text_encoder": [null, null]}),
            r#"["unet", "vae_encoder", "vae_decoder"]"#,
        ),
    ];
    for (change, wanted) in cases {
        check(
            &with_config(model(), index, &change),
            wanted,
            &change.to_string(),
        );
    }
    let strip = |prefix: &str| -> Folder {
        let inside = |(path, bytes): (String, Bytes)| {
            path.strip_prefix(prefix)
                .map(|path| (path.to_owned(), bytes))
        };
        model().into_iter().filter_map(inside).collect()
    };
    check(&strip("unet/"), r#"["unet"]"#, "a bare UNet");
    check(
        &strip("vae/"),
        r#"["vae_encoder", "vae_decoder"]"#,
        "a bare autoencoder",
    );
    check(
        &strip("text_encoder/"),
        r#"["text_encoder"]"#,
        "a bare text encoder",
    );
    check(&strip("scheduler/"), "found neither", "no network");
}

#[test]
fn what_is_not_a_network_is_handed_on() {
    let files = folder("pipeline/model");
    let model = pipeline::open(&files).expect("the pipeline opens");
    let pipeline = &model.pipeline;
    assert_eq!(pipeline.class.as_deref(), Some("StableDiffusionPipeline"));
    let scheduler = pipeline.scheduler.as_deref().map(str::as_bytes);
    assert_eq!(
        scheduler,
        Some(&files["scheduler/scheduler_config.json"][..])
    );
    let encoders = &pipeline.prompts.encoders;
    assert_eq!(encoders.len(), 1);
    assert_eq!(encoders[0].tokenizer, "tokenizer");
    let latents = &pipeline.latents;
    assert_eq!((latents.scaling_factor, latents.pixels), (0.18215, 8));
}

/// Files that were cut after they were opened.
struct Cut(Folder);

impl Source for Cut {
    fn bytes(&self, path: &str) -> Result<Bytes, SourceError> {
        self.0.bytes(path)
    }

    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.0.list()
    }

    fn stored(&self, tensor: Tensor) -> Tensor {
        tensor.stored(Arc::new(Gone))
    }
}

#[derive(Debug)]
struct Gone;

impl Stored for Gone {
    fn read(&self) -> Result<Bytes, ReadError> {
        Err(ReadError {
            file: UNET.to_owned(),
            reason: "it was cut".to_owned(),
        })
    }
}

#[test]
fn weights_that_change_their_type_are_read_from_their_files() {
    let files = Cut(folder("unet_a"));
    let pipeline = diffusers::open(&files).expect("the pipeline opens");
    let build = |dtype| pipeline.components[0].build(&files, &Options { dtype, ..OPTIONS });
    assert!(build(DType::F32).is_ok());
    let found = build(DType::F64).expect_err("it was cut").to_string();
    assert_eq!(found, format!("cannot read {UNET}: it was cut"));
}

/// Half the bytes in memory for the same names, and f32 at the border.
#[test]
fn weights_take_the_type_that_is_asked_for() {
    let files = folder("unet_a");
    let pipeline = diffusers::open(&files).expect("the pipeline opens");
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let options = Options { dtype, ..OPTIONS };
        let built = pipeline.components[0]
            .build(&files, &options)
            .expect("it builds");
        // What is narrower than the file is rounded when it is packed.
        let wanted = if dtype == DType::F64 {
            dtype
        } else {
            DType::F32
        };
        assert!(
            built
                .weights
                .values()
                .all(|tensor| tensor.dtype() == wanted)
        );
        let mut params = built.func.params(Role::Weight);
        assert!(params.all(|(_, _, ty)| ty.dtype == dtype));
        let inputs = built.func.params(Role::Input);
        assert!(inputs.into_iter().all(|(_, _, ty)| ty.dtype == DType::F32));
        let results = built.func.results();
        assert!(
            results
                .iter()
                .all(|(_, v)| built.func.ty(*v).dtype == DType::F32)
        );
    }
}

/// SDXL's refiner feeds five numbers per picture; the pooled text has the features left.
#[test]
fn an_aesthetics_score_stands_for_the_size_of_the_target() {
    for (refiner, ids, text) in [(false, 6, 20), (true, 5, 28)] {
        let change = json!({"requires_aesthetics_score": refiner});
        let files = with_config(folder("sdxl_unet"), "model_index.json", &change);
        let pipeline = diffusers::open(&files).expect("the pipeline opens");
        let built = pipeline.components[0]
            .build(&files, &OPTIONS)
            .expect("it builds");
        let width = |name: &str| {
            let mut inputs = built.func.params(Role::Input);
            let (_, _, ty) = inputs
                .find(|param| param.1 == name)
                .expect("it has the input");
            ty.shape[1].known()
        };
        let found = (width("time_ids"), width("text_embeds"));
        assert_eq!(found, (Some(ids), Some(text)), "refiner: {refiner}");
    }
}
