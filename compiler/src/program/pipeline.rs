//! A diffusion pipeline as plain data: its networks, what each one is fed, and how prompts
//! condition the one that denoises.
//!
//! `graphs` writes it from a model's files, artifacts store it, `runtime` runs it. Stable Diffusion
//! 1, 2 and XL differ in these data alone: nobody asks for a component by its name. It holds no
//! graph, no weight and no path.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A pipeline, or the part of one that is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The class that wrote it, such as `StableDiffusionPipeline`, if it says so: it decides how
    /// old schedules are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The networks, in the order in which a run uses them.
    pub components: Vec<Component>,
    /// The latents that are denoised.
    pub latents: Latents,
    /// How prompts condition the denoising network.
    pub prompts: Prompts,
    /// The text of `scheduler_config.json`, to the letter: some hold what strict JSON refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// The class that the index of the pipeline names for it: it decides, not the file's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_class: Option<String>,
    /// How the denoising network was distilled, if its file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled: Option<Distilled>,
}

/// How a network was distilled, and how it wants to be sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distilled {
    /// The method.
    pub method: String,
    /// Steps that it is made for.
    pub steps: usize,
    /// The guidance scale to sample with in the standard form; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The guidance scale, or the range of them, that is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled_guidance: Option<String>,
    /// Time windows, for methods that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<usize>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name: the folder that diffusers and optimum keep it in.
    pub name: String,
    /// What a run uses it for.
    pub task: Task,
    /// What it is fed, in the order of its graph.
    pub inputs: Vec<Input>,
}

/// What a run uses a network for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Token ids to hidden states.
    EncodeText,
    /// One step from noise towards a picture.
    Denoise,
    /// Latents to pictures.
    Decode,
    /// Pictures to latents.
    EncodePicture,
    /// Nothing: a graph that is not part of a pipeline.
    Graph,
}

/// One input of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its name in the graph.
    pub name: String,
    /// What a run feeds it; `None` for an input that no run knows.
    pub role: Option<InputRole>,
    /// Its extents, outermost first.
    pub shape: Vec<Extent>,
}

/// What an input is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputRole {
    /// Ids of a tokenizer.
    TokenIds,
    /// Latents.
    Latents,
    /// Pictures.
    Picture,
    /// How noisy the latents are.
    Timestep,
    /// Hidden states of the text encoders, side by side.
    HiddenStates,
    /// Pooled text.
    PooledText,
    /// The numbers of [`Prompts::size_ids`].
    SizeIds,
    /// The embedding of the guidance scale.
    GuidanceScale,
}

/// One extent of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Pictures of a call.
    Batch,
    /// Rows of latents.
    LatentRows,
    /// Columns of latents.
    LatentColumns,
    /// Rows of pixels.
    PictureRows,
    /// Columns of pixels.
    PictureColumns,
    /// The same for every call.
    Fixed(usize),
}

/// The latents that are denoised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latents {
    /// Channels.
    pub channels: usize,
    /// Rows and columns if nothing else is asked for.
    pub size: [usize; 2],
    /// Pixels per latent along each axis.
    pub pixels: usize,
    /// The decoder is fed latents divided by this.
    pub scaling_factor: f64,
    /// What is added to them then.
    pub shift_factor: f64,
}

/// How prompts condition the denoising network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompts {
    /// The encoders whose hidden states are concatenated along features, in order.
    pub encoders: Vec<TextEncoder>,
    /// Whether a negative prompt that is not given means zeros instead of the empty text.
    pub absent_is_zero: bool,
    /// What size conditioning feeds, in order; empty for networks without it.
    pub size_ids: Vec<SizeId>,
    /// The guidance scale in the standard form if none is given.
    pub guidance_scale: f64,
}

/// How one network encodes prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextEncoder {
    /// The component.
    pub component: String,
    /// The folder of its tokenizer.
    pub tokenizer: String,
    /// The result that conditions: `[batch, tokens, features]`.
    pub hidden: String,
    /// The result that is the pooled text `[batch, features]`, of the one encoder that gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled: Option<String>,
    /// Entries of its vocabulary, where its configuration tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
}

/// One number of the size conditioning of SDXL (arXiv 2307.01952, section 2.2), in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeId {
    /// Rows of the original picture.
    OriginalHeight,
    /// Columns of the original picture.
    OriginalWidth,
    /// Rows cropped off at the top.
    CropTop,
    /// Columns cropped off at the left.
    CropLeft,
    /// Rows of the target.
    TargetHeight,
    /// Columns of the target.
    TargetWidth,
    /// The refiner's score, one for prompts and one for negative prompts.
    AestheticsScore,
}

