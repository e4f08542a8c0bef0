//! Published models, built from their configurations alone: names and shapes of all weights,
//! their number, and the arithmetic and the memory of one call.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use backends::cuda::PTX;
use backends::gpu;
use compiler::DType;
use compiler::graph::{Func, Role};
use compiler::ops::{Class, Op};
use compiler::passes::hoist;
use compiler::plan::{Plan, Window, plan, plan_regions, weights};
use compiler::program::{Program, compile};
use compiler::region::{Anchor, Content};
use compiler::target::Limits;
use compiler::value::dim::{Bindings, Dim};
use graphs::models::{Options, Timestep, clip, unet, vae};
use serde_json::Value;

const OPTIONS: Options = Options {
    dtype: DType::F32,
    timestep: Timestep::Scalar,
    hidden_states: false,
};

const SD15: &str = r#"{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0",
    "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": false, "cross_attention_dim": 768, "down_block_types":
    ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
    "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
    "out_channels": 4, "sample_size": 64, "up_block_types":
    ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}"#;

const SD15_CONDITION: &str = r#"{"cross_attention_dim": 768, "time_cond_proj_dim": 256}"#;

const SD21: &str = r#"{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.10.0.dev0",
    "act_fn": "silu", "attention_head_dim": [5, 10, 20, 20], "block_out_channels":
    [320, 640, 1280, 1280], "center_input_sample": false, "cross_attention_dim": 1024,
    "dual_cross_attention": false, "downsample_padding": 1, "flip_sin_to_cos": true,
    "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "norm_eps": 1e-05, "norm_num_groups": 32, "num_class_embeds": null,
    "only_cross_attention": false, "out_channels": 4, "sample_size": 96,
    "use_linear_projection": true, "upcast_attention": true}"#;

const SDXL: &str = r#"{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.19.0.dev0",
    "act_fn": "silu", "addition_embed_type": "text_time", "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20], "block_out_channels":
    [320, 640, 1280], "center_input_sample": false, "class_embed_type": null,
    "class_embeddings_concat": false, "conv_in_kernel": 3, "conv_out_kernel": 3,
    "cross_attention_dim": 2048, "cross_attention_norm": null, "down_block_types":
    ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "downsample_padding": 1,
    "dual_cross_attention": false, "encoder_hid_dim": null, "encoder_hid_dim_type": null,
    "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_only_cross_attention": null, "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05, "norm_num_groups": 32,
    "num_attention_heads": null, "num_class_embeds": null, "only_cross_attention": false,
    "out_channels": 4, "projection_class_embeddings_input_dim": 2816,
    "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": false,
    "resnet_time_scale_shift": "default", "sample_size": 128, "time_cond_proj_dim": null,
    "time_embedding_act_fn": null, "time_embedding_dim": null,
    "time_embedding_type": "positional", "timestep_post_act": null,
    "transformer_layers_per_block": [1, 2, 10], "up_block_types":
    ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "upcast_attention": null,
    "use_linear_projection": true}"#;

const VAE: &str = r#"{"_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0",
    "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "down_block_types":
    ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
    "out_channels": 3, "sample_size": 512, "up_block_types":
    ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

const CLIP_L: &str = r#"{"architectures": ["CLIPTextModel"], "attention_dropout": 0.0,
    "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu",
    "hidden_size": 768, "initializer_factor": 1.0, "initializer_range": 0.02,
    "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 77,
    "model_type": "clip_text_model", "num_attention_heads": 12, "num_hidden_layers": 12,
    "pad_token_id": 1, "projection_dim": 768, "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0", "vocab_size": 49408}"#;

const CLIP_H: &str = r#"{"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096,
    "num_attention_heads": 16, "num_hidden_layers": 23, "projection_dim": 512}"#;

const CLIP_BIG_G: &str = r#"{"architectures": ["CLIPTextModelWithProjection"],
    "hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120,
    "num_attention_heads": 20, "num_hidden_layers": 32, "projection_dim": 1280}"#;

fn build_unet(config: &str) -> Func {
    let config = unet::Config::parse("config.json", config.as_bytes()).expect("supported");
    unet::build("unet", &config, &OPTIONS).expect("a published model builds")
}

