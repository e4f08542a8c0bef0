//! The room `graphs`: WHAT is computed.
//!
//! Takes models from a [`source::Source`], gives functions of the graph IR with their weights.
//! It opens no file, holds no kernel, knows no device and runs no loop over time.

use compiler::graph::GraphError;
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::models::ConfigError;
use crate::source::SourceError;

pub mod checkpoint;
pub mod clip_model;
pub mod diffusers;
pub mod distill;
pub mod distilled;
pub mod evaluate;
pub mod guidance;
mod imported;
pub mod ldm_names;
pub mod lora;
pub mod loss;
pub mod models;
pub mod noise_schedule;
pub mod onnx;
pub mod optimizer;
mod optimum;
pub mod pipeline;
pub mod pipeline_class;
pub mod samplers;
pub mod source;

pub use imported::Imported;

/// Why a model cannot be imported.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ImportError {
    /// There is nothing to import.
    #[error(
        "found neither model_index.json nor the folder of a network nor a network's config.json"
    )]
    NoModel,
    /// A file cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The numbers of a configuration do not fit each other.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An ONNX graph cannot be used.
    #[error(transparent)]
    Onnx(#[from] onnx::ImportError),
    /// The pipeline is not one that turns prompts into pictures.
    #[error("found {found}, expected a text-to-image pipeline of Stable Diffusion 1, 2 or XL")]
    Kind {
        /// The class, or what its network is for.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// A component cannot be used.
    #[error("{component}: {error}")]
    Component {
        /// Its name.
        component: String,
        /// Why.
        error: Box<ImportError>,
    },
}

impl ImportError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            ImportError::Kind { hint, .. } => Some((*hint).to_owned()),
            ImportError::Checkpoint(error) => error.hint(),
            ImportError::Component { error, .. } => error.hint(),
            ImportError::NoModel
            | ImportError::Config(_)
            | ImportError::Source(_)
            | ImportError::Graph(_) => None,
            ImportError::Onnx(error) => error.hint(),
        }
    }

    /// The same error as that of a component.
    pub(crate) fn of(self, component: &str) -> ImportError {
        ImportError::Component {
            component: component.to_owned(),
            error: Box::new(self),
        }
    }
}
