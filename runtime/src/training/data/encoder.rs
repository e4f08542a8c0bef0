//! The encoders of a pipeline: pictures to posteriors, captions to what conditions the denoiser.
//!
//! Takes sessions of the autoencoder's encoder and of the text encoders with their tokenizers. It
//! encodes one sample at a time.

use std::collections::BTreeMap;

use compiler::program::pipeline::{Component, InputRole, Pipeline, Task, TextEncoder};
use compiler::value::tensor::Tensor;

use super::error::DataError;
use crate::pipeline::{
    PictureSizes, Posterior, SamplingError, Text, condition, encode, encode_picture,
};
use crate::session::{Session, SessionError};
use crate::tokenizer::Tokenizer;

/// Opens the encoders, on the thread that uses them: sessions stay on theirs.
pub type OpenEncoder = Box<dyn FnOnce() -> Result<Encoder, SessionError> + Send>;

/// The loaded encoders of a pipeline.
pub struct Encoder {
    /// In the order of the pipeline's text encoders.
    pub texts: Vec<TextNetwork>,
    /// One for each size of pictures.
    pub pictures: Vec<PictureNetwork>,
}

/// A text encoder, loaded for one caption.
pub struct TextNetwork {
    /// Its program, for a batch of 1.
    pub session: Session,
    /// What makes token ids of captions.
    pub tokenizer: Tokenizer,
}

/// An encoder of pictures, loaded for one picture of one size.
pub struct PictureNetwork {
    /// Rows and columns, in pixels.
    pub size: [usize; 2],
    /// Its program, for a batch of 1.
    pub session: Session,
}

/// The networks of a pipeline that data are prepared by and for.
pub(super) struct Roles<'a> {
    pipeline: &'a Pipeline,
    denoiser: &'a Component,
    encoder: &'a Component,
}

impl<'a> Roles<'a> {
    /// Those of a pipeline.
    ///
    /// # Errors
    /// When the pipeline has no denoiser or no encoder of pictures.
    pub(super) fn of(pipeline: &'a Pipeline) -> Result<Roles<'a>, DataError> {
        Ok(Roles {
            pipeline,
            denoiser: pipeline.of_task(Task::Denoise)?,
            encoder: pipeline.of_task(Task::EncodePicture)?,
        })
    }

    /// What the denoiser is fed for `what`, whose texts and sizes these are, by its inputs' names:
    /// f32 `[1, …]`.
    ///
    /// # Errors
    /// When texts do not fit one another.
    pub(super) fn conditions(
        &self,
        texts: &[Text],
        sizes: &PictureSizes,
        what: &str,
    ) -> Result<BTreeMap<String, Tensor>, DataError> {
        let conditions = condition(self.pipeline, self.denoiser, texts, (sizes, false), None);
        conditions.map_err(|source| failed(what, source))
    }
}

impl Encoder {
    /// The posterior of the picture `what` `[1, 3, rows, columns]`.
    ///
    /// # Errors
    /// When no network is loaded for its size, or the network fails.
    pub(super) fn posterior(
        &self,
        roles: &Roles<'_>,
        picture: &Tensor,
        what: &str,
    ) -> Result<Posterior, DataError> {
        let shape = |own: &PictureNetwork| [1, 3, own.size[0], own.size[1]];
        let is_own = |own: &&PictureNetwork| picture.shape() == shape(own);
        let posterior = match self.pictures.iter().find(is_own) {
            Some(network) => encode_picture(&network.session, roles.encoder, picture),
            None => Err(SamplingError::Shape {
                what: "a picture",
                found: picture.shape().to_vec(),
                wanted: self
                    .pictures
                    .first()
                    .map_or(Vec::new(), |own| shape(own).to_vec()),
            }),
        };
        posterior.map_err(|source| failed(what, source))
    }

    /// What each text encoder makes of a caption, which is cut where it is too long.
    ///
    /// # Errors
    /// When the tokenizer refuses it, or a network fails.
    pub(super) fn texts(&self, roles: &Roles<'_>, caption: &str) -> Result<Vec<Text>, DataError> {
        let encoders = roles.pipeline.prompts.encoders.iter();
        let networks = self.texts.iter().zip(encoders);
        networks
            .map(|(network, encoder)| network.text(encoder, caption))
            .collect()
    }

    /// What stands for no caption, without the inputs that hold sizes: zeros or the empty text, f32
    /// `[1, …]`.
    ///
    /// # Errors
    /// As [`Encoder::texts`].
    pub(super) fn unconditional(
        &self,
        roles: &Roles<'_>,
    ) -> Result<BTreeMap<String, Tensor>, DataError> {
        let mut texts = self.texts(roles, "")?;
        if roles.pipeline.prompts.absent_is_zero {
            texts = texts.iter().map(Text::zeros).collect();
        }
        let sizes = PictureSizes {
            original: [0, 0],
            crop: [0, 0],
            target: [0, 0],
        };
        let mut conditions = roles.conditions(&texts, &sizes, "")?;
        if let Some(sizes) = roles.denoiser.input(InputRole::SizeIds) {
            conditions.remove(&sizes.name);
        }
        Ok(conditions)
    }
}

impl TextNetwork {
    fn text(&self, encoder: &TextEncoder, caption: &str) -> Result<Text, DataError> {
        let ids = self.tokenizer.encode(caption)?.ids;
        let vocabulary = encoder.vocabulary;
        let vocabulary = vocabulary.unwrap_or_else(|| self.tokenizer.vocabulary());
        if let Some(token) = ids.iter().find(|id| **id >= vocabulary as i64) {
            return Err(DataError::Token {
                token: *token,
                caption: caption.to_owned(),
                component: encoder.component.clone(),
                vocabulary,
            });
        }
        let ids = Tensor::from_i64(&[1, ids.len()], &ids);
        encode(&self.session, encoder, &ids).map_err(|source| failed(caption, source))
    }
}

/// The error of a network that was given `what`.
fn failed(what: &str, source: SamplingError) -> DataError {
    DataError::Network {
        what: what.to_owned(),
        source,
    }
}
