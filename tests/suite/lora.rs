//! Networks with LoRA layers: they compute what merged weights compute, at every strength, and a
//! change of strength compiles nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backends::webgpu::WGSL;
use bytes::Bytes;
use compiler::DType;
use compiler::graph::bind::solve;
use compiler::graph::{Role, TensorType};
use compiler::program::compile;
use compiler::tile::Tuning;
use compiler::value::array::Array;
use compiler::value::stored::{ReadError, Stored};
use compiler::value::tensor::{Tensor, Values};
use graphs::diffusers;
use graphs::lora::{self, Layer};
use graphs::models::{Options, Timestep};
use runtime::place::{self, Place};
use runtime::sampling::STAGES;
use runtime::session::Session;
use runtime::staged::{Staged, StagedSession};
use runtime::weight_programs::WeightPrograms;

use crate::executors::{adapter, graphics_processor};
use crate::support::{assert_close, folder};

type Named = BTreeMap<String, Tensor>;

const DIRECT: place::Options = place::Options {
    threads: None,
    exact: true,
};

/// Modules of the small network that layers change: convolutions, linear layers in the step, in the
/// part of the text and in that of the timestep, and a product whose factors are packed together.
const MODULES: [&str; 7] = [
    "conv_in",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.resnets.0.time_emb_proj",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "up_blocks.1.attentions.0.proj_out",
];

/// Numbers between -1 and 1 that look drawn: a multiplicative congruential sequence.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let mut state = seed as u64 * 2 + 1;
    let values = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    });
    Tensor::from_f32(shape, &values.collect::<Vec<_>>())
}

/// Layers of another rank and scale for each module, of these `weights`.
fn layers(weights: &Named, modules: &[&str], seed: usize) -> Vec<Layer> {
    let layer = |(number, module): (usize, &&str)| {
        let shape = weights[&format!("{module}.weight")].shape();
        let rank = 1 + (seed + number) % 3;
        let down = [&[rank], &shape[1..]].concat();
        let ones = vec![1; shape.len() - 2];
        let up = [&[shape[0], rank], &ones[..]].concat();
        Layer {
            component: "unet".to_owned(),
            module: (*module).to_owned(),
            down: numbers(&down, seed + 2 * number),
            up: numbers(&up, seed + 2 * number + 1).cast(DType::F16),
            factor: 0.2 / (number + 1) as f64,
        }
    };
    modules.iter().enumerate().map(layer).collect()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    match tensor.values() {
        Values::Float(values) => values,
        Values::Int(_) | Values::Bool(_) => Vec::new(),
    }
}

/// The weights with layers added to them, by plain loops in f64.
fn merged(weights: &Named, files: &[Vec<Layer>], strengths: &[f64]) -> Named {
    let mut merged = weights.clone();
    for (layers, strength) in files.iter().zip(strengths) {
        for layer in layers {
            let name = format!("{}.weight", layer.module);
            let weight = &merged[&name];
            let (down, up, mut sum) = (floats(&layer.down), floats(&layer.up), floats(weight));
            let rank = layer.down.shape()[0];
            let columns = down.len() / rank;
            for (at, value) in sum.iter_mut().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let terms = (0..rank).map(|k| up[row * rank + k] * down[k * columns + column]);
                *value += strength * layer.factor * terms.sum::<f64>();
            }
            let sum = Tensor::from_values(DType::F64, weight.shape(), &Values::Float(sum));
            merged.insert(name, sum);
        }
    }
    merged
        .into_iter()
        .map(|(name, tensor)| (name, tensor.cast(DType::F32)))
        .collect()
}

/// The small network in stages, its weights and its inputs.
fn network() -> (Staged, Named, Named) {
    let files = folder("pipeline/model");
    let pipeline = diffusers::open(&files).expect("the pipeline opens");
    let component = pipeline.component("unet").expect("it has a unet");
    let options = Options {
        dtype: DType::F32,
        timestep: Timestep::Scalar,
        hidden_states: false,
    };
    let imported = component.build(&files, &options).expect("the unet builds");
    let params = imported.func.params(Role::Input);
    let declared: Vec<(String, TensorType)> = params
        .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
        .collect();
    let shapes = declared.iter().map(|(name, _)| match name.as_str() {
        "sample" => vec![1, 4, 8, 8],
        "encoder_hidden_states" => vec![1, 77, 32],
        _ => Vec::new(),
    });
    let shapes: Vec<Vec<usize>> = shapes.collect();
    let bindings = solve(&declared, &shapes).expect("the shapes fit");
    let compiled = compile(&imported.func, &bindings).expect("the sizes fit");
    let staged = Staged::of(&compiled.program, &STAGES).expect("its parts are programs");
    let inputs = declared.iter().zip(shapes);
    let inputs = inputs.map(|((name, _), shape)| (name.clone(), numbers(&shape, 17)));
    (staged, imported.weights, inputs.collect())
}

