//! What tables show of each graphics processor.

use super::driver;
use super::processors::{Processor, processors, version_text};
use crate::found::{Fact, Found, TYPES};
use crate::gpu::error::DeviceError;

/// Each processor, or why there is none.
pub(crate) fn found() -> Vec<Found> {
    let absent = |error: &DeviceError| {
        let text = error.to_string();
        let (reason, hint) = match text.split_once('\n') {
            Some((reason, hint)) => (reason, Some(hint.trim().trim_start_matches("hint: "))),
            None => (text.as_str(), None),
        };
        vec![Found::absent(reason, hint)]
    };
    match processors() {
        Ok(processors) if processors.is_empty() => {
            let reason = "NVIDIA's driver finds no graphics processor";
            vec![Found::absent(reason, None)]
        }
        Ok(processors) => processors.iter().map(described).collect(),
        Err(error) => absent(&error),
    }
}

fn described(processor: &Processor) -> Found {
    let (major, minor) = processor.capability;
    let (free, all) = processor.memory;
    let version = driver::version().unwrap_or(0);
    let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let mut lines = vec![
        format!("adapter {}: {}", processor.ordinal, processor.name),
        format!(
            "compute capability {major}.{minor}, driver of CUDA {}",
            version_text(version)
        ),
        format!(
            "{:.1} GiB of memory, {:.1} GiB free",
            gibibytes(all),
            gibibytes(free)
        ),
    ];
    let unfit = processor.unfit();
    lines.extend(unfit.iter().map(|reason| format!("not usable: {reason}")));
    let text = |text: String| Fact::Text(text);
    let mut facts = vec![
        ("usable", Fact::Flag(unfit.is_none())),
        ("adapter", Fact::Number(processor.ordinal as u64)),
        ("name", text(processor.name.clone())),
        ("compute_capability", text(format!("{major}.{minor}"))),
        ("driver_cuda_version", text(version_text(version))),
        ("memory_bytes", Fact::Number(all)),
        ("memory_free_bytes", Fact::Number(free)),
        ("dtypes", Fact::Texts(TYPES.to_vec())),
    ];
    facts.extend(unfit.map(|reason| ("reason", text(reason))));
    Found { lines, facts }
}
