//! What a micro-batch is fed: latents, conditions, noise, and the numbers of a method.
//!
//! Takes a batch, draws what nobody gave, drops captions; returns the inputs of a training step. It
//! knows a method by its draws and by whoever computes its numbers.

use std::collections::BTreeMap;

use compiler::graph::TensorType;
use compiler::program::training::names::{LATENTS, NOISE, STUDENT_SEES, UNCONDITIONAL};
use compiler::program::training::{Draw, Drawn};
use compiler::value::tensor::Tensor;
use thiserror::Error;

use super::draws::{Address, Draws, Purpose};

/// Tensors by name.
pub type Named = BTreeMap<String, Tensor>;

/// Samples of one micro-batch, and what was drawn for them elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Clean latents as the network sees them: f32 `[batch, channels, height, width]`.
    pub latents: Option<Tensor>,
    /// What conditions the networks, by the names of their inputs: `[batch, …]`.
    pub conditions: Named,
    /// The same without a caption: `[batch, …]`, or without the first axis.
    pub unconditional: Named,
    /// The noise, where it is given: as the latents.
    pub noise: Option<Tensor>,
    /// Numbers of the method, where they are given.
    pub drawn: Drawn,
}

/// Where a micro-batch stands in a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Updates before its own.
    pub step: u64,
    /// Micro-batches before it in its update.
    pub micro: u32,
}

/// What is drawn for micro-batches.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The random numbers.
    pub draws: Draws,
    /// What the method draws for each sample.
    pub method: Vec<Draw>,
    /// Samples of a micro-batch.
    pub batch: usize,
    /// How often a caption is dropped, 0 to 1.
    pub caption_dropout: f64,
}

/// Why a micro-batch cannot be fed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FeedError {
    /// Nothing gives an input.
    #[error("nothing gives the input {name:?} of the training step")]
    Missing {
        /// The input.
        name: String,
    },
    /// An input of another size.
    #[error("input {name:?} has shape {found:?}, expected {wanted}")]
    Shape {
        /// The input.
        name: String,
        /// Its extents.
        found: Vec<usize>,
        /// The type that the step declares.
        wanted: TensorType,
    },
    /// Numbers of the method that are not one per sample.
    #[error("found {found} numbers {name:?}, expected one for each of {wanted} samples")]
    Count {
        /// The draw.
        name: String,
        /// The numbers given.
        found: usize,
        /// The samples of a micro-batch.
        wanted: usize,
    },
    /// More updates than random numbers have addresses for.
    #[error("update {step} is beyond 2^32, the number of updates of a training")]
    TooLong {
        /// The update.
        step: u64,
    },
}

impl Feed {
    /// What the method draws, for the samples of the micro-batch at `place`.
    ///
    /// # Errors
    /// When the place is beyond the addresses of random numbers, or given numbers are not one per
    /// sample.
    pub fn drawn(&self, place: Place, given: &Drawn) -> Result<Drawn, FeedError> {
        if let Some((name, numbers)) = given.iter().find(|(_, own)| own.len() != self.batch) {
            return Err(FeedError::Count {
                name: name.clone(),
                found: numbers.len(),
                wanted: self.batch,
            });
        }
        let mut drawn = given.clone();
        for (index, draw) in self.method.iter().enumerate() {
            if drawn.contains_key(draw.name) {
                continue;
            }
            let purpose = Purpose::Method(index as u16);
            let mut numbers = Vec::with_capacity(self.batch);
            for sample in 0..self.batch {
                let mut uniforms = self.draws.uniforms(purpose, self.address(place, sample)?);
                let mut next = || uniforms.next().unwrap_or_default();
                numbers.push(draw.distribution.number([next(), next()]));
            }
            drawn.insert(draw.name.to_owned(), numbers);
        }
        Ok(drawn)
    }

