//! Presets: the settings of published trainings, by the names of their papers and models.
//!
//! Plain data: a name, a method, and values of settings as text. Where a paper leaves a setting
//! open, the preset does too.

/// The settings of a published training.
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// Where it was published: one sentence without a full stop.
    pub about: &'static str,
    /// The method.
    pub method: &'static str,
    /// Names and values of settings.
    pub values: &'static [(&'static str, &'static str)],
}

/// Every preset, sorted by name.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "lcm-lora-sd15",
        about: "LCM-LoRA (arXiv 2311.05556) of Stable Diffusion 1.5, diffusers' script",
        method: "lcm-lora",
        values: &[
            ("guidance", "7.5"),
            ("rank", "64"),
            ("alpha", "64"),
            ("lr", "1e-4"),
        ],
    },
    Preset {
        name: "lcm-sd15",
        about: "LCM (arXiv 2310.04378) of Stable Diffusion 1.5, diffusers' script",
        method: "lcm",
        values: &[
            ("guidance", "6..16"),
            ("k", "20"),
            ("lr", "8e-6"),
            ("ema-decay", "0.95"),
        ],
    },
    Preset {
        name: "perflow-sd15",
        about: "PeRFlow (arXiv 2405.07510) of Stable Diffusion 1.5",
        method: "perflow",
        values: &[
            ("windows", "4"),
            ("solver-steps", "8"),
            ("output", "diff_eps"),
            ("guidance-mode", "sync"),
            ("lr", "8e-5"),
            ("weight-decay", "0.01"),
        ],
    },
    Preset {
        name: "perflow-sd21",
        about: "PeRFlow (arXiv 2405.07510) of Stable Diffusion 2.1",
        method: "perflow",
        values: &[
            ("windows", "4"),
            ("solver-steps", "8"),
            ("output", "velocity"),
            ("guidance-mode", "sync"),
            ("lr", "8e-5"),
            ("weight-decay", "0.01"),
        ],
    },
    Preset {
        name: "perflow-sdxl",
        about: "PeRFlow (arXiv 2405.07510) of Stable Diffusion XL",
        method: "perflow",
        values: &[
            ("windows", "4"),
            ("solver-steps", "10"),
            ("output", "ddim_eps"),
            ("guidance-mode", "fixed"),
            ("guidance", "7.5"),
            ("lr", "1e-4"),
            ("weight-decay", "0.01"),
        ],
    },
    Preset {
        name: "splam-release",
        about: "the script that was released with SPLAM: variance form, official embedding of gamma",
        method: "splad",
        values: &[
            ("guidance", "9"),
            ("k", "20"),
            ("k-phi", "20"),
            ("sigma", "variance"),
            ("gamma-embed", "official"),
            ("lr", "8e-6"),
            ("steps", "1000"),
        ],
    },
    Preset {
        name: "splam-sd15",
        about: "SPLAM (arXiv 2404.13903), section 5.1: Stable Diffusion 1.5, guidance 3",
        method: "splad",
        values: &[
            ("guidance", "3"),
            ("k", "100"),
            ("k-phi", "20"),
            ("lr", "8e-6"),
            ("ema-decay", "0.95"),
        ],
    },
    Preset {
        name: "splam-sd15-w8",
        about: "SPLAM (arXiv 2404.13903), table 2c: Stable Diffusion 1.5, guidance 8",
        method: "splad",
        values: &[
            ("guidance", "8"),
            ("k", "100"),
            ("k-phi", "20"),
            ("lr", "8e-6"),
            ("ema-decay", "0.95"),
        ],
    },
    Preset {
        name: "splam-sd21",
        about: "SPLAM (arXiv 2404.13903), section 5.1: Stable Diffusion 2.1 base, guidance 8",
        method: "splad",
        values: &[
            ("guidance", "8"),
            ("k", "20"),
            ("k-phi", "20"),
            ("lr", "8e-6"),
            ("ema-decay", "0.95"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distill::{method, methods};

    /// Settings of every training that presets and methods may name.
    const GENERAL: [&str; 4] = ["ema-decay", "lr", "steps", "weight-decay"];

    #[test]
    fn presets_name_methods_and_their_settings() {
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
        for preset in PRESETS {
            let entry = method(preset.method).expect("the preset's method is in the table");
            for (name, _) in preset.values {
                let known = entry.settings.iter().any(|setting| setting.name == *name);
                assert!(known || GENERAL.contains(name), "{}: {name}", preset.name);
            }
        }
        assert!(methods().map(|entry| entry.name).is_sorted());
    }
}