fn build_vae(half: fn(&str, &vae::Config, &Options) -> Built) -> Func {
    let config = vae::Config::parse("config.json", VAE.as_bytes()).expect("supported");
    half("vae", &config, &OPTIONS).expect("a published model builds")
}

fn build_text(config: &str) -> Func {
    let config = clip::Config::parse("config.json", config.as_bytes(), None).expect("supported");
    clip::build("text_encoder", &config, &OPTIONS).expect("a published model builds")
}

type Built = Result<Func, compiler::graph::GraphError>;

fn parameters(func: &Func) -> i64 {
    let weights = func.params(Role::Weight);
    let counts = weights.map(|(_, _, ty)| ty.elements().known().expect("weights have sizes"));
    counts.sum()
}

/// One picture or text; `size` is that of the latents, or of what the encoder takes.
fn bindings(size: usize) -> Bindings {
    let sizes = [
        ("batch", 1),
        ("height", size),
        ("width", size),
        ("tokens", 77),
    ];
    sizes.map(|(name, size)| (name.to_owned(), size)).into()
}

/// 10⁹ multiply-adds of convolutions, linear layers and the two products of attention, which the
/// operators count as two each; attention adds five per score for its softmax.
fn giga_products(func: &Func, size: usize) -> f64 {
    let func = func.bind(&bindings(size)).expect("the sizes fit");
    let mut flops = 0;
    for (value, _) in func.values() {
        let Some(node) = func.node(value) else {
            continue;
        };
        let types: Vec<_> = node.operands.iter().map(|v| func.ty(*v).clone()).collect();
        let all = node
            .op
            .flops(&types, func.ty(value))
            .known()
            .expect("sizes are known");
        flops += match &node.op {
            Op::Conv(_) | Op::Linear(_) => all,
            Op::Attention(_) => {
                let (q, k) = (&types[0].shape, &types[1].shape);
                let scores = q[..3]
                    .iter()
                    .fold(k[2].clone(), |product, d| product.mul(d));
                all - scores.mul(&Dim::from(5)).known().expect("sizes are known")
            }
            _ => 0,
        };
    }
    flops as f64 / 2e9
}

/// The published totals (spec 6.1).
#[test]
fn published_models_have_as_many_parameters_as_published() {
    let cases = [
        ("SD 1.5", build_unet(SD15), 859_520_964),
        (
            "SD 1.5 with a condition",
            build_unet(SD15_CONDITION),
            859_602_884,
        ),
        ("SD 2.1", build_unet(SD21), 865_910_724),
        ("SDXL", build_unet(SDXL), 2_567_463_684),
        ("encoder", build_vae(vae::build_encoder), 34_163_664),
        ("decoder", build_vae(vae::build_decoder), 49_490_199),
        ("CLIP L", build_text(CLIP_L), 123_060_480),
        ("OpenCLIP H", build_text(CLIP_H), 340_387_840),
        ("OpenCLIP bigG", build_text(CLIP_BIG_G), 694_659_840),
    ];
    for (name, func, wanted) in cases {
        assert_eq!(parameters(&func), wanted, "{name}");
    }
}

/// Spec 6.1, which rounds to the digits given.
#[test]
fn published_models_need_the_published_arithmetic() {
    let cases = [
        ("SD 1.5", build_unet(SD15), 64, 401.6),
        ("SD 1.5", build_unet(SD15), 128, 2337.0),
        ("SD 2.1", build_unet(SD21), 96, 1074.6),
        ("SDXL", build_unet(SDXL), 128, 3380.6),
        ("CLIP L", build_text(CLIP_L), 0, 6.6),
        ("OpenCLIP H", build_text(CLIP_H), 0, 22.6),
        ("OpenCLIP bigG", build_text(CLIP_BIG_G), 0, 48.9),
    ];
    for (name, func, size, wanted) in cases {
        let found = giga_products(&func, size);
        assert!(
            (found - wanted).abs() <= 0.051,
            "{name} at {size}: {found}, wanted {wanted}"
        );
    }
    for (name, half, size, wanted) in [
        ("encoder", build_vae(vae::build_encoder), 512, 558.0),
        ("decoder", build_vae(vae::build_decoder), 64, 1257.0),
        ("decoder", build_vae(vae::build_decoder), 128, 5235.0),
    ] {
        let found = giga_products(&half, size);
        assert!(
            (found - wanted).abs() <= 0.51,
            "{name} at {size}: {found}, wanted {wanted}"
        );
    }
}

