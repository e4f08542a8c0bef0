//! How weights are cut into shards.
//!
//! Takes named tensors in order; gives runs of them, one for each shard. Never looks at the data.

use std::collections::BTreeMap;

use compiler::value::tensor::Tensor;

use crate::tensor_file::header_bytes_max;

/// Greatest length of a shard: half of WebGPU's default binding, and a size that web hosts and
/// caches take whole. A single tensor that is larger has a shard of its own.
const SHARD_BYTES_MAX: usize = 64 << 20;
/// Room for the header's length, braces and padding.
const HEADER_BYTES: usize = 128;

/// The component of a weight's name: what comes before the first `/`.
pub(super) fn component(name: &str) -> &str {
    name.split_once('/')
        .map_or(name, |(component, _)| component)
}

/// Cuts weights, in the order of their names, into shards of one component each, as full as they
/// get.
pub(super) fn shards(weights: &BTreeMap<String, Tensor>) -> Vec<Vec<(&str, &Tensor)>> {
    let mut shards: Vec<Vec<(&str, &Tensor)>> = Vec::new();
    let mut room = 0;
    let mut open = None;
    for (name, tensor) in weights {
        let needed = header_bytes_max(name, tensor).saturating_add(tensor.bytes().len());
        match shards.last_mut() {
            Some(shard) if needed <= room && open == Some(component(name)) => {
                shard.push((name, tensor));
                room -= needed;
            }
            Some(_) | None => {
                shards.push(vec![(name, tensor)]);
                room = (SHARD_BYTES_MAX - HEADER_BYTES).saturating_sub(needed);
                open = Some(component(name));
            }
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use compiler::DType;

    use super::*;

    #[test]
    fn shards_hold_one_component_and_little_more_than_their_share() {
        let check = |tensors: &[(&str, usize)], wanted: &[&[&str]]| {
            let zeros = Bytes::from(vec![0; 80 << 20]);
            let tensor = |bytes: usize| {
                Tensor::new(DType::U8, vec![bytes], zeros.slice(..bytes)).expect("the bytes fit")
            };
            let named = tensors.iter();
            let weights = named.map(|&(name, bytes)| (name.to_owned(), tensor(bytes)));
            let weights = weights.collect();
            let found: Vec<Vec<&str>> = shards(&weights)
                .into_iter()
                .map(|shard| shard.into_iter().map(|(name, _)| name).collect())
                .collect();
            assert_eq!(found, wanted);
        };
        let mib = 1 << 20;
        check(&[], &[]);
        check(
            &[("a/1", 30 * mib), ("a/2", 30 * mib), ("a/3", 30 * mib)],
            &[&["a/1", "a/2"], &["a/3"]],
        );
        check(
            &[("a/1", 32 * mib), ("a/2", 32 * mib)],
            &[&["a/1"], &["a/2"]],
        );
        check(&[("a/1", mib), ("b/1", mib)], &[&["a/1"], &["b/1"]]);
        check(
            &[("a/1", mib), ("a/2", 80 * mib), ("a/3", mib)],
            &[&["a/1"], &["a/2"], &["a/3"]],
        );
    }
}
