use std::{fs, os::unix::fs::MetadataExt};

use control::{
    Code,
    storage::{VolumeSeen, VolumeWanted, VolumeWish},
};
use types::Gib;

use crate::rig::{Rig, wish};

#[tokio::test]
async fn a_volume_is_a_sparse_file_of_its_size_and_its_end_removes_it() {
    let rig = Rig::new().await;
    rig.say(wish(1, 1, VolumeWanted::Present)).await.unwrap();
    rig.until(1, VolumeSeen::Available).await;
    let found = fs::metadata(rig.file(1, "raw")).unwrap();
    assert_eq!(found.len(), Gib(2).bytes());
    assert!(
        found.blocks() * 512 < 1 << 20,
        "nothing is allocated beforehand"
    );
    assert_eq!(found.mode() & 0o777, 0o600);
    assert_eq!(rig.pool().await.provisioned_bytes, Gib(2).bytes());

    rig.say(wish(1, 2, VolumeWanted::Absent)).await.unwrap();
    let gone = rig.until(1, VolumeSeen::Deleted).await;
    assert_eq!(gone.generation, 2);
    assert_eq!(rig.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wish_said_twice_is_taken_once_and_a_late_one_revives_nothing() {
    let rig = Rig::new().await;
    for _ in 0..3 {
        let taken = rig.say(wish(1, 1, VolumeWanted::Present)).await.unwrap();
        assert_eq!(taken.generation, 1);
    }
    rig.say(wish(1, 2, VolumeWanted::Absent)).await.unwrap();
    let late = rig.say(wish(1, 1, VolumeWanted::Present)).await.unwrap();
    assert_eq!(late.generation, 2);
    rig.until(1, VolumeSeen::Deleted).await;
    let back = rig
        .say(wish(1, 3, VolumeWanted::Present))
        .await
        .unwrap_err();
    assert_eq!(back.code, Code::Conflict);
}

#[tokio::test]
async fn a_volume_that_the_pool_cannot_promise_is_refused_before_anything_happens() {
    let rig = Rig::new().await;
    let total_gib = u32::try_from(rig.pool().await.total_bytes >> 30).unwrap();
    let huge = |number, gib| VolumeWish {
        size_gib: Gib(gib),
        ..wish(number, 1, VolumeWanted::Present)
    };
    let refused = rig.say(huge(1, total_gib + 2)).await.unwrap_err();
    assert_eq!(refused.code, Code::NoRoom);
    assert!(
        refused.message.contains("the pool can promise"),
        "{refused}"
    );
    assert!(rig.report(1).await.is_none());

    // Sparse or not, promises add up.
    let half = total_gib * 2 / 3;
    rig.say(huge(2, half)).await.unwrap();
    assert_eq!(rig.say(huge(3, half)).await.unwrap_err().code, Code::NoRoom);
}

#[tokio::test]
async fn after_a_restart_everything_is_as_it_was_and_what_is_missing_is_said() {
    let mut rig = Rig::new().await;
    for number in 1..=3 {
        rig.say(wish(number, 1, VolumeWanted::Present))
            .await
            .unwrap();
        rig.until(number, VolumeSeen::Available).await;
    }
    fs::remove_file(rig.file(2, "raw")).unwrap();
    fs::write(rig.file(9, "making"), b"half").unwrap();
    fs::write(rig.file(8, "raw"), b"whose?").unwrap();
    rig.restart().await;

    assert_eq!(rig.report(1).await.unwrap().seen, VolumeSeen::Available);
    let missing = rig.report(2).await.unwrap();
    assert_eq!(missing.seen, VolumeSeen::Error);
    assert!(missing.reason.unwrap().contains("gone"));
    let names = ["vol-00000001.raw", "vol-00000003.raw", "vol-00000008.raw"];
    assert_eq!(
        rig.files(),
        names,
        "half-made files go, a stranger's data stays"
    );
}

#[tokio::test]
async fn the_pool_says_what_it_is_and_whether_it_clones() {
    let pool = Rig::new().await.pool().await;
    assert!(pool.kind.starts_with("file on "), "{}", pool.kind);
    assert!(pool.kind.ends_with("clones"), "{}", pool.kind);
    assert!(pool.total_bytes >= pool.free_bytes && pool.free_bytes > 0);
    assert_eq!(pool.not_ready, None);
}
