//! Reads the configuration of a `UNet2DConditionModel` as diffusers 0.1 to 0.42 write it.
//!
//! Takes the text of `config.json`, gives a [`Config`]. Every key is used, known not to matter,
//! refused by name, or listed as ignored.

use serde_json::{Value, json};

use crate::models::embedding::Sinusoid;
use crate::models::fields::{ConfigError, Fields, as_count};
use crate::models::resnet::Padding;
use crate::models::transformer::Attention;
use crate::models::unet::{Added, Config, Level, Mid};

/// Most levels of resolution; each halves height and width.
const LEVELS_MAX: usize = 8;
/// Most residual blocks of a level, and the largest kernel: a hostile file must not build forever.
const LAYERS_MAX: usize = 16;
/// Most blocks of one transformer, for the same reason.
const DEPTH_MAX: usize = 32;
/// Most features of anything.
const WIDTH_MAX: usize = 1 << 16;
/// Numbers in SDXL's `time_ids`: height and width, crop's top and left, target height and width.
const TIME_IDS: usize = 6;
/// The same of the refiner: the aesthetics score stands for the target's size.
const TIME_IDS_REFINER: usize = 5;

/// Keys that do not change the function: `dropout` is of training; attention accumulates in f32
/// whether `upcast_attention` is set or not; `addition_embed_type_num_heads` and
/// `mid_block_only_cross_attention` concern variants that are refused by other keys; the rest is
/// what a trainer's moving average adds.
const IRRELEVANT: [&str; 11] = [
    "dropout",
    "upcast_attention",
    "addition_embed_type_num_heads",
    "mid_block_only_cross_attention",
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
];

impl Config {
    /// The configuration in `text`, the contents of `file`.
    ///
    /// # Errors
    /// When a key asks for a variant that is not built, naming it.
    ///
    /// # Source
    /// diffusers `UNet2DConditionModel.__init__`: its keys and their defaults.
    pub fn parse(file: &str, text: &[u8]) -> Result<Config, ConfigError> {
        let mut fields = Fields::parse(file, text)?;
        refuse_variants(&mut fields)?;
        fields.irrelevant(&IRRELEVANT);
        let channels = fields.counts(
            "block_out_channels",
            &[320, 640, 1280, 1280],
            LEVELS_MAX,
            WIDTH_MAX,
        )?;
        if channels[0] % 2 != 0 {
            let found = json!(channels);
            return Err(fields.refuse("block_out_channels", &found, "an even first number"));
        }
        let levels = Levels::read(&mut fields, channels)?;
        let kernels = [
            kernel(&mut fields, "conv_in_kernel")?,
            kernel(&mut fields, "conv_out_kernel")?,
        ];
        let mut config = Config {
            in_channels: fields.count("in_channels", 4, WIDTH_MAX)?,
            out_channels: fields.count("out_channels", 4, WIDTH_MAX)?,
            sample_size: sample_size(&mut fields)?,
            center_input: fields.flag("center_input_sample", false)?,
            kernels,
            groups: levels.groups,
            epsilon: fields.number("norm_eps", 1e-5)?,
            text_width: text_width(&mut fields, levels.channels.len())?,
            sinusoid: Sinusoid {
                cosine_first: fields.flag("flip_sin_to_cos", true)?,
                shift: frequency_shift(&mut fields, levels.channels[0])?,
            },
            time_width: fields.count("time_embedding_dim", 4 * levels.channels[0], WIDTH_MAX)?,
            condition_width: fields.optional_count("time_cond_proj_dim", WIDTH_MAX)?,
            added: added(&mut fields)?,
            padding: padding(&mut fields)?,
            down: levels.down(&fields)?,
            mid: levels.mid(&mut fields)?,
            up: levels.up(&mut fields)?,
            ignored: Vec::new(),
        };
        config.ignored = fields.finish();
        Ok(config)
    }

    /// Takes the aesthetics score for the target's height and width, as SDXL's refiner does; the
    /// pooled text has the features that are left.
    pub fn use_aesthetics_score(&mut self) {
        if let Some(added) = &mut self.added {
            added.text_width += added.id_width * (added.ids - TIME_IDS_REFINER);
            added.ids = TIME_IDS_REFINER;
        }
    }
}

