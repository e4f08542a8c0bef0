//! The rules of commands, W1 to W8 of [`super::commands`].
//!
//! Takes commands from the compiling half or from a file, gives them as [`Valid`], the one form
//! that a device takes: what is valid stops at no rule later. Needs no device.

use std::collections::BTreeSet;

use thiserror::Error;

use compiler::region::{Buffer, RegionId};
use compiler::target::Limits;
use compiler::value::extents::Extents;

use super::commands::{
    ALIGNMENT, Argument, Binding, Commands, Hosted, Kernel, Lack, Launch, Pool, Requirements,
    Source, StoredAs,
};
use super::dialect::{Dialect, Text};

/// Commands that keep all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valid {
    commands: Commands,
}

impl Valid {
    /// The commands.
    pub fn commands(&self) -> &Commands {
        &self.commands
    }
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Invalid {
    /// W1, of a launch.
    #[error("launch {launch} of {region} names kernel {kernel} of {kernels} (W1)")]
    Kernel {
        /// Index of the launch.
        launch: usize,
        /// What it computes.
        region: RegionId,
        /// The index that it names.
        kernel: usize,
        /// How many there are.
        kernels: usize,
    },
    /// W1, of a region of the host.
    #[error("{region} of the host comes after {before} launches of {launches} (W1)")]
    Hosted {
        /// The region.
        region: RegionId,
        /// Launches that come before it.
        before: usize,
        /// How many there are.
        launches: usize,
    },
    /// W1, of a window.
    #[error("{place} has the window of {window}, which does not exist (W1)")]
    NoBuffer {
        /// Whose it is.
        place: String,
        /// The window.
        window: Argument,
    },
    /// W2, of a window.
    #[error(
        "{place} has the window of {window}, wanted whole words within its {buffer_bytes} bytes (W2)"
    )]
    Window {
        /// Whose it is.
        place: String,
        /// The window.
        window: Argument,
        /// Bytes of the buffer that it names.
        buffer_bytes: u64,
    },
    /// W2, of an argument.
    #[error("{place} has the window of {window}, wanted one from a multiple of {ALIGNMENT} (W2)")]
    Unaligned {
        /// Whose it is.
        place: String,
        /// The window.
        window: Argument,
    },
    /// W2, of a buffer.
    #[error("a buffer of {bytes} bytes is none of whole words (W2)")]
    Words {
        /// Its bytes.
        bytes: u64,
    },
    /// W3.
    #[error("kernel {kernel:?} of {region} is given {found:?}, wanted {wanted:?} (W3)")]
    Arguments {
        /// The kernel.
        kernel: String,
        /// The region.
        region: RegionId,
        /// How the arguments' pools are bound.
        found: Vec<Binding>,
        /// How the kernel sees its buffers.
        wanted: Vec<Binding>,
    },
    /// W4.
    #[error("kernel {kernel:?} of {region} is given {first} and {second}, which overlap (W4)")]
    Alias {
        /// The kernel.
        kernel: String,
        /// The region.
        region: RegionId,
        /// The one that begins first.
        first: Argument,
        /// The other.
        second: Argument,
    },
    /// W5, of a text.
    #[error("kernel {kernel:?}{} ({origin}): {error} (W5)", of(.region))]
    Text {
        /// The kernel.
        kernel: String,
        /// The first region that launches it, if any does.
        region: Option<RegionId>,
        /// Where in the source model it comes from.
        origin: String,
        /// What is wrong.
        error: String,
    },
    /// W5, of declarations.
    #[error("kernel {kernel:?}{} declares {found:?}, its text {text:?} (W5)", of(.region))]
    Bindings {
        /// The kernel.
        kernel: String,
        /// The first region that launches it, if any does.
        region: Option<RegionId>,
        /// What the commands say.
        found: Vec<Binding>,
        /// What the text says.
        text: Vec<Binding>,
    },
    /// W5, of a window.
    #[error(
        "argument {argument} of kernel {kernel:?} of {region} has {found} bytes, its text wants {wanted} (W5)"
    )]
    Small {
        /// The kernel.
        kernel: String,
        /// The region.
        region: RegionId,
        /// Index of the argument.
        argument: usize,
        /// Bytes of the window.
        found: u64,
        /// Bytes that the text declares.
        wanted: u64,
    },
    /// W6.
    #[error("{place} needs more than is required: {lack} (W6)")]
    Exceeds {
        /// The kernel with its region, or a buffer.
        place: String,
        /// The requirement.
        lack: Lack,
    },
    /// W7, of names.
    #[error("{name} is given twice among {kind} (W7)")]
    Name {
        /// The name, as messages give it.
        name: String,
        /// What bears it.
        kind: &'static str,
    },
    /// W7, of sizes.
    #[error("{place} has {found} bytes, wanted {wanted} for {} {:?} stored as {stored:?} (W7)", .extents.dtype, .extents.shape)]
    Size {
        /// The input, result or upload.
        place: String,
        /// Bytes of its window.
        found: u64,
        /// Bytes of its elements; 0 if no number holds them.
        wanted: u64,
        /// The elements.
        extents: Extents,
        /// How they lie.
        stored: StoredAs,
    },
    /// W8.
    #[error("{place} has the window of {window}, wanted {wanted} (W8)")]
    Pool {
        /// The input, state or copy.
        place: String,
        /// Its window.
        window: Argument,
        /// What it should be.
        wanted: &'static str,
    },
    /// W7, of an order.
    #[error("{place} orders axes as {order:?}, wanted each of {rank} once (W7)")]
    Order {
        /// The upload.
        place: String,
        /// The order.
        order: Vec<usize>,
        /// The number of axes.
        rank: usize,
    },
}

