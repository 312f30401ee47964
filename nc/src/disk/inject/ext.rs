//! ext2, 3 and 4: `e2image` copies the file system's tables out of the image, some hundred KiB,
//! `debugfs` changes the copy, and what differs afterwards comes back as bytes and where they belong.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

use daemon::jail::Jail;
use image::{extents, overlay::Change};

use super::{Found, judged};
use crate::disk::{DiskError, at, blocking};

/// The job, as a script for `sh`.
const JOB: &str = include_str!("ext.sh");
/// A key and a directory change some KiB.
const CHANGES_BYTES_MAX: u64 = 4 << 20;
/// The tables of a file system of 1 TiB; more is not compared.
const COMPARED_BYTES_MAX: u64 = 2 << 30;
const COMPARED_AT_ONCE: usize = 256 << 10;
/// What is compared, and changed, as a whole.
const SECTOR: usize = 512;

/// Puts keys into the file system that begins at `start`, unless it has one of the clients.
pub(super) async fn put_in(
    image: &Path,
    start: u64,
    keys: &str,
    clients: &[&str],
    work: &Path,
) -> Result<Found, DiskError> {
    let job = Jail::new()
        .reading(image, "/image")
        .working_in(work)
        .run("sh")
        .args(["-c", JOB, "inject", &start.to_string()])
        .args(clients)
        .stdin(keys);
    match job.output().await {
        Ok(_) => {}
        Err(error) => return judged(error).map_err(DiskError::from),
    }
    let (before, after) = (work.join("before"), work.join("after"));
    let image_bytes = std::fs::metadata(image).map_err(at(image))?.len();
    let found =
        blocking(move || differences(&before, &after, start, image_bytes).map_err(at(&after)));
    found.await.map(Found::Changed)
}

/// The sectors that the job changed. Its files are not trusted: links are not followed, and nothing
/// beyond the image, or without measure, is taken.
fn differences(
    before: &Path,
    after: &Path,
    start: u64,
    image_bytes: u64,
) -> io::Result<Vec<Change>> {
    let (before, after) = (open(before)?, open(after)?);
    let (mut changes, mut taken, mut compared) = (Vec::<Change>::new(), 0, 0);
    for extent in extents::data(&after)? {
        let Range { start: mut at, end } = extent?;
        while at < end {
            let length = COMPARED_AT_ONCE.min((end - at) as usize);
            let (old, new) = (read(&before, at, length)?, read(&after, at, length)?);
            for (n, (old, new)) in old.chunks(SECTOR).zip(new.chunks(SECTOR)).enumerate() {
                if old == new {
                    continue;
                }
                let offset = start + at + (n * SECTOR) as u64;
                taken += new.len() as u64;
                match changes.last_mut() {
                    Some(last) if last.offset + last.bytes.len() as u64 == offset => {
                        last.bytes.extend_from_slice(new);
                    }
                    _ => changes.push(Change {
                        offset,
                        bytes: new.to_vec(),
                    }),
                }
            }
            at += length as u64;
            compared += length as u64;
            if taken > CHANGES_BYTES_MAX || compared > COMPARED_BYTES_MAX {
                return Err(io::Error::other("more than a key can have changed"));
            }
        }
    }
    let inside = |change: &Change| change.offset + change.bytes.len() as u64 <= image_bytes;
    if !changes.iter().all(inside) {
        return Err(io::Error::other("a change beyond the image's end"));
    }
    Ok(changes)
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    Ok(file)
}

/// Zeros where the file has ended.
fn read(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let held = file.metadata()?.len().saturating_sub(at).min(length as u64);
    file.read_exact_at(&mut bytes[..held as usize], at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1 << 20;

    #[test]
    fn what_a_job_left_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("before"), vec![0; 8192]).unwrap();
        std::fs::write(path("after"), vec![1; 8192]).unwrap();
        let found =
            |after, image_bytes| differences(&path("before"), &path(after), START, image_bytes);
        let changes = found("after", START + 8192).unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].offset, changes[0].bytes.len()), (START, 8192));
        assert!(found("after", START + 8191).is_err(), "beyond the image");
        std::os::unix::fs::symlink("/etc/passwd", path("link")).unwrap();
        assert!(found("link", u64::MAX).is_err());
        File::create(path("large"))
            .unwrap()
            .write_all_at(&vec![1; 5 << 20], 0)
            .unwrap();
        assert!(found("large", u64::MAX).is_err());
    }
}
