//! A processor of NVIDIA's kind in software: texts are executed by a reader of PTX, and the
//! functions of the driver that splamc calls are exported under their names.
//!
//! Takes nothing from splamc: what it knows of PTX and of the driver is what their documentation
//! says. A test puts the library where the driver's would be, so that everything that drives a
//! processor runs without one. It is for finding faults; it is some thousand times slower.

mod copies;
pub mod driver;
mod functions;
mod memory;
mod text;

pub use memory::Memory;
pub use text::Text;
