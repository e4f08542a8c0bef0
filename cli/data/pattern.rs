//! Patterns of paths: `{a..b}` stands for every number from a to b.
//!
//! Takes text, returns all texts that it stands for, in order. It looks at no file.

/// The most paths of one pattern: more are a slip of the keyboard.
const PATHS_MAX: usize = 1_000_000;

/// The paths that a pattern stands for; numbers have as many digits as the longer end of their
/// range if an end begins with 0, as in shells. A brace without a range is itself.
///
/// # Errors
/// When there are too many.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let mut paths = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, range, after)) = next(rest) {
        let count = paths.len().saturating_mul(range.len());
        if count > PATHS_MAX {
            return Err(format!(
                "the pattern stands for {count} paths; expected at most {PATHS_MAX}"
            ));
        }
        let longer = |path: &String| {
            let path = format!("{path}{before}");
            let longer = range.iter().map(move |number| format!("{path}{number}"));
            longer.collect::<Vec<_>>()
        };
        paths = paths.iter().flat_map(longer).collect();
        rest = after;
    }
    Ok(paths.into_iter().map(|path| path + rest).collect())
}

/// The text before the first range, its numbers, and the text after it.
fn next(text: &str) -> Option<(&str, Vec<String>, &str)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|place| from + place) {
        let close = open + text[open..].find('}')?;
        if let Some(numbers) = numbers(&text[open + 1..close]) {
            return Some((&text[..open], numbers, &text[close + 1..]));
        }
        from = open + 1;
    }
    None
}

/// The numbers of `a..b`, downwards if a is the greater one.
fn numbers(range: &str) -> Option<Vec<String>> {
    let (first, last) = range.split_once("..")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let is_padded = [first, last]
        .iter()
        .any(|end| end.len() > 1 && end.starts_with('0'));
    let width = match is_padded {
        true => first.len().max(last.len()),
        false => 0,
    };
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    let (low, high) = (first.min(last), first.max(last));
    // One more than the bound is enough to be refused.
    let numbers = (low..=high).take(PATHS_MAX + 1);
    let mut numbers: Vec<String> = numbers.map(|number| format!("{number:0width$}")).collect();
    if first > last {
        numbers.reverse();
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_shells() {
        let cases: [(&str, &[&str]); 7] = [
            ("a.tar", &["a.tar"]),
            ("{8..10}.tar", &["8.tar", "9.tar", "10.tar"]),
            ("x-{08..10}.tar", &["x-08.tar", "x-09.tar", "x-10.tar"]),
            ("{000..1}", &["000", "001"]),
            (
                "{0..1}/{2..1}.tar",
                &["0/2.tar", "0/1.tar", "1/2.tar", "1/1.tar"],
            ),
            ("{a}-{1..1}", &["{a}-1"]),
            ("{1..", &["{1.."]),
        ];
        for (pattern, wanted) in cases {
            let found = expand(pattern).expect("few paths");
            assert_eq!(found, wanted, "{pattern}");
        }
        for pattern in ["{0..99999999}", "{0..1999}/{0..1999}"] {
            assert!(expand(pattern).is_err(), "{pattern}");
        }
    }
}
