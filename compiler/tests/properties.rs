//! Random small graphs keep their meaning through binding and every pass, and their text.

use compiler::graph::text::{parse, print};
use compiler::graph::verify::{Verified, verify};
use compiler::graph::{Func, Module, Role};
use compiler::passes::{RAISE, SIMPLIFY, hoist, run};
use compiler::region;
use compiler::target::Target;
use compiler::tile::{self, BlockProgram, LowerOptions};
use compiler::value::array::Precision;
use compiler::value::tensor::Tensor;
use compiler::{Bindings, DType};
use proptest::collection::vec;
use proptest::prelude::*;

mod meaning;
mod random_graph;

use meaning::Named;
use random_graph::{Instruction, Subset, build};

fn instructions() -> impl Strategy<Value = Vec<Instruction>> {
    vec(any::<Instruction>(), 1..24)
}

fn module(func: &Func) -> Verified {
    let funcs = vec![func.clone()];
    verify(Module { funcs }).expect("what the builder made keeps the rules")
}

fn bound(func: &Func) -> Option<Func> {
    func.bind(&Bindings::from([("b".to_owned(), 2)])).ok()
}

/// Runs a pass before and after binding; gives the first difference.
fn changed(
    pass: &compiler::passes::Pass,
    func: &Func,
    precision: Precision,
    tolerance: f64,
) -> Option<String> {
    let before = bound(func)?;
    let (after, patches) = run(pass, module(func), None).expect("a pass without faults");
    let after = bound(&after.funcs[0]).expect("what could be bound still can");
    let late = run(pass, module(&before), None).expect("a pass without faults");
    let compare = |after: &Func| meaning::difference(&before, after, precision, tolerance);
    let difference = compare(&after).or_else(|| compare(&late.0.funcs[0]))?;
    let text = print(&module(func));
    Some(format!("{difference}\nin {text}\nafter {patches:?}"))
}

/// The first difference between a function and its regions.
fn formed_differently(func: &Func) -> Option<String> {
    let formed = region::form(func).expect("a graph of known sizes");
    let text = formed.regions.to_string();
    let constants: Vec<Tensor> = formed.regions.constants().into_iter().cloned().collect();
    let read = region::parse(&text, &constants).expect("what is printed reads back");
    assert_eq!(read.to_string(), text);
    assert_eq!(read.regions, formed.regions.regions, "{text}");
    let exact = Precision::Exact;
    let compute =
        |inputs: &Named, weights: &Named| region::eval(&formed.regions, inputs, weights, exact);
    let difference = meaning::difference_of(func, compute, exact, 1e-9)?;
    Some(format!(
        "{difference}\nin {}{}",
        print(&module(func)),
        formed.regions
    ))
}

/// The first difference between a function and what a choice of stable inputs lets hoist.
fn hoisted_differently(func: &Func, choice: usize) -> Option<String> {
    let inputs = func.params(Role::Input).enumerate();
    let stable = inputs.filter(|(number, _)| choice >> (number % 3) & 1 == 1);
    let stable: Vec<&str> = stable.map(|(_, (_, name, _))| name).collect();
    let hoisted = hoist(func, &stable)?;
    let funcs = vec![hoisted.prologue.clone(), hoisted.body.clone()];
    let parts = verify(Module { funcs }).expect("parts keep the rules");
    let difference = meaning::hoisted_difference(func, &hoisted, Precision::Typed)?;
    Some(format!("{difference}\nin {}", print(&parts)))
}

/// Everything that could compute a region of a function, before and after exporters' spellings are
/// raised.
fn blocks(func: &Func) -> Vec<BlockProgram> {
    let raised = run(&RAISE, module(func), None)
        .expect("a pass without faults")
        .0;
    let forms = [func, &raised.funcs[0]].map(bound);
    let formed = forms.iter().flatten().map(region::form);
    let of_function = |formed: Result<region::Formed, region::FormError>| {
        let regions = formed.expect("a graph of known sizes").regions;
        let options = LowerOptions { exact: false };
        let candidates = regions.iter().map(|(id, _)| id);
        let candidates = candidates.map(|id| tile::candidates(&regions, id, &Target::CPU, options));
        candidates.flatten().collect::<Vec<_>>()
    };
    formed.flat_map(of_function).collect()
}

