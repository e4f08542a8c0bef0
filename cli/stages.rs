//! What the stages of sampling compute, in words.
//!
//! Takes a program in parts, returns one line for people.

use runtime::staged::Staged;

/// `text: 1 kernel, 2.95 GFLOP once per prompt; …; step: 396 kernels, 800 GFLOP`.
pub(crate) fn described(staged: &Staged) -> String {
    let parts = staged.parts().map(|(stage, program)| {
        let (name, per) = match stage {
            Some(stage) => (stage.name, format!(" once per {}", stage.per)),
            None => ("step", String::new()),
        };
        let kernels = program.regions().regions.len();
        let ending = if kernels == 1 { "" } else { "s" };
        let flops = flops(program.cost().flops);
        format!("{name}: {kernels} kernel{ending}, {flops}{per}")
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// A number of operations with three digits.
fn flops(number: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP")];
    let number = number as f64;
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| number >= *unit) else {
        return format!("{number} FLOP");
    };
    let digits = match number / unit {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{:.digits$} {name}", number / unit)
}

#[cfg(test)]
mod tests {
    use super::flops;

    #[test]
    fn operations_have_three_digits() {
        for (number, wanted) in [
            (0, "0 FLOP"),
            (999, "999 FLOP"),
            (12_345, "12.3 kFLOP"),
            (2_952_000_000, "2.95 GFLOP"),
            (803_100_000_000, "803 GFLOP"),
        ] {
            assert_eq!(flops(number), wanted);
        }
    }
}
