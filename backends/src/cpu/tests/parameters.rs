//! What an executor does with its parameters.

use compiler::DType;
use compiler::tile::Tuning;
use compiler::value::tensor::{Tensor, Values};

use super::super::{Executor, Options};
use crate::tests::{Named, program};

const OPTIONS: Options = Options {
    threads: Some(1),
    exact: false,
};

#[test]
fn weights_are_widened_and_checked() {
    let program = program("func f {\n %0 = weight \"w\" : f32[3]\n return \"out\" %0\n}");
    let run = |given: Option<Tensor>| {
        let weights = given
            .map(|tensor| ("w".to_owned(), tensor))
            .into_iter()
            .collect();
        let executor = Executor::new(&program, weights, OPTIONS, &Tuning::default())
            .map_err(|error| error.to_string())?;
        let mut results = executor
            .run(&Named::new())
            .map_err(|error| error.to_string())?;
        Ok(results.remove(0).1.values())
    };
    let values = Values::Float(vec![0.5, -2.0, 4.0]);
    let float = |dtype| Some(Tensor::from_values(dtype, &[3], &values));
    let mut bytes = vec![0];
    bytes.extend_from_slice(Tensor::from_f32(&[3], &[0.5, -2.0, 4.0]).bytes());
    let unaligned = bytes::Bytes::from(bytes).slice(1..);
    let unaligned = Tensor::new(DType::F32, vec![3], unaligned).expect("12 bytes");
    let wrong = |found: &str| Err(format!("weight \"w\" has type {found}, wanted f32[3]"));
    let cases: Vec<(Option<Tensor>, Result<Values, String>)> = vec![
        (float(DType::F32), Ok(values.clone())),
        (float(DType::F16), Ok(values.clone())),
        (float(DType::BF16), Ok(values.clone())),
        (float(DType::F64), Ok(values.clone())),
        (Some(unaligned), Ok(values.clone())),
        (Some(Tensor::from_i64(&[3], &[1, 2, 3])), wrong("i64[3]")),
        (Some(Tensor::from_f32(&[1], &[1.0])), wrong("f32[1]")),
        (
            None,
            Err("weight \"w\" of type f32[3] is missing".to_owned()),
        ),
    ];
    for (given, wanted) in cases {
        assert_eq!(run(given), wanted);
    }
}

#[test]
fn faults_name_the_node() {
    let text = "func f {
        %0 = input \"data\" : f32[3, 2]
        %1 = input \"ids\" : i64[1]
        %2 = gather(%0, %1) {axis=0} @ \"embed\"
        return \"out\" %2
    }";
    let executor = Executor::new(&program(text), Named::new(), OPTIONS, &Tuning::default())
        .expect("an executor");
    for index in [3, -4, i64::MIN, i64::MAX] {
        let data = Tensor::from_f32(&[3, 2], &[0.0; 6]);
        let ids = Tensor::from_i64(&[1], &[index]);
        let inputs = Named::from([("data".to_owned(), data), ("ids".to_owned(), ids)]);
        let error = executor.run(&inputs).map_err(|error| error.to_string());
        let wanted = format!("gather at \"embed\": index {index} is outside of an axis of 3");
        assert_eq!(error, Err(wanted));
    }
}

#[test]
fn inputs_are_checked_each_time() {
    let text = "func f {
        %0 = input \"x\" : f32[2]
        %1 = neg(%0)
        return \"out\" %1
    }";
    let executor = Executor::new(&program(text), Named::new(), OPTIONS, &Tuning::default())
        .expect("an executor");
    let run = |name: &str, tensor: Tensor| {
        let result = executor.run(&Named::from([(name.to_owned(), tensor)]));
        result
            .map(|mut results| results.remove(0).1.values())
            .map_err(|error| error.to_string())
    };
    let x = || Tensor::from_f32(&[2], &[1.0, -2.0]);
    let right = Ok(Values::Float(vec![-1.0, 2.0]));
    let wrong = |found: &str| Err(format!("input \"x\" has type {found}, wanted f32[2]"));
    assert_eq!(run("x", x()), right);
    assert_eq!(
        run("y", x()),
        Err("input \"x\" of type f32[2] is missing".to_owned())
    );
    assert_eq!(run("x", x().cast(DType::F16)), wrong("f16[2]"));
    assert_eq!(
        run("x", Tensor::from_f32(&[1, 2], &[0.0; 2])),
        wrong("f32[1, 2]")
    );
    assert_eq!(run("x", x()), right);
}
