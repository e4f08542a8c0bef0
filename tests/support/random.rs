//! Random weights that a few lines describe: the values that `tests/scripts/random_weights.py`
//! draws, whose card says how.
//!
//! Takes a file of lines `name shape mean spread` below a line of seed and checksum, returns the
//! safetensors file that they stand for, and panics where the checksum differs from Python's.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// γ of splitmix64 (Steele et al. 2014).
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The mean of the sum of four numbers of 16 bits, and its deviation, 65536 / √3.
const SUM: (f64, f64) = (131_070.0, 37_837.0);

/// The file of weights that the file at `path` describes, if it does.
pub(super) fn file(path: &Path) -> Option<PathBuf> {
    let described = path
        .extension()
        .is_some_and(|extension| extension == "random");
    described.then(|| path.with_extension(""))
}

/// The output function of splitmix64.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Word `index` of the sequence that starts from `state`.
fn word(state: u64, index: usize) -> u64 {
    mix(state.wrapping_add((index as u64 + 1).wrapping_mul(GAMMA)))
}

/// The state that a tensor's words start from.
fn state(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    mix(seed.wrapping_mul(GAMMA).wrapping_add(hash))
}

/// The bytes of the file that the lines at `path` describe.
pub(super) fn weights(path: &Path) -> Vec<u8> {
    let place = path.display();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{place}: {error}"));
    let mut lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let first = lines.next().unwrap_or_default();
    let ["seed", seed, "checksum", wanted] = first[..] else {
        panic!("{place} does not begin with a seed and a checksum");
    };
    let seed: u64 = seed.parse().expect("a number");
    let (mut count, mut checksum) = (0, 0u64);
    let mut tensors = Vec::new();
    for line in lines {
        let [name, shape, mean, spread] = line[..] else {
            panic!("{place}: {line:?} is no name, shape, mean and spread");
        };
        let shape = shape
            .split('x')
            .map(|extent| extent.parse().expect("an extent"));
        let shape: Vec<usize> = shape.collect();
        let [mean, spread] = [mean, spread].map(|x| x.parse::<f64>().expect("a number"));
        let state = state(seed, name);
        let mut bytes = Vec::new();
        for index in 0..shape.iter().product() {
            let word = word(state, index);
            let sum: u64 = (0..4).map(|part| (word >> (16 * part)) & 0xFFFF).sum();
            let value = (mean + spread * ((sum as f64 - SUM.0) / SUM.1)) as f32;
            checksum = checksum.wrapping_add(self::word(value.to_bits().into(), count));
            bytes.extend(value.to_le_bytes());
            count += 1;
        }
        tensors.push((name, shape, bytes));
    }
    assert_eq!(format!("{checksum:016x}"), wanted, "{place}: checksum");
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (*name, view.expect("as many bytes as the shape says"))
    });
    safetensors::serialize(views, None).expect("a safetensors file")
}
