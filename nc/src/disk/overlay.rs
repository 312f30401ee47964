//! Overlays: qcow2 over a raw file of the cache, made by `qemu-img`.
//!
//! With 32 subclusters to a cluster and its tables allocated beforehand, a first write costs the host
//! one flush instead of two, and copies nothing from the image (measured: the table in the design's
//! lab notes). QEMU before 5.2 has no `extended_l2`; there the overlay is plain, and slower.

use std::{path::Path, sync::Arc};

use daemon::run::Tool;
use tokio::sync::OnceCell;

use super::DiskError;

/// The options of an overlay where QEMU has them all.
const OPTIONS: &str = "extended_l2=on,cluster_size=128k,preallocation=metadata,lazy_refcounts=on";
/// The options of an overlay for an older QEMU, which refuses preallocation beside a backing file.
const PLAIN_OPTIONS: &str = "lazy_refcounts=on";

/// Makes overlays. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Overlays {
    options: Arc<OnceCell<&'static str>>,
}

impl Overlays {
    /// Makes the overlay `path` of `size_bytes` over `backing`, which is raw.
    pub async fn make(
        &self,
        path: &Path,
        backing: &Path,
        size_bytes: u64,
    ) -> Result<(), DiskError> {
        let options = *self.options.get_or_try_init(probe).await?;
        Tool::new("qemu-img")
            .args([
                "create", "-q", "-f", "qcow2", "-o", options, "-F", "raw", "-b",
            ])
            .arg(backing)
            .arg(path)
            .arg(size_bytes.to_string())
            .output()
            .await?;
        Ok(())
    }
}

/// Asks QEMU which options it has.
async fn probe() -> Result<&'static str, daemon::run::Error> {
    let known = Tool::new("qemu-img")
        .args(["create", "-f", "qcow2", "-o", "help"])
        .text()
        .await?;
    if known.contains("extended_l2") {
        return Ok(OPTIONS);
    }
    tracing::warn!("this QEMU has no extended_l2 (it came with 5.2): disks will be slower");
    Ok(PLAIN_OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn info(path: &Path) -> serde_json::Value {
        let tool = Tool::new("qemu-img")
            .args(["info", "--output=json", "-f", "qcow2"])
            .arg(path);
        serde_json::from_slice(&tool.output().await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn host_an_overlay_is_larger_than_its_image_and_copies_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (image, overlay) = (
            folder.path().join("image.raw"),
            folder.path().join("root.qcow2"),
        );
        std::fs::write(&image, vec![7; 1 << 20]).unwrap();
        // A qcow2 header in the raw image must mean nothing.
        std::os::unix::fs::FileExt::write_all_at(
            &std::fs::OpenOptions::new()
                .write(true)
                .open(&image)
                .unwrap(),
            b"QFI\xfb\0\0\0\x03",
            0,
        )
        .unwrap();
        Overlays::default()
            .make(&overlay, &image, 5 << 30)
            .await
            .unwrap();

        let info = info(&overlay).await;
        assert_eq!(info["virtual-size"], 5_u64 << 30);
        assert_eq!(info["backing-filename-format"], "raw");
        assert_eq!(info["cluster-size"], 128 << 10);
        assert_eq!(info["format-specific"]["data"]["extended-l2"], true);
        assert_eq!(info["format-specific"]["data"]["lazy-refcounts"], true);
        assert!(info["actual-size"].as_u64().unwrap() < 4 << 20);
    }

    #[tokio::test]
    async fn host_a_missing_image_makes_no_overlay() {
        let folder = tempfile::tempdir().unwrap();
        let overlay = folder.path().join("root.qcow2");
        let missing = folder.path().join("none");
        assert!(
            Overlays::default()
                .make(&overlay, &missing, 1 << 20)
                .await
                .is_err()
        );
        assert!(!overlay.exists());
    }
}
