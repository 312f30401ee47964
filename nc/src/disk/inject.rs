//! An instance's key, put into images that would not fetch it from the metadata service.
//!
//! What an image holds is hostile, so nothing is mounted and nothing of it is read outside a jail
//! ([`daemon::jail`]). There `e2image` copies the file system's tables out of the image, some
//! hundred KiB, `debugfs` changes the copy, and what differs afterwards comes back as bytes and
//! where they belong: [`Change`]s, which the root disk has from the start. The image itself stays as
//! it is, and neither root nor FUSE nor a running QEMU has a part in it.
//!
//! It is done for root file systems of ext2, 3 and 4, in the partition of a partition image or in
//! any of a disk's MBR partitions. An image that has a client of the metadata service needs none of
//! it. What cannot be done is told in the log, and the guest starts without: it may know its way.

use std::{
    collections::HashSet,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use daemon::{jail, run};
use image::{extents, overlay::Change};
use serde::{Deserialize, Serialize};

use super::{DiskError, at, blocking};

/// The job, as a script for `sh`.
const JOB: &str = include_str!("inject.sh");
/// Where the job works, in the instance's folder.
const WORK: &str = "keys";
/// Programs that fetch a key from the metadata service: cloud-init from a package or from PyPI,
/// CoreOS's, Alpine's, CirrOS's, and that of `deploy/guest`.
const CLIENTS: [&str; 6] = [
    "/usr/bin/cloud-init",
    "/usr/local/bin/cloud-init",
    "/usr/bin/afterburn",
    "/usr/lib/tiny-cloud/init",
    "/usr/bin/cirros-query",
    "/sbin/metadata",
];
/// A key and a directory change some KiB.
const CHANGES_BYTES_MAX: u64 = 4 << 20;
/// The tables of a file system of 1 TiB; more is not compared.
const COMPARED_BYTES_MAX: u64 = 2 << 30;
const COMPARED_AT_ONCE: usize = 256 << 10;
/// What is compared, and changed, as a whole.
const SECTOR: usize = 512;
/// Images remembered as needing nothing; when there are so many, all are asked again.
const SETTLED_MAX: usize = 1024;

/// Whether keys are put into images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InjectKeys {
    /// Into those that have no client of the metadata service.
    #[default]
    Auto,
    /// Into all.
    Always,
    /// Into none.
    Never,
}

/// Puts keys into images. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    policy: InjectKeys,
    settled: Arc<Mutex<HashSet<PathBuf>>>,
}

/// How an attempt on one file system ended.
enum Outcome {
    Changed(Vec<Change>),
    NoRoot,
    HasClient,
    NotClean,
    Odd,
}

impl Keys {
    /// By that policy.
    pub fn new(policy: InjectKeys) -> Self {
        Self {
            policy,
            settled: Arc::default(),
        }
    }

    /// What the disk of an instance with that key has in place of its image's bytes. File systems
    /// are looked for where `starts` says; `dir` is the instance's folder.
    pub async fn changes(
        &self,
        image: &Path,
        starts: &[u64],
        key: &str,
        dir: &Path,
    ) -> Vec<Change> {
        if self.policy == InjectKeys::Never || self.settled().contains(image) {
            return Vec::new();
        }
        for &start in starts {
            match self.attempt(image, start, key, dir).await {
                Ok(Outcome::Changed(changes)) => return changes,
                Ok(Outcome::NoRoot) => {}
                Ok(Outcome::HasClient) => break,
                Ok(Outcome::NotClean) => {
                    tracing::warn!(
                        image = %image.display(),
                        "no key put in: its file system was not unmounted cleanly"
                    );
                    break;
                }
                Ok(Outcome::Odd) => {
                    tracing::warn!(image = %image.display(), "no key put in: its /root/.ssh is odd");
                    break;
                }
                // Perhaps of the host and not of the image: asked again at the next launch.
                Err(error) => {
                    let error = daemon::chain(&error);
                    tracing::warn!(image = %image.display(), error, "no key put in");
                    return Vec::new();
                }
            }
        }
        self.settle(image);
        Vec::new()
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.settled.lock().expect("no one panics holding it")
    }

    fn settle(&self, image: &Path) {
        let mut settled = self.settled();
        if settled.len() >= SETTLED_MAX {
            settled.clear();
        }
        settled.insert(image.to_owned());
    }