/// Pictures and their size in latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentSize {
    /// Pictures; the denoising network sees twice as many under guidance.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Why a pipeline cannot run at a size, or is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PipelineError {
    /// An extent in pixels that is no whole number of latents.
    #[error(
        "the {axis} is {pixels} pixels, expected a positive multiple of {factor}\nhint: {} would do",
        nearest(*.pixels, *.factor)
    )]
    Pixels {
        /// `width` or `height`.
        axis: &'static str,
        /// The extent asked for.
        pixels: usize,
        /// Pixels per latent.
        factor: usize,
    },
    /// No picture at all.
    #[error("the batch is 0 pictures, expected at least 1")]
    NoPicture,
    /// More than any machine holds.
    #[error(
        "found {} pictures of {}x{} latents, expected at most {LATENTS_MAX} latents",
        .size.batch, .size.width, .size.height
    )]
    TooLarge {
        /// What was asked for.
        size: LatentSize,
    },
    /// An input that runs do not feed.
    #[error(
        "found input {input:?}, which sampling does not know\nhint: run this graph with splamc run"
    )]
    UnknownInput {
        /// The input.
        input: String,
    },
    /// The pipeline lacks a network.
    #[error("found {found:?}, expected {task} too")]
    Missing {
        /// The components that are there.
        found: Vec<String>,
        /// What is missing.
        task: Task,
    },
    /// A stored description that cannot be one.
    #[error("the description of the pipeline holds {what} that cannot be")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
}

/// The multiples of `factor` around `pixels`, in words.
fn nearest(pixels: usize, factor: usize) -> String {
    match pixels / factor * factor {
        0 => factor.to_string(),
        below => format!("{below} or {}", below.saturating_add(factor)),
    }
}

/// More latents than this are a typing mistake: 64 pictures of 4096×4096 pixels.
const LATENTS_MAX: usize = 64 * 512 * 512;

/// Greater counts are damage: no network has such an extent.
const COUNT_MAX: usize = 1 << 20;

impl Task {
    /// What a run calls a network for: a name of the call and its size. Encoders of pictures are
    /// called by none. `tile` is the size of what a decoder sees at once, if not of a whole
    /// picture.
    pub fn calls(
        self,
        size: LatentSize,
        tile: Option<[usize; 2]>,
    ) -> Vec<(&'static str, LatentSize)> {
        let guided = LatentSize {
            batch: size.batch * 2,
            ..size
        };
        let single = LatentSize { batch: 1, ..size };
        match self {
            Task::EncodeText => vec![("text", size)],
            Task::Denoise => vec![("step", size), ("guided_step", guided)],
            Task::Decode => vec![("decode", size.decoded(tile))],
            Task::EncodePicture => vec![("encode", single)],
            Task::Graph => vec![("graph", size)],
        }
    }

    /// Whether a run from a prompt to pictures uses such networks.
    pub fn is_sampled(self) -> bool {
        match self {
            Task::EncodeText | Task::Denoise | Task::Decode | Task::Graph => true,
            Task::EncodePicture => false,
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Task::EncodeText => "a text encoder",
            Task::Denoise => "a denoising network",
            Task::Decode => "a decoder",
            Task::EncodePicture => "an encoder of pictures",
            Task::Graph => "a graph",
        })
    }
}

impl Pipeline {
    /// The description of one graph, which has no part in a run.
    pub fn of_graph(graph: Component) -> Pipeline {
        Pipeline {
            class: None,
            components: vec![graph],
            latents: Latents {
                channels: 4,
                size: Latents::SIZE,
                pixels: 8,
                scaling_factor: 1.0,
                shift_factor: 0.0,
            },
            prompts: Prompts {
                encoders: Vec::new(),
                absent_is_zero: false,
                size_ids: Vec::new(),
                guidance_scale: 1.0,
            },
            scheduler: None,
            scheduler_class: None,
            distilled: None,
        }
    }

