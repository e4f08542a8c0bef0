//! A program with its weights, on its way from a model to a session.
//!
//! Plain data, and which weights are not finite.

use std::collections::BTreeMap;

use compiler::passes::Patch;
use compiler::program::Program;
use compiler::value::stored::ReadError;
use compiler::value::tensor::Tensor;
use runtime::staged::Staged;

/// A program and the tensors of its weights.
pub(crate) struct Loaded {
    /// The program.
    pub(crate) program: Program,
    /// The parts in which an artifact stores it.
    pub(crate) parts: Option<Staged>,
    /// Its weights, by name.
    pub(crate) weights: BTreeMap<String, Tensor>,
    /// What the passes did; nothing for a program that was compiled before.
    pub(crate) patches: Vec<Patch>,
}

/// The weights that hold NaN or infinity, with how many.
///
/// # Errors
/// When a file was cut or changed before it was read.
pub(crate) fn not_finite(
    weights: &BTreeMap<String, Tensor>,
) -> Result<Vec<(&str, usize)>, ReadError> {
    let counted = weights
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), tensor.fetched()?.not_finite())));
    let found = counted.filter(|counted| !matches!(counted, Ok((_, 0))));
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use compiler::value::stored::Stored;

    use super::*;

    /// A file that was cut, of which bytes in memory would not tell.
    #[derive(Debug)]
    struct Cut;

    impl Stored for Cut {
        fn read(&self) -> Result<Bytes, ReadError> {
            Err(ReadError {
                file: "weights".to_owned(),
                reason: "it was cut".to_owned(),
            })
        }
    }

    #[test]
    fn weights_are_counted_as_their_files_hold_them() {
        let nan = Tensor::from_f32(&[2], &[f32::NAN, 1.0]);
        let named = |tensor: &Tensor| BTreeMap::from([("w".to_owned(), tensor.clone())]);
        assert_eq!(not_finite(&named(&nan)), Ok(vec![("w", 1)]));
        assert!(not_finite(&named(&nan.stored(Arc::new(Cut)))).is_err());
    }
}
