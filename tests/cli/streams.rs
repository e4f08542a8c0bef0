//! Standard output and error that are closed or full: no panic, and the conventional exit code.

use std::fs::File;
use std::io;
use std::process::Stdio;

use crate::support::{copy, golden, scratch, splamc};

/// A command of each kind that prints data.
const LINES: [&str; 12] = [
    "--help",
    "--version",
    "sample --help",
    "devices",
    "devices --json",
    "inspect model",
    "inspect model --component unet --stage graph",
    "inspect model --component unet --stage region",
    "inspect model --component unet --stage tile",
    "inspect model --component unet --stage plan",
    "compile model --target cpu --component text_encoder -o m.splam --dump graph",
    "sample model -p x --steps 1 -W 16 -H 16 -o -",
];

/// What shells say of a program that the signal SIGPIPE ended.
const CLOSED: i32 = 141;

fn full() -> File {
    let device = File::options().write(true).open("/dev/full");
    device.expect("a device that is always full")
}

#[test]
fn closed_and_full_streams_end_a_command_in_order() {
    let folder = scratch("cli-streams");
    copy(&golden("sd21/model"), &folder.join("model"));
    let run = |line: &str, stdout: Stdio, stderr: Stdio| {
        let mut command = splamc();
        command.args(line.split(' ')).current_dir(&folder);
        let child = command.stdout(stdout).stderr(stderr).spawn();
        let output = child
            .and_then(|child| child.wait_with_output())
            .expect("the command runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for line in LINES {
        let (reader, closed) = io::pipe().expect("a pipe");
        drop(reader);
        let (code, told) = run(line, closed.into(), Stdio::piped());
        assert_eq!(
            (code, told.as_str()),
            (Some(CLOSED), ""),
            "{line} into a closed pipe"
        );

        let (code, told) = run(line, full().into(), Stdio::piped());
        let wanted = "error: standard output: no space is left on the device\n";
        assert_eq!(
            (code, told.as_str()),
            (Some(1), wanted),
            "{line} into a full device"
        );
    }
    for (line, wanted) in [("inspect absent", 1), ("inspect --absent", 2)] {
        let (code, _) = run(line, Stdio::null(), full().into());
        assert_eq!(
            code,
            Some(wanted),
            "{line} with messages into a full device"
        );
    }
}