    async fn attempt(
        &self,
        image: &Path,
        start: u64,
        key: &str,
        dir: &Path,
    ) -> Result<Outcome, DiskError> {
        let work = dir.join(WORK);
        let folder = jail::hand_over(&work).map_err(at(&work))?;
        let outcome = self.run(image, start, key, &folder).await;
        std::fs::remove_dir_all(&folder).map_err(at(&folder))?;
        outcome
    }

    async fn run(
        &self,
        image: &Path,
        start: u64,
        key: &str,
        work: &Path,
    ) -> Result<Outcome, DiskError> {
        let clients: &[&str] = match self.policy {
            InjectKeys::Auto => &CLIENTS,
            InjectKeys::Always | InjectKeys::Never => &[],
        };
        let job = jail::Jail::new()
            .reading(image, "/image")
            .working_in(work)
            .run("sh")
            .args(["-c", JOB, "inject", &start.to_string()])
            .args(clients)
            .stdin(line(key));
        match job.output().await {
            Ok(_) => {}
            Err(error) => return judged(error).map_err(DiskError::from),
        }
        let (before, after) = (work.join("before"), work.join("after"));
        let image_bytes = std::fs::metadata(image).map_err(at(image))?.len();
        let found =
            blocking(move || differences(&before, &after, start, image_bytes).map_err(at(&after)));
        found.await.map(Outcome::Changed)
    }
}

/// A key as one line, whatever it holds.
fn line(key: &str) -> String {
    let mut line: String = key.chars().filter(|c| !c.is_control()).collect();
    line.push('\n');
    line
}

