//! XFS and btrfs: no tool writes them but a kernel that has them mounted (`xfs_db` changes fields and
//! makes no file, btrfs has nothing), and nothing is mounted here. So they are only looked into, with
//! GRUB's drivers (`grub-fstest`, of the same package as what links the boot loader).

use std::path::Path;

use daemon::jail::Jail;

use super::{Found, judged};
use crate::disk::{
    DiskError,
    layout::{Partition, Root},
};

/// The job, as a script for `sh`.
const JOB: &str = include_str!("look.sh");

/// Looks for one of the clients in that file system.
pub(super) async fn look(
    image: &Path,
    root: &Root,
    clients: &[&str],
    work: &Path,
) -> Result<Found, DiskError> {
    let job = Jail::new()
        .reading(image, "/image")
        .working_in(work)
        .run("sh")
        .args(["-c", JOB, "look", &device(root)])
        .args(clients);
    match job.output().await {
        Ok(_) => Ok(Found::NoRoot),
        Err(error) => judged(error).map_err(DiskError::from),
    }
}

/// GRUB's name for a file system on the only disk.
fn device(root: &Root) -> String {
    match root.partition {
        None => "loop0".to_owned(),
        Some(Partition::Mbr(number)) => format!("loop0,msdos{number}"),
        Some(Partition::Gpt(number)) => format!("loop0,gpt{number}"),
    }
}
