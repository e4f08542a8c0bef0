//! Gradients against central differences in f64: of every operator, and of random graphs after
//! every pass.

use compiler::graph::verify::verify;
use compiler::graph::{Module, Role};
use compiler::ops::NAMES;
use compiler::passes::{RAISE, SIMPLIFY, optimize, run};
use compiler::plan::recompute;
use compiler::region;
use compiler::target::Target;
use compiler::value::array::Precision;
use compiler::{Bindings, DType};
use proptest::collection::vec;
use proptest::prelude::*;

mod cases;
mod differences;
#[path = "../random_graph/mod.rs"]
mod random_graph;

use cases::{CASES, WITHOUT};
use differences::{Named, check, compare, differentiated, evaluate, floats, made_up};
use random_graph::{Instruction, Subset, build};

#[test]
fn gradients_are_central_differences() {
    let faults: Vec<String> = CASES
        .iter()
        .filter_map(|(node, operands)| check(node, operands).err())
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_operator_has_a_case() {
    let of = |node: &str| node.split('(').next().unwrap_or_default().to_owned();
    let with: Vec<String> = CASES.iter().map(|(node, _)| of(node)).collect();
    for name in NAMES {
        let known = with.iter().any(|with| with == name);
        let without = WITHOUT.iter().any(|(without, _)| without == name);
        assert!(known != without, "{name} is in one of both lists");
    }
}

/// Gradients of a random function as each stage of the compiler computes them.
fn stages(instructions: &[Instruction], percent: u64) -> Result<(), String> {
    let func = build(instructions, DType::F64, Subset::Smooth);
    let Ok(func) = func.bind(&Bindings::from([("b".to_owned(), 2)])) else {
        return Ok(());
    };
    let data = |role| {
        let params = func.params(role);
        let tensor = |(value, name, ty): (compiler::graph::Value, &str, &_)| {
            (name.to_owned(), made_up(ty, value.0, false))
        };
        params.map(tensor).collect::<Named>()
    };
    let (inputs, weights) = (data(Role::Input), data(Role::Weight));
    let Ok(whole) = differentiated(&func) else {
        return Ok(());
    };
    let loss = |inputs: &Named| evaluate(&whole, inputs, &weights);
    let module = || {
        let funcs = vec![whole.clone()];
        verify(Module { funcs }).map_err(|error| error.to_string())
    };
    let passes = [Some(&SIMPLIFY), Some(&RAISE), None];
    for pass in passes {
        let after = match pass {
            Some(pass) => run(pass, module()?, None),
            None => optimize(module()?),
        };
        let after = after.map_err(|error| error.to_string())?.0;
        let name = pass.map_or("optimize", |pass| pass.name);
        let found = evaluate(&after.funcs[0], &inputs, &weights)?;
        compare(&func, &loss, &found, &inputs).map_err(|error| format!("{name}: {error}"))?;
    }
    let formed = region::form(&whole)
        .map_err(|error| error.to_string())?
        .regions;
    let most = recompute(&formed, u64::MAX, &Target::CPU).bytes_before;
    let less = recompute(&formed, most * percent / 100, &Target::CPU).regions;
    for (name, regions) in [("form", &formed), ("recompute", &less)] {
        let found = region::eval(regions, &inputs, &weights, Precision::Exact);
        let found = floats(found.map_err(|error| error.to_string())?);
        compare(&func, &loss, &found, &inputs).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_function_has_gradients_or_says_why_not(
        instructions in vec(any::<Instruction>(), 1..24),
    ) {
        let func = build(&instructions, DType::F32, Subset::Any);
        if let Ok(func) = func.bind(&Bindings::from([("b".to_owned(), 2)])) {
            let _ = differentiated(&func);
        }
    }

    #[test]
    fn gradients_stay_central_differences_in_every_pass(
        instructions in vec(any::<Instruction>(), 1..24),
        percent in 1u64..100,
    ) {
        prop_assert_eq!(stages(&instructions, percent), Ok(()));
    }
}
