//! Parts through text and back, and what becomes of those that are not a program's.

use std::collections::BTreeMap;

use compiler::graph::Role;
use compiler::tile::Tuning;

use super::*;
use crate::place::{Options, Place};
use crate::sampling::STAGES;
use crate::session::Session;
use crate::staged::Staged;

const PROGRAM: &str = r#"
func step {
  %0 = input "sample" : f32[1, 4, 6, 6]
  %1 = input "timestep" : f32[1, 16]
  %2 = weight "time" : f32[16, 16]
  %3 = weight "kernel" : f32[16, 4, 3, 3]
  %4 = weight "scale" : f32[16]
  %5 = linear(%1, %2)
  %6 = silu(%5)
  %7 = reshape(%6) {shape=[1, 16, 1, 1]}
  %8 = conv(%0, %3) {strides = [1, 1], pads_before = [1, 1], pads_after = [1, 1], dilations = [1, 1], groups = 1}
  %9 = add(%8, %7)
  %10 = group_norm(%9, %4, %4) {groups = 4, epsilon = 1e-5} @ "norm"
  %11 = constant() {tensor = f32[6, 6] hex "0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f0000803f0000003f"}
  %12 = mul(%10, %11)
  %13 = slice(%12) {axis = 1, start = 0, length = 4, step = 1}
  %14 = add(%13, %0)
  return "y" %14
}
"#;

fn port((name, ty): &(String, TensorType)) -> Port {
    let shape = ty.extents().expect("a program has known sizes");
    Port {
        name: name.clone(),
        dtype: ty.dtype,
        shape: shape.into_iter().map(|side| side as u64).collect(),
    }
}

fn stored() -> (Program, Staged, ArtifactProgram) {
    let program = Program::parse(PROGRAM).expect("the text is a program");
    let staged = Staged::of(&program, &STAGES).expect("its parts are programs");
    let parts = staged
        .parts()
        .map(|(stage, part)| (stage.map(|stage| stage.name), part));
    let artifact = ArtifactProgram {
        name: "step".to_owned(),
        component: "unet".to_owned(),
        peak_bytes: program.plan().peak_bytes(),
        inputs: program.inputs().iter().map(port).collect(),
        outputs: program.outputs().iter().map(port).collect(),
        text: program.text(),
        whole: ArtifactPart::whole(&program),
        parts: ArtifactPart::parts(&program, parts),
    };
    (program, staged, artifact)
}

#[test]
fn parts_come_back_as_they_were_formed() {
    let (program, staged, stored) = stored();
    let whole = stored.executable().expect("it was written");
    assert_eq!(whole.regions().to_string(), program.regions().to_string());
    assert_eq!(
        whole.regions().constants(),
        program.regions().constants(),
        "constants are data"
    );
    assert_eq!(
        (whole.cost(), whole.plan()),
        (program.cost(), program.plan())
    );
    let parts = stored.executables().expect("they were written");
    assert_eq!(parts.len(), 2);
    for ((found, part), (stage, wanted)) in parts.iter().zip(staged.parts()) {
        assert_eq!(found.as_deref(), stage.map(|stage| stage.name));
        assert_eq!(part.regions().to_string(), wanted.regions().to_string());
    }
    let again = Staged::stored(&stored, &STAGES).expect("stages and a body");
    let stages = |staged: &Staged| {
        let parts = staged.parts();
        parts.map(|(stage, _)| stage).collect::<Vec<_>>()
    };
    assert_eq!(stages(&again), stages(&staged));
}

#[test]
fn parts_that_are_not_the_programs_are_refused() {
    let check = |edit: &dyn Fn(&mut ArtifactProgram), wanted: &str| {
        let (_, _, mut program) = stored();
        edit(&mut program);
        let refused = program.executable().err().or(program.executables().err());
        let message = refused.expect("it was changed").to_string();
        assert!(message.contains(wanted), "{message} lacks {wanted}");
    };
    check(&|own| own.inputs[0].shape[1] = 5, "inputs or results");
    check(&|own| own.outputs[0].name.push('y'), "inputs or results");
    check(&|own| own.parts[1].taken.clear(), "inputs of a part");
    check(&|own| own.parts[1].taken[0].0 = 1, "inputs of a part");
    check(&|own| own.parts.swap(0, 1), "inputs of a part");
    check(&|own| own.parts.truncate(1), "results of its parts");
    check(&|own| own.whole.constants.clear(), "is a constant");
    let swapped = Tensor::from_f32(&[6, 5], &[0.0; 30]);
    check(
        &|own| own.whole.constants[0] = swapped.clone(),
        "is a constant",
    );
    let more = Tensor::from_f32(&[], &[0.0]);
    check(
        &|own| own.whole.constants.push(more.clone()),
        "2 constants are stored",
    );
    check(&|own| own.whole.regions.truncate(300), "found");
    let unknown =
        |own: &mut ArtifactProgram| own.whole.regions = own.whole.regions.replace("silu", "solu");
    check(&unknown, "solu");
}

/// Whatever a text says, it is refused or computes something.
#[test]
fn changed_regions_never_panic() {
    let (program, ..) = stored();
    let text = program.regions().to_string();
    let constants: Vec<Tensor> = program.regions().constants().into_iter().cloned().collect();
    let halves = |(name, ty): (&str, TensorType)| {
        let shape = ty.extents().expect("regions have known sizes");
        let values = vec![0.5; shape.iter().product()];
        (name.to_owned(), Tensor::from_f32(&shape, &values))
    };
    let place = Place::cpu(Options {
        threads: Some(1),
        exact: false,
    });
    let mut accepted = 0;
    for at in 0..text.len() {
        for replacement in ["", "0", "7", "x1", "b", "]", " "] {
            let changed = format!("{}{replacement}{}", &text[..at], &text[at + 1..]);
            let Ok(read) = Executable::parse(&changed, &constants, program.counts()) else {
                continue;
            };
            if changed == text || read.plan().peak_bytes() > 1 << 20 {
                continue;
            }
            accepted += 1;
            let weights: BTreeMap<String, Tensor> = read.params(Role::Weight).map(halves).collect();
            let inputs = read.params(Role::Input).map(halves).collect();
            if let Ok(session) = Session::open(&read, weights, &place, &Tuning::default()) {
                // What it computes is nobody's business.
                let _ = session.run(&inputs);
            }
        }
    }
    assert!(accepted > 20, "{accepted} changed texts were accepted");
}
