//! Messages and the progress of long work, on standard error.
//!
//! Takes counts and text. Bars are shown on a terminal only.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `length` steps, labelled `what`.
pub(crate) fn bar(what: &'static str, length: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::stderr());
    let template = "{prefix:>12} [{bar:32}] {pos}/{len} {elapsed} (left {eta}) {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(what);
    // Steps can take many seconds: the clock goes on in between.
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A line that says what is being done, until it is dropped.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = "{prefix:>12} {spinner} {elapsed} {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
    bar.set_prefix(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A message for people who watch; nothing in a pipe.
pub(crate) fn say(message: impl Display) {
    if std::io::stderr().is_terminal() {
        note(message);
    }
}

/// A warning: something that the user asked for is not done as asked. Always shown.
pub(crate) fn warn(message: impl Display) {
    note(format!("warning: {message}"));
}

/// A message that is always shown.
pub(crate) fn note(message: impl Display) {
    // A command does its work also where messages cannot be printed.
    let _ = writeln!(std::io::stderr(), "{message}");
}
