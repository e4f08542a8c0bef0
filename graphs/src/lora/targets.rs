//! The modules that a LoRA of a denoising network adapts.
//!
//! Takes the name of a module, returns whether it is one of them.

/// The last components of the names of the modules that LCM-LoRA adapts (spec 2.3; diffusers
/// `train_lcm_distill_lora_sd_wds.py`).
pub const TARGETS: [&str; 14] = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
];

/// Whether a module is one of [`TARGETS`]: its name ends in whole components of one.
pub fn is_target(module: &str) -> bool {
    TARGETS.iter().any(|target| {
        let rest = module.strip_suffix(target);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}
