//! The root disk, from its image without copying it. There are three ways, and a probe says which
//! of them this host has:
//!
//! | recipe | needs | first write, over the image's data | elsewhere |
//! |---|---|---|---|
//! | a raw clone | one file system with reflinks (XFS, btrfs) for cache and instances | 1 write, 1 sync | 1, 1 |
//! | an overlay with subclusters | QEMU 5.2 | 2.02, 1.02 | 1, 1 |
//! | an overlay of whole clusters | any QEMU | 2.02, 1.02 and what is copied | 1, 1 |
//!
//! The counts are the host's for a guest's write of 1 MiB with a sync after it, as `mallee bench
//! disk` counts them; a raw file of one's own has 1 and 1.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon::run::Tool;
use image::overlay::{self, Change, Grain};
use tokio::sync::OnceCell;

use super::{
    DiskError, at, blocking,
    template::{Templates, create},
};
use crate::needs::{Disk, DiskFile, DiskFormat};

/// The names that a root may have.
pub(super) const NAMES: [&str; 2] = [CLONE, OVERLAY];
const CLONE: &str = "root.raw";
const OVERLAY: &str = "root.qcow2";

/// How a root is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// The file system shares the image's blocks until one is written.
    Clone,
    /// QEMU reads the image where the guest has not written.
    Overlay(Grain),
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The file system of the cache makes clones in the instances' folder.
    pub clones: bool,
    /// QEMU reads subclusters.
    pub subclusters: bool,
}

impl Recipe {
    /// The best that there is.
    pub const fn choose(found: Found) -> Self {
        match found {
            Found { clones: true, .. } => Self::Clone,
            Found {
                subclusters: true, ..
            } => Self::Overlay(Grain::Subclusters),
            Found { .. } => Self::Overlay(Grain::Clusters),
        }
    }
}

/// Makes roots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Roots {
    qemu_img: PathBuf,
    recipe: Arc<OnceCell<Recipe>>,
}

impl Roots {
    /// Roots for the QEMU that this `qemu-img` belongs to.
    pub fn new(qemu_img: impl Into<PathBuf>) -> Self {
        Self {
            qemu_img: qemu_img.into(),
            recipe: Arc::default(),
        }
    }

    /// Makes the root of `size_bytes` in `dir` from `image`, which is raw and stays as it is, with
    /// these changes. Without any it is the same for all instances of the image.
    pub async fn make(
        &self,
        image: &Path,
        size_bytes: u64,
        changes: Vec<Change>,
        dir: &Path,
        templates: &Templates,
    ) -> Result<Disk, DiskError> {
        let probe = || async { Recipe::choose(self.probe(image, dir).await) };
        let recipe = *self.recipe.get_or_init(probe).await;
        let (from, clone, overlay) = (image.to_owned(), dir.join(CLONE), dir.join(OVERLAY));
        let (path, format, backing) = match recipe {
            Recipe::Clone => {
                let to = clone.clone();
                let make = move || {
                    clone_file(&from, &to, size_bytes)?;
                    write_changes(&to, &changes).map_err(at(&to))
                };
                blocking(make).await?;
                (clone, DiskFormat::Raw, None)
            }
            Recipe::Overlay(grain) => {
                let own = !changes.is_empty();
                let make = |path: PathBuf| {
                    blocking(move || write_overlay(&from, &path, size_bytes, grain, &changes))
                };
                if own {
                    make(overlay.clone()).await?;
                } else {
                    let entry = image.file_name().unwrap_or_default().to_string_lossy();
                    let name = format!("{entry}.{size_bytes}");
                    templates.copy(&name, &overlay, make).await?;
                }
                let backing = DiskFile {
                    path: image.to_owned(),
                    format: DiskFormat::Raw,
                };
                (overlay, DiskFormat::Qcow2, Some(backing))
            }
        };
        Ok(Disk {
            file: DiskFile { path, format },
            backing,
            serial: None,
        })
    }

    async fn probe(&self, image: &Path, dir: &Path) -> Found {
        let (from, to) = (image.to_owned(), dir.join("probe"));
        let clones = blocking(move || {
            let cloned = clone_file(&from, &to, 0);
            std::fs::remove_file(&to).map_err(at(&to))?;
            cloned
        });
        let found = Found {
            clones: clones.await.is_ok(),
            subclusters: self.has_subclusters().await,
        };
        tracing::info!(?found, recipe = ?Recipe::choose(found), "how root disks are made");
        found
    }

    /// Asks QEMU which options of qcow2 it has. A QEMU that cannot be asked gets what any can read.
    async fn has_subclusters(&self) -> bool {
        let ask = Tool::new(&self.qemu_img).args(["create", "-f", "qcow2", "-o", "help"]);
        let options = match ask.text().await {
            Ok(options) => options,
            Err(error) => {
                tracing::warn!(error = daemon::chain(&error), "QEMU's options of qcow2");
                return false;
            }
        };
        let has = options.contains("extended_l2");
        if !has {
            tracing::warn!("this QEMU has no extended_l2 (it came with 5.2): disks will be slower");
        }
        has
    }
}