/// Keys of which one value is built.
fn refuse_variants(fields: &mut Fields) -> Result<(), ConfigError> {
    for (key, wanted) in [
        ("dual_cross_attention", json!(false)),
        ("class_embed_type", Value::Null),
        ("num_class_embeds", Value::Null),
        ("class_embeddings_concat", json!(false)),
        ("encoder_hid_dim", Value::Null),
        ("encoder_hid_dim_type", Value::Null),
        ("attention_type", json!("default")),
        ("cross_attention_norm", Value::Null),
        ("mid_block_scale_factor", json!(1)),
        ("resnet_out_scale_factor", json!(1)),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
        ("time_embedding_act_fn", Value::Null),
        ("timestep_post_act", Value::Null),
    ] {
        fields.only(key, wanted)?;
    }
    fields.name("act_fn", "silu", &[("silu", ()), ("swish", ())])
}

fn kernel(fields: &mut Fields, key: &str) -> Result<usize, ConfigError> {
    let kernel = fields.count(key, 3, LAYERS_MAX)?;
    match kernel % 2 {
        1 => Ok(kernel),
        _ => Err(fields.refuse(key, &json!(kernel), "an odd number")),
    }
}

/// What is subtracted from the number of frequencies, of which some must be left.
fn frequency_shift(fields: &mut Fields, channels: usize) -> Result<f64, ConfigError> {
    let key = "freq_shift";
    let shift = fields.number(key, 0.0)?;
    match shift == 0.0 || shift > 0.0 && shift < (channels / 2) as f64 {
        true => Ok(shift),
        false => {
            let wanted = format!("0 or less than half of {channels} channels");
            Err(fields.refuse(key, &json!(shift), wanted))
        }
    }
}

fn sample_size(fields: &mut Fields) -> Result<Option<[usize; 2]>, ConfigError> {
    let count = |value: &Value| as_count(value, 1, WIDTH_MAX);
    fields.optional("sample_size", "a size or two", |value| {
        match value.as_array().map(Vec::as_slice) {
            Some([height, width]) => Some([count(height)?, count(width)?]),
            Some(_) => None,
            None => count(value).map(|size| [size; 2]),
        }
    })
}

fn text_width(fields: &mut Fields, blocks: usize) -> Result<usize, ConfigError> {
    let key = "cross_attention_dim";
    let widths = fields.per_block(key, 1280, blocks, "a width", |value| {
        as_count(value, 1, WIDTH_MAX)
    })?;
    match widths.iter().all(|width| *width == widths[0]) {
        true => Ok(widths[0]),
        false => Err(fields.refuse(key, &json!(widths), "one width for all levels")),
    }
}

fn added(fields: &mut Fields) -> Result<Option<Added>, ConfigError> {
    let key = "addition_embed_type";
    let kind = fields.take(key);
    let id_key = "addition_time_embed_dim";
    let id_width = fields.optional_count(id_key, WIDTH_MAX)?;
    let width_key = "projection_class_embeddings_input_dim";
    let width = fields.optional_count(width_key, WIDTH_MAX)?;
    match &kind {
        None => return Ok(None),
        Some(Value::String(kind)) if kind == "text_time" => {}
        Some(found) => return Err(fields.refuse(key, found, "null or \"text_time\"")),
    }
    let id_width = id_width
        .filter(|width| width % 2 == 0)
        .ok_or_else(|| fields.absent(id_key, "an even width for \"text_time\""))?;
    let sinusoids = TIME_IDS * id_width;
    let text_width = width
        .and_then(|width| width.checked_sub(sinusoids))
        .filter(|&width| width > 0)
        .ok_or_else(|| fields.absent(width_key, format!("a width above {sinusoids}")))?;
    Ok(Some(Added {
        text_width,
        ids: TIME_IDS,
        id_width,
    }))
}