/// MiB of values of a component of Stable Diffusion 1.5 at 512² and the slabs that hold them, MiB
/// of its weights and the slabs that hold those; or what does not fit.
fn memory(name: &str, batch: usize, dtype: DType, limits: &Limits) -> Result<[u64; 4], String> {
    let options = Options { dtype, ..OPTIONS };
    let vae = vae::Config::parse("", VAE.as_bytes()).expect("supported");
    let unet = unet::Config::parse("", SD15.as_bytes()).expect("supported");
    let clip = clip::Config::parse("", CLIP_L.as_bytes(), None).expect("supported");
    let (func, size) = match name {
        "unet" => (unet::build(name, &unet, &options), 64),
        "decoder" => (vae::build_decoder(name, &vae, &options), 64),
        "encoder" => (vae::build_encoder(name, &vae, &options), 512),
        _ => (clip::build(name, &clip, &options), 0),
    };
    let sizes = [
        ("batch", batch),
        ("height", size),
        ("width", size),
        ("tokens", 77),
    ];
    let sizes: Bindings = sizes.map(|(name, size)| (name.to_owned(), size)).into();
    let compiled = compile(&func.expect("builds"), &sizes).expect("compiles");
    let regions = compiled.program.regions();
    let values = plan_regions(regions, limits).map_err(|error| error.to_string())?;
    let weights = plan(&weights(regions), limits).map_err(|error| error.to_string())?;
    for plan in [&values, &weights] {
        let within = |window: &Window| window.bytes <= limits.binding_bytes_max;
        assert!(plan.windows.iter().all(within), "{name}");
        let within = |&slab: &u64| slab <= limits.buffer_bytes_max;
        assert!(plan.slabs.iter().all(within), "{name}");
    }
    assert!(values.fragmentation() <= 0.06, "{name}");
    let mebibytes = |plan: &Plan| plan.peak_bytes().div_ceil(1 << 20);
    let slabs = |plan: &Plan| plan.slabs.len() as u64;
    Ok([
        mebibytes(&values),
        slabs(&values),
        mebibytes(&weights),
        slabs(&weights),
    ])
}

/// In halves all of it fits into what every WebGPU adapter grants: the largest tensor, 256
/// channels of 512² in the decoder, just fills a binding. In floats two things do not.
#[test]
fn stable_diffusion_fits_the_limits_of_webgpu_in_halves() {
    let (halves, floats) = (DType::F16, DType::F32);
    let (webgpu, none) = (Limits::WEBGPU, Limits::NONE);
    let too_large = |value: &str, bytes: u64| {
        let limit = "wanted at most 134217728 in one binding";
        Err(format!("{value} needs {bytes} bytes, {limit}"))
    };
    let embedding = "b1 (weight text_model.embeddings.token_embedding.weight)";
    let upsampled = "b223 (conv decoder.up_blocks.2.upsamplers.0.conv)";
    let cases = [
        ("text_encoder", 1, halves, webgpu, Ok([1, 1, 235, 1])),
        ("text_encoder", 2, halves, webgpu, Ok([2, 1, 235, 1])),
        ("unet", 1, halves, webgpu, Ok([28, 1, 1640, 7])),
        ("unet", 2, halves, webgpu, Ok([55, 1, 1640, 7])),
        ("decoder", 1, halves, webgpu, Ok([321, 2, 95, 1])),
        ("encoder", 1, halves, webgpu, Ok([193, 1, 66, 1])),
        (
            "text_encoder",
            1,
            floats,
            webgpu,
            too_large(embedding, 151_781_376),
        ),
        ("unet", 1, floats, webgpu, Ok([55, 1, 3279, 13])),
        ("unet", 2, floats, webgpu, Ok([110, 1, 3279, 13])),
        (
            "decoder",
            1,
            floats,
            webgpu,
            too_large(upsampled, 268_435_456),
        ),
        ("text_encoder", 1, floats, none, Ok([2, 1, 470, 1])),
        ("unet", 1, floats, none, Ok([55, 1, 3279, 1])),
        ("unet", 2, floats, none, Ok([110, 1, 3279, 1])),
        ("decoder", 1, floats, none, Ok([641, 1, 189, 1])),
        ("encoder", 1, floats, none, Ok([385, 1, 131, 1])),
    ];
    for (name, batch, dtype, limits, wanted) in cases {
        let found = memory(name, batch, dtype, &limits);
        assert_eq!(found, wanted, "{name}, batch {batch}, {dtype}, {limits:?}");
    }
}

