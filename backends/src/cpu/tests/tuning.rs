//! What tuning measures here, and that no result depends on it.

use std::time::Instant;

use compiler::graph::Role;
use compiler::tile::{Case, Measurement, Tuning};

use super::super::{Executor, Options, TuneOptions, tune};
use crate::tests::{difference, params, program};

/// A convolution with a side reduction, a normalisation, and a layer.
const NETWORK: &str = "func f {
    %0 = input \"x\" : f32[2, 16, 24, 24]
    %1 = weight \"w\" : f32[64, 16, 3, 3]
    %2 = weight \"scale\" : f32[64]
    %3 = weight \"shift\" : f32[64]
    %4 = input \"tokens\" : f32[96, 320]
    %5 = weight \"l\" : f32[320, 320]
    %6 = conv(%0, %1) {strides = [1, 1], pads_before = [1, 1], pads_after = [1, 1], dilations = [1, 1], groups = 1}
    %7 = group_norm(%6, %2, %3) {groups = 8, epsilon = 1e-5}
    %8 = silu(%7)
    %9 = linear(%4, %5)
    return \"image\" %8
    return \"hidden\" %9
}";

const OPTIONS: TuneOptions = TuneOptions {
    threads: Some(2),
    exact: false,
    seconds: 60.0,
    share_min: 0.0,
    contenders_max: 3,
};

fn measured(known: &Tuning, options: TuneOptions) -> Tuning {
    let start = Instant::now();
    let clock = || start.elapsed().as_secs_f64();
    let mut last = None;
    let mut progress = |done, count| last = Some((done, count));
    let found = tune(&program(NETWORK), known, options, &clock, &mut progress);
    let (done, count) = last.expect("progress is told");
    assert_eq!(done, count);
    found.expect("threads start")
}

#[test]
fn whatever_is_fastest_computes_the_same() {
    let program = program(NETWORK);
    let found = measured(&Tuning::default(), OPTIONS);
    assert!(found.cases.len() >= 2, "{found:?}");
    let (inputs, weights) = (
        params(program.func(), Role::Input),
        params(program.func(), Role::Weight),
    );
    for winner in 0..OPTIONS.contenders_max {
        let won = |(case, ways): (&Case, &Vec<Measurement>)| {
            let mut ways = ways.clone();
            for (number, way) in ways.iter_mut().enumerate() {
                assert!(way.seconds.is_finite() && way.seconds > 0.0, "{way:?}");
                way.seconds = if number == winner { 1e-9 } else { 1.0 };
            }
            (case.clone(), ways)
        };
        let tuning = Tuning {
            cases: found.cases.iter().map(won).collect(),
        };
        let options = Options {
            threads: OPTIONS.threads,
            exact: false,
        };
        let executor = Executor::new(&program, weights.clone(), options, &tuning);
        let results = executor.expect("the weights fit").run(&inputs);
        let results = results.expect("the inputs fit");
        assert_eq!(difference(&program, &inputs, &results, 1e-4), None);
    }
}

#[test]
fn what_is_known_is_not_measured_again() {
    let found = measured(&Tuning::default(), OPTIONS);
    assert_eq!(measured(&found, OPTIONS), Tuning::default());
}

#[test]
fn without_time_nothing_is_measured() {
    let hurried = TuneOptions {
        seconds: 0.0,
        ..OPTIONS
    };
    assert_eq!(measured(&Tuning::default(), hurried), Tuning::default());
}
