//! What the guest is asked to do, as a line of text: `write DISK disk|file OFFSET SIZE COUNT`.

use std::{fmt, str::FromStr};

/// The guest says a word after so many writes, for the bar.
pub(super) const STEP: u64 = 16;

/// One run of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    /// The disk's number; 0 is `vda`.
    pub(super) disk: u8,
    /// What is written to.
    pub(super) on: On,
    /// Bytes of a write.
    pub(super) size: u64,
    /// How many.
    pub(super) count: u64,
}

/// What is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// The disk itself, from there on.
    Disk {
        /// In bytes.
        offset: u64,
    },
    /// A file in the ext4 file system that the disk holds.
    File,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (on, offset) = match self.on {
            On::Disk { offset } => ("disk", offset),
            On::File => ("file", 0),
        };
        let Self {
            disk, size, count, ..
        } = self;
        write!(f, "write {disk} {on} {offset} {size} {count}")
    }
}

impl FromStr for Job {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["write", disk, on, offset, size, count] = words[..] else {
            return Err(());
        };
        let number = |word: &str| word.parse::<u64>().map_err(|_| ());
        let on = match on {
            "disk" => On::Disk {
                offset: number(offset)?,
            },
            "file" => On::File,
            _ => return Err(()),
        };
        Ok(Self {
            disk: disk.parse().map_err(|_| ())?,
            on,
            size: number(size)?,
            count: number(count)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_as_it_was_written_and_nothing_else_is() {
        for on in [On::Disk { offset: 1 << 30 }, On::File] {
            let job = Job {
                disk: 3,
                on,
                size: 1 << 20,
                count: 1024,
            };
            assert_eq!(job.to_string().parse(), Ok(job));
        }
        for line in ["", "write", "write 0 tape 0 1 1", "write x disk 0 1 1"] {
            assert_eq!(line.parse::<Job>(), Err(()), "{line}");
        }
    }
}
