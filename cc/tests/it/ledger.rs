//! The ledger on disk holds what the ledger in memory holds, and reads it back.

use cc::ledger::{Change, HoldRow, Ledger, MemoryLedger, PlacementRow, SqliteLedger};
use control::cluster::Placement;
use testkit::samples;
use types::network::NetworkDocument;

fn changes() -> Vec<Change> {
    let wish = samples::wish(
        samples::instance(1),
        samples::reservation(1),
        samples::node(1),
        7,
    );
    let row = PlacementRow {
        instance: wish.instance.clone(),
        node: wish.node.clone(),
        epoch: 7,
        wish: Some(wish),
        report: None,
        takes_room: true,
        ended: false,
    };
    let hold = |number| HoldRow {
        reservation: samples::reservation(number),
        shape: samples::smalls(1),
        placements: vec![Placement {
            instance: samples::instance(number),
            node: samples::node(1),
            epoch: 7,
            why: "greedy".into(),
        }],
        rejected: Vec::new(),
    };
    vec![
        Change::Epoch(7),
        Change::Hold(hold(1)),
        Change::Hold(hold(2)),
        Change::HoldGone(samples::reservation(2)),
        Change::Placement(Box::new(row.clone())),
        Change::Placement(Box::new(PlacementRow { ended: true, ..row })),
        Change::Roster(samples::roster(3, 1..=2)),
        Change::Network(Box::new(NetworkDocument {
            version: 4,
            ..NetworkDocument::default()
        })),
        Change::Settled,
        Change::Epoch(6),
    ]
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_both_ledgers_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cc.db");
    let memory = MemoryLedger::default();
    let disk = SqliteLedger::open(&path).unwrap();
    assert_eq!(disk.load().await.unwrap(), memory.load().await.unwrap());

    disk.commit(&changes()).await.unwrap();
    memory.commit(&changes()).await.unwrap();
    drop(disk);
    let saved = SqliteLedger::open(&path).unwrap().load().await.unwrap();
    assert_eq!(saved, memory.load().await.unwrap());
    assert_eq!(
        (saved.holds.len(), saved.placements.len(), saved.epoch),
        (1, 1, 7)
    );

    let gone = [Change::PlacementGone(samples::instance(1))];
    let disk = SqliteLedger::open(&path).unwrap();
    disk.commit(&gone).await.unwrap();
    assert!(disk.load().await.unwrap().placements.is_empty());
}