fn padding(fields: &mut Fields) -> Result<Padding, ConfigError> {
    let padding = fields.optional("downsample_padding", "0 or 1", |value| {
        match value.as_u64()? {
            0 => Some(Padding::After),
            1 => Some(Padding::Both),
            _ => None,
        }
    })?;
    Ok(padding.unwrap_or(Padding::Both))
}

/// What the configuration says per level, from fine to coarse.
struct Levels {
    channels: Vec<usize>,
    layers: Vec<usize>,
    groups: usize,
    heads: Vec<usize>,
    depths: Vec<Depth>,
    only_cross: Vec<bool>,
    linear_projection: bool,
    crosses: Vec<bool>,
}

/// The depth of the transformers of one level.
#[derive(Debug, Clone)]
enum Depth {
    /// The same after every residual block.
    Same(usize),
    /// One for each residual block.
    Each(Vec<usize>),
}

impl Depth {
    fn read(value: &Value) -> Option<Depth> {
        let count = |value: &Value| as_count(value, 0, DEPTH_MAX);
        match value {
            Value::Array(list) => list
                .iter()
                .map(count)
                .collect::<Option<_>>()
                .map(Depth::Each),
            single => count(single).map(Depth::Same),
        }
    }

    /// The depths after `resnets` residual blocks, if there are that many.
    fn resolve(&self, resnets: usize) -> Option<Vec<usize>> {
        match self {
            Depth::Same(depth) => Some(vec![*depth; resnets]),
            Depth::Each(depths) => depths.get(..resnets).map(<[usize]>::to_vec),
        }
    }
}

const DEPTHS: &str = "transformer_layers_per_block";
const DEPTHS_UP: &str = "reverse_transformer_layers_per_block";
const DEPTH_WANTED: &str = "a depth or a list with one for each residual block";

impl Levels {
    fn read(fields: &mut Fields, channels: Vec<usize>) -> Result<Levels, ConfigError> {
        let blocks = channels.len();
        let count = |value: &Value| as_count(value, 1, LAYERS_MAX);
        let groups = "norm_num_groups";
        if fields.is_null(groups) {
            return Err(fields.absent(groups, "a number of groups"));
        }
        let down_types = [("CrossAttnDownBlock2D", true), ("DownBlock2D", false)];
        let crosses = fields.names(
            "down_block_types",
            &[
                "CrossAttnDownBlock2D",
                "CrossAttnDownBlock2D",
                "CrossAttnDownBlock2D",
                "DownBlock2D",
            ],
            &down_types,
            blocks,
        )?;
        let heads = Levels::heads(fields, &channels)?;
        Ok(Levels {
            layers: fields.per_block("layers_per_block", 2, blocks, "a number of layers", count)?,
            groups: fields.count(groups, 32, WIDTH_MAX)?,
            heads,
            depths: fields.per_block(DEPTHS, Depth::Same(1), blocks, DEPTH_WANTED, Depth::read)?,
            only_cross: fields.per_block(
                "only_cross_attention",
                false,
                blocks,
                "true or false",
                Value::as_bool,
            )?,
            linear_projection: fields.flag("use_linear_projection", false)?,
            crosses,
            channels,
        })
    }

    /// The number of heads; by an old mistake `attention_head_dim` means it, unless
    /// `num_attention_heads` is given (spec 6.2).
    fn heads(fields: &mut Fields, channels: &[usize]) -> Result<Vec<usize>, ConfigError> {
        let count = |value: &Value| as_count(value, 1, WIDTH_MAX);
        let blocks = channels.len();
        let [old, new] = ["attention_head_dim", "num_attention_heads"];
        let old_heads = fields.per_block(old, 8, blocks, "a number of heads", count)?;
        let new_heads = fields.per_block(new, 0, blocks, "a number of heads", count)?;
        let (key, heads) = match new_heads[0] {
            0 => (old, old_heads),
            _ => (new, new_heads),
        };
        match channels
            .iter()
            .zip(&heads)
            .all(|(channels, heads)| channels % heads == 0)
        {
            true => Ok(heads),
            false => {
                let wanted = format!("numbers of heads that divide the channels {channels:?}");
                Err(fields.refuse(key, &json!(heads), wanted))
            }
        }
    }

