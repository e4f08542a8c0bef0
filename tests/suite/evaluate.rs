//! Distances of sets of features, against scipy and torch-fidelity.

use std::collections::BTreeMap;
use std::fs;

use compiler::value::tensor::Tensor;
use graphs::evaluate::{Features, Gaussian, Moments, frechet_distance, kernel_distance};
use runtime::noise::Choices;
use serde_json::Value;

use crate::support::{golden, tensors};

/// What other programs found.
fn distances() -> Value {
    let text = fs::read(golden("evaluate/distances.json")).expect("a golden file is there");
    serde_json::from_slice(&text).expect("JSON")
}

fn rows(tensor: &Tensor) -> (usize, Vec<f32>) {
    let words = tensor.bytes().chunks_exact(4);
    let values = words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    (tensor.shape()[1], values.collect())
}

fn gaussian(sets: &BTreeMap<String, Tensor>, name: &str) -> Gaussian {
    let (width, values) = rows(&sets[name]);
    let mut moments = Moments::new(width);
    moments.push(&values).expect("finite rows");
    moments.gaussian().expect("several samples")
}

#[test]
fn frechet_distances_are_those_of_scipy_and_torch_fidelity() {
    let sets = tensors("evaluate/features.safetensors");
    let distances = distances();
    for row in distances["frechet"].as_array().expect("a list") {
        let [one, two] = [0, 1].map(|place| row["sets"][place].as_str().expect("a name"));
        let distance = frechet_distance(&gaussian(&sets, one), &gaussian(&sets, two));
        let found = distance.expect("both are Gaussians");
        for (peer, wanted) in ["scipy", "torch_fidelity"].map(|peer| (peer, row[peer].as_f64())) {
            let Some(wanted) = wanted else { continue };
            let difference = (found - wanted).abs();
            // Peers take roots of rounding where an eigenvalue is 0.
            let is_singular = peer == "torch_fidelity" && one != "a";
            let bound = if is_singular { 1e-5 } else { 1e-6 };
            assert!(difference < bound, "{one} {two}: {found}, {peer} {wanted}");
        }
    }
}

#[test]
fn kernel_distances_are_those_of_torch_fidelity() {
    let sets = tensors("evaluate/features.safetensors");
    let [a, b] = ["a", "b"].map(|name| {
        let (width, values) = rows(&sets[name]);
        let mut features = Features::new(width);
        features.push(&values).expect("finite rows");
        features
    });
    let wanted = &distances()["kernel"];
    let count = |name: &str| wanted[name].as_u64().expect("a count");
    let mut choices = Choices::new(count("seed") as u32);
    let size = count("size") as usize;
    let mut subset =
        |features: &Features| choices.without_replacement(features.count() as u32, size);
    let subsets: Vec<_> = (0..count("subsets"))
        .map(|_| [subset(&a), subset(&b)])
        .collect();
    let mut calls = 0;
    let found = kernel_distance(&a, &b, &subsets, &mut || calls += 1).expect("a distance");
    assert_eq!(calls, subsets.len());
    for (name, found) in [("mean", found.mean), ("deviation", found.deviation)] {
        let wanted = wanted[name].as_f64().expect("a number");
        assert!(
            (found - wanted).abs() < 1e-9 * wanted.abs(),
            "{name}: {found} {wanted}"
        );
    }
}
