//! Settings of methods: what can be set, what it means, and its value if nobody sets it.
//!
//! Takes values as text, as flags, configuration files and checkpoints spell them; returns counts,
//! numbers, words and ranges, or an error that names the setting, its value and what was expected.
//! It knows no method and reads no file.

use std::collections::BTreeMap;

use super::error::DistillError;

/// Something that can be set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Its name on the command line and in configuration files.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it means: one sentence without a full stop.
    pub about: &'static str,
    /// Its value if nobody sets it, as text.
    pub default: &'static str,
}

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, 0 or above.
    Count,
    /// A number.
    Number,
    /// A number, or two as `LOW..HIGH`.
    Range,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
}

impl Kind {
    /// What a value must be, in words.
    pub fn expected(self) -> String {
        match self {
            Kind::Count => "a whole number".to_owned(),
            Kind::Number => "a number".to_owned(),
            Kind::Range => "a number or a range LOW..HIGH".to_owned(),
            Kind::Word(words) => format!("one of {}", words.join(", ")),
            Kind::Switch => "true or false".to_owned(),
        }
    }

    /// Whether `text` is such a value.
    fn takes(self, text: &str) -> bool {
        match self {
            Kind::Count => count(text).is_some(),
            Kind::Number => number(text).is_some(),
            Kind::Range => range(text).is_some(),
            Kind::Word(words) => words.contains(&text),
            Kind::Switch => text.parse::<bool>().is_ok(),
        }
    }
}

/// A number from `low` to `high`, which may be equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

/// A value for each of some settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    settings: Vec<(Setting, String)>,
}

impl Values {
    /// The values of `settings`: those in `given`, and defaults. Other names in `given` are left
    /// to whoever they belong to.
    ///
    /// # Errors
    /// When a value is not of the kind of its setting.
    pub fn of(
        settings: impl IntoIterator<Item = Setting>,
        given: &BTreeMap<String, String>,
    ) -> Result<Values, DistillError> {
        let value = |setting: Setting| {
            let text = given
                .get(setting.name)
                .map_or(setting.default, |text| text.trim());
            match setting.kind.takes(text) {
                true => Ok((setting, text.to_owned())),
                false => Err(wrong(setting.name, text, setting.kind.expected())),
            }
        };
        let settings = settings.into_iter().map(value).collect::<Result<_, _>>()?;
        Ok(Values { settings })
    }

    /// Every setting with its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Setting, &str)> {
        let pairs = self.settings.iter();
        pairs.map(|(setting, text)| (setting, text.as_str()))
    }

    /// The value as text.
    pub fn text(&self, name: &str) -> &str {
        let found = self.settings.iter().find(|(own, _)| own.name == name);
        let (_, text) = found.expect("a method lists the settings that it reads");
        text
    }

    /// A whole number.
    pub fn count(&self, name: &'static str) -> usize {
        count(self.text(name)).expect("values are of their settings' kinds")
    }

    /// A whole number, at least 1.
    ///
    /// # Errors
    /// When it is 0.
    pub fn positive(&self, name: &'static str) -> Result<usize, DistillError> {
        match self.count(name) {
            0 => Err(wrong(name, "0", "at least 1".to_owned())),
            count => Ok(count),
        }
    }

    /// A finite number.
    pub fn number(&self, name: &'static str) -> f64 {
        number(self.text(name)).expect("values are of their settings' kinds")
    }

    /// A number within bounds, both included.
    ///
    /// # Errors
    /// When it is outside.
    pub fn number_within(
        &self,
        name: &'static str,
        min: f64,
        max: f64,
    ) -> Result<f64, DistillError> {
        let number = self.number(name);
        match (min..=max).contains(&number) {
            true => Ok(number),
            false => Err(self.wrong(name, format!("{min} to {max}"))),
        }
    }

    /// A number above 0.
    ///
    /// # Errors
    /// When it is not.
    pub fn above_zero(&self, name: &'static str) -> Result<f64, DistillError> {
        match self.number(name) {
            number if number > 0.0 => Ok(number),
            _ => Err(self.wrong(name, "a number above 0".to_owned())),
        }
    }

    /// One number or two.
    pub fn range(&self, name: &'static str) -> Range {
        range(self.text(name)).expect("values are of their settings' kinds")
    }

    /// Whether a switch is on.
    pub fn switch(&self, name: &'static str) -> bool {
        self.text(name) == "true"
    }

    /// The meaning of a word.
    pub fn word<T: Copy>(&self, name: &'static str, meanings: &[(&str, T)]) -> T {
        let text = self.text(name);
        let found = meanings.iter().find(|(word, _)| *word == text);
        found.expect("every word of a setting has a meaning").1
    }

    /// The error for a value that is of the right kind but has no meaning.
    pub fn wrong(&self, name: &'static str, wanted: String) -> DistillError {
        wrong(name, self.text(name), wanted)
    }
}

fn wrong(name: &'static str, found: &str, wanted: String) -> DistillError {
    let found = found.to_owned();
    DistillError::Setting {
        name,
        found,
        wanted,
    }
}

fn count(text: &str) -> Option<usize> {
    /// More of anything than this is a typing mistake.
    const COUNT_MAX: usize = 1_000_000_000;
    let count = text.parse().ok();
    count.filter(|&count| count <= COUNT_MAX)
}

fn number(text: &str) -> Option<f64> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| number.is_finite())
}

fn range(text: &str) -> Option<Range> {
    let (low, high) = match text.split_once("..") {
        Some((low, high)) => (number(low.trim())?, number(high.trim())?),
        None => (number(text)?, number(text)?),
    };
    (low <= high).then_some(Range { low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [Setting; 3] = [
        Setting {
            name: "k",
            kind: Kind::Count,
            about: "",
            default: "20",
        },
        Setting {
            name: "guidance",
            kind: Kind::Range,
            about: "",
            default: "8",
        },
        Setting {
            name: "loss",
            kind: Kind::Word(&["huber", "l2"]),
            about: "",
            default: "huber",
        },
    ];

    fn values(given: &[(&str, &str)]) -> Result<Values, String> {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        Values::of(SETTINGS, &given.iter().map(pair).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_those_given_or_defaults() {
        let values = values(&[("k", " 100"), ("guidance", "3..15"), ("other", "x")]);
        let values = values.expect("they are of their kinds");
        assert_eq!(values.count("k"), 100);
        let Range { low, high } = values.range("guidance");
        assert_eq!((low, high), (3.0, 15.0));
        assert_eq!(values.word("loss", &[("huber", 1), ("l2", 2)]), 1);
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        for (name, text, wanted) in [
            ("k", "-1", "k is -1, expected a whole number"),
            ("k", "2.5", "k is 2.5, expected a whole number"),
            (
                "guidance",
                "9..3",
                "guidance is 9..3, expected a number or a range LOW..HIGH",
            ),
            (
                "guidance",
                "nan",
                "guidance is nan, expected a number or a range LOW..HIGH",
            ),
            ("loss", "l1", "loss is l1, expected one of huber, l2"),
        ] {
            assert_eq!(values(&[(name, text)]).err().as_deref(), Some(wanted));
        }
    }
}