    /// The inputs of the training step that are not numbers: latents, noise, conditions.
    ///
    /// # Errors
    /// When an input is missing or of another size.
    pub fn inputs(
        &self,
        place: Place,
        batch: &Batch,
        declared: &[(String, TensorType)],
    ) -> Result<Named, FeedError> {
        let own_captions = declared
            .iter()
            .any(|(name, _)| self.is_students(name, batch));
        let mut inputs = Named::new();
        for (name, ty) in declared {
            let given = if name == LATENTS {
                batch.latents.clone()
            } else if name == NOISE {
                Some(match &batch.noise {
                    Some(noise) => noise.clone(),
                    None => self.noise(place, ty)?,
                })
            } else if let Some(condition) = name.strip_prefix(UNCONDITIONAL) {
                let unconditional = batch.unconditional.get(condition);
                unconditional.map(|tensor| repeated(tensor, ty))
            } else if let Some(caption) = self.captions(name, batch) {
                let of_student = name.starts_with(STUDENT_SEES);
                match of_student || !own_captions {
                    true => Some(self.dropped(place, caption, batch, ty)?),
                    false => batch.conditions.get(caption).cloned(),
                }
            } else {
                // A number of the method or of the optimiser.
                continue;
            };
            let given = given.ok_or_else(|| FeedError::Missing { name: name.clone() })?;
            if ty.extents().is_none_or(|wanted| wanted != given.shape()) {
                return Err(FeedError::Shape {
                    name: name.clone(),
                    found: given.shape().to_vec(),
                    wanted: ty.clone(),
                });
            }
            inputs.insert(name.clone(), given);
        }
        Ok(inputs)
    }

    /// The condition that an input of the step is, for all networks or for the student alone.
    fn captions<'a>(&self, name: &'a str, batch: &Batch) -> Option<&'a str> {
        let condition = name.strip_prefix(STUDENT_SEES).unwrap_or(name);
        batch
            .conditions
            .contains_key(condition)
            .then_some(condition)
    }

    fn is_students(&self, name: &str, batch: &Batch) -> bool {
        name.starts_with(STUDENT_SEES) && self.captions(name, batch).is_some()
    }

    fn noise(&self, place: Place, ty: &TensorType) -> Result<Tensor, FeedError> {
        let shape = ty.extents().unwrap_or_default();
        let of_sample = shape.iter().skip(1).product();
        let mut noise = Vec::with_capacity(shape.iter().product());
        for sample in 0..shape.first().copied().unwrap_or(0) {
            let normals = self
                .draws
                .normals(Purpose::Noise, self.address(place, sample)?);
            noise.extend(normals.take(of_sample));
        }
        Ok(Tensor::from_f32(&shape, &noise))
    }

    /// A condition, of which some samples' captions are dropped: theirs is the unconditional one.
    fn dropped(
        &self,
        place: Place,
        condition: &str,
        batch: &Batch,
        ty: &TensorType,
    ) -> Result<Tensor, FeedError> {
        let own = &batch.conditions[condition];
        if self.caption_dropout == 0.0 {
            return Ok(own.clone());
        }
        let missing = || FeedError::Missing {
            name: format!("{UNCONDITIONAL}{condition}"),
        };
        let without = batch.unconditional.get(condition).ok_or_else(missing)?;
        let without = repeated(without, ty);
        if without.shape() != own.shape() || without.dtype() != own.dtype() {
            return Err(FeedError::Shape {
                name: missing().to_string(),
                found: without.shape().to_vec(),
                wanted: ty.clone(),
            });
        }
        let samples = own.shape().first().copied().unwrap_or(0);
        let bytes = own.bytes().len() / samples.max(1);
        let mut mixed = own.bytes().to_vec();
        for sample in 0..samples {
            let mut uniforms = self
                .draws
                .uniforms(Purpose::Dropout, self.address(place, sample)?);
            if uniforms.next().is_some_and(|u| u < self.caption_dropout) {
                let range = sample * bytes..(sample + 1) * bytes;
                mixed[range.clone()].copy_from_slice(&without.bytes()[range]);
            }
        }
        let mixed = Tensor::new(own.dtype(), own.shape().to_vec(), mixed.into());
        Ok(mixed.expect("it has the bytes of the condition"))
    }

    /// The address of a sample of a micro-batch.
    fn address(&self, place: Place, sample: usize) -> Result<Address, FeedError> {
        let before = u64::from(place.micro) * self.batch as u64;
        let too_long = |_| FeedError::TooLong { step: place.step };
        Ok(Address {
            step: u32::try_from(place.step).map_err(too_long)?,
            sample: u32::try_from(before + sample as u64).map_err(too_long)?,
        })
    }
}