/// What the job's exit code says.
fn judged(error: run::Error) -> Result<Outcome, run::Error> {
    match error.code() {
        Some(10) => Ok(Outcome::NoRoot),
        Some(11) => Ok(Outcome::HasClient),
        Some(12) => Ok(Outcome::NotClean),
        Some(13) => Ok(Outcome::Odd),
        _ => Err(error),
    }
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
    use daemon::run::Tool;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3Nz key";
    const START: u64 = 1 << 20;

    fn can_be_tried() -> bool {
        let lacks = if !nix::unistd::geteuid().is_root() {
            "root"
        } else if !Path::new("/usr/bin/bwrap").exists() {
            "bubblewrap"
        } else {
            return true;
        };
        eprintln!("SKIPPED: putting a key in needs {lacks}");
        false
    }

    async fn debugfs(file_system: &str, commands: &[&str]) -> String {
        let script = commands.join("\n");
        let tool = Tool::new("debugfs").args(["-w", "-f", "/dev/stdin", file_system]);
        tool.stdin(script).text().await.unwrap()
    }

    /// A disk with an ext4 file system from 1 MiB on, with these commands done to it.
    async fn image(dir: &Path, options: &[&str], commands: &[&str]) -> PathBuf {
        let path = dir.join("image.raw");
        File::create(&path)
            .unwrap()
            .set_len(START + (64 << 20))
            .unwrap();
        let made = Tool::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4"])
            .args(options);
        let made = made.args(["-E", "offset=1048576"]).arg(&path).arg("64M");
        made.output().await.unwrap();
        let mut all = vec!["mkdir /etc", "mkdir /root", "mkdir /usr", "mkdir /usr/bin"];
        all.extend(commands);
        debugfs(&format!("{}?offset={START}", path.display()), &all).await;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
        std::fs::set_permissions(&path, mode).unwrap();
        path
    }

    /// The disk with the changes, as a guest will find it.
    async fn changed(image: &Path, dir: &Path, policy: InjectKeys) -> Option<String> {
        let before = std::fs::read(image).unwrap();
        let changes = Keys::new(policy)
            .changes(image, &[0, START], KEY, dir)
            .await;
        assert!(
            std::fs::read(image).unwrap() == before,
            "the image is as it was"
        );
        assert!(!dir.join(WORK).exists(), "the job's folder is gone");
        if changes.is_empty() {
            return None;
        }
        let disk = dir.join("file-system.raw");
        std::fs::write(&disk, &before[START as usize..]).unwrap();
        let file = File::options().write(true).open(&disk).unwrap();
        for Change { offset, bytes } in changes {
            file.write_all_at(&bytes, offset - START).unwrap();
        }
        let check = Tool::new("e2fsck").args(["-f", "-n"]).arg(&disk);
        check.output().await.expect("e2fsck finds nothing");
        Some(disk.to_string_lossy().into_owned())
    }

    #[tokio::test]
    async fn host_a_key_is_put_in_with_owner_and_mode_for_blocks_of_1_and_of_4_kib() {
        if !can_be_tried() {
            return;
        }
        for options in [
            &["-b", "1024"][..],
            &["-b", "4096"],
            &["-b", "4096", "-O", "metadata_csum"],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let image = image(folder.path(), options, &[]).await;
            let disk = changed(&image, folder.path(), InjectKeys::Auto)
                .await
                .unwrap();
            let said = debugfs(
                &disk,
                &["cat /root/.ssh/authorized_keys", "ls -l /root/.ssh"],
            )
            .await;
            assert!(said.contains(&format!("{KEY}\n")), "{said}");
            assert!(said.contains("100600 (1)      0      0"), "{said}");
            assert!(said.contains("40700 (2)      0      0"), "{said}");
        }
    }

    #[tokio::test]
    async fn host_keys_that_came_with_the_image_stay() {
        if !can_be_tried() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old");
        std::fs::write(&old, "ssh-rsa AAAA old").unwrap();
        let write = format!("write {} authorized_keys", old.display());
        let commands = ["mkdir /root/.ssh", "cd /root/.ssh", &write];
        let image = image(folder.path(), &[], &commands).await;
        let disk = changed(&image, folder.path(), InjectKeys::Auto)
            .await
            .unwrap();
        let said = debugfs(&disk, &["cat /root/.ssh/authorized_keys"]).await;
        assert!(
            said.contains(&format!("ssh-rsa AAAA old\n{KEY}\n")),
            "{said}"
        );
    }

    #[tokio::test]
    async fn host_an_image_that_fetches_its_key_is_left_alone_unless_always_is_said() {
        if !can_be_tried() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), &[], &["mkdir /usr/bin/cloud-init"]).await;
        assert_eq!(changed(&image, folder.path(), InjectKeys::Auto).await, None);
        assert_eq!(
            changed(&image, folder.path(), InjectKeys::Never).await,
            None
        );
        assert!(
            changed(&image, folder.path(), InjectKeys::Always)
                .await
                .is_some()
        );
    }

    #[tokio::test]
    async fn host_hostile_images_harm_nobody_and_hold_nothing_up() {
        if !can_be_tried() {
            return;
        }
        let target = tempfile::tempdir().unwrap();
        let link = format!("symlink /root/.ssh {}", target.path().display());
        let cases: [&[&str]; 5] = [
            // Links to the host, to itself, and up and out.
            &[&link],
            &["symlink /root/.ssh .ssh"],
            &["symlink /root/.ssh ../../../../../../root/.ssh"],
            // A device in its place, and a loop of directories.
            &["cd /root", "mknod .ssh c 1 5"],
            &[
                "mkdir /root/.ssh",
                "mkdir /root/.ssh/authorized_keys",
                "link /root /root/.ssh/authorized_keys/up",
            ],
        ];
        for case in cases {
            let folder = tempfile::tempdir().unwrap();
            let image = image(folder.path(), &[], case).await;
            let begun = std::time::Instant::now();
            changed(&image, folder.path(), InjectKeys::Auto).await;
            assert!(begun.elapsed().as_secs() < 20, "{case:?}");
        }
        let left = std::fs::read_dir(target.path()).unwrap().count();
        assert_eq!(left, 0, "nothing was written to the host");

        // A superblock of noise, and a file system that says it is large.
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), &[], &[]).await;
        for (offset, bytes) in [(1024 + 4, &[0xff; 4][..]), (1024, &[0xff; 1024])] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&image, mode).unwrap();
            let file = File::options().write(true).open(&image).unwrap();
            file.write_all_at(bytes, START + offset).unwrap();
            let begun = std::time::Instant::now();
            let keys = Keys::default();
            keys.changes(&image, &[START], KEY, folder.path()).await;
            assert!(begun.elapsed().as_secs() < 40);
        }
    }

    #[tokio::test]
    async fn what_a_job_left_is_not_trusted() {
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

    #[test]
    fn a_key_is_one_line() {
        assert_eq!(line("ssh-rsa AAAA me\nevil\r\0"), "ssh-rsa AAAA meevil\n");
    }
}