/// ` of r7` where there is a region.
fn of(region: &Option<RegionId>) -> String {
    region.map_or(String::new(), |region| format!(" of {region}"))
}

/// Checks all rules.
///
/// # Errors
/// The first rule that does not hold, and where.
pub fn validate(commands: Commands, dialect: &Dialect) -> Result<Valid, Invalid> {
    check(&commands, dialect, &commands.requirements)?;
    Ok(Valid { commands })
}

/// What commands need at least, whatever they say that they require.
///
/// # Errors
/// The first rule but W6 that does not hold.
pub fn requirements(commands: &Commands, dialect: &Dialect) -> Result<Requirements, Invalid> {
    check(commands, dialect, &ALL)
}

/// What no kernel exceeds.
const ALL: Requirements = Requirements {
    limits: Limits::NONE,
    shader_f16: true,
};

/// Checks all rules against what is granted; gives what is needed of it.
fn check(
    commands: &Commands,
    dialect: &Dialect,
    granted: &Requirements,
) -> Result<Requirements, Invalid> {
    let mut needed = buffers(commands, granted)?;
    ports(commands)?;
    copies(commands)?;
    hosted(commands)?;
    uploads(commands)?;
    let texts = texts(commands, dialect, granted)?;
    for text in &texts {
        needed = needed.and(needs_of_text(text));
    }
    for (number, launch) in commands.launches.iter().enumerate() {
        let needs = check_launch(commands, &texts, number, launch, granted)?;
        needed = needed.and(needs);
    }
    Ok(needed)
}

fn buffers(commands: &Commands, granted: &Requirements) -> Result<Requirements, Invalid> {
    let mut needed = Requirements::NONE;
    let pools = commands.arena.iter().chain(&commands.weights).copied();
    for bytes in pools.chain(commands.states_bytes()) {
        if bytes == 0 || !bytes.is_multiple_of(4) {
            return Err(Invalid::Words { bytes });
        }
        needed.limits.buffer_bytes_max = needed.limits.buffer_bytes_max.max(bytes);
    }
    exceeds(granted, &needed, || "a buffer".to_owned())?;
    Ok(needed)
}

/// W6.
fn exceeds(
    granted: &Requirements,
    needed: &Requirements,
    place: impl Fn() -> String,
) -> Result<(), Invalid> {
    granted.grant(needed).map_err(|lack| Invalid::Exceeds {
        place: place(),
        lack,
    })
}

/// W1 and W2 of one window.
fn window(
    commands: &Commands,
    window: &Argument,
    place: impl Fn() -> String,
) -> Result<(), Invalid> {
    let (place, window) = (place(), *window);
    let Some(buffer_bytes) = commands.buffer_bytes(&window) else {
        return Err(Invalid::NoBuffer { place, window });
    };
    let whole = window.offset.is_multiple_of(4) && window.bytes.is_multiple_of(4);
    let end = window.offset.checked_add(window.bytes);
    match whole && end.is_some_and(|end| end <= buffer_bytes) {
        true => Ok(()),
        false => Err(Invalid::Window {
            place,
            window,
            buffer_bytes,
        }),
    }
}

