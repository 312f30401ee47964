//! Large bodies on a file system as clusters have them (FUSE: no mmap, no holes, no locks that anybody
//! else would see, with and without hard links): they are kept and found as on a disk. A database is
//! refused there, by the name of the setting.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use testkit::fuse::Serving;

use crate::{
    daemon_process::{ALICE, Walrus, walkdir},
    s3_client::{S3, pattern},
    workload::Workload,
};

/// A mounted file system; unmounted when it is dropped.
struct Mounted {
    serving: Serving,
    mountpoint: TempDir,
    _behind: TempDir,
}

impl Mounted {
    fn path(&self) -> &Path {
        self.mountpoint.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.serving.unmount();
    }
}

fn mounted(has_links: bool) -> Option<Mounted> {
    if !Path::new("/dev/fuse").exists() || !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: a network file system is FUSE's here: /dev/fuse and root");
        return None;
    }
    let (behind, mountpoint) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    Some(Mounted {
        serving: Serving::mount(behind.path(), mountpoint.path(), has_links).unwrap(),
        mountpoint,
        _behind: behind,
    })
}

async fn keeps_objects_there(mounted: &Mounted) {
    let blobs = mounted.path().join("blobs");
    let set = format!("storage.blobs_dir={}", blobs.display());
    let mut walrus = Walrus::prepare_plain(&std::env::temp_dir(), &[&set]).await;
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    let workload = Workload::begin(&walrus).await;

    // Overwritten, copied, uploaded in parts and deleted while it is killed.
    for round in 0..3 {
        let writers = workload.write(&walrus, 7_000 + round);
        tokio::time::sleep(Duration::from_millis(400)).await;
        walrus.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        walrus.run().await;
        workload.check(&walrus, &format!("round {round}")).await;
    }
    let large = pattern(9 << 20, 5);
    s3.put("/bucket/large", &large).await.ok();
    let from = [("x-amz-copy-source", "/bucket/large")];
    s3.call("PUT", "/bucket/copy", &from, b"").await.ok();
    s3.delete("/bucket/large").await.ok();
    assert!(s3.get("/bucket/copy").await.ok().body == large);
    let range = [("range", "bytes=5000000-5999999")];
    let part = s3.call("GET", "/bucket/copy", &range, b"").await.ok();
    assert!(part.body == large[5_000_000..6_000_000]);

    assert!(walkdir(&blobs) > 1, "they lie there");
    assert!(walrus.stop());
    let (right, said) = walrus.fsck();
    assert!(right && said.contains("orphans   0"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_large_bodies_lie_on_a_network_file_system() {
    for has_links in [true, false] {
        if let Some(mounted) = mounted(has_links) {
            keeps_objects_there(&mounted).await;
        }
    }
}

#[tokio::test]
async fn host_a_database_on_a_network_file_system_is_refused_by_its_setting() {
    let Some(mounted) = mounted(true) else { return };
    let walrus = Walrus::prepare_plain(mounted.path(), &[]).await;
    for command in ["fsck", "daemon"] {
        let said = match command {
            "fsck" => walrus.fsck(),
            _ => walrus.says(&[]),
        };
        let (right, said) = said;
        let named = said.contains("is on FUSE") && said.contains("change state_dir");
        assert!(
            !right && named && said.contains("storage.blobs_dir"),
            "{command}: {said}"
        );
    }
    assert!(!walrus.state().join("objects/index.sqlite").exists());
    walrus.lose_cloud();
}
