//! A sampler's configuration as bytes, so that the core needs no reader of JSON.
//!
//! Takes a list of names and values, little end first, gives them as options. A text is its length
//! in bytes (u32) and its UTF-8; a value is a byte that tells its kind, and the value.

use serde_json::{Map, Value};

use crate::fault::Fault;

/// Reads fields one after the other.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    /// A text.
    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        let length = self.count()?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Fault::Call)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| Fault::Call)
    }

    /// A count (u32), and as many pairs of a name and a value.
    pub(crate) fn options(&mut self) -> Result<Vec<(String, Value)>, Fault> {
        let options = (0..self.count()?).map(|_| Ok((self.text()?.to_owned(), self.value()?)));
        options.collect()
    }

    fn value(&mut self) -> Result<Value, Fault> {
        let [kind] = self.take()?;
        Ok(match kind {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => f64::from_le_bytes(self.take()?).into(),
            4 => Value::String(self.text()?.to_owned()),
            5 => {
                let values = (0..self.count()?).map(|_| self.value());
                Value::Array(values.collect::<Result<_, Fault>>()?)
            }
            // A value of another kind, which no sampler has: an object.
            6 => Value::Object(Map::new()),
            _ => return Err(Fault::Call),
        })
    }

    fn count(&mut self) -> Result<usize, Fault> {
        let count = u32::from_le_bytes(self.take()?);
        usize::try_from(count).map_err(|_| Fault::Call)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Fault::Call)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_damage_is_refused() {
        let mut bytes = vec![2, 0, 0, 0, 1, 0, 0, 0, b'a', 3];
        bytes.extend(0.5f64.to_le_bytes());
        bytes.extend([1, 0, 0, 0, b'b', 5, 1, 0, 0, 0, 2]);
        let options = Fields::new(&bytes).options().expect("two options");
        let wanted = [("a".into(), 0.5.into()), ("b".into(), vec![true].into())];
        assert_eq!(options, wanted);
        for end in 0..bytes.len() {
            assert_eq!(Fields::new(&bytes[..end]).options(), Err(Fault::Call));
        }
        assert_eq!(
            Fields::new(&[1, 0, 0, 0, 0, 0, 0, 0, 9]).options(),
            Err(Fault::Call)
        );
    }
}