fn answer(session: &StagedSession, inputs: &Named) -> Array {
    let results = session.run(inputs).expect("it runs");
    Array::from(&results[0].1)
}

#[test]
fn strengths_change_what_is_computed_and_compile_nothing() {
    let (staged, weights, inputs) = network();
    let files = [
        layers(&weights, &MODULES, 3),
        layers(&weights, &MODULES[2..5], 40),
    ];
    let programs = lora::weight_programs("unet", &files, &weights).expect("the layers fit");
    let changed: Vec<String> = programs.keys().cloned().collect();
    let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
    assert_eq!(changed.len(), MODULES.len());
    let programs = WeightPrograms::new(programs, DIRECT);
    let at = |strengths: &[f64]| {
        let mut own = weights.clone();
        own.extend(programs.parameters(strengths));
        own
    };
    let open = |weights: Named| {
        let tuning = Tuning::default();
        StagedSession::open(&staged, weights, &Place::cpu(DIRECT), &tuning).expect("it opens")
    };
    let expected = |strengths: &[f64]| answer(&open(merged(&weights, &files, strengths)), &inputs);

    let session = open(at(&[1.0, 0.5]));
    let first = answer(&session, &inputs);
    assert_close(&first, &expected(&[1.0, 0.5]), 1e-5, "strengths 1 and 0.5");
    let compiled = programs.compiled();
    assert!(compiled > 0);
    for strengths in [[-0.5, 2.0], [0.0, 0.0]] {
        let own = at(&strengths);
        session
            .set_weights(&changed, &own)
            .expect("the weights fit");
        let found = answer(&session, &inputs);
        assert_close(
            &found,
            &expected(&strengths),
            1e-5,
            &format!("{strengths:?}"),
        );
        assert!(found != first, "{strengths:?} changes something");
    }
    assert_eq!(
        programs.compiled(),
        compiled,
        "no function is compiled twice"
    );
}

/// Two products with weights that layers change, one of which is read twice.
const PRODUCTS: &str = r#"
func products {
  %0 = input "x" : f32[3, 8]
  %1 = weight "a.weight" : f32[16, 8]
  %2 = weight "b.weight" : f32[8, 16]
  %3 = weight "c.bias" : f32[8]
  %4 = linear(%0, %1)
  %5 = silu(%4)
  %6 = linear(%5, %2, %3)
  %7 = linear(%6, %1)
  return "y" %7
}
"#;

/// A tensor that counts how often it is read.
#[derive(Debug)]
struct Counted(Tensor, Arc<AtomicUsize>);

impl Stored for Counted {
    fn read(&self) -> Result<Bytes, ReadError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.bytes().clone())
    }
}

/// Checks that a place takes new weights, and reads those alone that changed.
fn check(place: &Place) {
    let program = compiler::program::Program::parse(PRODUCTS).expect("the text is a program");
    let weights = Named::from([
        ("a.weight".to_owned(), numbers(&[16, 8], 1)),
        ("b.weight".to_owned(), numbers(&[8, 16], 2)),
        ("c.bias".to_owned(), numbers(&[8], 3)),
    ]);
    let reads = Arc::new(AtomicUsize::new(0));
    let count = |tensor: &Tensor| {
        let counted = Counted(tensor.clone(), Arc::clone(&reads));
        tensor.clone().stored(Arc::new(counted))
    };
    let counted: Named = weights
        .iter()
        .map(|(name, tensor)| (name.clone(), count(tensor)))
        .collect();
    let files = [layers(&weights, &["a"], 5)];
    let programs = lora::weight_programs("unet", &files, &counted).expect("the layers fit");
    let programs = WeightPrograms::new(programs, DIRECT);
    let inputs = Named::from([("x".to_owned(), numbers(&[3, 8], 9))]);
    let open = |weights| {
        Session::open(&program, weights, place, &Tuning::default()).expect("the weights fit")
    };
    let run = |session: &Session| Array::from(&session.run(&inputs).expect("it runs")[0].1);
    let session = open(counted.clone());
    for strength in [1.0, -2.0] {
        let mut own = counted.clone();
        own.extend(programs.parameters(&[strength]));
        reads.store(0, Ordering::Relaxed);
        let unknown = ["a.weight", "another network's"];
        session
            .set_weights(&unknown, &own)
            .expect("the weights fit");
        // Two regions pack it.
        assert!(reads.load(Ordering::Relaxed) <= 2, "{place:?} reads others");
        let wanted = run(&open(merged(&weights, &files, &[strength])));
        assert_close(
            &run(&session),
            &wanted,
            1e-5,
            &format!("{place:?} {strength}"),
        );
    }
    let missing = session.set_weights(&["a.weight"], &Named::new());
    assert!(missing.is_err(), "{place:?} replaces a weight by nothing");
}

#[test]
fn every_place_takes_new_weights() {
    check(&Place::cpu(DIRECT));
    check(&Place::interpreter(&WGSL));
    for place in adapter().into_iter().chain(graphics_processor()) {
        check(place);
    }
}
