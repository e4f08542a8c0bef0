//! PEFT's settings of an adapter: what alpha is where a file has no tensor that says so.
//!
//! Takes the metadata of a file as diffusers writes it, or the `adapter_config.json` beside one;
//! returns the factor of a layer. It reads no tensor.
//!
//! Source: PEFT `LoraConfig`, `tuners/lora/layer.py` (`scaling`), `utils/other.py`
//! (`get_pattern_key`); diffusers `loaders/lora_base.py` (`LORA_ADAPTER_METADATA_KEY`).

use serde_json::{Map, Value};

use super::error::LoraError;

/// The key of a file's metadata in which diffusers keeps the settings of each network.
pub(super) const METADATA_KEY: &str = "lora_adapter_metadata";

/// Settings of the layers of one network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    alpha: Option<f64>,
    /// Other alphas, by the last components of a module's name.
    alphas: Vec<(String, f64)>,
    /// Whether alpha is over the square root of the rank.
    rank_stabilised: bool,
}

impl Settings {
    /// The settings in `values`, whose keys begin with `prefix`.
    ///
    /// # Errors
    /// When they ask for what is not plain LoRA, or a pattern is not a name.
    pub(super) fn read(
        file: &str,
        values: &Map<String, Value>,
        prefix: &str,
    ) -> Result<Option<Settings>, LoraError> {
        let get = |key: &str| values.get(&format!("{prefix}{key}"));
        if get("use_dora").and_then(Value::as_bool) == Some(true) {
            return Err(LoraError::Kind {
                file: file.to_owned(),
                kind: "DoRA",
                key: format!("{prefix}use_dora"),
            });
        }
        let patterns = get("alpha_pattern").and_then(Value::as_object);
        let mut alphas = Vec::new();
        for (pattern, alpha) in patterns.into_iter().flatten() {
            // PEFT reads them as regular expressions; what it writes are names.
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            match alpha.as_f64().filter(|_| pattern.chars().all(plain)) {
                Some(alpha) => alphas.push((pattern.clone(), alpha)),
                None => {
                    return Err(LoraError::Pattern {
                        file: file.to_owned(),
                        pattern: pattern.clone(),
                    });
                }
            }
        }
        let alpha = get("lora_alpha").and_then(Value::as_f64);
        let is_there = alpha.is_some() || !alphas.is_empty();
        Ok(is_there.then(|| Settings {
            alpha,
            alphas,
            rank_stabilised: get("use_rslora").and_then(Value::as_bool) == Some(true),
        }))
    }

    /// What the product of a module's factors is multiplied by.
    pub(super) fn factor(&self, module: &str, rank: usize) -> Option<f64> {
        let is_of = |pattern: &str| {
            let rest = module.strip_suffix(pattern);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let own = self.alphas.iter().find(|(pattern, _)| is_of(pattern));
        let alpha = own.map(|(_, alpha)| *alpha).or(self.alpha)?;
        Some(match self.rank_stabilised {
            true => alpha / (rank as f64).sqrt(),
            false => alpha / rank as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(values: Value, prefix: &str) -> Result<Option<Settings>, LoraError> {
        Settings::read("a", values.as_object().expect("an object"), prefix)
    }

    #[test]
    fn alphas_are_those_of_the_module() {
        let values = json!({
            "unet.lora_alpha": 8,
            "unet.alpha_pattern": {"attn1.to_q": 2.0, "to_q": 4},
            "text_encoder.lora_alpha": 16,
            "text_encoder.use_rslora": true,
        });
        let unet = read(values.clone(), "unet.").expect("read").expect("there");
        let cases = [
            ("down_blocks.0.attn1.to_q", Some(0.5)),
            ("down_blocks.0.attn2.to_q", Some(1.0)),
            ("down_blocks.0.attn2.into_q", Some(2.0)),
        ];
        for (module, wanted) in cases {
            assert_eq!(unet.factor(module, 4), wanted, "{module}");
        }
        let text = read(values.clone(), "text_encoder.")
            .expect("read")
            .expect("there");
        assert_eq!(text.factor("x", 4), Some(8.0));
        assert_eq!(read(values, "text_encoder_2.").expect("read"), None);
        assert!(read(json!({"use_dora": true}), "").is_err());
        assert!(read(json!({"alpha_pattern": {".*to_q": 1}}), "").is_err());
    }
}