fn ports(commands: &Commands) -> Result<(), Invalid> {
    let all = [
        ("inputs", &commands.inputs),
        ("results", &commands.outputs),
        ("states", &commands.states),
    ];
    for (kind, ports) in all {
        let mut names = BTreeSet::new();
        for port in ports {
            let place = || format!("{:?} of the {kind}", port.name);
            if !names.insert(&port.name) {
                let name = format!("{:?}", port.name);
                return Err(Invalid::Name { name, kind });
            }
            size(&port.extents, port.stored, port.window.bytes, place)?;
            window(commands, &port.window, place)?;
        }
    }
    for port in &commands.inputs {
        let place = || format!("{:?} of the inputs", port.name);
        pool(
            &port.window,
            port.window.pool == Pool::Arena,
            place,
            "one in the arena",
        )?;
    }
    for (number, port) in commands.states.iter().enumerate() {
        let own = (Pool::States, number, 0);
        let found = (port.window.pool, port.window.buffer, port.window.offset);
        let place = || format!("{:?} of the states", port.name);
        pool(&port.window, found == own, place, "its own buffer")?;
    }
    Ok(())
}

/// W8.
fn pool(
    window: &Argument,
    holds: bool,
    place: impl Fn() -> String,
    wanted: &'static str,
) -> Result<(), Invalid> {
    match holds {
        true => Ok(()),
        false => Err(Invalid::Pool {
            place: place(),
            window: *window,
            wanted,
        }),
    }
}

/// W1, W2 and W8 of what is copied after a run.
fn copies(commands: &Commands) -> Result<(), Invalid> {
    for (number, (from, to)) in commands.copies.iter().enumerate() {
        let place = || format!("copy {number}");
        window(commands, from, place)?;
        window(commands, to, place)?;
        pool(
            to,
            from.bytes == to.bytes,
            place,
            "as many bytes as are copied",
        )?;
        pool(
            to,
            to.pool != Pool::Weights,
            place,
            "one that may be written",
        )?;
        let mut others = commands.copies[..number].iter();
        let apart = !others.any(|(_, other)| other.overlaps(to));
        pool(to, apart, place, "one that no other copy goes to")?;
    }
    Ok(())
}

/// W1, W2 and W7 of what the host computes.
fn hosted(commands: &Commands) -> Result<(), Invalid> {
    let launches = commands.launches.len();
    for Hosted {
        region,
        before,
        reads,
        stores,
    } in &commands.hosted
    {
        if *before > launches {
            return Err(Invalid::Hosted {
                region: *region,
                before: *before,
                launches,
            });
        }
        for (_, port) in reads.iter().chain(stores) {
            let place = || format!("{:?} of {region} of the host", port.name);
            size(&port.extents, port.stored, port.window.bytes, place)?;
            window(commands, &port.window, place)?;
        }
    }
    Ok(())
}

/// W7: as many bytes as the elements take.
fn size(
    extents: &Extents,
    stored: StoredAs,
    found: u64,
    place: impl Fn() -> String,
) -> Result<(), Invalid> {
    let sides = extents.shape.iter();
    let elements = sides.copied().try_fold(1usize, usize::checked_mul);
    let wanted = elements.and_then(|elements| stored.bytes(elements));
    let float = stored != StoredAs::I32;
    match wanted == Some(found) && extents.dtype.is_float() == float {
        true => Ok(()),
        false => Err(Invalid::Size {
            place: place(),
            found,
            wanted: wanted.unwrap_or(0),
            extents: extents.clone(),
            stored,
        }),
    }
}

fn uploads(commands: &Commands) -> Result<(), Invalid> {
    let mut sources: BTreeSet<(Option<&str>, Option<Buffer>)> = BTreeSet::new();
    for upload in &commands.uploads {
        let place = || upload.source.to_string();
        let key = match &upload.source {
            Source::Weight(name) => (Some(name.as_str()), None),
            Source::Constant(buffer) => (None, Some(*buffer)),
        };
        if !sources.insert(key) {
            let (name, kind) = (place(), "uploads");
            return Err(Invalid::Name { name, kind });
        }
        let rank = upload.extents.shape.len();
        let mut axes = upload.order.clone();
        axes.sort_unstable();
        if !axes.into_iter().eq(0..rank) {
            return Err(Invalid::Order {
                place: place(),
                order: upload.order.clone(),
                rank,
            });
        }
        size(&upload.extents, upload.stored, upload.window.bytes, place)?;
        window(commands, &upload.window, place)?;
    }
    Ok(())
}

