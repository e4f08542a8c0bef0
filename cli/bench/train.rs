//! `splamc bench --train METHOD`: a whole training step as one program.
//!
//! Takes a pipeline's denoising network as the teacher; returns the program of one step of a student
//! that begins as the teacher, and the numbers that it is fed. It trains nothing: every run is the
//! same step.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::program::pipeline::LatentSize;
use compiler::program::training::Drawn;
use compiler::value::tensor::Tensor;
use graphs::distill;
use graphs::distill::settings::Values;
use runtime::training::draws::Draws;
use runtime::training::feed::{Feed, Place};
use runtime::training::run::Recipe;

use crate::error::{At, Failure};
use crate::loaded::Loaded;
use crate::model::Model;
use crate::teacher;
use crate::train::settings::{GENERAL, texts_of};
use crate::train::step::{self, Start};

/// A step, and what it is fed.
pub(super) struct Training {
    /// The program with the teacher's weights and the first states.
    pub(super) loaded: Loaded,
    /// Numbers; what is missing may be anything.
    pub(super) inputs: BTreeMap<String, Tensor>,
}

/// The program of one step of a method, whose settings are its defaults but for those `set`.
pub(super) fn load(
    model: &Model,
    method: &str,
    set: &[(String, String)],
    size: LatentSize,
) -> Result<Training, Failure> {
    /// The seed of what is drawn.
    const SEED: u64 = 0;
    let entry = distill::method(method).map_err(Failure::usage)?;
    let mut given = texts_of(entry.defaults);
    given.extend(set.iter().cloned());
    let general = Values::of(GENERAL.iter().copied(), &given).map_err(Failure::usage)?;
    let teacher = teacher::of(model)?;
    let method = entry.set(&given, &teacher).map_err(Failure::usage)?;
    let start = Start {
        model,
        student: None,
        ema: None,
        sizes: vec![step::sizes(model, size)?],
        dtype: DType::F32,
        seed: SEED,
        probed: false,
    };
    let mut step = step::build(&start, method, teacher, &general)?;
    let loaded = step.loaded.remove(0);
    let numbers = &step.numbers;
    let feed = Feed {
        draws: Draws::new(SEED),
        method: numbers
            .method
            .draws(&numbers.teacher.schedule)
            .map_err(Failure::usage)?,
        batch: size.batch,
        caption_dropout: 0.0,
    };
    let drawn = feed.drawn(Place { step: 0, micro: 0 }, &Drawn::new());
    let drawn = drawn.at(model.place())?;
    let mut inputs = numbers.numbers(&drawn).map_err(Failure::job)?;
    inputs.extend(numbers.scalars(0, 0, true));
    let program = &loaded.program;
    let declared = program.executable().inputs();
    inputs.retain(|name, _| declared.iter().any(|(own, _)| own == name));
    Ok(Training { loaded, inputs })
}
