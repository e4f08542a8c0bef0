//! What tables show of each adapter.

use super::{Adapter, DeviceError, adapters};
use crate::found::{Fact, Found, TYPES};

/// Each adapter, or why there is none.
pub(crate) fn found() -> Vec<Found> {
    let adapters = adapters();
    match adapters.is_empty() {
        false => adapters.iter().map(described).collect(),
        true => {
            let text = DeviceError::NoAdapter.to_string();
            let (reason, hint) = text.split_once('\n').unwrap_or((&text, ""));
            let hint = hint.trim().trim_start_matches("hint: ");
            vec![Found::absent(reason, Some(hint))]
        }
    }
}

fn described(adapter: &Adapter) -> Found {
    let Adapter {
        index,
        name,
        kind,
        interface,
        driver,
        grants,
        timestamp_query,
    } = adapter;
    let features = [
        ("shader-f16", grants.shader_f16),
        ("timestamp-query", *timestamp_query),
    ];
    let named = features.map(|(feature, found)| match found {
        true => feature.to_owned(),
        false => format!("no {feature}"),
    });
    let (limits, kind) = (&grants.limits, kind.name());
    let lines = vec![
        format!("adapter {index}: {name}"),
        format!("{kind}, {interface}, driver {driver}"),
        named.join(", "),
        format!(
            "{} MiB in a binding, {} MiB in a buffer, {} storage buffers",
            limits.binding_bytes_max >> 20,
            limits.buffer_bytes_max >> 20,
            limits.buffers_max,
        ),
        format!(
            "{} KiB and {} invocations in a workgroup",
            limits.shared_bytes_max >> 10,
            limits.invocations_max,
        ),
    ];
    let text = |text: &str| Fact::Text(text.to_owned());
    let numbers = grants.limits().into_iter();
    let facts = vec![
        ("usable", Fact::Flag(true)),
        ("adapter", Fact::Number(*index as u64)),
        ("name", text(name)),
        ("kind", text(kind)),
        ("interface", text(interface)),
        ("driver", text(driver)),
        (
            "features",
            Fact::Group(
                features
                    .map(|(name, found)| (name, Fact::Flag(found)))
                    .to_vec(),
            ),
        ),
        (
            "limits",
            Fact::Group(
                numbers
                    .map(|(name, most)| (name, Fact::Number(most)))
                    .collect(),
            ),
        ),
        ("dtypes", Fact::Texts(TYPES.to_vec())),
    ];
    Found { lines, facts }
}