/// Puts marks of a text form into `text`.
fn mutilated(text: String, cuts: &[(prop::sample::Index, u8)], marks: &[u8]) -> String {
    let mut text = text.into_bytes();
    for (position, byte) in cuts {
        let index = position.index(text.len());
        text[index] = marks[usize::from(*byte) % marks.len()];
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn cuts() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn text_reads_back_the_same(instructions in instructions()) {
        let module = module(&build(&instructions, DType::F16, Subset::Any));
        let text = print(&module);
        let again = parse(&text).expect("what is printed is read");
        prop_assert_eq!(print(&again), text);
        prop_assert_eq!(&again, &*module);
    }

    #[test]
    fn mutilated_text_is_refused_or_read(instructions in instructions(), cuts in cuts()) {
        let func = build(&instructions, DType::F32, Subset::Any);
        let marks = b"%()[]{}\",:=-@0919eE.*/+`\\ \nxb#";
        let text = mutilated(print(&module(&func)), &cuts, marks);
        if let Ok(module) = parse(&text) {
            let printed = print(&module);
            prop_assert_eq!(print(&parse(&printed).expect("what is printed is read")), printed);
        }
    }

    #[test]
    fn blocks_read_back_the_same(instructions in instructions()) {
        for subset in [Subset::Any, Subset::Smooth] {
            let programs = blocks(&build(&instructions, DType::F32, subset));
            let text: String = programs.iter().map(ToString::to_string).collect();
            prop_assert_eq!(tile::parse(&text), Ok(programs), "{}", text);
        }
    }

    #[test]
    fn mutilated_blocks_are_refused_or_read(instructions in instructions(), cuts in cuts()) {
        let programs = blocks(&build(&instructions, DType::F32, Subset::Any));
        for program in programs.iter().take(8) {
            let marks = b"%()[]{},:=-|<0919e.*/+ \nikvrbo#";
            if let Ok(read) = tile::parse(&mutilated(program.to_string(), &cuts, marks)) {
                let printed: String = read.iter().map(ToString::to_string).collect();
                prop_assert_eq!(tile::parse(&printed), Ok(read), "{}", printed);
            }
        }
    }

    #[test]
    fn simplifying_changes_no_bit(instructions in instructions()) {
        let func = build(&instructions, DType::F32, Subset::Any);
        prop_assert_eq!(changed(&SIMPLIFY, &func, Precision::Typed, 0.0), None);
    }

    #[test]
    fn raising_changes_rounding_only(instructions in instructions()) {
        let func = build(&instructions, DType::F64, Subset::Smooth);
        prop_assert_eq!(changed(&RAISE, &func, Precision::Exact, 1e-9), None);
    }

    #[test]
    fn regions_compute_the_same(instructions in instructions()) {
        for subset in [Subset::Any, Subset::Smooth] {
            let func = build(&instructions, DType::F64, subset);
            let raised = run(&RAISE, module(&func), None).expect("a pass without faults").0;
            for func in [&func, &raised.funcs[0]] {
                prop_assert_eq!(bound(func).and_then(|func| formed_differently(&func)), None);
            }
        }
    }

    #[test]
    fn hoisting_changes_no_bit(instructions in instructions(), stable in 0usize..8) {
        for subset in [Subset::Any, Subset::Smooth] {
            let func = build(&instructions, DType::F32, subset);
            prop_assert_eq!(bound(&func).and_then(|func| hoisted_differently(&func, stable)), None);
        }
    }

    #[test]
    fn a_pass_can_stop_after_any_patch(instructions in instructions(), limit in 0usize..4) {
        let func = build(&instructions, DType::F32, Subset::Any);
        let stopped = run(&SIMPLIFY, module(&func), Some(limit)).expect("a pass without faults");
        prop_assert!(stopped.1.len() <= limit);
    }
}
