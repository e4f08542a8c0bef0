//! The rules of block programs: one broken program for each, made from one that keeps them.

use compiler::program::Program;
use compiler::target::Target;
use compiler::tile::{
    BlockProgram, Choice, LowerOptions, Origin, Scope, Step, TileId, Tuning, lower,
};

const LINEAR: &str = r#"func f {
  %0 = input "x" : f32[64, 40]
  %1 = weight "w" : f32[96, 40]
  %2 = linear(%0, %1)
  return "y" %2
}
"#;

const NORM: &str = r#"func f {
  %0 = input "x" : f32[77, 40]
  %1 = layer_norm(%0) {axes=1, epsilon=1e-5}
  return "y" %1
}
"#;

const SUM: &str = r#"func f {
  %0 = input "x" : f32[77, 40]
  %1 = reduce_sum(%0) {axes=[1], keep=false}
  return "y" %1
}
"#;

const GRADIENT: &str = r#"func f {
  %0 = input "q" : f32[1, 1, 64, 8]
  %1 = input "log_sum" : f32[1, 1, 64]
  %2 = attention_gradient(%0, %0, %0, %1, %0, %0) {scale=0.5, causal=false}
  return "y" %2
}
"#;

fn lowered(text: &str) -> BlockProgram {
    let program = Program::parse(text).expect("the text is a program");
    let options = LowerOptions { exact: true };
    let mut tiled = lower(program.regions(), &Target::CPU, options, &Tuning::default());
    match tiled.choices.remove(0) {
        Choice::Blocks(program) => *program,
        Choice::Plain(reasons) => panic!("{reasons:?}"),
    }
}

/// The body of the loop of a product.
fn inner(program: &mut BlockProgram) -> &mut Vec<Step> {
    let found = program.body.iter_mut().find_map(|step| {
        let Step::Loop { body, .. } = step else {
            return None;
        };
        Some(body)
    });
    found.expect("a product has a loop")
}

type Edit = fn(&mut BlockProgram);

#[rustfmt::skip]
const BROKEN: [(&str, &str, &str, Edit); 15] = [
    ("T1", "a tile that does not exist", LINEAR, |p| p.body[0] = Step::Zero { tile: TileId(9) }),
    ("T1", "a view that does not exist", LINEAR, |p| p.views.truncate(1)),
    ("T1", "a loop in one over the same axis", LINEAR, |p| {
        let body = inner(p).clone();
        *inner(p) = vec![Step::Loop { over: Origin::Depth, extent: 40, step: 40, stages: 1, body }];
    }),
    ("T2", "factors of other depths", LINEAR, |p| p.tiles[0].columns += 1),
    ("T2", "rows that become other rows", NORM, |p| p.tiles[1].rows += 1),
    ("T2", "rows that are folded into fewer", SUM, |p| p.tiles[1].rows -= 1),
    ("T2", "scores that are not their changes'", GRADIENT, |p| {
        p.tiles[7].rows += 1;
        p.tiles[1].rows += 1;
        p.tiles[12].rows += 1;
    }),
    ("T2", "a tile that is turned into another", GRADIENT, |p| {
        p.tiles[9].rows += 1;
        p.tiles[10].rows += 1;
    }),
    ("T2", "sums of fewer columns than are added", GRADIENT, |p| p.tiles[13].columns -= 1),
    ("T1", "results that no view shows", GRADIENT, |p| p.views.truncate(4)),
    ("T3", "an accumulator that is shared", LINEAR, |p| p.tiles[2].scope = Scope::Shared),
    ("T3", "a copy into a fragment", NORM, |p| p.tiles[0].scope = Scope::Fragment),
    ("T4", "a sum that began nowhere", LINEAR, |p| drop(p.body.remove(0))),
    ("T5", "planes that no view has", LINEAR, |p| {
        p.views[0].roles.planes = 0;
        p.tiles[0].planes = 2;
    }),
    ("T6", "nothing stored", LINEAR, |p| drop(p.body.pop())),
];

#[test]
fn each_rule_refuses_what_breaks_it() {
    for (rule, title, text, edit) in BROKEN {
        let mut program = lowered(text);
        assert_eq!(program.verify(), Ok(()), "{title}");
        edit(&mut program);
        let broken = program.verify().map_err(|error| error.rule);
        assert_eq!(broken, Err(rule), "{title}");
    }
}