/// Kernels of Stable Diffusion 1.5 for one picture of 512 x 512 pixels; what the contractions
/// compute is neither repeated nor lost.
#[test]
fn stable_diffusion_takes_few_kernels() {
    let cases = [
        ("unet", build_unet(SD15), 403),
        ("decoder", build_vae(vae::build_decoder), 99),
        ("encoder", build_vae(vae::build_encoder), 75),
        ("text encoder", build_text(CLIP_L), 88),
    ];
    for (name, func, kernels_max) in cases {
        let size = if name == "encoder" { 512 } else { 64 };
        let bindings = bindings(size);
        let compiled = compile(&func, &bindings).expect("the sizes fit");
        let regions = compiled.program.regions();
        let found = regions.regions.len();
        assert!(
            found <= kernels_max,
            "{name}: {found} kernels, wanted at most {kernels_max}"
        );
        let contractions = regions.iter().map(|(_, region)| region);
        let contractions = contractions.filter(|region| match &region.anchor {
            Anchor::Op { op, .. } => matches!(op, Op::Conv(_) | Op::Linear(_)),
            Anchor::Pointwise | Anchor::Statistics { .. } | Anchor::MergeMoments { .. } => false,
        });
        let flops: u64 = contractions.map(|region| regions.flops(region)).sum();
        let products = 2e9 * giga_products(&func, size);
        // Epilogues and the products of attention are few beside them.
        let ratio = flops as f64 / products;
        assert!(
            (0.7..1.01).contains(&ratio),
            "{name}: {flops} of {products}"
        );
    }
}

