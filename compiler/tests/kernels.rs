//! Random kernels keep the rules, read back from their text, have no fault, and store the same
//! after every pass.

use compiler::kernel::{BufferContents, Kernel, PASSES, interpret, optimize, parse, verify};
use compiler::target::Limits;
use proptest::collection::vec;
use proptest::prelude::*;

mod random_kernel;

use random_kernel::{Instruction, build, contents};

fn instructions() -> impl Strategy<Value = Vec<Instruction>> {
    vec(any::<Instruction>(), 1..60)
}

fn run(kernel: &Kernel) -> Vec<BufferContents> {
    let mut buffers = contents();
    if let Err(fault) = interpret(kernel, &mut buffers, None) {
        panic!("{fault}\n{kernel}");
    }
    buffers
}

/// The first lane that differs; which bits a NaN has is left open.
fn difference(before: &[BufferContents], after: &[BufferContents]) -> Option<String> {
    let is_nan = |word: u32| f32::from_bits(word).is_nan();
    for (number, (before, after)) in before.iter().zip(after).enumerate() {
        for (lane, (&x, &y)) in before.words().iter().zip(after.words()).enumerate() {
            if x != y && !(is_nan(x) && is_nan(y)) {
                return Some(format!("${number}[{lane}]: {x:#x}, then {y:#x}"));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_built_keeps_the_rules_and_reads_back(instructions in instructions()) {
        let kernel = build(&instructions);
        prop_assert_eq!(verify(&kernel, &Limits::WEBGPU), Ok(()));
        let text = kernel.to_string();
        let again = parse(&text).expect("what is printed is read");
        prop_assert_eq!(&again.to_string(), &text);
        prop_assert_eq!(again, kernel);
    }

    #[test]
    fn what_is_built_has_no_fault(instructions in instructions()) {
        run(&build(&instructions));
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        instructions in instructions(),
        changes in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3), 1..4),
    ) {
        let mut words: Vec<String> = build(&instructions)
            .to_string()
            .split_inclusive([' ', '\n', '%'])
            .map(str::to_owned)
            .collect();
        for (at, from, change) in changes {
            let (at, from) = (at.index(words.len()), from.index(words.len()));
            match change {
                0 => words[at] = words[from].clone(),
                1 => words[at].push('9'),
                _ => words.truncate(at + 1),
            }
        }
        if let Ok(kernel) = parse(&words.concat()) {
            let text = kernel.to_string();
            prop_assert_eq!(parse(&text).map(|again| again.to_string()), Ok(text));
            let _ = verify(&kernel, &Limits::WEBGPU);
        }
    }

    #[test]
    fn every_pass_keeps_what_is_stored(instructions in instructions()) {
        let mut kernel = build(&instructions);
        let stored = run(&kernel);
        for pass in PASSES {
            let after = (pass.run)(kernel.clone());
            prop_assert_eq!(verify(&after, &Limits::WEBGPU), Ok(()), "{}: {}", pass.name, kernel);
            let difference = difference(&stored, &run(&after));
            prop_assert_eq!(difference, None, "{}: {} becomes {}", pass.name, kernel, after);
            kernel = after;
        }
        prop_assert_eq!(optimize(build(&instructions)), kernel);
    }
}
