//! Features of pictures: what a network computes of them.
//!
//! Takes a session of any graph with one input `[batch, 3, rows, columns]`, and pictures as numbers;
//! returns a row of features for each. Which network it is does not matter.

use std::collections::BTreeMap;

use compiler::graph::TensorType;
use compiler::value::tensor::{Tensor, Values};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use thiserror::Error;

use crate::pictures::{Picture, PictureRule};
use crate::pipeline::ports::floats;
use crate::session::{Session, SessionError};
use crate::training::data::{PictureSet, Unreadable};

/// Channels of pictures.
const CHANNELS: usize = 3;

/// A network that is loaded to compute features.
pub struct FeatureNetwork {
    session: Session,
    /// The name and type of its input.
    input: (String, TensorType),
    /// Pictures of a call.
    batch: usize,
    /// Rows and columns of a picture.
    size: [usize; 2],
    /// The result that holds the features; the first one if not given.
    output: Option<String>,
}

/// Why a network does not compute features of pictures.
#[derive(Debug, Error)]
pub enum FeatureError {
    /// It fails.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Its inputs are not one picture.
    #[error("the network has the inputs {found:?}; expected one of [batch, 3, rows, columns]")]
    Inputs {
        /// The inputs with their types.
        found: Vec<String>,
    },
    /// It has no such output.
    #[error("the network has the outputs {found:?}; expected {wanted:?} among them")]
    Output {
        /// The outputs.
        found: Vec<String>,
        /// The one wanted.
        wanted: String,
    },
    /// The output has no row for each picture.
    #[error("the output has shape {found:?}; expected [{batch}, features]")]
    Shape {
        /// Its shape.
        found: Vec<usize>,
        /// Pictures of the call.
        batch: usize,
    },
}

/// The features of some pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRows {
    /// Features of a picture.
    pub width: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

impl FeatureNetwork {
    /// The network of a session; its features are the output of this name, or the first one.
    ///
    /// # Errors
    /// When its inputs are not one batch of pictures.
    pub fn new(session: Session, output: Option<String>) -> Result<FeatureNetwork, FeatureError> {
        let inputs = session.inputs();
        let shape = match inputs {
            [(_, ty)] => ty.extents().unwrap_or_default(),
            _ => Vec::new(),
        };
        let ([(name, ty)], &[batch, CHANNELS, rows, columns]) = (inputs, &shape[..]) else {
            let found = inputs.iter().map(|(name, ty)| format!("{name} {ty}"));
            return Err(FeatureError::Inputs {
                found: found.collect(),
            });
        };
        Ok(FeatureNetwork {
            input: (name.clone(), ty.clone()),
            batch,
            size: [rows, columns],
            output,
            session,
        })
    }

    /// The most pictures of a call.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Rows and columns of a picture.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The numbers `[3, rows, columns]` of pictures as the network takes them, read and decoded by
    /// several threads; of each an error that cannot be read.
    pub fn numbers(
        &self,
        pictures: &PictureSet,
        samples: &[usize],
        rule: &PictureRule,
    ) -> Vec<Result<Vec<f32>, Unreadable>> {
        let (samples, size) = (samples.par_iter(), self.size);
        let numbers = samples.map(|sample| {
            let picture = Picture::decode(&pictures.file(*sample)?)?;
            Ok(rule.numbers(&picture, size)?)
        });
        numbers.collect()
    }

    /// The features of pictures `[3, rows, columns]`, at most as many as a call takes; what is
    /// missing to a call is filled with zeros and left out.
    ///
    /// # Errors
    /// When the network fails, has no such output, or the output has no row for each picture.
    ///
    /// # Panics
    /// When there are more pictures than a call takes, or one has another size: the caller knows.
    pub fn features(&self, pictures: &[Vec<f32>]) -> Result<FeatureRows, FeatureError> {
        let [rows, columns] = self.size;
        let picture = CHANNELS * rows * columns;
        assert!(
            pictures.len() <= self.batch,
            "a call takes at most its batch of pictures"
        );
        assert!(
            pictures.iter().all(|own| own.len() == picture),
            "their size is known"
        );
        let mut values = pictures.concat();
        values.resize(self.batch * picture, 0.0);
        let (name, ty) = &self.input;
        let values = Values::Float(values.into_iter().map(f64::from).collect());
        let shape = [self.batch, CHANNELS, rows, columns];
        let seen = Tensor::from_values(ty.dtype, &shape, &values);
        let results = self.session.run(&BTreeMap::from([(name.clone(), seen)]))?;
        let features = match &self.output {
            None => results.first(),
            Some(wanted) => results.iter().find(|(name, _)| name == wanted),
        };
        let Some((_, features)) = features else {
            return Err(FeatureError::Output {
                found: results.into_iter().map(|(name, _)| name).collect(),
                wanted: self.output.clone().unwrap_or_default(),
            });
        };
        let width = features.elements() / self.batch.max(1);
        if features.shape().first() != Some(&self.batch) || width == 0 {
            return Err(FeatureError::Shape {
                found: features.shape().to_vec(),
                batch: self.batch,
            });
        }
        let mut values = floats(features);
        values.truncate(pictures.len() * width);
        Ok(FeatureRows { width, values })
    }
}
