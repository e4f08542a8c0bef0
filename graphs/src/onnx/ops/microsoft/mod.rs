//! The operators of domain `com.microsoft` that are imported: what onnxruntime's optimisers fuse.
//!
//! Source of every meaning: onnxruntime's `docs/ContribOperators.md`.

use super::operator::{Operator, WINDOW, op};

mod activation;
mod attention;
mod matmul;
mod norm;

/// The operators of the domain, sorted by name.
pub(crate) const OPERATORS: &[Operator] = &[
    op(
        "Attention",
        1,
        &[
            "do_rotary",
            "mask_filter_value",
            "num_heads",
            "past_present_share_buffer",
            "qkv_hidden_sizes",
            "rotary_embedding_dim",
            "scale",
            "unidirectional",
        ],
        attention::attention,
    ),
    op("BiasGelu", 1, &[], activation::bias_gelu),
    op("BiasSplitGelu", 1, &[], activation::bias_split_gelu),
    op("FastGelu", 1, &[], activation::fast_gelu),
    op(
        "FusedConv",
        1,
        &[
            "activation",
            "activation_params",
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ],
        matmul::fused_conv,
    ),
    op(
        "FusedGemm",
        1,
        &[
            "activation",
            "activation_alpha",
            "activation_beta",
            "activation_gamma",
            "alpha",
            "beta",
            "transA",
            "transB",
        ],
        matmul::fused_gemm,
    ),
    op(
        "FusedMatMul",
        1,
        &["alpha", "transA", "transB", "transBatchA", "transBatchB"],
        matmul::fused_matmul,
    ),
    op("Gelu", 1, &[], activation::gelu),
    op(
        "GroupNorm",
        1,
        &["activation", "channels_last", "epsilon", "groups"],
        norm::group_norm,
    ),
    op(
        "MultiHeadAttention",
        1,
        &["mask_filter_value", "num_heads", "scale", "unidirectional"],
        attention::multi_head_attention,
    ),
    op("NhwcConv", 1, WINDOW, matmul::nhwc_conv),
    op("QuickGelu", 1, &["alpha"], activation::quick_gelu),
    op(
        "SkipGroupNorm",
        1,
        &["activation", "channels_last", "epsilon", "groups"],
        norm::skip_group_norm,
    ),
    op(
        "SkipLayerNormalization",
        1,
        &["epsilon"],
        norm::skip_layer_normalization,
    ),
];
