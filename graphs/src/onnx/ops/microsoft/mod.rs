//! The operators of domain `com.microsoft` that are imported: what onnxruntime's optimisers fuse.
//!
//! The domain has one version; onnxruntime takes a model that does not say it.
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
        0,
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
    op("BiasGelu", 0, &[], activation::bias_gelu),
    op("BiasSplitGelu", 0, &[], activation::bias_split_gelu),
    op("FastGelu", 0, &[], activation::fast_gelu),
    op(
        "FusedConv",
        0,
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
        0,
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
        0,
        &["alpha", "transA", "transB", "transBatchA", "transBatchB"],
        matmul::fused_matmul,
    ),
    op("Gelu", 0, &[], activation::gelu),
    op(
        "GroupNorm",
        0,
        &["activation", "channels_last", "epsilon", "groups"],
        norm::group_norm,
    ),
    op(
        "MultiHeadAttention",
        0,
        &["mask_filter_value", "num_heads", "scale", "unidirectional"],
        attention::multi_head_attention,
    ),
    op("NhwcConv", 0, WINDOW, matmul::nhwc_conv),
    op("QuickGelu", 0, &["alpha"], activation::quick_gelu),
    op(
        "SkipGroupNorm",
        0,
        &["activation", "channels_last", "epsilon", "groups"],
        norm::skip_group_norm,
    ),
    op(
        "SkipLayerNormalization",
        0,
        &["epsilon"],
        norm::skip_layer_normalization,
    ),
];