/// A tensor once for every sample, if it has no axis of samples or one of length 1.
fn repeated(tensor: &Tensor, ty: &TensorType) -> Tensor {
    let wanted = ty.extents().unwrap_or_default();
    let Some((&samples, rest)) = wanted.split_first() else {
        return tensor.clone();
    };
    let is_one = tensor.shape() == rest
        || tensor
            .shape()
            .split_first()
            .is_some_and(|(&first, of)| first == 1 && of == rest);
    if !is_one || tensor.shape() == wanted {
        return tensor.clone();
    }
    let bytes = tensor.bytes().repeat(samples);
    let repeated = Tensor::new(tensor.dtype(), wanted, bytes.into());
    repeated.expect("it has the bytes of every sample")
}

#[cfg(test)]
mod tests {
    use compiler::DType;
    use compiler::program::training::Distribution;

    use super::*;

    fn feed(caption_dropout: f64) -> Feed {
        Feed {
            draws: Draws::new(3),
            method: vec![Draw {
                name: "timesteps",
                distribution: Distribution::OneOf(vec![19.0, 39.0]),
            }],
            batch: 2,
            caption_dropout,
        }
    }

    fn batch() -> Batch {
        let text = |x: f32| Tensor::from_f32(&[2, 1, 2], &[x; 4]);
        Batch {
            latents: Some(Tensor::from_f32(&[2, 1, 1, 1], &[1.0, 2.0])),
            conditions: Named::from([("text".to_owned(), text(7.0))]),
            unconditional: Named::from([(
                "text".to_owned(),
                Tensor::from_f32(&[1, 2], &[0.0, -1.0]),
            )]),
            ..Batch::default()
        }
    }

    fn declared(names: &[&str]) -> Vec<(String, TensorType)> {
        let image = || TensorType::new(DType::F32, [2, 1, 1, 1]);
        let text = || TensorType::new(DType::F32, [2, 1, 2]);
        let ty = |name: &&str| match *name {
            "latents" | "noise" => ((*name).to_owned(), image()),
            _ => ((*name).to_owned(), text()),
        };
        names.iter().map(ty).collect()
    }

    const AT: Place = Place { step: 4, micro: 1 };

    #[test]
    fn every_input_of_a_step_is_fed() {
        let names = ["latents", "noise", "text", "uncond.text"];
        let inputs = feed(0.0).inputs(AT, &batch(), &declared(&names));
        let inputs = inputs.expect("everything is given");
        assert_eq!(inputs.len(), 4);
        assert_eq!(
            inputs["uncond.text"],
            Tensor::from_f32(&[2, 1, 2], &[0.0, -1.0, 0.0, -1.0])
        );
        let later = Place { step: 5, micro: 1 };
        let again = feed(0.0).inputs(later, &batch(), &declared(&names));
        assert_ne!(again.expect("it is given")["noise"], inputs["noise"]);
    }

    #[test]
    fn dropped_captions_are_the_students_where_it_has_its_own() {
        let with = batch().conditions["text"].clone();
        let without = Tensor::from_f32(&[2, 1, 2], &[0.0, -1.0, 0.0, -1.0]);
        let all = |names: &[&str]| {
            let inputs = feed(1.0).inputs(AT, &batch(), &declared(names));
            inputs.expect("everything is given")
        };
        assert_eq!(all(&["text"])["text"], without);
        let inputs = all(&["text", "student.text"]);
        assert_eq!(inputs["text"], with);
        assert_eq!(inputs["student.text"], without);
    }

    #[test]
    fn given_numbers_are_one_per_sample() {
        let given = Drawn::from([("timesteps".to_owned(), vec![59.0, 79.0, 99.0])]);
        let refused = feed(0.0)
            .drawn(AT, &given)
            .err()
            .map(|error| error.to_string());
        let wanted = "found 3 numbers \"timesteps\", expected one for each of 2 samples";
        assert_eq!(refused.as_deref(), Some(wanted));
    }

    #[test]
    fn given_numbers_are_not_drawn() {
        let given = Drawn::from([("timesteps".to_owned(), vec![59.0, 79.0])]);
        let drawn = feed(0.0)
            .drawn(AT, &given)
            .expect("the place has an address");
        assert_eq!(drawn, given);
        let drawn = feed(0.0)
            .drawn(AT, &Drawn::new())
            .expect("it has an address");
        assert!(drawn["timesteps"].iter().all(|t| [19.0, 39.0].contains(t)));
    }
}