fn clone_file(image: &Path, to: &Path, size_bytes: u64) -> Result<(), DiskError> {
    let file = create(to, 0).map_err(at(to))?;
    let image = File::open(image).map_err(at(image))?;
    rustix::fs::ioctl_ficlone(&file, &image)
        .map_err(std::io::Error::from)
        .map_err(at(to))?;
    file.set_len(size_bytes).map_err(at(to))
}

fn write_overlay(
    image: &Path,
    to: &Path,
    size_bytes: u64,
    grain: Grain,
    changes: &[Change],
) -> Result<(), DiskError> {
    let file = create(to, 0).map_err(at(to))?;
    let backing = File::open(image).map_err(at(image))?;
    overlay::write(&file, size_bytes, image, &backing, grain, changes).map_err(at(to))
}

fn write_changes(to: &Path, changes: &[Change]) -> std::io::Result<()> {
    let file = File::options().write(true).open(to)?;
    let mut writes = changes.iter();
    writes.try_for_each(|Change { offset, bytes }| file.write_all_at(bytes, *offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    /// A root that is larger than its image, and no whole number of clusters.
    const ROOT_BYTES: u64 = 5 * 1024 * MIB + 512;

    /// An image of 64 MiB with data at its beginning and in the middle. That it begins as a qcow2
    /// does must mean nothing.
    fn image(dir: &Path) -> PathBuf {
        let path = dir.join("image.raw");
        let file = create(&path, 64 * MIB).unwrap();
        file.write_all_at(b"QFI\xfb\0\0\0\x03", 0).unwrap();
        file.write_all_at(&vec![7; 8192], 32 * MIB + 4096).unwrap();
        path
    }

    async fn made(recipe: Recipe, dir: &Path) -> Disk {
        let roots = Roots {
            qemu_img: "qemu-img".into(),
            recipe: Arc::new(OnceCell::new_with(Some(recipe))),
        };
        let templates = Templates::open(&dir.join("templates")).unwrap();
        let made = roots
            .make(&image(dir), ROOT_BYTES, change(), dir, &templates)
            .await;
        made.unwrap()
    }

    /// Beside the image's data, in its last block and in a hole.
    fn change() -> Vec<Change> {
        [32 * MIB + 4096 - 512, 48 * MIB]
            .map(|offset| Change {
                offset,
                bytes: vec![5; 1024],
            })
            .to_vec()
    }

    /// The image with the changes.
    fn expected(image: &Path) -> PathBuf {
        let path = image.with_extension("expected");
        std::fs::copy(image, &path).unwrap();
        write_changes(&path, &change()).unwrap();
        path
    }

    async fn tool(words: &[&str], files: &[&Path]) -> Result<String, daemon::run::Error> {
        let (program, words) = words.split_first().unwrap();
        Tool::new(program).args(words).args(files).text().await
    }

    async fn info(path: &Path) -> serde_json::Value {
        let text = tool(
            &["qemu-img", "info", "--output=json", "-f", "qcow2"],
            &[path],
        )
        .await;
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    #[test]
    fn the_best_recipe_is_taken_that_the_host_has() {
        let choose = |clones, subclusters| {
            Recipe::choose(Found {
                clones,
                subclusters,
            })
        };
        assert_eq!(choose(true, true), Recipe::Clone);
        assert_eq!(choose(true, false), Recipe::Clone);
        assert_eq!(choose(false, true), Recipe::Overlay(Grain::Subclusters));
        assert_eq!(choose(false, false), Recipe::Overlay(Grain::Clusters));
    }

    #[tokio::test]
    async fn host_qemu_reads_image_and_changes_in_an_overlay_finds_no_fault_and_little_is_copied() {
        for grain in [Grain::Subclusters, Grain::Clusters] {
            let folder = tempfile::tempdir().unwrap();
            let disk = made(Recipe::Overlay(grain), folder.path()).await;
            let (image, root) = (folder.path().join("image.raw"), disk.file.path);
            assert_eq!(disk.backing.unwrap().path, image);
            let expected = expected(&image);
            tool(&["qemu-img", "check", "-q", "-f", "qcow2"], &[&root])
                .await
                .unwrap();
            tool(
                &["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2"],
                &[&expected, &root],
            )
            .await
            .unwrap();

            let info = info(&root).await;
            let extended = &info["format-specific"]["data"]["extended-l2"];
            assert_eq!(*extended, grain == Grain::Subclusters);
            assert_eq!(info["virtual-size"], ROOT_BYTES);
            assert_eq!(info["backing-filename-format"], "raw");
            assert!(info["actual-size"].as_u64().unwrap() < 2 * MIB, "{info}");
        }
    }

    #[tokio::test]
    async fn host_what_a_guest_writes_stays_in_its_overlay_and_is_read_again() {
        for grain in [Grain::Subclusters, Grain::Clusters] {
            let folder = tempfile::tempdir().unwrap();
            let root = made(Recipe::Overlay(grain), folder.path()).await.file.path;
            let image = folder.path().join("image.raw");
            let before = std::fs::read(&image).unwrap();
            // Over the image's data, beside it, in its hole, behind its end, and at the very end.
            let last = ROOT_BYTES - 512;
            let offsets = [0, 32 * MIB + 8192, 48 * MIB, 100 * MIB, last];
            for step in ["write -q -P 9", "read -P 9"] {
                let mut commands = vec!["qemu-io".to_owned(), "-f".into(), "qcow2".into()];
                for offset in offsets {
                    commands.extend(["-c".to_owned(), format!("{step} {offset} 512")]);
                }
                let words: Vec<&str> = commands.iter().map(String::as_str).collect();
                let said = tool(&words, &[&root]).await.unwrap();
                assert!(!said.contains("failed"), "{said}");
            }
            let commands = ["qemu-io", "-f", "qcow2", "-c", "read -P 7 33559552 3072"];
            let said = tool(&commands, &[&root]).await.unwrap();
            assert!(!said.contains("failed"), "the image's own data: {said}");
            tool(&["qemu-img", "check", "-q", "-f", "qcow2"], &[&root])
                .await
                .unwrap();
            assert!(std::fs::read(&image).unwrap() == before);
        }
    }

    #[tokio::test]
    async fn host_a_clone_is_the_image_and_larger_where_the_file_system_makes_clones() {
        let Some(xfs) = Xfs::mounted().await else {
            return;
        };
        let folder = tempfile::tempdir_in(&xfs.0).unwrap();
        let image = image(folder.path());
        let roots = Roots::new("qemu-img");
        let templates = Templates::open(&folder.path().join("templates")).unwrap();
        let disk = roots
            .make(&image, ROOT_BYTES, vec![], folder.path(), &templates)
            .await
            .unwrap();
        assert_eq!(disk.file.format, DiskFormat::Raw);
        assert_eq!(disk.backing, None);
        let root = &disk.file.path;
        assert_eq!(root.metadata().unwrap().len(), ROOT_BYTES);
        tool(
            &["qemu-img", "compare", "-q", "-f", "raw", "-F", "raw"],
            &[&image, root],
        )
        .await
        .unwrap();
        let own = crate::resources::own_bytes(root).unwrap();
        assert_eq!(own, 0, "the image's blocks are not counted again");

        // A cache on another file system is found out, and its images get overlays.
        let elsewhere = tempfile::tempdir().unwrap();
        let image = self::image(elsewhere.path());
        let roots = Roots::new("qemu-img");
        let disk = roots
            .make(&image, ROOT_BYTES, vec![], folder.path(), &templates)
            .await
            .unwrap();
        assert_eq!(disk.file.format, DiskFormat::Qcow2);
        assert!(!folder.path().join("probe").exists());
    }

    /// A file system that makes clones, in a file; unmounted at the end.
    struct Xfs(PathBuf, #[allow(dead_code)] tempfile::TempDir);

    impl Xfs {
        async fn mounted() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let (file, point) = (folder.path().join("xfs"), folder.path().join("mounted"));
            create(&file, 512 * MIB).unwrap();
            std::fs::create_dir(&point).unwrap();
            let made = async {
                tool(&["mkfs.xfs", "-q"], &[&file]).await?;
                tool(&["mount", "-o", "loop"], &[&file, &point]).await
            };
            match made.await {
                Ok(_) => Some(Self(point, folder)),
                Err(error) => {
                    eprintln!("SKIPPED: no XFS here to make clones on: {error}");
                    None
                }
            }
        }
    }

    impl Drop for Xfs {
        fn drop(&mut self) {
            let _gone = nix::mount::umount(&self.0);
        }
    }

    async fn found(qemu_img: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("qemu-img");
        std::fs::write(&fake, qemu_img).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&fake, mode).unwrap();
        Roots::new(&fake).has_subclusters().await
    }

    #[tokio::test]
    async fn an_old_qemu_and_one_that_cannot_be_asked_get_what_any_can_read() {
        let new = "#!/bin/sh\n[ \"$*\" = 'create -f qcow2 -o help' ] && echo 'extended_l2=<bool>'";
        assert!(found(new).await);
        assert!(!found("#!/bin/sh\necho 'cluster_size=<size> - qcow2 cluster size'").await);
        assert!(!found("#!/bin/sh\nexit 1").await);
        assert!(!Roots::new("/nowhere/qemu-img").has_subclusters().await);
    }

    #[tokio::test]
    async fn a_missing_image_makes_no_root() {
        let folder = tempfile::tempdir().unwrap();
        let templates = Templates::open(&folder.path().join("templates")).unwrap();
        let missing = folder.path().join("none");
        let roots = Roots::new("qemu-img");
        let made = roots
            .make(&missing, MIB, vec![], folder.path(), &templates)
            .await;
        assert!(made.is_err());
        for name in NAMES {
            assert!(!folder.path().join(name).exists());
        }
    }
}
