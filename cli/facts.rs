//! What a run must know of a model beside its graphs, and the shapes that follow from it.
//!
//! Takes configurations and the sizes that a user asks for, gives checked sizes and the shape of
//! each input of a component.

use compiler::Dim;
use compiler::graph::TensorType;
use graphs::diffusers::Network;
use runtime::tiling::Tiling;

use crate::error::Failure;
use crate::options::ComponentName;

/// What sampling must know of a pipeline beside its graphs.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The class of the pipeline, if it says so: it decides how old files are read.
    pub(crate) pipeline: Option<String>,
    /// `scheduler_config.json`, verbatim.
    pub(crate) scheduler: Option<String>,
    /// The decoder is fed latents divided by this.
    pub(crate) scaling_factor: f64,
    /// What is added to them then.
    pub(crate) shift_factor: f64,
    /// Channels of the latents.
    pub(crate) latent_channels: usize,
    /// Pixels per latent along each axis.
    pub(crate) vae_scale: usize,
    /// Rows and columns of the latents that the network was made for.
    pub(crate) latent_size: [usize; 2],
    /// The width of `timestep_cond`, if the network has that input.
    pub(crate) timestep_cond: Option<usize>,
    /// The tokens of a prompt.
    pub(crate) tokens: usize,
}

impl Facts {
    /// Latents for `pixels` along one axis.
    pub(crate) fn latent_extent(&self, axis: &str, pixels: usize) -> Result<usize, Failure> {
        match pixels {
            0 => Err(Failure::usage(format!(
                "the {axis} is 0 pixels, wanted at least {}",
                self.vae_scale
            ))),
            _ if pixels.is_multiple_of(self.vae_scale) => Ok(pixels / self.vae_scale),
            _ => {
                let below = pixels / self.vae_scale * self.vae_scale;
                let message = format!(
                    "the {axis} is {pixels} pixels, wanted a multiple of {}",
                    self.vae_scale
                );
                Err(Failure::usage(message)
                    .hint(format!("{below} or {} would do", below + self.vae_scale)))
            }
        }
    }
}

/// Sizes of a run, in latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Pictures; the denoising network sees twice as many under guidance.
    pub(crate) batch: usize,
    /// Rows of latents.
    pub(crate) height: usize,
    /// Columns of latents.
    pub(crate) width: usize,
}

impl Sizes {
    /// The sizes that options in pixels ask for; the model's own where they are left out.
    pub(crate) fn of(
        facts: &Facts,
        batch: usize,
        width: Option<usize>,
        height: Option<usize>,
    ) -> Result<Sizes, Failure> {
        let extent = |axis: &str, pixels: Option<usize>, own: usize| match pixels {
            Some(pixels) => facts.latent_extent(axis, pixels),
            None => Ok(own),
        };
        let [own_height, own_width] = facts.latent_size;
        let sizes = Sizes {
            batch,
            height: extent("height", height, own_height)?,
            width: extent("width", width, own_width)?,
        };
        sizes.check()?;
        Ok(sizes)
    }

    /// Those of one tile of a picture.
    pub(crate) fn tile(self, tiling: &Tiling) -> Sizes {
        let [height, width] = tiling.tile();
        Sizes {
            batch: 1,
            height,
            width,
        }
    }

    /// Refuses sizes that no machine can hold, before anything is allocated.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let Sizes {
            batch,
            height,
            width,
        } = *self;
        if batch == 0 {
            return Err(Failure::usage(
                "found a batch of 0 pictures, wanted at least 1",
            ));
        }
        let latents = batch
            .checked_mul(height)
            .and_then(|rows| rows.checked_mul(width));
        match latents {
            Some(latents) if latents <= LATENTS_MAX => Ok(()),
            Some(_) | None => {
                let found = format!("{batch} pictures of {width}x{height} latents");
                Err(Failure::usage(format!(
                    "found {found}, wanted at most {LATENTS_MAX} latents"
                )))
            }
        }
    }
}

/// More latents than this are a slip of the keyboard: 64 pictures of 4096×4096 pixels.
const LATENTS_MAX: usize = 64 * 512 * 512;

/// Text length where no graph says otherwise: CLIP's.
pub(crate) const TOKENS: usize = 77;

/// Latents along each axis where no configuration says otherwise: 512 pixels.
pub(crate) const LATENT_SIZE: [usize; 2] = [64, 64];

/// Takes what a component's configuration says of a run.
pub(crate) fn describe(network: &Network, facts: &mut Facts) {
    match network {
        Network::Unet(config) => {
            facts.latent_channels = config.in_channels;
            facts.timestep_cond = config.condition_width;
            facts.latent_size = config.sample_size.unwrap_or(LATENT_SIZE);
        }
        Network::VaeDecoder(config) => {
            facts.scaling_factor = config.scaling_factor;
            facts.shift_factor = config.shift_factor;
            facts.vae_scale = config.factor();
        }
        Network::VaeEncoder(_) => {}
        Network::TextEncoder(config) => facts.tokens = config.tokens,
    }
}

/// The shape of each input of a component in a run of `sizes`: what the graph leaves open is
/// filled in.
pub(crate) fn shapes(
    component: ComponentName,
    declared: &[(String, TensorType)],
    sizes: Sizes,
    facts: &Facts,
) -> Result<Vec<Vec<usize>>, Failure> {
    let batch_symbol = declared.first().and_then(|(_, ty)| ty.shape.first());
    let shape = |(name, ty): &(String, TensorType)| {
        let Some(usual) = run_shape(component, name, ty, sizes, facts) else {
            let message = format!("found input {name:?}: {ty}, which sampling does not know");
            return Err(Failure::job(message).hint("run this graph with splamc run"));
        };
        let extent = |(dim, usual): (&Dim, Option<usize>)| {
            // A list of timesteps is as long as the batch where the graph says so, else 1.
            let open = if Some(dim) == batch_symbol {
                sizes.batch
            } else {
                1
            };
            dim.extent().or(usual).unwrap_or(open)
        };
        Ok(ty.shape.iter().zip(usual).map(extent).collect())
    };
    declared.iter().map(shape).collect()
}

/// The shape that a run of `sizes` gives an input of a component; `None` for extents that are the
/// graph's own, and for inputs that sampling does not know.
pub(crate) fn run_shape(
    component: ComponentName,
    name: &str,
    ty: &TensorType,
    sizes: Sizes,
    facts: &Facts,
) -> Option<Vec<Option<usize>>> {
    let Sizes {
        batch,
        height,
        width,
    } = sizes;
    let [high, wide] = [height, width].map(|latents| latents.saturating_mul(facts.vae_scale));
    let [batch, high, wide] = [batch, high, wide].map(Some);
    match (component, name, ty.rank()) {
        (ComponentName::VaeEncoder, "sample", 4) => Some(vec![batch, Some(3), high, wide]),
        (_, "sample" | "latent_sample", 4) => Some(vec![
            batch,
            Some(facts.latent_channels),
            Some(height),
            Some(width),
        ]),
        (_, "timestep", 0) => Some(vec![]),
        (_, "timestep", 1) => Some(vec![None]),
        (_, "input_ids", 2) => Some(vec![batch, Some(facts.tokens)]),
        (_, "encoder_hidden_states", 3) => Some(vec![batch, Some(facts.tokens), None]),
        (_, "timestep_cond" | "text_embeds" | "time_ids", 2) => Some(vec![batch, None]),
        (_, _, _) => None,
    }
}
