//! What a LoRA file was trained for, as far as its layers tell.
//!
//! Takes the names of layers and the shapes of their factors, returns a name for messages. Nothing
//! is decided by it: whether a file fits is a matter of names and shapes.

use std::collections::BTreeMap;

use super::keys::Parts;

/// Parts of the names of layers that one architecture alone has.
const MARKS: [(&str, &str); 6] = [
    ("single_transformer_blocks", "Flux"),
    ("double_blocks", "Flux"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("lora_te2_", "SDXL"),
    ("text_encoder_2.", "SDXL"),
    ("label_emb", "SDXL"),
];

/// Features of the text that the denoising network attends to (spec 6.2).
const TEXT_WIDTHS: [(usize, &str); 3] = [
    (768, "Stable Diffusion 1"),
    (1024, "Stable Diffusion 2"),
    (2048, "SDXL"),
];

/// The model that the layers belong to, if one of them tells.
pub(super) fn base(layers: &BTreeMap<&str, Parts>) -> Option<&'static str> {
    let marked = MARKS.iter().find_map(|(mark, base)| {
        let has_mark = layers.keys().any(|layer| layer.contains(mark));
        has_mark.then_some(*base)
    });
    let by_width = || {
        let mut keys = layers.iter().filter(|(layer, _)| {
            ["attn2.to_k", "attn2_to_k", "attn2.processor.to_k_lora"]
                .iter()
                .any(|end| layer.ends_with(end))
        });
        keys.find_map(|(_, parts)| {
            let width = parts.down.as_ref()?.shape().get(1)?;
            let known = TEXT_WIDTHS.iter().find(|(own, _)| own == width);
            known.map(|(_, base)| *base)
        })
    };
    marked.or_else(by_width)
}
