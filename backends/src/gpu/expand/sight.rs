//! Which keys a query sees: masks on scores before softmax.
//!
//! Takes scores with their queries and keys, gives them with masks applied. Where they are held it
//! does not know.

use compiler::kernel::{Binary, Builder, Scalar, Value};
use compiler::tile::BlockProgram;

use super::address::{self, Arguments, At, Width};

/// The least number: what no score is below.
pub(crate) const LEAST: f32 = f32::MIN;

/// What is done with scores before softmax.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaling {
    pub(crate) scale: f32,
    /// Whether a query sees no key after it.
    pub(crate) causal: bool,
    /// The view of what is added to scores, or of which keys are seen.
    pub(crate) mask: Option<usize>,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// Where keys end, if scores go beyond.
    pub(crate) end: Option<Value>,
    pub(crate) causal: bool,
    pub(crate) mask: Option<usize>,
    pub(crate) batch: Value,
    pub(crate) keys: usize,
}

impl Sight {
    /// Scores (F32x4) at four places, each a query and a key, with masks applied; and for each
    /// lane 1 where the key is seen and 0 where it is not, if that is ever so.
    pub(crate) fn apply(
        &self,
        b: &mut Builder,
        (arguments, program): (&Arguments<'_>, &BlockProgram),
        score: Value,
        places: &[(Value, Value)],
    ) -> (Value, Option<Value>) {
        if self.end.is_none() && !self.causal && self.mask.is_none() {
            return (score, None);
        }
        let (mut lanes, mut keeps) = (Vec::new(), Vec::new());
        for (lane, &(query, key)) in places.iter().enumerate() {
            let mut keep = None;
            if let Some(end) = self.end {
                let inside = b.binary(Binary::Less, key, end);
                keep = Some(b.joined(Binary::And, keep, inside));
            }
            if self.causal {
                let seen = b.binary(Binary::LessEqual, key, query);
                keep = Some(b.joined(Binary::And, keep, seen));
            }
            let mut own = b.extract(score, lane as u8);
            if let Some(mask) = self.mask {
                let view = &program.views[mask];
                let rows: usize = view.rows().iter().product();
                let row_exists = b.below(query, rows as i32);
                let key_exists = b.below(key, self.keys as i32);
                let valid = b.and(row_exists, key_exists);
                let zero = b.i32(0);
                let at = At {
                    batch: self.batch,
                    plane: zero,
                    row: query,
                    column: key,
                };
                let shown = arguments.read(b, view, at, Width::One, Some(valid));
                match view.access.dtype.is_float() {
                    true => own = b.add(own, shown),
                    false => {
                        let seen = address::truth(b, shown);
                        keep = Some(b.joined(Binary::And, keep, seen));
                    }
                }
            }
            if let Some(keep) = keep {
                let least = b.f32(LEAST);
                own = b.select(keep, own, least);
            }
            keeps.push(keep);
            lanes.push(own);
        }
        let keep = keeps.into_iter().collect::<Option<Vec<Value>>>();
        let keep = keep.map(|keep| {
            let keep = b.compose(&keep);
            b.convert(Scalar::F32, keep)
        });
        (b.compose(&lanes), keep)
    }
}
