//! The names of a denoising network in the layout of its authors (LDM, sgm), by those of diffusers.
//!
//! Takes the diffusers names of one network's modules or parameters, and returns for each the name
//! in files of the other layout: LoRA files of SDXL use them, and checkpoints in one file do (below
//! `model.diffusion_model.`). How blocks are counted follows from the names, so that networks with
//! other numbers of levels and layers are mapped too. It reads no file.
//!
//! Source: spec 6.5; diffusers `loaders/single_file_utils.py`, `convert_ldm_unet_checkpoint`.

use std::collections::BTreeMap;

/// What a network's names tell of its structure.
#[derive(Debug, Clone, Default)]
pub struct LdmNames {
    down: BTreeMap<usize, Block>,
    up: BTreeMap<usize, Block>,
}

/// A level of one half.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    resnets: usize,
    has_attention: bool,
    has_sampler: bool,
}

/// Modules outside of blocks.
const SINGLE: [(&str, &str); 7] = [
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
];

/// Modules of the block in the middle.
const MIDDLE: [(&str, &str); 3] = [
    ("resnets.0", "middle_block.0"),
    ("attentions.0", "middle_block.1"),
    ("resnets.1", "middle_block.2"),
];

/// Modules of a residual block.
const RESNET: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

impl LdmNames {
    /// The map of the network that has all these modules or parameters, by their diffusers names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> LdmNames {
        let mut found = LdmNames::default();
        for name in names {
            let blocks = [
                ("down_blocks.", &mut found.down),
                ("up_blocks.", &mut found.up),
            ];
            for (prefix, blocks) in blocks {
                let numbered = name.strip_prefix(prefix).and_then(numbered);
                if let Some((level, rest)) = numbered {
                    blocks.entry(level).or_default().see(rest);
                }
            }
        }
        found
    }

    /// The name of a module or a parameter of the network; `None` for those that the other layout
    /// does not have, such as `time_embedding.cond_proj`.
    pub fn ldm(&self, name: &str) -> Option<String> {
        if let Some(found) = renamed(&SINGLE, name) {
            return Some(found);
        }
        if let Some(rest) = name.strip_prefix("mid_block.") {
            return in_block(&renamed(&MIDDLE, rest)?, rest);
        }
        if let Some((level, rest)) = name.strip_prefix("down_blocks.").and_then(numbered) {
            let block = self.down.get(&level)?;
            // The first convolution is block 0; a sampler is a block of its own.
            let before = self.down.range(..level).map(|(_, own)| own);
            let first: usize = before
                .map(|own| own.resnets + usize::from(own.has_sampler))
                .sum();
            if let Some(rest) = rest.strip_prefix("downsamplers.0.conv") {
                let number = 1 + first + block.resnets;
                return Some(format!("input_blocks.{number}.0.op{rest}"));
            }
            return in_block(&layer(rest, "input_blocks", 1 + first)?, rest);
        }
        let (level, rest) = name.strip_prefix("up_blocks.").and_then(numbered)?;
        let block = self.up.get(&level)?;
        let first: usize = self.up.range(..level).map(|(_, own)| own.resnets).sum();
        if let Some(rest) = rest.strip_prefix("upsamplers.0.conv") {
            // It stands in the last block of its level, after a transformer if there is one.
            let number = (first + block.resnets).checked_sub(1)?;
            let place = 1 + usize::from(block.has_attention);
            return Some(format!("output_blocks.{number}.{place}.conv{rest}"));
        }
        in_block(&layer(rest, "output_blocks", first)?, rest)
    }
}

impl Block {
    /// Counts a module.
    fn see(&mut self, rest: &str) {
        if let Some((layer, _)) = rest.strip_prefix("resnets.").and_then(numbered) {
            self.resnets = self.resnets.max(layer + 1);
        }
        self.has_attention |= rest.starts_with("attentions.");
        self.has_sampler |= rest.starts_with("downsamplers.") || rest.starts_with("upsamplers.");
    }
}

/// `resnets.1.conv1` as `input_blocks.5.0.conv1`: where a layer of a level stands.
fn layer(rest: &str, blocks: &str, first: usize) -> Option<String> {
    let kinds = [("resnets.", 0), ("attentions.", 1)];
    kinds.into_iter().find_map(|(kind, place)| {
        let (layer, inner) = numbered(rest.strip_prefix(kind)?)?;
        Some(format!("{blocks}.{}.{place}.{inner}", first + layer))
    })
}