    fn attention(&self, level: usize) -> Attention {
        Attention {
            channels: self.channels[level],
            heads: self.heads[level],
            groups: self.groups,
            linear_projection: self.linear_projection,
            only_cross: self.only_cross[level],
        }
    }

    fn down(&self, fields: &Fields) -> Result<Vec<Level>, ConfigError> {
        let level = |index: usize| {
            let resnets = self.layers[index];
            let depth = self.crosses[index].then_some(&self.depths[index]);
            let wanted = format!("{resnets} depths on level {index}");
            self.level(index, resnets, depth)
                .ok_or_else(|| fields.absent(DEPTHS, wanted))
        };
        (0..self.channels.len()).map(level).collect()
    }

    /// A level with the channels of level `index`, and transformers if it has a `depth`, which
    /// must reach for every residual block.
    fn level(&self, index: usize, resnets: usize, depth: Option<&Depth>) -> Option<Level> {
        let attention = match depth {
            Some(depth) => Some((self.attention(index), depth.resolve(resnets)?)),
            None => None,
        };
        Some(Level {
            channels: self.channels[index],
            resnets,
            attention,
        })
    }

    fn mid(&self, fields: &mut Fields) -> Result<Mid, ConfigError> {
        let key = "mid_block_type";
        let last = self.channels.len() - 1;
        if fields.is_null(key) {
            fields.take(key);
            return Ok(Mid::Absent);
        }
        let types = [("UNetMidBlock2DCrossAttn", true), ("UNetMidBlock2D", false)];
        if !fields.name(key, "UNetMidBlock2DCrossAttn", &types)? {
            return Ok(Mid::Resnet);
        }
        let depth = match &self.depths[last] {
            Depth::Same(depth) => Some(*depth),
            Depth::Each(depths) => depths.first().copied(),
        };
        // The middle never leaves out self-attention, whatever the levels do.
        let attention = Attention {
            only_cross: false,
            ..self.attention(last)
        };
        match depth {
            Some(depth) => Ok(Mid::Transformer(attention, depth)),
            None => Err(fields.absent(DEPTHS, "a depth for the middle")),
        }
    }

    fn up(&self, fields: &mut Fields) -> Result<Vec<Level>, ConfigError> {
        let blocks = self.channels.len();
        let types = [("CrossAttnUpBlock2D", true), ("UpBlock2D", false)];
        let crosses = fields.names(
            "up_block_types",
            &[
                "UpBlock2D",
                "CrossAttnUpBlock2D",
                "CrossAttnUpBlock2D",
                "CrossAttnUpBlock2D",
            ],
            &types,
            blocks,
        )?;
        let depths = self.depths_up(fields)?;
        let level = |index: usize| {
            let down = blocks - 1 - index;
            let resnets = self.layers[down] + 1;
            let depth = crosses[index].then_some(&depths[index]);
            let wanted = format!("{resnets} depths on level {index}");
            self.level(down, resnets, depth)
                .ok_or_else(|| fields.absent(DEPTHS_UP, wanted))
        };
        (0..blocks).map(level).collect()
    }

    /// The depths of the second half, from coarse to fine.
    fn depths_up(&self, fields: &mut Fields) -> Result<Vec<Depth>, ConfigError> {
        let blocks = self.channels.len();
        if let Some(value) = fields.take(DEPTHS_UP) {
            let depths = value.as_array().filter(|list| list.len() == blocks);
            let depths = depths.and_then(|list| list.iter().map(Depth::read).collect());
            let wanted = format!("null or a list of {blocks}: {DEPTH_WANTED}");
            return depths.ok_or_else(|| fields.refuse(DEPTHS_UP, &value, wanted));
        }
        if self.depths.iter().any(|d| matches!(d, Depth::Each(_))) {
            let wanted = format!("a list of {blocks}, since {DEPTHS:?} lists depths within levels");
            return Err(fields.absent(DEPTHS_UP, wanted));
        }
        Ok(self.depths.iter().rev().cloned().collect())
    }
}
