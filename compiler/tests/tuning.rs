//! What measurements change in the choice of tile programs, and what they cannot change.

use compiler::Bindings;
use compiler::graph::text::parse;
use compiler::region::Regions;
use compiler::region::form;
use compiler::target::Target;
use compiler::tile::{Case, Choice, Contest, LowerOptions, Measurement, Tuning, contests, lower};

const ANY: LowerOptions = LowerOptions { exact: false };
const EXACT: LowerOptions = LowerOptions { exact: true };

fn regions(text: &str) -> Regions {
    let module = parse(text).expect("the text is a module");
    let func = module.funcs[0].bind(&Bindings::new());
    form(&func.expect("sizes are known"))
        .expect("it forms")
        .regions
}

/// A convolution that Winograd's programs could compute, and one layer.
fn network() -> Regions {
    regions(
        r#"func f {
  %0 = input "x" : f32[1, 64, 32, 32]
  %1 = weight "w" : f32[64, 64, 3, 3]
  %2 = input "tokens" : f32[128, 320]
  %3 = weight "l" : f32[640, 320]
  %4 = conv(%0, %1) {strides = [1, 1], dilations = [1, 1], pads_before = [1, 1], pads_after = [1, 1], groups = 1}
  %5 = linear(%2, %3)
  return "y" %4
  return "z" %5
}
"#,
    )
}

/// A tuning in which contender `winner` of each contest took a microsecond and others a second.
fn won_by(contests: &[Contest], winner: impl Fn(&Contest) -> usize) -> Tuning {
    let measured = |contest: &Contest| {
        let winner = winner(contest);
        let ways = contest.contenders.iter().enumerate();
        let way = ways.map(|(number, way)| Measurement {
            program: way.program.program.to_owned(),
            parameters: way.parameters,
            seconds: if number == winner { 1e-6 } else { 1.0 },
        });
        (contest.case.clone(), way.collect())
    };
    Tuning {
        cases: contests.iter().map(measured).collect(),
    }
}

/// The program and the block of each region.
fn chosen(tuning: &Tuning, options: LowerOptions) -> Vec<(&'static str, [usize; 2])> {
    let tiled = lower(&network(), &Target::CPU, options, tuning);
    let choice = |choice: Choice| match choice {
        Choice::Blocks(program) => (program.program, program.block),
        Choice::Plain(reasons) => panic!("no program: {reasons:?}"),
    };
    tiled.choices.into_iter().map(choice).collect()
}

fn found() -> Vec<Contest> {
    let found = contests(&network(), &Target::CPU, ANY, 4);
    assert_eq!(found.len(), 2);
    found
}

#[test]
fn contenders_differ_and_one_adds_no_weights() {
    for contest in found() {
        let ways = &contest.contenders;
        assert!((2..=4).contains(&ways.len()), "{ways:?}");
        assert!(ways.iter().any(|way| way.program.program == "gemm"));
        for (number, way) in ways.iter().enumerate() {
            way.program.verify().expect("candidates are well formed");
            let same = |other: &&compiler::tile::Contender| other.program == way.program;
            assert_eq!(ways.iter().position(|other| same(&other)), Some(number));
        }
    }
}

#[test]
fn what_was_fastest_is_chosen() {
    let found = found();
    for number in 0..4 {
        let winner = |contest: &Contest| number.min(contest.contenders.len() - 1);
        let tuning = won_by(&found, winner);
        let chosen = chosen(&tuning, ANY);
        for contest in &found {
            let wanted = &contest.contenders[winner(contest)].program;
            let own = chosen[contest.region.0 as usize];
            // The budget holds the transformed weights of both sizes of tiles here.
            assert_eq!(own, (wanted.program, wanted.block), "{number}");
        }
    }
}

#[test]
fn exact_sums_stay_exact_whatever_was_measured() {
    let found = found();
    let winograd = |contest: &Contest| {
        let mut ways = contest.contenders.iter();
        ways.position(|way| way.program.program == "winograd")
            .unwrap_or(0)
    };
    let tuning = won_by(&found, winograd);
    let programs = |options| -> Vec<&str> {
        let chosen = chosen(&tuning, options).into_iter();
        chosen.map(|(program, _)| program).collect()
    };
    assert_eq!(programs(ANY), ["winograd", "gemm"]);
    assert_eq!(programs(EXACT), ["gemm", "gemm"]);
}

/// Changes every case and measurement; no choice may change.
fn ignored(change: impl Fn(&mut Case, &mut Measurement)) {
    let last = |contest: &Contest| contest.contenders.len() - 1;
    let tuning = won_by(&found(), last);
    let mut changed = Tuning::default();
    for (mut case, mut ways) in tuning.cases {
        ways.iter_mut().for_each(|way| change(&mut case, way));
        changed.cases.insert(case, ways);
    }
    assert_eq!(chosen(&changed, ANY), chosen(&Tuning::default(), ANY));
}

#[test]
fn foreign_and_stale_measurements_change_nothing() {
    ignored(|case, _| case.region.replace_range(..1, "x"));
    ignored(|case, _| case.target = "another".to_owned());
    ignored(|case, _| case.threads = Target::CPU.compute.threads + 1);
    ignored(|_, way| way.program = "gone".to_owned());
    ignored(|_, way| way.parameters = [usize::MAX; 3]);
    ignored(|_, way| way.seconds = f64::NAN);
    ignored(|_, way| way.seconds = -1.0);
    ignored(|_, way| way.seconds = 0.0);
}