    /// The component of this name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|own| own.name == name)
    }

    /// The part of the pipeline that these components are.
    pub fn part(&self, names: &[&str]) -> Pipeline {
        let mut part = self.clone();
        let is_part = |name: &str| names.contains(&name);
        part.components.retain(|own| is_part(&own.name));
        let encoders = &mut part.prompts.encoders;
        encoders.retain(|encoder| is_part(&encoder.component));
        part
    }

    /// The first component for a task.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_task(&self, task: Task) -> Result<&Component, PipelineError> {
        let found = self.components.iter().find(|own| own.task == task);
        found.ok_or_else(|| PipelineError::Missing {
            found: self.components.iter().map(|own| own.name.clone()).collect(),
            task,
        })
    }

    /// Features of the embedded guidance scale, if the denoising network takes one.
    pub fn guidance_width(&self) -> Option<usize> {
        let denoiser = self.of_task(Task::Denoise).ok()?;
        match denoiser.input(InputRole::GuidanceScale)?.shape.last()? {
            Extent::Fixed(width) => Some(*width),
            Extent::Batch
            | Extent::LatentRows
            | Extent::LatentColumns
            | Extent::PictureRows
            | Extent::PictureColumns => None,
        }
    }

    /// Checks a description that was stored.
    ///
    /// # Errors
    /// When a count is not small and positive, a factor is not finite, two components have one
    /// name, or an encoder is no component.
    pub fn check(&self) -> Result<(), PipelineError> {
        let is_count = |count: usize| (1..=COUNT_MAX).contains(&count);
        let Latents {
            channels,
            size,
            pixels,
            scaling_factor,
            shift_factor,
        } = self.latents;
        let extents = self.components.iter().flat_map(|own| &own.inputs);
        let mut extents = extents.flat_map(|input| &input.shape);
        let is_fine = |extent: &Extent| match extent {
            Extent::Fixed(count) => is_count(*count),
            Extent::Batch
            | Extent::LatentRows
            | Extent::LatentColumns
            | Extent::PictureRows
            | Extent::PictureColumns => true,
        };
        let counts = [channels, size[0], size[1], pixels];
        let factors = [scaling_factor, shift_factor, self.prompts.guidance_scale];
        let is_unique = |(number, own): (usize, &Component)| {
            let mut before = self.components[..number].iter();
            before.all(|other| other.name != own.name)
        };
        let is_there = |encoder: &TextEncoder| self.component(&encoder.component).is_some();
        let holds = [
            (counts.into_iter().all(is_count), "a count"),
            (extents.all(is_fine), "an extent"),
            (factors.into_iter().all(f64::is_finite), "a factor"),
            (self.components.iter().enumerate().all(is_unique), "a name"),
            (self.prompts.encoders.iter().all(is_there), "an encoder"),
        ];
        match holds.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, what)) => Err(PipelineError::Damaged { what }),
        }
    }
}

impl Component {
    /// The input of a role.
    pub fn input(&self, role: InputRole) -> Option<&Input> {
        self.inputs.iter().find(|input| input.role == Some(role))
    }

    /// The shape of each input in a call of `size`.
    ///
    /// # Errors
    /// When there is an input that runs do not feed.
    pub fn shapes(
        &self,
        latents: &Latents,
        size: LatentSize,
    ) -> Result<Vec<(String, Vec<usize>)>, PipelineError> {
        let extent = |extent: &Extent| match extent {
            Extent::Batch => size.batch,
            Extent::LatentRows => size.height,
            Extent::LatentColumns => size.width,
            Extent::PictureRows => size.height.saturating_mul(latents.pixels),
            Extent::PictureColumns => size.width.saturating_mul(latents.pixels),
            Extent::Fixed(extent) => *extent,
        };
        let shape = |input: &Input| match input.role {
            Some(_) => Ok((input.name.clone(), input.shape.iter().map(extent).collect())),
            None => Err(PipelineError::UnknownInput {
                input: input.name.clone(),
            }),
        };
        self.inputs.iter().map(shape).collect()
    }
}

impl Latents {
    /// Rows and columns where nothing says otherwise: 512 pixels of most models.
    pub const SIZE: [usize; 2] = [64, 64];

    /// The size of pictures of so many pixels; the model's own where an extent is left out.
    ///
    /// # Errors
    /// When an extent is no positive multiple of the pixels per latent, there is no picture, or
    /// there are more latents than any machine holds.
    pub fn of_pixels(
        &self,
        batch: usize,
        width: Option<usize>,
        height: Option<usize>,
    ) -> Result<LatentSize, PipelineError> {
        let extent = |axis, pixels: Option<usize>, own| match pixels {
            Some(pixels) => self.extent(axis, pixels),
            None => Ok(own),
        };
        LatentSize {
            batch,
            height: extent("height", height, self.size[0])?,
            width: extent("width", width, self.size[1])?,
        }
        .checked()
    }

    /// Latents for `pixels` along one axis, called `axis` in errors.
    ///
    /// # Errors
    /// When they are not a positive multiple of the pixels per latent.
    pub fn extent(&self, axis: &'static str, pixels: usize) -> Result<usize, PipelineError> {
        let factor = self.pixels;
        match pixels > 0 && pixels.is_multiple_of(factor) {
            true => Ok(pixels / factor),
            false => Err(PipelineError::Pixels {
                axis,
                pixels,
                factor,
            }),
        }
    }
}

impl LatentSize {
    /// What a decoder sees at once: one picture, or a tile of it.
    pub fn decoded(self, tile: Option<[usize; 2]>) -> LatentSize {
        let [height, width] = tile.unwrap_or([self.height, self.width]);
        LatentSize {
            batch: 1,
            height,
            width,
        }
    }

    /// The same, if some machine can hold so many latents.
    ///
    /// # Errors
    /// When there is no picture, or there are too many latents.
    pub fn checked(self) -> Result<LatentSize, PipelineError> {
        if self.batch == 0 {
            return Err(PipelineError::NoPicture);
        }
        let rows = self.batch.checked_mul(self.height);
        match rows.and_then(|rows| rows.checked_mul(self.width)) {
            Some(latents) if latents <= LATENTS_MAX => Ok(self),
            Some(_) | None => Err(PipelineError::TooLarge { size: self }),
        }
    }
}
