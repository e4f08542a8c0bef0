//! All kernels of an artifact as one text that people can read and a page fetches at once.
//!
//! Takes named texts and joins them, each below a line `// kernel NAME`; takes such a text and
//! splits it again. Never looks into a kernel.

use std::collections::BTreeMap;

/// Begins the line above each kernel; no kernel has such a line of its own.
const MARK: &str = "// kernel ";

/// The role of the file of kernels for a target, such as `kernels.wgsl`.
pub(super) fn role(target: &str) -> String {
    let dialect = backends::lookup(target).and_then(|backend| backend.dialect);
    let extension = dialect.map_or("txt", |dialect| dialect.extension);
    format!("kernels.{extension}")
}

/// Joins kernels in the order of their names. Returns the name of the first one that cannot be
/// told from its neighbours: its name or its text would begin another kernel.
pub(super) fn join(kernels: &BTreeMap<&str, &str>) -> Result<String, String> {
    let mut joined = String::new();
    for (name, text) in kernels {
        let is_plain = !name.is_empty() && !name.contains(char::is_whitespace);
        if !is_plain || text.lines().any(|line| line.starts_with(MARK)) {
            return Err((*name).to_owned());
        }
        joined.extend([MARK, name, "\n", text]);
        if !text.ends_with('\n') {
            joined.push('\n');
        }
    }
    Ok(joined)
}

/// Splits a text into kernels by name; `None` where it does not begin with one, or a name occurs
/// twice.
pub(super) fn split(joined: &str) -> Option<BTreeMap<String, String>> {
    let mut kernels = BTreeMap::new();
    let mut rest = joined.strip_prefix(MARK)?;
    loop {
        let (name, after) = rest.split_once('\n')?;
        let end = format!("\n{MARK}");
        let (text, next) = match after.strip_prefix(MARK) {
            Some(next) => ("", Some(next)),
            None => match after.find(&end) {
                Some(at) => (&after[..=at], Some(&after[at + end.len()..])),
                None => (after, None),
            },
        };
        if kernels.insert(name.to_owned(), text.to_owned()).is_some() {
            return None;
        }
        match next {
            Some(next) => rest = next,
            None => return Some(kernels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_come_back_as_they_were() {
        let texts = [
            ("gemm_1", "// r0 = gemm\nfn main() {}\n"),
            ("empty", "\n"),
            ("moments_2", "a\n\nb // kernel x\n"),
        ];
        let kernels = BTreeMap::from(texts);
        let joined = join(&kernels).expect("they are told apart");
        assert!(joined.starts_with("// kernel empty\n\n// kernel gemm_1\n// r0"));
        let back = split(&joined).expect("it is a text of kernels");
        let back: BTreeMap<&str, &str> = back.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(back, kernels);
    }

    #[test]
    fn kernels_that_would_begin_others_are_refused() {
        for (name, text) in [("a b", "x\n"), ("", "x\n"), ("a", "x\n// kernel b\n")] {
            let refused = join(&BTreeMap::from([(name, text)]));
            assert_eq!(refused, Err(name.to_owned()));
        }
        for text in ["", "fn main() {}", "// kernel a\nx\n// kernel a\ny\n"] {
            assert_eq!(split(text), None, "{text:?}");
        }
    }
}
