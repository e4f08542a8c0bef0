//! Programs with states, run after run, against the oracle.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::Role;
use compiler::graph::eval::eval;
use compiler::plan::updates;
use compiler::program::Program;
use compiler::tile::Tuning;
use compiler::value::array::Precision;
use compiler::value::tensor::{Tensor, Values};

use super::{Named, noise, params, program};
use crate::cpu::{Executor, Options};
use crate::webgpu::tests::programs;

const OPTIONS: Options = Options {
    threads: Some(2),
    exact: true,
};

fn states(program: &Program) -> Named {
    let states = program.states().into_iter().enumerate();
    let first = |(number, (name, ty)): (usize, (String, _))| {
        (name, noise(&ty, 7 + number as u64, Role::Input))
    };
    states.map(first).collect()
}

/// Whether two tensors of one type are equal but for rounding.
fn close(found: &Tensor, wanted: &Tensor) -> bool {
    let [found, wanted] = [found, wanted].map(|tensor| {
        let values = tensor.cast(DType::F64).values();
        (tensor.dtype(), tensor.shape().to_vec(), values)
    });
    let (Values::Float(a), Values::Float(b)) = (&found.2, &wanted.2) else {
        return false;
    };
    let near = a
        .iter()
        .zip(b)
        .all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()));
    near && (found.0, found.1) == (wanted.0, wanted.1)
}

/// Runs a program three times, comparing results and states with the oracle's; `in_place` are the
/// states that are stored where the old ones lie.
fn check(text: &str, in_place: &[&str]) {
    let program = program(&format!("func f {{\n{text}\n}}"));
    let regions = program.regions();
    let stored = updates(regions).into_iter().zip(program.states());
    let stored = stored.filter(|(update, _)| update.in_place);
    let stored: Vec<String> = stored.map(|(_, (name, _))| name).collect();
    assert_eq!(stored, in_place, "{text}");
    let inputs = params(program.func(), Role::Input);
    let mut weights = params(program.func(), Role::Weight);
    let mut given = weights.clone();
    given.extend(states(&program));
    weights.extend(states(&program));
    let interpreted = programs::on_interpreter(&program, &given);
    let on_device = programs::on_device(&program, &given);
    let executor = Executor::new(&program, given, OPTIONS, &Tuning::default()).expect("states");
    let run = || executor.run(&inputs).expect("it runs");
    compare(&program, &inputs, weights.clone(), &run, &|name| {
        executor.state(name)
    });
    let run = || interpreted.run(&inputs).expect("it runs");
    let state = |name: &str| interpreted.state(name).expect("it is read");
    compare(&program, &inputs, weights.clone(), &run, &state);
    if let Some(on_device) = on_device {
        let run = || on_device.run(&inputs).expect("it runs");
        let state = |name: &str| on_device.state(name).expect("it is read");
        compare(&program, &inputs, weights, &run, &state);
    }
}

/// Three runs, each compared with the oracle's.
fn compare(
    program: &Program,
    inputs: &Named,
    mut weights: Named,
    run: &dyn Fn() -> Vec<(String, Tensor)>,
    state: &dyn Fn(&str) -> Option<Tensor>,
) {
    let names = program.outputs().into_iter().map(|(name, _)| name);
    let names: Vec<String> = names.collect();
    let text = program.regions();
    for number in 0..3 {
        let found = run();
        let wanted = eval(program.func(), inputs, &weights, Precision::Typed).expect("it runs");
        let wanted: BTreeMap<String, Tensor> = wanted
            .into_iter()
            .map(|(name, array)| {
                let (_, value) = program
                    .func()
                    .results()
                    .iter()
                    .find(|(own, _)| *own == name)
                    .expect("a result");
                let dtype = program.func().ty(*value).dtype;
                (
                    name,
                    Tensor::from_values(dtype, &array.shape, &array.values),
                )
            })
            .collect();
        let given: Vec<&String> = found.iter().map(|(name, _)| name).collect();
        assert_eq!(given, names.iter().collect::<Vec<_>>(), "{text}");
        for (name, tensor) in &found {
            assert!(close(tensor, &wanted[name]), "{text}run {number}, {name}");
        }
        for (name, _) in program.states() {
            let found = state(&name).expect("a state");
            assert!(close(&found, &wanted[&name]), "{text}run {number}, {name}");
            weights.insert(name.clone(), wanted[&name].clone());
        }
    }
}

