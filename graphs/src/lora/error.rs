//! Why a LoRA file cannot be used.

use compiler::graph::TensorType;
use compiler::value::stored::ReadError;
use thiserror::Error;

use crate::checkpoint::CheckpointError;

/// Names that an error or a warning lists before it stops.
const LISTED_MAX: usize = 6;

/// Why a LoRA file cannot be used with a model.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LoraError {
    /// The file is not valid.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The settings in the file, or beside it, are not valid.
    #[error("the settings of {file:?} are not valid JSON: {reason}")]
    Settings {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// An alpha for modules that are not named in full.
    #[error("{file:?} has an alpha for the pattern {pattern:?}, expected a number for a name")]
    Pattern {
        /// The file.
        file: String,
        /// The pattern.
        pattern: String,
    },
    /// The file holds an adapter of another kind.
    #[error("{file:?} holds {kind} ({key:?}), expected plain LoRA layers")]
    Kind {
        /// The file.
        file: String,
        /// The kind.
        kind: &'static str,
        /// A key that is of this kind.
        key: String,
    },
    /// The file holds no layer.
    #[error("{file:?} holds no LoRA layers, found {}", listed(.found))]
    NoLayers {
        /// The file.
        file: String,
        /// Its keys.
        found: Vec<String>,
    },
    /// No layer fits the model.
    #[error(
        "no layer of {file:?} fits the model{}: {}",
        trained_for(*.base), listed(.layers)
    )]
    Misfit {
        /// The file.
        file: String,
        /// What the file seems to be trained for.
        base: Option<&'static str>,
        /// Its layers, as the file names them.
        layers: Vec<String>,
    },
    /// A layer has the name of a module, but not its shape.
    #[error(
        "layer {layer:?} of {file:?} changes a weight of {found:?}, but {module} has {wanted:?}{}",
        trained_for(*.base)
    )]
    Shape {
        /// The file.
        file: String,
        /// The layer, as the file names it.
        layer: String,
        /// The shape that its factors make.
        found: Vec<usize>,
        /// The component and the module.
        module: String,
        /// The shape of the module's weight.
        wanted: Vec<usize>,
        /// What the file seems to be trained for.
        base: Option<&'static str>,
    },
    /// The factors of a layer do not belong together.
    #[error(
        "layer {layer:?} of {file:?} has the factors {down} and {up}, expected floats \
         [rank, in, …] and [out, rank, …]"
    )]
    Factors {
        /// The file.
        file: String,
        /// The layer, as the file names it.
        layer: String,
        /// The type of the factor that is applied first.
        down: TensorType,
        /// The type of the other one.
        up: TensorType,
    },
    /// A layer lacks one of its factors.
    #[error("layer {layer:?} of {file:?} has one factor, expected two")]
    Unpaired {
        /// The file.
        file: String,
        /// The layer, as the file names it.
        layer: String,
    },
    /// Factors that are not numbers.
    #[error("layer {layer:?} of {file:?} holds {count} values that are NaN or infinite")]
    NotFinite {
        /// The file.
        file: String,
        /// The layer, as the file names it.
        layer: String,
        /// How many values.
        count: usize,
    },
    /// An alpha that is not a number.
    #[error("the alpha of layer {layer:?} of {file:?} is {found}, expected one finite number")]
    Alpha {
        /// The file.
        file: String,
        /// The layer, as the file names it.
        layer: String,
        /// What it is.
        found: String,
    },
    /// Two layers change one module.
    #[error("{file:?} has two layers for {module}: {:?} and {:?}", .layers[0], .layers[1])]
    Twice {
        /// The file.
        file: String,
        /// The component and the module.
        module: String,
        /// The layers, as the file names them.
        layers: [String; 2],
    },
}

impl LoraError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            LoraError::Checkpoint(error) => error.hint(),
            LoraError::Misfit { .. } | LoraError::Shape { .. } => {
                Some("choose a LoRA file that was trained for this model's architecture".to_owned())
            }
            LoraError::Kind { .. } => Some(
                "only plain LoRA is supported: merge this adapter into the model with the tool \
                 that made it"
                    .to_owned(),
            ),
            LoraError::Unpaired { .. }
            | LoraError::Factors { .. }
            | LoraError::NotFinite { .. } => Some("download the file again".to_owned()),
            LoraError::Read(_)
            | LoraError::Settings { .. }
            | LoraError::Pattern { .. }
            | LoraError::NoLayers { .. }
            | LoraError::Alpha { .. }
            | LoraError::Twice { .. } => None,
        }
    }
}

fn trained_for(base: Option<&'static str>) -> String {
    base.map_or(String::new(), |base| {
        format!("; the file appears to be trained for {base}")
    })
}

/// The first few of some names and how many more there are, or `nothing`.
pub fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED_MAX).map(String::as_str).collect();
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let more = match names.len().saturating_sub(shown.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}
