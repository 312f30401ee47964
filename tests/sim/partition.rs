//! A zone is cut off while it launches: what was answered for is there when it is back, nothing is
//! there twice, and nobody was declared gone meanwhile. Read this first; other stories follow it.

use std::time::Duration;

use testkit::{node::FakeNode, seed};
use types::InstanceState;

use crate::{
    cloud::{Cloud, Size, Which},
    invariants::{Outside, quiet},
    mutants::Mutation,
};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn running(cloud: &Cloud) -> usize {
    let rows = cloud.clc.rows().await;
    rows.values()
        .filter(|row| row.state == InstanceState::Running)
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_cut_off_loses_no_launch_and_repeats_none() {
    let mut size = Size::of(1, 4, 4);
    size.manner.failing = 0;
    let cloud = Cloud::start(size, Mutation::None, Which::Model, &mut seed::rng(7)).await;
    let before = cloud.clc.run("before", 3, 3).await.unwrap();
    pass(10).await;
    assert_eq!(running(&cloud).await, 3);

    // The answer to the next hold is lost with the line: the launch is refused, its room comes back.
    cloud.links.cut("cc-0");
    assert!(cloud.clc.run("during", 13, 13).await.is_err());
    pass(3_600).await;
    assert_eq!(running(&cloud).await, 3, "silence ended something");

    cloud.links.heal("cc-0");
    pass(10).await;
    let during = cloud.clc.run("during", 13, 13).await.unwrap();
    assert_eq!(cloud.clc.run("during", 13, 13).await.unwrap(), during);
    pass(10).await;
    assert_eq!(running(&cloud).await, before.len() + during.len());
    assert_eq!(cloud.nodes().map(FakeNode::starts).sum::<u64>(), 16);
    pass(120).await;
    quiet(&cloud, &mut Outside::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_behind_a_broken_line_keeps_its_guests_and_takes_its_end_late() {
    let mut size = Size::of(1, 1, 2);
    size.manner.failing = 0;
    let cloud = Cloud::start(size, Mutation::None, Which::Model, &mut seed::rng(7)).await;
    let instance = cloud.clc.run("a", 1, 1).await.unwrap().remove(0);
    pass(10).await;
    let node = &cloud.zones[0].nodes[0];
    cloud.links.cut(node.id().as_str());
    cloud.clc.terminate(&instance).await.unwrap();
    pass(600).await;
    assert_eq!(
        cloud.clc.rows().await[&instance].state,
        InstanceState::ShuttingDown
    );
    assert_eq!(node.guests().len(), 1);

    cloud.links.heal(node.id().as_str());
    pass(30).await;
    assert_eq!(
        cloud.clc.rows().await[&instance].state,
        InstanceState::Terminated
    );
    assert_eq!(node.guests().len(), 0);
    pass(60).await;
    quiet(&cloud, &mut Outside::default()).await.unwrap();
}