/// The same name with what is inside of residual blocks renamed; `rest` is the diffusers name
/// within the level.
fn in_block(name: &str, rest: &str) -> Option<String> {
    if !rest.starts_with("resnets.") {
        return Some(name.to_owned());
    }
    // `middle_block.0.conv1` has one number before the module, blocks have two.
    let inner = rest.splitn(3, '.').nth(2)?;
    let outer = name.strip_suffix(inner)?;
    Some(format!("{outer}{}", renamed(&RESNET, inner)?))
}

/// A name whose first modules a table renames.
fn renamed(table: &[(&str, &str)], name: &str) -> Option<String> {
    table.iter().find_map(|(own, other)| {
        let rest = name.strip_prefix(own)?;
        let whole = rest.is_empty() || rest.starts_with('.');
        whole.then(|| format!("{other}{rest}"))
    })
}

/// The number that a name begins with, small enough to be counted on, and what comes after it.
fn numbered(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse::<u16>().ok()?.into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of (residual blocks, whether they have transformers), the last without a sampler.
    fn names(down: &[(usize, bool)]) -> LdmNames {
        let mut names = Vec::new();
        for (half, sampler, extra) in [("down", "downsamplers", 0), ("up", "upsamplers", 1)] {
            for level in 0..down.len() {
                let from_fine = if extra == 0 {
                    level
                } else {
                    down.len() - 1 - level
                };
                let (resnets, crosses) = down[from_fine];
                for layer in 0..resnets + extra {
                    names.push(format!("{half}_blocks.{level}.resnets.{layer}.conv1"));
                    if crosses {
                        names.push(format!("{half}_blocks.{level}.attentions.{layer}.proj_in"));
                    }
                }
                if level + 1 < down.len() {
                    names.push(format!("{half}_blocks.{level}.{sampler}.0.conv"));
                }
            }
        }
        LdmNames::of(names.iter().map(String::as_str))
    }

    #[test]
    fn names_are_those_of_released_checkpoints() {
        let sd1 = names(&[(2, true), (2, true), (2, true), (2, false)]);
        let sdxl = names(&[(2, false), (2, true), (2, true)]);
        let cases = [
            (&sd1, "conv_in.weight", Some("input_blocks.0.0.weight")),
            (
                &sd1,
                "time_embedding.linear_2.bias",
                Some("time_embed.2.bias"),
            ),
            (&sd1, "time_embedding.cond_proj.weight", None),
            (&sd1, "conv_norm_out", Some("out.0")),
            (&sd1, "conv_out", Some("out.2")),
            (
                &sd1,
                "down_blocks.0.resnets.0.norm1",
                Some("input_blocks.1.0.in_layers.0"),
            ),
            (
                &sd1,
                "down_blocks.0.downsamplers.0.conv",
                Some("input_blocks.3.0.op"),
            ),
            (
                &sd1,
                "down_blocks.1.resnets.0.conv_shortcut.weight",
                Some("input_blocks.4.0.skip_connection.weight"),
            ),
            (
                &sd1,
                "down_blocks.3.resnets.1.conv2",
                Some("input_blocks.11.0.out_layers.3"),
            ),
            (
                &sd1,
                "mid_block.resnets.1.time_emb_proj",
                Some("middle_block.2.emb_layers.1"),
            ),
            (
                &sd1,
                "mid_block.attentions.0.norm",
                Some("middle_block.1.norm"),
            ),
            (
                &sd1,
                "up_blocks.0.upsamplers.0.conv",
                Some("output_blocks.2.1.conv"),
            ),
            (
                &sd1,
                "up_blocks.1.upsamplers.0.conv.bias",
                Some("output_blocks.5.2.conv.bias"),
            ),
            (
                &sd1,
                "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_out.0",
                Some("output_blocks.11.1.transformer_blocks.0.attn2.to_out.0"),
            ),
            (
                &sdxl,
                "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
                Some("input_blocks.4.1.transformer_blocks.0.attn2.to_k"),
            ),
            (
                &sdxl,
                "down_blocks.2.resnets.1.conv1",
                Some("input_blocks.8.0.in_layers.2"),
            ),
            (
                &sdxl,
                "up_blocks.0.upsamplers.0.conv",
                Some("output_blocks.2.2.conv"),
            ),
            (
                &sdxl,
                "up_blocks.2.resnets.2.conv1",
                Some("output_blocks.8.0.in_layers.2"),
            ),
            (&sdxl, "add_embedding.linear_1", Some("label_emb.0.0")),
            (&sdxl, "down_blocks.7.resnets.0.conv1", None),
            (&sdxl, "down_blocks.1.resnets.0", None),
            (
                &sdxl,
                "down_blocks.1.resnets.99999999999999999999.conv1",
                None,
            ),
            (&sdxl, "conv_input", None),
        ];
        for (map, name, wanted) in cases {
            assert_eq!(map.ldm(name).as_deref(), wanted, "{name}");
        }
    }
}
