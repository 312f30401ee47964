//! The tar inside a bundle: a header writer for exactly one member, and a reader that accepts
//! exactly one regular file of exactly the declared size.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::{Piece, Untar};
pub(crate) use write::{header, padding, sparse_header};

/// Tar's unit.
pub(crate) const BLOCK: usize = 512;
/// Headers, long names, sparse maps and padding around the one member.
pub(crate) const SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// Why a tar stream was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// A header is not a tar header, or its checksum is wrong.
    #[error("the archive has a malformed header: {0}")]
    Header(&'static str),
    /// The member is a link, a directory, a device.
    #[error("the archive holds something other than a regular file")]
    NotAFile,
    /// A second member, or bytes after the end.
    #[error("the archive holds more than one file")]
    MoreThanOne,
    /// The member has another size than the manifest says.
    #[error("the archive's file has {found} bytes, the manifest says {declared}")]
    Size {
        /// The manifest's size.
        declared: u64,
        /// The tar header's size.
        found: u64,
    },
    /// The stream ends within the member.
    #[error("the archive is cut short")]
    Truncated,
}

/// Of a header, with spaces in the place of the sum itself.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let fields = block.iter().enumerate();
    fields
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum()
}
