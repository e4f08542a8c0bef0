//! Gradients against central differences in f64: of every operator, and of random graphs after
//! every pass.

use compiler::ops::NAMES;

mod cases;
mod differences;

use cases::{CASES, WITHOUT};
use differences::check;

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