#[test]
fn states_take_the_results_of_their_names() {
    // A sum that grows, stored in place.
    check(
        "%0 = state \"s\" : f32[40]\n %1 = input \"x\" : f32[40]\n %2 = add(%0, %1)\n return \"s\" %2",
        &["s"],
    );
    // What replaces a state may be read on, and given.
    check(
        "%0 = input \"x\" : f32[3, 8]\n %1 = state \"s\" : f32[3, 8]\n %2 = sub(%1, %0)\n \
         %3 = softmax(%2) {axis=1}\n return \"y\" %3\n return \"s\" %2\n return \"again\" %2",
        &["s"],
    );
    // Nothing of the old state is read.
    check(
        "%0 = state \"s\" : f32[6]\n %1 = input \"x\" : f32[6]\n %2 = neg(%1)\n return \"s\" %2",
        &["s"],
    );
    // Read later, read elsewhere, given, or of another size in memory: copied at the end.
    check(
        "%0 = state \"s\" : f32[4, 8]\n %1 = input \"x\" : f32[4, 8]\n %2 = mul(%0, %1)\n \
         %3 = softmax(%2) {axis=0}\n %4 = mul(%3, %0)\n return \"s\" %2\n return \"y\" %4",
        &[],
    );
    check(
        "%0 = state \"s\" : f32[5, 5]\n %1 = transpose(%0) {permutation=[1, 0]}\n \
         %2 = add(%0, %1)\n return \"s\" %2",
        &[],
    );
    check(
        "%0 = state \"s\" : f32[5]\n %1 = exp(%0)\n return \"old\" %0\n return \"s\" %1",
        &[],
    );
    // States that change places, that stay, and one result for two.
    check(
        "%0 = state \"a\" : f32[5]\n %1 = state \"b\" : f32[5]\n %2 = state \"c\" : f16[3]\n \
         return \"a\" %1\n return \"b\" %0\n return \"c\" %2",
        &[],
    );
    check(
        "%0 = state \"a\" : f32[5]\n %1 = state \"b\" : f32[5]\n %2 = input \"x\" : f32[5]\n \
         %3 = tanh(%2)\n return \"a\" %3\n return \"b\" %3",
        &["a"],
    );
    // AdamW with a moving average: no second copy of anything.
    check(
        "%0 = state \"p\" : f32[40]\n %1 = state \"m\" : f32[40]\n %2 = state \"v\" : f32[40]\n \
         %3 = state \"ema\" : f32[40]\n %4 = input \"g\" : f32[40]\n %5 = input \"rate\" : f32[]\n \
         %6 = sub(%4, %1)\n %7 = mul(%6, %5)\n %8 = add(%1, %7)\n %9 = mul(%4, %4)\n \
         %10 = mul(%2, %5)\n %11 = add(%10, %9)\n %12 = abs(%11)\n %13 = sqrt(%12)\n \
         %14 = add(%13, %9)\n %15 = constant() {tensor=f32[][0.5]}\n %16 = add(%14, %15)\n \
         %17 = div(%8, %16)\n %18 = mul(%17, %15)\n %19 = sub(%0, %18)\n %20 = sub(%19, %3)\n \
         %21 = mul(%20, %5)\n %22 = add(%3, %21)\n return \"p\" %19\n return \"m\" %8\n \
         return \"v\" %11\n return \"ema\" %22",
        &["p", "m", "v", "ema"],
    );
    // Parameters read as slices, momentum and weights updated whole.
    check(
        "%0 = state \"p\" : f32[24]\n %1 = state \"m\" : f32[24]\n %2 = input \"x\" : f32[2, 4]\n \
         %3 = slice(%0) {axis=0, start=4, length=20, step=1}\n %4 = reshape(%3) {shape=[5, 4]}\n \
         %5 = linear(%2, %4)\n %6 = input \"g\" : f32[24]\n %7 = constant() {tensor=f32[][0.5]}\n \
         %8 = mul(%1, %7)\n %9 = add(%8, %6)\n %10 = sub(%0, %9)\n return \"y\" %5\n \
         return \"p\" %10\n return \"m\" %9",
        &["p", "m"],
    );
}

#[test]
fn states_are_set_and_checked() {
    let program = program(
        "func f {\n %0 = state \"s\" : f32[2]\n %1 = neg(%0)\n return \"s\" %1\n return \"y\" %1\n}",
    );
    let tensor = |values: &[f32]| Tensor::from_f32(&[values.len()], values);
    let new = |given: &[(&str, Tensor)]| {
        let given = given
            .iter()
            .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
        Executor::new(&program, given.collect(), OPTIONS, &Tuning::default())
    };
    let error = |given: &[(&str, Tensor)]| new(given).err().map(|error| error.to_string());
    let missing = "state \"s\" of type f32[2] is missing";
    assert_eq!(error(&[]).as_deref(), Some(missing));
    let shape = "state \"s\" has type f32[3], wanted f32[2]";
    assert_eq!(error(&[("s", tensor(&[1.0; 3]))]).as_deref(), Some(shape));
    let executor = new(&[("s", tensor(&[1.0, 2.0]))]).expect("a state");
    assert_eq!(executor.state("other"), None);
    assert_eq!(executor.set_state("other", &tensor(&[1.0])), Ok(false));
    assert_eq!(executor.set_state("s", &tensor(&[3.0, 4.0])), Ok(true));
    let wrong = executor.set_state("s", &tensor(&[1.0]));
    let shape = "state \"s\" has type f32[1], wanted f32[2]";
    assert_eq!(
        wrong.map_err(|error| error.to_string()),
        Err(shape.to_owned())
    );
    let results = executor.run(&Named::new()).expect("it runs");
    assert_eq!(results, [("y".to_owned(), tensor(&[-3.0, -4.0]))]);
    assert_eq!(executor.state("s"), Some(tensor(&[-3.0, -4.0])));
}
