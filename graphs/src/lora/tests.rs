//! Layers of small files against small models: which weights they change, and what is refused.

use std::collections::BTreeMap;

use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};

use super::*;
use crate::models::{Options, Timestep, unet};

/// A network with weights of these shapes.
fn network(component: &str, shapes: &[(&str, &[usize])]) -> Network {
    let shapes = shapes.iter();
    Network {
        component: component.to_owned(),
        shapes: shapes
            .map(|(name, shape)| ((*name).to_owned(), shape.to_vec()))
            .collect(),
    }
}

const Q: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q";
const OUT: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0";
const CONV: &str = "down_blocks.0.resnets.0.conv1";
const FC: &str = "text_model.encoder.layers.0.mlp.fc1";

/// Stable Diffusion 1 in miniature, or XL: with two text encoders and an added embedding.
fn model(is_xl: bool) -> Modules {
    let weight = |module: &str| format!("{module}.weight");
    let names = [weight(Q), weight(OUT), weight(CONV)];
    let mut shapes: Vec<(&str, &[usize])> = vec![
        (&names[0], &[4, 6]),
        (&names[1], &[4, 4]),
        (&names[2], &[5, 4, 3, 3]),
        ("down_blocks.0.resnets.0.norm1.weight", &[4]),
    ];
    if is_xl {
        shapes.push(("add_embedding.linear_1.weight", &[3, 2]));
    }
    let fc = weight(FC);
    let encoder = |component| network(component, &[(&fc, &[3, 2])]);
    let encoders = match is_xl {
        true => vec![encoder("text_encoder"), encoder("text_encoder_2")],
        false => vec![encoder("text_encoder")],
    };
    Modules::new(network("unet", &shapes), encoders)
}

fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i % 7) as f32 * 0.25 - 0.5).collect();
    Tensor::from_f32(shape, &values)
}

/// A file of layers with factors of these shapes, keys ending as kohya's or PEFT's do.
fn file(layers: &[(&str, &[usize], &[usize])], ends: [&str; 2]) -> File {
    let tensors = layers.iter().flat_map(|(name, down, up)| {
        let part = |end: &str, shape| (format!("{name}{end}"), numbers(shape));
        [part(ends[0], down), part(ends[1], up)]
    });
    File {
        name: "a.safetensors".to_owned(),
        tensors: tensors.collect(),
        metadata: BTreeMap::new(),
        adapter_config: None,
    }
}

const KOHYA: [&str; 2] = [".lora_down.weight", ".lora_up.weight"];
const PEFT: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];
const OLD: [&str; 2] = [".down.weight", ".up.weight"];