/// What a run of Stable Diffusion computes before its first step: keys and values of 16 attentions
/// to the text, and the 22 projections of the time embedding.
#[test]
fn text_and_time_are_projected_before_the_steps() {
    let compiled = compile(&build_unet(SD15), &bindings(64)).expect("the sizes fit");
    let whole = compiled.program.func();
    let text = hoist(whole, &["encoder_hidden_states"]).expect("there is a text");
    let time = hoist(&text.body, &["timestep"]).expect("there is a time");
    let inputs = |func: &Func| {
        let inputs = func.params(Role::Input);
        inputs
            .map(|(_, name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(inputs(&text.prologue), ["encoder_hidden_states"]);
    assert_eq!(inputs(&time.prologue), ["timestep"]);
    assert_eq!(
        (text.prologue.results().len(), time.prologue.results().len()),
        (32, 22)
    );
    assert_eq!(inputs(&time.body).len(), 1 + 32 + 22);
    let weights = |func: &Func| func.params(Role::Weight).count();
    let split = weights(&text.prologue) + weights(&time.prologue) + weights(&time.body);
    assert_eq!(split, weights(whole));
    let program = |func: Func| Program::new(func).expect("a part is a program");
    let parts = [text.prologue, time.prologue, time.body].map(program);
    let flops = parts.each_ref().map(|part| part.cost().flops);
    assert_eq!(flops.iter().sum::<u64>(), compiled.program.cost().flops);
    assert!(flops[0] > 2_900_000_000, "the text: {flops:?}");
    let kernels = parts.each_ref().map(|part| part.regions().regions.len());
    assert!(
        kernels[0] == 1 && kernels[1] <= 6 && kernels[2] <= 396,
        "{kernels:?}"
    );
}

/// A step of Stable Diffusion 1.5 on CUDA, without and with guidance: few launches, and nothing is
/// left to the host.
#[test]
fn a_step_on_cuda_takes_few_launches() {
    for batch in [1, 2] {
        let config = unet::Config::parse("config.json", SD15.as_bytes()).expect("supported");
        let options = Options {
            dtype: DType::F16,
            ..OPTIONS
        };
        let func = unet::build("unet", &config, &options).expect("a published model builds");
        let mut bindings = bindings(64);
        bindings.insert("batch".to_owned(), batch);
        let whole = compile(&func, &bindings).expect("the sizes fit");
        let text =
            hoist(whole.program.func(), &["encoder_hidden_states"]).expect("there is a text");
        let time = hoist(&text.body, &["timestep"]).expect("there is a time");
        let step = Program::new(time.body).expect("a part is a program");
        let compiled = gpu::compile::compile(step.executable(), &PTX.requirements(false), &PTX);
        let compiled = compiled.expect("it fits");
        let launches = compiled.commands.commands().launches.len();
        assert!(launches <= 400, "batch {batch}: {launches} launches");
        assert_eq!(compiled.hosted, [], "batch {batch}");
    }
}

/// The elements that the convolutions and linear layers of Stable Diffusion sum over lie side by
/// side in memory: images channels last, the heads of each position after one another. So do the
/// elements of a row that attention reads.
#[test]
fn what_is_summed_over_lies_side_by_side() {
    let networks = [
        ("unet", build_unet(SD15)),
        ("decoder", build_vae(vae::build_decoder)),
        ("text encoder", build_text(CLIP_L)),
    ];
    for (name, func) in networks {
        let compiled = compile(&func, &bindings(64)).expect("the sizes fit");
        let regions = compiled.program.regions();
        for (id, region) in regions.iter() {
            let (operands, conv) = match region.anchor.class() {
                Class::Conv => (1, true),
                Class::Gemm => (1, false),
                Class::Attention => (3, false),
                Class::Pointwise | Class::Movement | Class::Row | Class::Gather | Class::Plain => {
                    continue;
                }
            };
            for access in &region.operands[..operands] {
                let axis = if conv { 1 } else { access.shape.len() - 1 };
                for piece in &access.pieces {
                    let data = regions.buffer(piece.buffer);
                    let strides = data.strides();
                    let place = |at: &[usize]| {
                        let axes = piece.index.iter().zip(&strides);
                        axes.map(|(index, &stride)| index.at(at) * stride as i64)
                            .sum::<i64>()
                    };
                    let mut at = vec![0; access.shape.len()];
                    let first = place(&at);
                    at[axis] = 1;
                    let side_by_side = place(&at) == first + 1;
                    let given = data.content != Content::Computed;
                    assert!(
                        side_by_side || given,
                        "{name}: {}",
                        regions.print(id, region)
                    );
                }
            }
        }
    }
}

/// The names and shapes that diffusers and transformers give Stable Diffusion 1.5.
#[test]
fn every_weight_of_stable_diffusion_has_its_name_and_shape() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/sd15_shapes.json");
    let text = fs::read(path).expect("the list is there");
    let list: Value = serde_json::from_slice(&text).expect("the list is valid");
    let config = |name: &str| list["components"][name]["config"].to_string();
    let vae_config = vae::Config::parse("", config("vae").as_bytes()).expect("supported");
    let built = [
        ("unet", vec![build_unet(&config("unet"))]),
        ("text_encoder", vec![build_text(&config("text_encoder"))]),
        (
            "vae",
            vec![
                vae::build_encoder("", &vae_config, &OPTIONS).expect("builds"),
                vae::build_decoder("", &vae_config, &OPTIONS).expect("builds"),
            ],
        ),
    ];
    for (name, funcs) in built {
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        for func in &funcs {
            for (_, weight, ty) in func.params(Role::Weight) {
                found.insert(
                    weight.to_owned(),
                    ty.extents().expect("weights have sizes").into(),
                );
            }
        }
        let wanted = list["components"][name]["shapes"]
            .as_object()
            .expect("a list of shapes");
        let wanted: BTreeMap<String, Value> = wanted
            .iter()
            .map(|(name, shape)| (name.clone(), shape.clone()))
            .collect();
        assert_eq!(found, wanted, "{name}");
    }
}
