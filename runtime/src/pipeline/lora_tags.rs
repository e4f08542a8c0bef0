//! Tags in prompts that name LoRA files: `<lora:NAME:SCALE>`.
//!
//! Takes a prompt as people write it, gives the prompt that is encoded and the tags. It looks for no
//! file.

use thiserror::Error;

/// A LoRA that a prompt asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraTag {
    /// The name of a file, without its ending.
    pub name: String,
    /// Its strength.
    pub scale: f64,
}

/// Why a tag cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("found {tag:?} in the prompt; expected <lora:NAME> or <lora:NAME:SCALE> with one number")]
pub struct LoraTagError {
    /// The tag.
    pub tag: String,
}

/// What every tag begins with.
const START: &str = "<lora:";

/// A prompt without its tags, and the tags in order. A scale that is left out is 1.
///
/// # Errors
/// When a tag has no name, or more or something else than a finite number after it.
///
/// # Source
/// A1111 `modules/extra_networks.py`, `parse_prompt`.
pub fn split_lora_tags(prompt: &str) -> Result<(String, Vec<LoraTag>), LoraTagError> {
    let (mut text, mut tags) = (String::new(), Vec::new());
    let mut rest = prompt;
    while let Some((before, after)) = rest.split_once(START) {
        // A tag that does not end is text.
        let Some((inner, behind)) = after.split_once('>') else {
            break;
        };
        text.push_str(before);
        tags.push(tag(inner).ok_or_else(|| LoraTagError {
            tag: format!("{START}{inner}>"),
        })?);
        rest = behind;
    }
    text.push_str(rest);
    Ok((text, tags))
}

fn tag(inner: &str) -> Option<LoraTag> {
    let (name, scale) = match inner.split_once(':') {
        Some((name, scale)) => (name, scale.trim().parse().ok()?),
        None => (inner, 1.0),
    };
    let name = name.trim().to_owned();
    let scale = Some(scale).filter(|scale: &f64| scale.is_finite())?;
    (!name.is_empty()).then_some(LoraTag { name, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_leave_the_prompt() {
        let cases = [
            ("a cat", Some(("a cat", &[][..]))),
            ("a <lora:ink:0.7>cat", Some(("a cat", &[("ink", 0.7)]))),
            (
                "<lora:a b><lora:ink:-1>",
                Some(("", &[("a b", 1.0), ("ink", -1.0)])),
            ),
            ("a < b <lora:ink", Some(("a < b <lora:ink", &[]))),
            ("<lora:x:1> <b> y", Some((" <b> y", &[("x", 1.0)]))),
            ("<lora:ink:much>", None),
            ("<lora:ink:0.5:0.7>", None),
            ("<lora:ink:inf>", None),
            ("<lora::1>", None),
        ];
        for (prompt, wanted) in cases {
            let found = split_lora_tags(prompt).ok();
            let wanted = wanted.map(|(text, tags)| {
                let tag = |&(name, scale): &(&str, f64)| LoraTag {
                    name: name.to_owned(),
                    scale,
                };
                (text.to_owned(), tags.iter().map(tag).collect::<Vec<_>>())
            });
            assert_eq!(found, wanted, "{prompt}");
        }
    }
}
