//! Draws from a file: the random numbers of each update, for parity with other implementations.
//!
//! Takes a safetensors file with `stepN.noise`, `stepN.timesteps` and the method's other draws, and
//! where it has them `stepN.latents`, `stepN.cond` and `stepN.uncond` in place of data; returns
//! batches. It draws nothing.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use compiler::program::training::Drawn;
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};
use runtime::training::feed::{Batch, Named, Place};
use runtime::training::run::Batches;

use crate::error::Failure;
use crate::tensors;

/// The draws of a file.
pub(crate) struct Draws {
    place: String,
    tensors: BTreeMap<String, Tensor>,
    /// Micro-batches of an update.
    accumulate: usize,
    /// Where what the file does not hold comes from.
    rest: Option<Box<dyn Batches>>,
}

/// The input that `stepN.cond` and `stepN.uncond` are.
const TEXT: &str = "encoder_hidden_states";

/// Tensors that are not draws of a method.
const TENSORS: [&str; 4] = ["latents", "noise", "cond", "uncond"];

impl Draws {
    /// Reads a file.
    pub(crate) fn open(path: &Path, accumulate: usize) -> Result<Draws, Failure> {
        let tensors = tensors::read(path)?;
        let draws = Draws {
            place: path.display().to_string(),
            tensors,
            accumulate,
            rest: None,
        };
        match draws.steps() {
            0 => {
                let found: Vec<&String> = draws.tensors.keys().take(4).collect();
                let message = format!("{}: found {found:?}, expected step0.noise", draws.place);
                Err(Failure::job(message))
            }
            _ => Ok(draws),
        }
    }

    /// Updates that the file has draws for.
    pub(crate) fn steps(&self) -> usize {
        let has = |step: &usize| {
            let mut names = self.names_of(*step as u64);
            names.next().is_some()
        };
        (0..).take_while(has).count()
    }

    /// Samples of a micro-batch.
    pub(crate) fn batch(&self) -> Option<usize> {
        let mut tensors = ["noise", "timesteps", "latents"].into_iter();
        let rows = tensors.find_map(|name| self.tensors.get(&format!("step0.{name}")))?;
        Some(rows.shape().first()? / self.accumulate)
    }

    /// Rows and columns of the latents, and tokens of the text, where the file holds them.
    pub(crate) fn sizes(&self) -> (Option<[usize; 2]>, Option<usize>) {
        let latents = ["latents", "noise"].into_iter();
        let mut latents = latents.filter_map(|name| self.tensors.get(&format!("step0.{name}")));
        let size = latents.next().and_then(|tensor| match tensor.shape() {
            [_, _, height, width] => Some([*height, *width]),
            _ => None,
        });
        let text = self.tensors.get("step0.cond");
        let tokens = text.and_then(|text| text.shape().get(1).copied());
        (size, tokens)
    }

    /// Whether the file holds latents and conditions, so that no data are read.
    pub(crate) fn holds_data(&self) -> bool {
        self.tensors.contains_key("step0.latents")
    }

    /// What the file does not hold comes from `rest`.
    pub(crate) fn with(mut self, rest: Option<Box<dyn Batches>>) -> Draws {
        self.rest = rest;
        self
    }

    /// The rows of a micro-batch of `stepN.<name>`.
    fn rows(&self, place: Place, name: &str) -> Result<Option<Tensor>, Box<dyn Error>> {
        let key = format!("step{}.{name}", place.step);
        let Some(tensor) = self.tensors.get(&key) else {
            return Ok(None);
        };
        if self.accumulate == 1 {
            return Ok(Some(tensor.clone()));
        }
        let rows = tensor.shape().first().copied().unwrap_or(0);
        if rows == 0 || rows % self.accumulate != 0 {
            let (file, parts) = (&self.place, self.accumulate);
            let message = format!("{file}: {key} has {rows} rows, expected a multiple of {parts}");
            return Err(message.into());
        }
        let share = rows / self.accumulate;
        let bytes = tensor.bytes().len() / self.accumulate;
        let start = place.micro as usize * bytes;
        let mut shape = tensor.shape().to_vec();
        shape[0] = share;
        let part = tensor.bytes().slice(start..start + bytes);
        Ok(Some(Tensor::new(tensor.dtype(), shape, part)?))
    }

    /// The names of the method's draws at an update.
    fn draws_of(&self, step: u64) -> Vec<String> {
        let draws = self
            .names_of(step)
            .filter(|name| !TENSORS.contains(&name.as_str()));
        draws.collect()
    }

    /// The names of an update's tensors, without the update.
    fn names_of(&self, step: u64) -> impl Iterator<Item = String> {
        let prefix = format!("step{step}.");
        let from = self.tensors.range(prefix.clone()..);
        from.map_while(move |(key, _)| key.strip_prefix(&prefix).map(str::to_owned))
    }
}

impl Batches for Draws {
    fn batch(&mut self, place: Place) -> Result<Batch, Box<dyn Error>> {
        let mut batch = match &mut self.rest {
            Some(rest) => rest.batch(place)?,
            None => Batch::default(),
        };
        if let Some(latents) = self.rows(place, "latents")? {
            batch.latents = Some(latents.cast(DType::F32));
        }
        if let Some(noise) = self.rows(place, "noise")? {
            batch.noise = Some(noise.cast(DType::F32));
        }
        let text = |tensor: Tensor| Named::from([(TEXT.to_owned(), tensor.cast(DType::F32))]);
        if let Some(cond) = self.rows(place, "cond")? {
            batch.conditions = text(cond);
        }
        let uncond = format!("step{}.uncond", place.step);
        if let Some(uncond) = self.tensors.get(&uncond) {
            // Without an axis of samples it is the same for all of them.
            batch.unconditional = match uncond.shape().len() {
                2 => text(uncond.clone()),
                _ => self.rows(place, "uncond")?.map(text).unwrap_or_default(),
            };
        }
        let mut drawn = Drawn::new();
        for name in self.draws_of(place.step) {
            let Some(tensor) = self.rows(place, &name)? else {
                continue;
            };
            let numbers = match tensor.values() {
                Values::Float(values) => values,
                Values::Int(values) => values.iter().map(|&value| value as f64).collect(),
                Values::Bool(_) => {
                    let key = format!("step{}.{name}", place.step);
                    return Err(format!("{}: {key} holds no numbers", self.place).into());
                }
            };
            drawn.insert(name, numbers);
        }
        batch.drawn = drawn;
        Ok(batch)
    }
}
