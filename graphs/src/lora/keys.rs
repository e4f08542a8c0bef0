//! Keys of LoRA files: which layer a tensor belongs to, and which part of it it is.
//!
//! Takes the keys that kohya's scripts, diffusers and PEFT write, old and new; returns the layer's
//! name as the file spells it, and the part. It knows no model.
//!
//! Source: spec 6.7; diffusers `loaders/lora_conversion_utils.py` and `utils/state_dict_utils.py`.

use compiler::value::tensor::Tensor;

/// What a tensor is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The factor that is applied first, `[rank, in, …]`.
    Down,
    /// The factor that is applied second, `[out, rank, …]`.
    Up,
    /// The number that the product is scaled by, over the rank.
    Alpha,
}

/// The tensors of one layer.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) down: Option<Tensor>,
    pub(super) up: Option<Tensor>,
    pub(super) alpha: Option<Tensor>,
}

/// Endings of keys, longer ones before those that they end in.
const ENDINGS: [(&str, Part); 11] = [
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    (".down.weight", Part::Down),
    (".up.weight", Part::Up),
    (".alpha", Part::Alpha),
];

/// PEFT's factors with the name of an adapter: `….lora_A.default.weight`.
const NAMED: [(&str, Part); 2] = [(".lora_A.", Part::Down), (".lora_B.", Part::Up)];

/// The layer and the part of a key; `None` if it is not one of a LoRA layer.
pub(super) fn split(key: &str) -> Option<(&str, Part)> {
    let by_ending = ENDINGS.iter().find_map(|(ending, part)| {
        let layer = key.strip_suffix(ending)?;
        Some((layer, *part))
    });
    let by_adapter = || {
        NAMED.iter().find_map(|(middle, part)| {
            let (layer, rest) = key.split_once(middle)?;
            let adapter = rest.strip_suffix(".weight")?;
            (!adapter.contains('.')).then_some((layer, *part))
        })
    };
    by_ending.or_else(by_adapter)
}

/// Marks of adapters of other kinds, and what they are called.
const OTHER_KINDS: [(&str, &str); 17] = [
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".lora_mid", "LoRA with three factors (Tucker)"),
    (".lora_embedding_A", "LoRA of embeddings"),
    (".lora_embedding_B", "LoRA of embeddings"),
    (".lora_B.bias", "LoRA with biases"),
    (".diff", "differences of whole weights"),
    (".diff_b", "differences of whole weights"),
    (".w_norm", "norms"),
    (".b_norm", "norms"),
    (".set_weight", "whole weights"),
    (".oft_", "OFT"),
    (".on_input", "IA³"),
    (".a1.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
];

/// What kind of adapter a key belongs to that is not plain LoRA, if it is known.
pub(super) fn other_kind(key: &str) -> Option<&'static str> {
    let is_marked = |mark: &str| {
        let rest = key.split_once(mark).map(|(_, rest)| rest);
        // A mark is whole components, unless it ends in the middle of one.
        rest.is_some_and(|rest| mark.ends_with('_') || rest.is_empty() || rest.starts_with('.'))
    };
    let kinds = OTHER_KINDS.iter();
    let mut kinds = kinds.filter(|(mark, _)| is_marked(mark));
    kinds.next().map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_and_parts_are_told_apart() {
        let cases = [
            (
                "lora_unet_mid_block.lora_down.weight",
                Some(("lora_unet_mid_block", Part::Down)),
            ),
            (
                "lora_unet_mid_block.alpha",
                Some(("lora_unet_mid_block", Part::Alpha)),
            ),
            (
                "unet.conv_in.lora_A.weight",
                Some(("unet.conv_in", Part::Down)),
            ),
            (
                "base_model.model.x.lora_B.default.weight",
                Some(("base_model.model.x", Part::Up)),
            ),
            (
                "unet.x.to_q.lora.up.weight",
                Some(("unet.x.to_q", Part::Up)),
            ),
            (
                "x.processor.to_q_lora.down.weight",
                Some(("x.processor.to_q_lora", Part::Down)),
            ),
            (
                "te.q_proj.lora_linear_layer.up.weight",
                Some(("te.q_proj", Part::Up)),
            ),
            ("x.lora_A.a.b.weight", None),
            ("x.weight", None),
            ("x.hada_w1_a", None),
        ];
        for (key, wanted) in cases {
            assert_eq!(split(key), wanted, "{key}");
        }
        assert_eq!(other_kind("lora_unet_x.dora_scale"), Some("DoRA"));
        assert_eq!(other_kind("lora_unet_x.hada_w1_a"), Some("LoHa"));
        assert_eq!(
            other_kind("lora_unet_x.diff_b"),
            Some("differences of whole weights")
        );
        assert_eq!(
            other_kind("x.lora_mid.weight"),
            Some("LoRA with three factors (Tucker)")
        );
        assert_eq!(other_kind("lora_unet_x.lora_up.weight"), None);
        assert_eq!(other_kind("model.diffusion_model.x.lora_up.weight"), None);
    }
}