/// What reading gives: `component module factor` of each layer, or the error.
fn found(file: &File, model: &Modules) -> String {
    match read(file, model) {
        Ok(fitted) => {
            let layers = fitted.layers.iter();
            let layers =
                layers.map(|own| format!("{} {} {}", own.component, own.module, own.factor));
            let misfits = fitted.misfits.iter().map(|name| format!("misfit {name}"));
            layers.chain(misfits).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn every_spelling_finds_its_weight() {
    let old = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora";
    let (q, conv) = (Q.replace('.', "_"), CONV.replace('.', "_"));
    let cases: [(String, [&str; 2], bool, &str); 12] = [
        (format!("lora_unet_{q}"), KOHYA, false, Q),
        (format!("lora_unet_{q}"), KOHYA, true, Q),
        (format!("unet.{Q}"), PEFT, false, Q),
        (format!("base_model.model.{Q}"), PEFT, false, Q),
        (Q.to_owned(), PEFT, false, Q),
        (
            format!("unet.{Q}"),
            [".lora.down.weight", ".lora.up.weight"],
            false,
            Q,
        ),
        (format!("unet.{old}"), OLD, false, OUT),
        (old.to_owned(), OLD, false, OUT),
        (
            "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_q".to_owned(),
            KOHYA,
            true,
            Q,
        ),
        (
            format!("diffusion_model.{}", "input_blocks.1.0.in_layers.2"),
            KOHYA,
            false,
            CONV,
        ),
        (format!("lora_unet_{conv}"), KOHYA, false, CONV),
        (
            "lora_unet_input_blocks_1_0_in_layers_2".to_owned(),
            KOHYA,
            true,
            CONV,
        ),
    ];
    for (name, ends, is_xl, module) in cases {
        let (down, up): (&[usize], &[usize]) = match module {
            Q => (&[2, 6], &[4, 2]),
            OUT => (&[2, 4], &[4, 2]),
            _ => (&[2, 4, 3, 3], &[5, 2, 1, 1]),
        };
        let file = file(&[(&name, down, up)], ends);
        assert_eq!(
            found(&file, &model(is_xl)),
            format!("unet {module} 1"),
            "{name}"
        );
    }
}

#[test]
fn text_encoders_are_told_apart() {
    let flat = FC.replace('.', "_");
    let bare = FC.strip_prefix("text_model.").expect("its prefix");
    let cases = [
        (format!("lora_te_{flat}"), KOHYA, false, "text_encoder"),
        (format!("lora_te1_{flat}"), KOHYA, true, "text_encoder"),
        (format!("lora_te2_{flat}"), KOHYA, true, "text_encoder_2"),
        (format!("text_encoder.{FC}"), PEFT, false, "text_encoder"),
        (format!("text_encoder.{bare}"), PEFT, false, "text_encoder"),
        (format!("text_encoder_2.{FC}"), PEFT, true, "text_encoder_2"),
    ];
    for (name, ends, is_xl, component) in cases {
        let file = file(&[(&name, &[1, 2], &[3, 1])], ends);
        assert_eq!(
            found(&file, &model(is_xl)),
            format!("{component} {FC} 1"),
            "{name}"
        );
    }
}

#[test]
fn scales_are_alpha_over_the_rank_of_each_layer() {
    let name = format!("lora_unet_{}", Q.replace('.', "_"));
    let mut kohya = file(&[(&name, &[2, 6], &[4, 2])], KOHYA);
    let alpha = format!("{name}.alpha");
    kohya
        .tensors
        .insert(alpha.clone(), Tensor::from_f32(&[], &[5.0]));
    assert_eq!(found(&kohya, &model(false)), format!("unet {Q} 2.5"));
    kohya
        .tensors
        .insert(alpha.clone(), Tensor::from_i64(&[1], &[1]));
    assert_eq!(found(&kohya, &model(false)), format!("unet {Q} 0.5"));
    kohya
        .tensors
        .insert(alpha, Tensor::from_f32(&[], &[f32::NAN]));
    assert!(found(&kohya, &model(false)).contains("is NaN, expected one finite number"));

    let mut peft = file(&[(&format!("unet.{Q}"), &[2, 6], &[4, 2])], PEFT);
    let settings = r#"{"unet.lora_alpha": 3, "unet.r": 2}"#.to_owned();
    peft.metadata
        .insert("lora_adapter_metadata".to_owned(), settings);
    assert_eq!(found(&peft, &model(false)), format!("unet {Q} 1.5"));

    let mut bare = file(
        &[(&format!("base_model.model.{Q}"), &[2, 6], &[4, 2])],
        PEFT,
    );
    let lacks = |file: &File| read(file, &model(false)).expect("it fits").lacks_settings;
    assert!(lacks(&bare));
    bare.adapter_config = Some(br#"{"lora_alpha": 8, "r": 2}"#.to_vec());
    assert!(!lacks(&bare));
    assert_eq!(found(&bare, &model(false)), format!("unet {Q} 4"));
}

#[test]
fn what_does_not_fit_is_named() {
    let (q, x) = (format!("unet.{Q}"), "unet.x".to_owned());
    let good: (&str, &[usize], &[usize]) = (&q, &[2, 6], &[4, 2]);
    let check = |layers: &[(&str, &[usize], &[usize])], wanted: &str| {
        let found = found(&file(layers, PEFT), &model(false));
        assert!(found.contains(wanted), "{layers:?}: {found}");
    };
    check(&[good, (&x, &[1, 1], &[1, 1])], "misfit unet.x");
    check(
        &[(&x, &[1, 1], &[1, 1])],
        "no layer of \"a.safetensors\" fits the model: unet.x",
    );
    check(&[(&q, &[2, 5], &[4, 2])], "changes a weight of [4, 5], but");
    check(
        &[(&q, &[2, 6], &[4, 3])],
        "has the factors f32[2, 6] and f32[4, 3]",
    );
    check(&[(&q, &[0, 6], &[4, 0])], "has the factors");
    check(&[(&q, &[], &[])], "has the factors");
    check(&[(&q, &[2, 6], &[4, 2, 3, 3])], "has the factors");
    check(
        &[good, (&format!("base_model.model.{Q}"), &[2, 6], &[4, 2])],
        "has two layers for",
    );
    check(
        &[("unet.single_transformer_blocks.0.x", &[1, 1], &[1, 1])],
        "the file appears to be trained for Flux",
    );
    check(
        &[("unet.y.attn2.to_k", &[2, 2048], &[4, 2])],
        "the file appears to be trained for SDXL",
    );
    for (key, kind) in [
        ("x.hada_w1_a", "LoHa"),
        ("x.lokr_w1", "LoKr"),
        ("x.dora_scale", "DoRA"),
    ] {
        let mut file = file(&[good], PEFT);
        file.tensors.insert(key.to_owned(), numbers(&[1]));
        assert!(found(&file, &model(false)).contains(kind), "{key}");
    }
    let mut half = file(&[good], PEFT);
    half.tensors.remove(&format!("{q}.lora_A.weight"));
    assert!(found(&half, &model(false)).contains("has one factor, expected two"));
    let mut broken = file(&[good], PEFT);
    let nan = Tensor::from_f32(&[2, 6], &[f32::NAN; 12]);
    broken.tensors.insert(format!("{q}.lora_A.weight"), nan);
    assert!(found(&broken, &model(false)).contains("holds 12 values that are NaN or infinite"));
    let mut other = file(&[good], PEFT);
    other.tensors.insert("notes".to_owned(), numbers(&[1]));
    assert!(found(&other, &model(false)).contains("misfit notes"));
    other.tensors.retain(|key, _| key == "notes");
    assert!(found(&other, &model(false)).contains("holds no LoRA layers, found notes"));
}

/// The product of a layer's factors at strength 1.
fn product(layer: &Layer) -> Vec<f64> {
    let values = |tensor: &Tensor| match tensor.values() {
        Values::Float(values) => values,
        Values::Int(_) | Values::Bool(_) => Vec::new(),
    };
    let (down, up, rank) = (
        values(&layer.down),
        values(&layer.up),
        layer.down.shape()[0],
    );
    let columns = down.len() / rank;
    let element = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        let terms = (0..rank).map(|k| up[row * rank + k] * down[k * columns + column]);
        terms.sum::<f64>() * layer.factor
    };
    (0..up.len() / rank * columns).map(element).collect()
}

#[test]
fn what_is_written_reads_back_as_the_same_change() {
    let layer = |component: &str, module: &str, down: &[usize], up: &[usize]| Layer {
        component: component.to_owned(),
        module: module.to_owned(),
        down: numbers(down),
        up: numbers(up),
        factor: 0.125,
    };
    let layers = [
        layer("text_encoder", FC, &[2, 2], &[3, 2]),
        layer("unet", Q, &[2, 6], &[4, 2]),
        layer("unet", CONV, &[2, 4, 3, 3], &[5, 2, 1, 1]),
    ];
    for is_xl in [false, true] {
        let model = model(is_xl);
        for format in [Format::Diffusers, Format::Kohya] {
            let file = File {
                name: "b".to_owned(),
                tensors: write(format, &layers, &model),
                metadata: BTreeMap::new(),
                adapter_config: None,
            };
            let fitted = read(&file, &model).expect("it fits");
            let changes = |layers: &[Layer]| -> Vec<_> {
                let layers = layers.iter();
                layers
                    .map(|own| (own.component.clone(), own.module.clone(), product(own)))
                    .collect()
            };
            assert!(changes(&fitted.layers) == changes(&layers), "{format:?}");
        }
        let keys = write(Format::Kohya, &layers, &model);
        let wanted = match is_xl {
            true => "lora_unet_input_blocks_1_0_in_layers_2.alpha",
            false => "lora_unet_down_blocks_0_resnets_0_conv1.alpha",
        };
        assert!(keys.contains_key(wanted), "{:?}", keys.keys());
    }
}

/// The weights of a denoising network with this configuration.
fn weights(config: &str) -> BTreeMap<String, Vec<usize>> {
    let config = unet::Config::parse("config.json", config.as_bytes()).expect("a configuration");
    let options = Options {
        dtype: DType::F32,
        timestep: Timestep::Scalar,
        hidden_states: false,
    };
    let func = unet::build("unet", &config, &options).expect("it is built");
    let weights = func.params(compiler::graph::Role::Weight);
    weights
        .map(|(_, name, ty)| (name.to_owned(), ty.extents().expect("its sizes are known")))
        .collect()
}

const SD1: &str = r#"{"cross_attention_dim": 768}"#;
const SD2: &str = r#"{
    "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": true
}"#;
const SDXL: &str = r#"{
    "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20], "use_linear_projection": true,
    "transformer_layers_per_block": [1, 2, 10],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816
}"#;

#[test]
fn targets_are_as_many_as_the_authors_count() {
    // Modules, and numbers in their factors of rank 64 (spec 2.3).
    for (config, modules, count) in [
        (SD1, 278, 67_252_224),
        (SD2, 278, 67_776_512),
        (SDXL, 788, 196_751_360),
    ] {
        let weights = weights(config);
        let adapted = weights.iter().filter_map(|(name, shape)| {
            let module = name.strip_suffix(".weight")?;
            is_target(module).then_some(shape)
        });
        let adapted: Vec<_> = adapted.collect();
        assert_eq!(adapted.len(), modules, "{config}");
        let numbers = |shape: &&Vec<usize>| 64 * (shape[0] + shape[1..].iter().product::<usize>());
        assert_eq!(
            adapted.iter().map(numbers).sum::<usize>(),
            count,
            "{config}"
        );
    }
}

#[test]
fn every_module_of_released_models_has_names_of_its_own() {
    for config in [SD1, SD2, SDXL] {
        let weights = weights(config);
        let network = Network {
            component: "unet".to_owned(),
            shapes: weights.clone(),
        };
        let names = crate::ldm_names::LdmNames::of(weights.keys().map(String::as_str));
        let modules = Modules::new(network, Vec::new());
        for (weight, shape) in weights {
            let module = weight.strip_suffix(".weight").filter(|_| shape.len() > 1);
            let Some(module) = module else {
                continue;
            };
            let ldm = names.ldm(module).expect("a name");
            for name in [module, &ldm] {
                let found = modules.find(&format!("lora_unet_{}", name.replace('.', "_")));
                assert_eq!(found.map(|found| found.name), Some(module), "{name}");
            }
        }
    }
}
