//! The options that a configuration gives: a short list of names and values, each name once.
//!
//! It is sorted by name, and so small that a search from the start is quick; a page that makes
//! tables carries no map for it.

use serde_json::Value;

/// Options by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Given {
    options: Vec<(String, Value)>,
}

impl Given {
    /// The value of an option.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let found = self.options.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value)
    }

    /// The names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(|(name, _)| name.as_str())
    }

    /// Sets an option, in place of an earlier value.
    pub(super) fn insert(&mut self, name: &str, value: Value) {
        match self.options.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => {
                let names = self.names();
                let place = names.take_while(|own| *own < name).count();
                self.options.insert(place, (name.to_owned(), value));
            }
        }
    }

    /// Sets an option that has no value yet.
    pub(super) fn insert_missing(&mut self, name: &str, value: Value) {
        if self.get(name).is_none() {
            self.insert(name, value);
        }
    }

    /// Takes an option out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Value> {
        let place = self.options.iter().position(|(own, _)| own == name)?;
        Some(self.options.remove(place).1)
    }

    /// Drops the options that are not kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &Value) -> bool) {
        self.options.retain(|(name, value)| keep(name, value));
    }
}

impl FromIterator<(String, Value)> for Given {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(options: I) -> Given {
        let mut given = Given::default();
        for (name, value) in options {
            given.insert(&name, value);
        }
        given
    }
}