/// W5 and W6 of every kernel.
fn texts(
    commands: &Commands,
    dialect: &Dialect,
    granted: &Requirements,
) -> Result<Vec<Text>, Invalid> {
    let mut first = vec![None; commands.kernels.len()];
    for launch in &commands.launches {
        if let Some(region) = first.get_mut(launch.kernel) {
            *region = region.or(Some(launch.region));
        }
    }
    let texts = commands.kernels.iter().zip(first);
    texts
        .map(|(kernel, region)| check_text(kernel, region, dialect, granted))
        .collect()
}

fn check_text(
    kernel: &Kernel,
    region: Option<RegionId>,
    dialect: &Dialect,
    granted: &Requirements,
) -> Result<Text, Invalid> {
    let text = (dialect.read)(&kernel.text, granted.shader_f16).map_err(|error| Invalid::Text {
        kernel: kernel.name.clone(),
        region,
        origin: kernel.origin.clone(),
        error,
    })?;
    let bindings: Vec<Binding> = text.bindings.iter().map(|(binding, _)| *binding).collect();
    if bindings != kernel.bindings {
        return Err(Invalid::Bindings {
            kernel: kernel.name.clone(),
            region,
            found: kernel.bindings.clone(),
            text: bindings,
        });
    }
    exceeds(granted, &needs_of_text(&text), || {
        format!("kernel {:?}{}", kernel.name, of(&region))
    })?;
    Ok(text)
}

fn needs_of_text(text: &Text) -> Requirements {
    Requirements {
        limits: Limits {
            buffers_max: u32::try_from(text.bindings.len()).unwrap_or(u32::MAX),
            shared_bytes_max: text.workgroup_bytes,
            invocations_max: text.invocations,
            ..Requirements::NONE.limits
        },
        shader_f16: text.shader_f16,
    }
}

/// W1 to W6 of one launch; gives what it needs.
fn check_launch(
    commands: &Commands,
    texts: &[Text],
    number: usize,
    launch: &Launch,
    granted: &Requirements,
) -> Result<Requirements, Invalid> {
    let (Some(kernel), Some(text)) = (
        commands.kernels.get(launch.kernel),
        texts.get(launch.kernel),
    ) else {
        return Err(Invalid::Kernel {
            launch: number,
            region: launch.region,
            kernel: launch.kernel,
            kernels: commands.kernels.len(),
        });
    };
    let found: Vec<Binding> = launch.arguments.iter().map(|a| a.pool.binding()).collect();
    if found != kernel.bindings {
        return Err(Invalid::Arguments {
            kernel: kernel.name.clone(),
            region: launch.region,
            found,
            wanted: kernel.bindings.clone(),
        });
    }
    let place = || format!("kernel {:?} of {}", kernel.name, launch.region);
    let mut needed = Requirements::NONE;
    needed.limits.groups_max = launch.grid.into_iter().fold(0, u32::max);
    for (argument, (bound, (_, wanted))) in launch.arguments.iter().zip(&text.bindings).enumerate()
    {
        window(commands, bound, || {
            format!("argument {argument} of {}", place())
        })?;
        if !bound.offset.is_multiple_of(ALIGNMENT) {
            let (place, window) = (format!("argument {argument} of {}", place()), *bound);
            return Err(Invalid::Unaligned { place, window });
        }
        if bound.bytes < (*wanted).max(1) {
            return Err(Invalid::Small {
                kernel: kernel.name.clone(),
                region: launch.region,
                argument,
                found: bound.bytes,
                wanted: *wanted,
            });
        }
        needed.limits.binding_bytes_max = needed.limits.binding_bytes_max.max(bound.bytes);
    }
    aliases(kernel, launch)?;
    exceeds(granted, &needed, place)?;
    Ok(needed)
}

/// W4.
fn aliases(kernel: &Kernel, launch: &Launch) -> Result<(), Invalid> {
    let written = |a: &&Argument| a.pool.binding() == Binding::ReadWrite;
    let mut windows: Vec<&Argument> = launch.arguments.iter().filter(written).collect();
    windows.sort_by_key(|window| (window.pool, window.buffer, window.offset));
    for pair in windows.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if first.overlaps(second) {
            return Err(Invalid::Alias {
                kernel: kernel.name.clone(),
                region: launch.region,
                first: *first,
                second: *second,
            });
        }
    }
    Ok(())
}
