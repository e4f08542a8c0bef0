//! What a training step keeps in memory.

use backends::cpu::{Executor, Options};
use compiler::Bindings;
use compiler::plan::updates;
use compiler::program::{Program, compile};
use compiler::target::Target;
use compiler::tile::Tuning;
use compiler::value::tensor::Tensor;
use graphs::optimizer::{Settings, layout_of, training_step};

use super::distill::{Case, VARIANTS, splad_case, splad_settings};
use super::networks::Named;
use super::updates::gathering;

/// Clipping, AdamW and a moving average.
const SETTINGS: Settings = Settings {
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    clip: Some(1.0),
    ema: true,
    accumulate: 1,
    loss_scale: None,
};

/// A step of SPLAD.
fn case() -> Case {
    let (_, gamma, sigma, loss) = VARIANTS[0];
    splad_case(splad_settings(gamma, sigma, loss), false)
}

/// The program of the step with its update, and the bytes of all parameters.
fn program() -> (Program, u64) {
    let case = case();
    let layout = layout_of(&case.student).expect("the weights have known sizes");
    let step = training_step(case.step, &layout, &SETTINGS).expect("it is a step");
    let compiled = compile(&step, &Bindings::new()).expect("the step compiles");
    (compiled.program, 4 * layout.total() as u64)
}

#[test]
fn states_are_updated_where_they_lie() {
    let (program, _) = program();
    let updates = updates(program.regions());
    assert_eq!(updates.len(), 4);
    assert!(updates.iter().all(|update| update.in_place), "{updates:?}");
}

#[test]
fn no_value_is_kept_beyond_its_last_reader() {
    let (program, _) = program();
    let (regions, plan) = (program.regions(), program.plan());
    let mut last = vec![0; regions.buffers.len()];
    for (id, region) in regions.iter() {
        for buffer in region.reads() {
            last[buffer.0 as usize] = id.0 + 1;
        }
    }
    let given = |place: &compiler::plan::Place| {
        let parts = regions
            .joined
            .iter()
            .any(|joined| joined.whole == place.buffer);
        let mut results = regions.results.iter();
        parts || results.any(|(_, buffer)| *buffer == place.buffer)
    };
    let kept: Vec<_> = plan
        .places
        .iter()
        .filter(|place| {
            !given(place) && place.death > place.birth.max(last[place.buffer.0 as usize])
        })
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn half_the_memory_of_activations_is_enough() {
    let (program, parameters) = program();
    // The gradient of all parameters is there whatever is computed again.
    let before = program.plan().peak_bytes() - parameters;
    let half = parameters + before / 2;
    let (program, again) = program
        .within(half, &Target::CPU)
        .expect("memory can be planned");
    assert!(!again.is_empty());
    assert!(
        program.plan().peak_bytes() <= half + half / 50,
        "{} bytes, wanted {half}",
        program.plan().peak_bytes()
    );
}

#[test]
fn what_is_computed_again_gives_the_same_bits() {
    let case = case();
    let layout = layout_of(&case.student).expect("the weights have known sizes");
    let (mut inputs, mut weights) = (case.inputs, case.weights);
    let step = gathering(case.step, &layout, &mut inputs, &mut weights);
    let compiled = compile(&step, &Bindings::new()).expect("the step compiles");
    let whole = compiled.program;
    let bytes = whole.plan().peak_bytes() * 2 / 3;
    let less = whole.clone().within(bytes, &Target::CPU);
    let (less, again) = less.expect("memory can be planned");
    assert!(!again.is_empty());
    let gradient = |program: &Program, inputs: &Named| -> Tensor {
        let options = Options {
            threads: Some(2),
            exact: false,
        };
        let executor = Executor::new(program, weights.clone(), options, &Tuning::default());
        let executor = executor.expect("the weights fit");
        executor.run(inputs).expect("the CPU executes the step");
        executor.state("gradient").expect("it is a state")
    };
    assert_eq!(gradient(&less, &inputs), gradient(&whole, &inputs));
}
