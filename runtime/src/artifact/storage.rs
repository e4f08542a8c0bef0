//! Where artifacts are written and read: names to bytes.
//!
//! Two traits that others implement; nothing here opens a file.

use std::io;

use bytes::Bytes;

/// Name of the one file without a hash in its name.
pub const MANIFEST: &str = "manifest.json";

/// Where an artifact is written. Names are relative, with at most one `/`, of letters, digits,
/// `.`, `_` and `-`. Several files are written at the same time.
pub trait Storage: Sync {
    /// Writes a whole file: these parts, one after the other.
    ///
    /// # Errors
    /// When the file cannot be written in full.
    fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<()>;

    /// Writes a file beside and renames it into place, after everything written before is safe:
    /// at any moment `name` is absent, old and whole, or new and whole.
    ///
    /// # Errors
    /// When that cannot be done; `name` is then as it was.
    fn commit(&self, name: &str, content: &Bytes) -> io::Result<()>;
}

/// Where an artifact is read from: a name (as in [`Storage`]) to a file's bytes.
pub trait Files: Send + Sync {
    /// The file's bytes, in memory.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    fn read(&self, name: &str) -> io::Result<Bytes>;

    /// The file's bytes where tensors are views of them: in a map, where there are maps, so that a
    /// tensor's bytes are read when they are needed.
    ///
    /// # Errors
    /// As [`Files::read`].
    fn view(&self, name: &str) -> io::Result<Bytes> {
        self.read(name)
    }

    /// Hands a view's bytes over, piece by piece and in order.
    ///
    /// # Errors
    /// As [`Files::read`].
    fn pieces(&self, _name: &str, view: &Bytes, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        take(view);
        Ok(())
    }
}
