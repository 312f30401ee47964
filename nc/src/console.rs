//! The serial console's log: bounded on disk, read by offset.
//!
//! QEMU appends to the log for ever. Its head is given back to the filesystem by punching a hole,
//! so that no byte is lost in between, and an offset into the file stays an offset into what the
//! guest ever said. Where holes cannot be punched, the file is cut to nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use control::node::ConsoleText;
use nix::fcntl::{FallocateFlags, fallocate};
use types::Timestamp;

/// What one answer holds at most: EC2's GetConsoleOutput gives the last 64 KiB.
pub const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// What is kept: the answer's worth four times over, so that a reader who follows misses nothing.
const KEPT_BYTES: u64 = 4 * ANSWER_BYTES_MAX;
/// The log may grow to this before its head goes.
const LOG_BYTES_MAX: u64 = 8 * ANSWER_BYTES_MAX;
/// Holes are made of whole blocks, of any filesystem that we know.
const BLOCK_BYTES: u64 = 64 * 1024;
/// How often a waiting reader looks: faster than a person reads.
const LOOK: Duration = Duration::from_millis(50);
/// A guest that is silent for a minute is looked at less often, and after a while no more.
const QUICK_LOOKS: u32 = 1200;
const SLOW_LOOK: Duration = Duration::from_secs(1);
const SLOW_LOOKS: u32 = 600;

/// The log in an instance's folder.
pub fn log_in(dir: &Path) -> PathBuf {
    dir.join("console.log")
}

/// Reads from an offset on, or the last 64 KiB; waits for a byte if there is none, so long.
pub async fn read(log: &Path, from: Option<u64>, wait: Duration) -> io::Result<ConsoleText> {
    let until = tokio::time::Instant::now() + wait;
    loop {
        let path = log.to_owned();
        let read = tokio::task::spawn_blocking(move || read_now(&path, from));
        let (start, bytes, updated_at) = read.await.map_err(io::Error::other)??;
        if !bytes.is_empty() || tokio::time::Instant::now() >= until {
            return Ok(ConsoleText {
                from: start,
                output: STANDARD.encode(bytes),
                updated_at,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn read_now(log: &Path, from: Option<u64>) -> io::Result<(u64, Vec<u8>, Timestamp)> {
    let file = match File::open(log) {
        Ok(file) => file,
        // The guest has not been started yet, or is gone.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok((0, Vec::new(), Timestamp::default()));
        }
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    let (start, end) = range(meta.len(), from);
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or_default()];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], start + read as u64)? {
            0 => break,
            count => read += count,
        }
    }
    bytes.truncate(read);
    let updated_at = Timestamp(meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000);
    Ok((start, bytes, updated_at))
}

/// Which bytes to answer, of a log of that length.
fn range(len: u64, from: Option<u64>) -> (u64, u64) {
    let kept_from = len.saturating_sub(KEPT_BYTES);
    match from {
        None => (len.saturating_sub(ANSWER_BYTES_MAX), len),
        // Beyond the end: the log was cut, and begins anew.
        Some(from) if from > len => (kept_from, len.min(kept_from + ANSWER_BYTES_MAX)),
        Some(from) => {
            let start = from.max(kept_from);
            (start, len.min(start + ANSWER_BYTES_MAX))
        }
    }
}

/// Gives back all but the tail of a log that has grown too long. Nothing there is fine.
pub fn trim(log: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    // Blocks are 512 bytes in stat(2), whatever the filesystem's are.
    if meta.blocks() * 512 <= LOG_BYTES_MAX {
        return Ok(());
    }
    let hole = meta.len().saturating_sub(KEPT_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let punched = fallocate(&file, flags, 0, i64::try_from(hole).unwrap_or(i64::MAX));
    if punched.is_err() {
        file.set_len(0)?;
    }
    Ok(())
}

/// Returns true when the guest has said something, false if it stays silent for ten minutes.
pub async fn first_output(log: &Path) -> bool {
    for look in 0..QUICK_LOOKS + SLOW_LOOKS {
        if tokio::fs::metadata(log)
            .await
            .is_ok_and(|meta| meta.len() > 0)
        {
            return true;
        }
        tokio::time::sleep(if look < QUICK_LOOKS { LOOK } else { SLOW_LOOK }).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decoded(text: &ConsoleText) -> Vec<u8> {
        STANDARD.decode(&text.output).unwrap()
    }

    #[tokio::test]
    async fn a_guest_that_writes_for_ever_fills_no_disk_and_its_tail_is_readable() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(dir.path());
        let mut guest = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut said = 0_u64;
        for round in 0..40_u8 {
            guest.write_all(&[round; 100_000]).unwrap();
            said += 100_000;
            trim(&log).unwrap();
            let disk = std::fs::metadata(&log).unwrap().blocks() * 512;
            assert!(disk <= LOG_BYTES_MAX + 200_000, "{disk}");
        }
        let tail = read(&log, None, Duration::ZERO).await.unwrap();
        assert_eq!(tail.from, said - ANSWER_BYTES_MAX);
        assert_eq!(decoded(&tail), vec![39; 65_536]);
    }

    #[tokio::test]
    async fn a_reader_goes_on_from_where_it_was_and_waits_for_more() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(dir.path());
        std::fs::write(&log, "login: ").unwrap();
        let first = read(&log, Some(0), Duration::ZERO).await.unwrap();
        assert_eq!(decoded(&first), b"login: ");

        let more = tokio::spawn({
            let log = log.clone();
            async move { read(&log, Some(7), Duration::from_secs(5)).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        OpenOptions::new()
            .append(true)
            .open(&log)
            .unwrap()
            .write_all(b"root")
            .unwrap();
        let more = more.await.unwrap();
        assert_eq!((more.from, decoded(&more)), (7, b"root".to_vec()));
    }

    #[tokio::test]
    async fn a_guest_that_was_never_started_has_said_nothing() {
        let silent = read(Path::new("/nonexistent/console.log"), None, Duration::ZERO).await;
        assert_eq!(silent.unwrap().output, "");
        trim(Path::new("/nonexistent/console.log")).unwrap();
    }

    #[test]
    fn any_offset_is_answered_with_what_is_kept() {
        let k = ANSWER_BYTES_MAX;
        assert_eq!(range(10, None), (0, 10));
        assert_eq!(range(3 * k, None), (2 * k, 3 * k));
        assert_eq!(range(3 * k, Some(0)), (0, k));
        assert_eq!(range(10 * k, Some(0)), (6 * k, 7 * k));
        assert_eq!(range(10, Some(99)), (0, 10));
        assert_eq!(range(10, Some(10)), (10, 10));
    }
}
