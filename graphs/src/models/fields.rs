//! A component's `config.json`, of which no key is overlooked.
//!
//! Takes the file's text, gives typed fields one by one; what has not been asked for at the end is
//! listed by name: diffusers and transformers do not know these keys either and ignore them. Keys
//! that begin with `_` are notes of the library that wrote the file, and `null` means that the key is absent.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ConfigError {
    /// The file is not a JSON object.
    #[error("{file:?} is not a JSON object: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is of the wrong kind, out of range, or asks for something that is not built.
    #[error("{key:?} in {file:?} is {found}, wanted {wanted}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What is supported.
        wanted: String,
    },
}

/// Keys of a configuration that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file:?} has the unknown keys {keys:?}, which are ignored")]
pub struct IgnoredKeys {
    /// The file.
    pub file: String,
    /// The keys.
    pub keys: Vec<String>,
}

/// The longest part of a value that a message shows, in characters.
const SHOWN_MAX: usize = 60;

/// A configuration whose keys are taken out one by one. A key that is `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    file: String,
    class: Option<String>,
    map: Map<String, Value>,
}

impl Fields {
    /// The keys of `text`, which is the contents of `file`.
    ///
    /// # Errors
    /// When it is not a JSON object, or describes quantised weights, which need another loader.
    pub(crate) fn parse(file: &str, text: &[u8]) -> Result<Fields, ConfigError> {
        let map: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| ConfigError::Format {
                file: file.to_owned(),
                reason: error.to_string(),
            })?;
        let mut fields = Fields::new(file, map);
        fields.only("quantization_config", Value::Null)?;
        Ok(fields)
    }

    /// Refuses the configuration of another class than `class`, where it names one.
    pub(crate) fn expect_class(&self, class: &str) -> Result<(), ConfigError> {
        match &self.class {
            Some(found) if found != class => {
                let found = Value::from(found.as_str());
                Err(self.refuse("_class_name", &found, Value::from(class)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The keys of an object read from `file`.
    pub(crate) fn new(file: &str, mut map: Map<String, Value>) -> Fields {
        let class = map.get("_class_name").and_then(class_name);
        map.retain(|key, _| !key.starts_with('_'));
        let file = file.to_owned();
        Fields { file, class, map }
    }

    /// The class of a pipeline's component, written as `[library, class]`; `[null, null]` is
    /// none.
    pub(crate) fn component<T: Copy>(
        &mut self,
        key: &str,
        classes: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match value.as_array().map(Vec::as_slice) {
            Some([_, Value::Null]) => Ok(None),
            Some([_, class]) => self.lookup(key, class, classes).map(Some),
            Some(_) | None => Err(self.refuse(key, &value, "a library and a class")),
        }
    }

    /// The parts of a pipeline that are written as `[library, null]`: it does not have them,
    /// whatever folders there are.
    pub(crate) fn absent_parts(&self) -> BTreeSet<String> {
        let is_absent = |value: &Value| match value.as_array().map(Vec::as_slice) {
            Some([_, class]) => class.is_null(),
            Some(_) | None => false,
        };
        let absent = self.map.iter().filter(|(_, value)| is_absent(value));
        absent.map(|(key, _)| key.clone()).collect()
    }

    /// The class of a pipeline's component, whichever it is.
    pub(crate) fn component_class(&mut self, key: &str) -> Option<String> {
        self.take(key).as_ref().and_then(class_name)
    }

    /// Of which class it says to be the configuration.
    pub(crate) fn class(&self) -> Option<String> {
        self.class.clone()
    }

    /// Whether `key` is there and says `null`; some keys mean something by it.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// The value of `key`, if it is there.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// The error that `key` has the value `found`.
    pub(crate) fn refuse(&self, key: &str, found: &Value, wanted: impl ToString) -> ConfigError {
        let mut shown = found.to_string();
        if let Some((end, _)) = shown.char_indices().nth(SHOWN_MAX) {
            shown.truncate(end);
            shown.push('…');
        }
        ConfigError::Value {
            file: self.file.clone(),
            key: key.to_owned(),
            found: shown,
            wanted: wanted.to_string(),
        }
    }

    /// The error that `key`, which has no default, is not there.
    pub(crate) fn absent(&self, key: &str, wanted: impl ToString) -> ConfigError {
        self.refuse(key, &Value::Null, wanted)
    }

    /// What `read` makes of the value of `key`, if it is there.
    pub(crate) fn optional<T>(
        &mut self,
        key: &str,
        wanted: impl ToString,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let found = self.take(key).map(|value| match read(&value) {
            Some(meaning) => Ok(meaning),
            None => Err(self.refuse(key, &value, wanted)),
        });
        found.transpose()
    }

    /// A count between 1 and `most`.
    pub(crate) fn count(
        &mut self,
        key: &str,
        default: usize,
        most: usize,
    ) -> Result<usize, ConfigError> {
        Ok(self.optional_count(key, most)?.unwrap_or(default))
    }

    /// A count between 1 and `most`, or nothing.
    pub(crate) fn optional_count(
        &mut self,
        key: &str,
        most: usize,
    ) -> Result<Option<usize>, ConfigError> {
        let wanted = format!("an integer from 1 to {most}");
        self.optional(key, wanted, |value| as_count(value, 1, most))
    }

    /// A truth value.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self.optional_flag(key)?.unwrap_or(default))
    }

    /// True or false, or nothing.
    pub(crate) fn optional_flag(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.optional(key, "true or false", Value::as_bool)
    }

    /// A finite number.
    pub(crate) fn number(&mut self, key: &str, default: f64) -> Result<f64, ConfigError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A finite number, or nothing.
    pub(crate) fn optional_number(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        let finite = |value: &Value| value.as_f64().filter(|number| number.is_finite());
        self.optional(key, "a number", finite)
    }

    /// One of the names in `table`, as what it stands for; `default` is a name too.
    pub(crate) fn name<T: Copy>(
        &mut self,
        key: &str,
        default: &str,
        table: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let value = self.take(key).unwrap_or_else(|| Value::from(default));
        self.lookup(key, &value, table)
    }

    /// A list of `count` names in `table`.
    pub(crate) fn names<T: Copy>(
        &mut self,
        key: &str,
        default: &[&str],
        table: &[(&str, T)],
        count: usize,
    ) -> Result<Vec<T>, ConfigError> {
        let value = self.take(key).unwrap_or_else(|| Value::from(default));
        match &value {
            Value::Array(names) if names.len() == count => {
                names.iter().map(|v| self.lookup(key, v, table)).collect()
            }
            _ => Err(self.refuse(key, &value, format!("a list with {count} names"))),
        }
    }

    fn lookup<T: Copy>(
        &self,
        key: &str,
        value: &Value,
        table: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let found = table.iter().find(|(name, _)| value.as_str() == Some(name));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<String> = table.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.refuse(key, value, names.join(" or "))
        })
    }

    /// A list of 1 to `most` counts, each from 1 to `each_most`.
    pub(crate) fn counts(
        &mut self,
        key: &str,
        default: &[usize],
        most: usize,
        each_most: usize,
    ) -> Result<Vec<usize>, ConfigError> {
        let wanted = format!("a list of 1 to {most} integers from 1 to {each_most}");
        let counts = self.optional(key, wanted, |value| {
            let list = value.as_array()?;
            let fits = (1..=most).contains(&list.len());
            let counts = list.iter().map(|count| as_count(count, 1, each_most));
            fits.then(|| counts.collect())?
        })?;
        Ok(counts.unwrap_or_else(|| default.to_vec()))
    }

    /// One value for all of `blocks`, or a list of one value for each.
    pub(crate) fn per_block<T: Clone>(
        &mut self,
        key: &str,
        default: T,
        blocks: usize,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let wanted = format!("{wanted}, or a list of {blocks} such");
        let values = self.optional(key, wanted, |value| match value {
            Value::Array(list) if list.len() == blocks => list.iter().map(read).collect(),
            Value::Array(_) => None,
            single => read(single).map(|one| vec![one; blocks]),
        })?;
        Ok(values.unwrap_or_else(|| vec![default; blocks]))
    }

    /// Takes a key for which only one value is supported; absent and `null` pass too, as writers
    /// leave defaults out. Numbers compare by value.
    pub(crate) fn only(&mut self, key: &str, wanted: Value) -> Result<(), ConfigError> {
        match self.take(key) {
            None => Ok(()),
            Some(found) if found == wanted => Ok(()),
            Some(found) if found.as_f64().is_some() && found.as_f64() == wanted.as_f64() => Ok(()),
            Some(found) => Err(self.refuse(key, &found, wanted)),
        }
    }

    /// Takes keys that do not change the function.
    pub(crate) fn irrelevant(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.remove(*key);
        }
    }

    /// Ends the reading with the keys that were not taken and have a value.
    pub(crate) fn finish(self) -> Vec<String> {
        let given = self.map.into_iter().filter(|(_, value)| !value.is_null());
        given.map(|(key, _)| key).collect()
    }
}

/// A class: its name, or a list of its module and its name.
fn class_name(value: &Value) -> Option<String> {
    let name = match value {
        Value::Array(parts) => parts.last()?,
        name => name,
    };
    name.as_str().map(str::to_owned)
}

/// An integer from `least` to `most`.
pub(crate) fn as_count(value: &Value, least: usize, most: usize) -> Option<usize> {
    let count = usize::try_from(value.as_u64()?).ok()?;
    (least..=most).contains(&count).then_some(count)
}
