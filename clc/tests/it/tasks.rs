//! Intent becomes true, observation becomes known, and neither is lost when somebody dies.

use std::{sync::atomic::Ordering, time::Instant};

use clc::rows::{instances, network, nodes, services, volumes};
use control::{
    Role,
    cluster::Reach,
    node::{Seen, Shape, Wanted},
};
use types::{InstanceState, StateReason, VolumeId, VolumeState};

use crate::rig::{Rig, TOO_LARGE, node, node_status, report, zone};

#[tokio::test]
async fn a_launch_is_told_with_all_that_it_needs_and_runs_well_under_a_second() {
    let rig = Rig::running().await;
    rig.eventually("the cluster is followed", async || {
        (rig.clc.seen.cluster(&zone()).lives == 1).then_some(())
    })
    .await;
    let begun = Instant::now();
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    assert!(begun.elapsed().as_millis() < 500, "{:?}", begun.elapsed());

    let wish = rig.cluster.wish(&id).unwrap();
    assert_eq!(
        (wish.wanted, wish.node, wish.epoch),
        (Wanted::Running, node(), 1)
    );
    let interface = &wish.spec.interface;
    assert!(interface.public_address.is_some());
    assert_eq!(wish.spec.metadata.security_groups, ["default"]);
    let named = format!("ip-{}", interface.private_address).replace('.', "-");
    assert_eq!(
        wish.spec.metadata.private_dns_name,
        format!("{named}.mallee-1.internal")
    );

    let document = rig.eventually("the network document", async || {
        let document = rig.cluster.network.lock().unwrap().clone();
        (document.version >= wish.spec.network_version).then_some(document)
    });
    let document = document.await;
    assert_eq!(document.vpcs[0].interfaces[0].instance, id);
    assert_eq!(document.vpcs[0].interfaces[0].mac, interface.mac);
    assert_eq!(
        document.vpcs[0].groups[0].members,
        [interface.private_address]
    );
}

#[tokio::test]
async fn a_terminated_instance_keeps_no_address_and_leaves_the_network() {
    let rig = Rig::running().await;
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    rig.terminate(&id).await;
    let gone = rig.until(&id, InstanceState::Terminated).await;
    assert_eq!(gone.reason, Some(StateReason::user_initiated()));

    let asked = id.clone();
    let (interface, taken) = rig
        .clc
        .db
        .read(move |tx| {
            Ok::<_, store::Error>((
                network::interface_of(tx, &asked)?,
                network::taken_public(tx)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!((interface, taken.len()), (None, 0));
    rig.eventually("an empty document", async || {
        rig.cluster
            .network
            .lock()
            .unwrap()
            .vpcs
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_lost_its_memory_is_told_everything_again() {
    let rig = Rig::running().await;
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    rig.cluster.restart_empty();
    rig.eventually("wish, roster and network are said again", async || {
        let roster = rig.cluster.roster.lock().unwrap().nodes.len();
        let network = rig.cluster.network.lock().unwrap().vpcs.len();
        (rig.cluster.wish(&id).is_some() && roster == 1 && network == 1).then_some(())
    })
    .await;
    assert_eq!(
        rig.instance(&id).await.unwrap().state,
        InstanceState::Running
    );
}

#[tokio::test]
async fn what_was_recorded_before_a_kill_is_done_after_it() {
    let mut rig = Rig::running().await;
    rig.cluster.is_up.store(false, Ordering::SeqCst);
    let id = rig.launch().await;
    rig.restart().await;
    assert_eq!(
        rig.instance(&id).await.unwrap().state,
        InstanceState::Pending
    );
    rig.cluster.is_up.store(true, Ordering::SeqCst);
    rig.until(&id, InstanceState::Running).await;
}

#[tokio::test]
async fn a_silent_cluster_ends_nothing_and_is_named_as_the_reason() {
    let rig = Rig::running().await;
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    rig.cluster.is_up.store(false, Ordering::SeqCst);
    let why = rig
        .eventually("not ready", async || {
            let report = rig.context.ready.report();
            let clusters = report.conditions.iter().find(|c| c.name == "clusters")?;
            clusters
                .reason
                .clone()
                .filter(|why| why.contains("refused"))
        })
        .await;
    assert!(why.contains("mallee-1a"), "{why}");
    assert_eq!(
        rig.instance(&id).await.unwrap().state,
        InstanceState::Running
    );
}

#[tokio::test]
async fn a_launch_that_its_cluster_refuses_ends_with_the_reason() {
    let rig = Rig::running().await;
    rig.cluster.is_full.store(true, Ordering::SeqCst);
    let id = rig.launch().await;
    let ended = rig.until(&id, InstanceState::Terminated).await;
    let reason = ended.reason.unwrap();
    assert_eq!(reason.code, "Server.InsufficientInstanceCapacity");
    assert!(reason.message.contains("the hold is over"), "{reason:?}");
}

#[tokio::test]
async fn a_guest_that_powers_itself_off_ends_with_that_reason() {
    let rig = Rig::running().await;
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    let wish = rig.cluster.wish(&id).unwrap();
    rig.cluster.say(report(&wish, Seen::Terminated));
    let ended = rig.until(&id, InstanceState::Terminated).await;
    assert_eq!(
        ended.reason.unwrap().code,
        "Client.InstanceInitiatedShutdown"
    );
}

#[tokio::test]
async fn a_node_that_speaks_for_the_first_time_joins_the_underlay_of_all() {
    let rig = Rig::running().await;
    rig.cluster
        .say_node(node_status(Reach::Up, Shape::default()));
    rig.eventually("a peer in the document", async || {
        let document = rig.cluster.network.lock().unwrap().clone();
        document
            .peers
            .iter()
            .any(|peer| peer.node == node())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_guest_may_reach_a_node_or_a_daemon_wherever_it_moves_but_for_the_public_api() {
    let rig = Rig::with(|config| {
        config.api.listen = "192.0.2.1:8773".parse().unwrap();
        config.s3.url = "http://192.0.2.51:8779".to_owned();
        config.network.protected = vec!["198.51.100.0/24".parse().unwrap()];
    })
    .await;
    clc::tasks::start(&rig.clc, &rig.context);
    let protects = async |expected: &[&str]| {
        rig.eventually(&format!("{expected:?} are protected"), async || {
            let document = rig.cluster.network.lock().unwrap().clone();
            let protected: Vec<_> = document.protected.iter().map(ToString::to_string).collect();
            assert!(
                document.version == 0 || document.open == ["192.0.2.1:8773".parse().unwrap()],
                "{document:?}"
            );
            (protected == expected).then_some(())
        })
        .await
    };
    protects(&["198.51.100.0/24", "192.0.2.1/32", "192.0.2.51/32"]).await;

    let moved = |tx: &store::Tx| {
        nodes::move_to(tx, &node(), &zone(), "192.0.2.21:8775".parse().unwrap())?;
        services::move_to(
            tx,
            Role::Sc,
            "mallee-1a",
            "192.0.2.31:8776".parse().unwrap(),
        )?;
        services::move_to(
            tx,
            Role::Walrus,
            "walrus",
            "192.0.2.41:8778".parse().unwrap(),
        )
    };
    rig.clc.db.write(moved).await.unwrap();
    rig.clc.wakes.network.wake();
    let hosts = [
        "192.0.2.1/32",
        "192.0.2.21/32",
        "192.0.2.31/32",
        "192.0.2.41/32",
        "192.0.2.51/32",
    ];
    let mut expected = vec!["198.51.100.0/24"];
    expected.extend(hosts);
    protects(&expected).await;

    rig.cluster
        .say_node(node_status(Reach::Up, Shape::default()));
    rig.eventually("its underlay, too", async || {
        let document = rig.cluster.network.lock().unwrap().clone();
        let underlay = document.peers.first()?.underlay.into();
        document.protected.contains(&underlay).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_node_marks_its_instances_and_its_return_clears_them() {
    let rig = Rig::running().await;
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    rig.cluster
        .say_node(node_status(Reach::Unreachable, Shape::default()));
    let marked = async |is: bool| {
        rig.eventually("the mark", async || {
            let instance = rig.instance(&id).await.unwrap();
            (instance.unreachable_since.is_some() == is).then_some(instance.state)
        })
        .await
    };
    assert_eq!(marked(true).await, InstanceState::Running);
    rig.cluster
        .say_node(node_status(Reach::Up, Shape::default()));
    assert_eq!(marked(false).await, InstanceState::Running);
}

#[tokio::test]
async fn what_was_wished_away_on_a_node_that_is_declared_dead_ends() {
    let rig = Rig::running().await;
    let (kept, ended) = (rig.launch().await, rig.launch().await);
    rig.until(&kept, InstanceState::Running).await;
    rig.until(&ended, InstanceState::Running).await;
    rig.cluster.is_slow.store(true, Ordering::SeqCst);
    rig.terminate(&ended).await;
    rig.clc
        .db
        .write(|tx| nodes::declare_dead(tx, &node(), true))
        .await
        .unwrap();
    rig.clc.wakes.expire.wake();
    rig.until(&ended, InstanceState::Terminated).await;
    assert_eq!(
        rig.instance(&kept).await.unwrap().state,
        InstanceState::Running
    );
}

#[tokio::test]
async fn what_went_down_by_itself_or_never_ran_ends_with_its_dead_node_and_keeps_no_room() {
    let rig = Rig::running().await;
    let down = rig.launch().await;
    rig.until(&down, InstanceState::Running).await;
    rig.cluster.is_slow.store(true, Ordering::SeqCst);
    let wish = rig.cluster.wish(&down).unwrap();
    rig.cluster.say(report(&wish, Seen::ShuttingDown));
    rig.until(&down, InstanceState::ShuttingDown).await;
    let never = rig.launch().await;
    rig.clc
        .db
        .write(|tx| nodes::declare_dead(tx, &node(), true))
        .await
        .unwrap();
    rig.clc.wakes.expire.wake();
    for (id, code) in [
        (&down, "Client.InstanceInitiatedShutdown"),
        (&never, "Server.InternalError"),
    ] {
        rig.eventually("the end is wished for", async || {
            let wish = rig.cluster.wish(id)?;
            (wish.wanted == Wanted::Terminated).then_some(())
        })
        .await;
        rig.clc.wakes.expire.wake();
        let ended = rig.until(id, InstanceState::Terminated).await;
        assert_eq!(ended.reason.unwrap().code, code);
    }
}

#[tokio::test]
async fn the_terminated_are_shown_for_an_hour_and_then_forgotten() {
    let rig = Rig::running().await;
    let id = rig.launch().await;
    rig.terminate(&id).await;
    rig.until(&id, InstanceState::Terminated).await;
    rig.clock.jump(59 * 60 * 1000);
    rig.clc.wakes.expire.wake();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(rig.instance(&id).await.is_some());
    rig.clock.jump(2 * 60 * 1000);
    rig.clc.wakes.expire.wake();
    rig.eventually("it is forgotten", async || {
        rig.instance(&id).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_launch_without_progress_is_given_up_and_its_node_told() {
    let rig = Rig::running().await;
    rig.cluster.is_slow.store(true, Ordering::SeqCst);
    let id = rig.launch().await;
    rig.eventually("the wish is taken", async || rig.cluster.wish(&id))
        .await;
    is_followed(&rig).await;
    rig.clock.jump(31 * 60 * 1000);
    rig.clc.wakes.expire.wake();
    let given_up = rig.until(&id, InstanceState::ShuttingDown).await;
    assert!(given_up.reason.unwrap().message.contains("no progress"));
    rig.eventually("the end is wished for", async || {
        rig.cluster
            .wish(&id)
            .filter(|wish| wish.wanted == Wanted::Terminated)
    })
    .await;
}

async fn is_followed(rig: &Rig) {
    rig.eventually("the cluster is followed", async || {
        rig.clc.seen.cluster(&zone()).answering_since
    })
    .await;
}

#[tokio::test]
async fn our_own_silence_gives_nothing_up_and_listening_is_counted_from_its_start() {
    let mut rig = Rig::running().await;
    rig.cluster.is_slow.store(true, Ordering::SeqCst);
    let id = rig.launch().await;
    rig.eventually("the wish is taken", async || rig.cluster.wish(&id))
        .await;
    let still_pending = async |rig: &Rig| {
        rig.clc.wakes.expire.wake();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(
            rig.instance(&id).await.unwrap().state,
            InstanceState::Pending
        );
    };

    rig.cluster.is_up.store(false, Ordering::SeqCst);
    rig.eventually("the cluster is silent", async || {
        let since = rig.clc.seen.cluster(&zone()).answering_since;
        since.is_none().then_some(())
    })
    .await;
    rig.clock.jump(31 * 60 * 1000);
    still_pending(&rig).await;
    rig.restart().await;
    still_pending(&rig).await;
    rig.cluster.is_up.store(true, Ordering::SeqCst);
    is_followed(&rig).await;
    still_pending(&rig).await;
    rig.clock.jump(31 * 60 * 1000);
    rig.clc.wakes.expire.wake();
    rig.until(&id, InstanceState::ShuttingDown).await;
}

#[tokio::test]
async fn reports_of_strangers_change_nothing() {
    let rig = Rig::running().await;
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    let mut stranger = report(&rig.cluster.wish(&id).unwrap(), Seen::Running);
    stranger.instance = "i-00000000000000000".parse().unwrap();
    rig.cluster.say(stranger);
    let mut old = report(&rig.cluster.wish(&id).unwrap(), Seen::Terminated);
    old.epoch = 0;
    rig.cluster.say(old);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(
        rig.instance(&id).await.unwrap().state,
        InstanceState::Running
    );
    let all = rig.clc.db.read(instances::list_all).await.unwrap();
    assert_eq!(all.len(), 1);
}

async fn make_volume(rig: &Rig, size: types::Gib) -> VolumeId {
    let id = rig.clc.mint(VolumeId::mint);
    let volume = volumes::Volume {
        id: id.clone(),
        account: rig.credentials.account_id.clone(),
        zone: zone(),
        size,
        snapshot: None,
        volume_type: "standard".to_owned(),
        created_at: rig.clc.now(),
        is_wanted: true,
        generation: 1,
        taken_generation: 0,
        state: VolumeState::Creating,
        state_since: rig.clc.now(),
        reason: None,
    };
    rig.clc
        .db
        .write(move |tx| volumes::insert(tx, &volume))
        .await
        .unwrap();
    rig.clc.wakes.volumes.wake();
    id
}

async fn volume_until(rig: &Rig, id: &VolumeId, state: VolumeState) -> volumes::Volume {
    rig.eventually(state.as_str(), async || {
        let id = id.clone();
        let volume = rig
            .clc
            .db
            .read(move |tx| volumes::load(tx, &id))
            .await
            .unwrap()?;
        (volume.state == state).then_some(volume)
    })
    .await
}

#[tokio::test]
async fn a_volume_is_made_and_removed_and_one_that_does_not_fit_says_why() {
    let rig = Rig::running().await;
    let id = make_volume(&rig, types::Gib(2)).await;
    volume_until(&rig, &id, VolumeState::Available).await;
    let (gone, now) = (id.clone(), rig.clc.now());
    rig.clc
        .db
        .write(move |tx| volumes::want_absent(tx, &gone, now))
        .await
        .unwrap();
    rig.clc.wakes.volumes.wake();
    volume_until(&rig, &id, VolumeState::Deleted).await;

    let large = make_volume(&rig, TOO_LARGE).await;
    let failed = volume_until(&rig, &large, VolumeState::Error).await;
    assert_eq!(failed.reason.as_deref(), Some("the pool has 10 GiB free"));
}

async fn give_up(rig: &Rig, id: &VolumeId) {
    let (id, now) = (id.clone(), rig.clc.now());
    let wish = rig
        .clc
        .db
        .write(move |tx| volumes::want_absent(tx, &id, now));
    wish.await.unwrap();
    rig.clc.wakes.volumes.wake();
}

async fn half_an_hour_passes(rig: &Rig) {
    rig.clock.jump(31 * 60 * 1000);
    rig.clc.wakes.expire.wake();
}

#[tokio::test]
async fn a_volume_that_is_not_made_in_time_says_why_and_can_be_given_up() {
    let rig = Rig::running().await;
    rig.storage.is_up.store(false, Ordering::SeqCst);
    let unasked = make_volume(&rig, types::Gib(1)).await;
    rig.eventually("the store is silent", async || {
        let answers = rig.clc.seen.storage(&zone()).answers;
        matches!(answers, clc::seen::Answers::Not(..)).then_some(())
    })
    .await;
    half_an_hour_passes(&rig).await;
    let failed = volume_until(&rig, &unasked, VolumeState::Error).await;
    let why = failed.reason.unwrap();
    assert!(
        why.contains("does not answer: ") && why.contains("no route"),
        "{why}"
    );

    // Nothing is made of it later; given up, it goes.
    rig.storage.is_up.store(true, Ordering::SeqCst);
    rig.storage.is_slow.store(true, Ordering::SeqCst);
    let taken = make_volume(&rig, types::Gib(1)).await;
    rig.eventually("the store has the wish", async || {
        let id = taken.clone();
        let read = rig.clc.db.read(move |tx| volumes::load(tx, &id));
        (read.await.unwrap()?.taken_generation == 1).then_some(())
    })
    .await;
    half_an_hour_passes(&rig).await;
    let failed = volume_until(&rig, &taken, VolumeState::Error).await;
    let why = failed.reason.unwrap();
    assert!(why.contains("has not said that it is done"), "{why}");
    rig.storage.is_slow.store(false, Ordering::SeqCst);
    for id in [&unasked, &taken] {
        give_up(&rig, id).await;
        volume_until(&rig, id, VolumeState::Deleted).await;
    }
}

#[tokio::test]
async fn a_volume_that_is_not_removed_in_time_says_so_and_can_be_given_up_again() {
    let rig = Rig::running().await;
    let id = make_volume(&rig, types::Gib(1)).await;
    volume_until(&rig, &id, VolumeState::Available).await;
    rig.storage.is_slow.store(true, Ordering::SeqCst);
    give_up(&rig, &id).await;
    rig.clc.wakes.expire.wake();
    volume_until(&rig, &id, VolumeState::Deleting).await;
    half_an_hour_passes(&rig).await;
    let failed = volume_until(&rig, &id, VolumeState::Error).await;
    assert!(failed.reason.unwrap().contains("not removed in time"));

    rig.storage.is_slow.store(false, Ordering::SeqCst);
    give_up(&rig, &id).await;
    let gone = volume_until(&rig, &id, VolumeState::Deleted).await;
    assert_eq!(gone.reason, None);
}

#[tokio::test]
async fn our_own_absence_makes_no_volume_late() {
    let mut rig = Rig::running().await;
    rig.storage.is_slow.store(true, Ordering::SeqCst);
    let id = make_volume(&rig, types::Gib(1)).await;
    rig.clock.jump(31 * 60 * 1000);
    rig.restart().await;
    rig.clc.wakes.expire.wake();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    volume_until(&rig, &id, VolumeState::Creating).await;
    half_an_hour_passes(&rig).await;
    volume_until(&rig, &id, VolumeState::Error).await;
}

#[tokio::test]
async fn a_token_lives_for_a_day_after_what_it_launched_was_forgotten() {
    use clc::rows::client_tokens::{self, ClientToken};
    let rig = Rig::running().await;
    let id = rig.launch().await;
    let launched = rig.until(&id, InstanceState::Running).await;
    let (account, now) = (rig.credentials.account_id.clone(), rig.clc.now());
    let used = ClientToken {
        digest: String::new(),
        made: launched.reservation.to_string(),
    };
    let insert = rig
        .clc
        .db
        .write(move |tx| client_tokens::insert(tx, &account, "RunInstances", "t", &used, now));
    insert.await.unwrap();
    let known = async || {
        let account = rig.credentials.account_id.clone();
        let read = rig
            .clc
            .db
            .read(move |tx| client_tokens::find(tx, &account, "RunInstances", "t"));
        read.await.unwrap().is_some()
    };
    const HOUR_MS: i64 = 60 * 60 * 1000;
    rig.clock.jump(48 * HOUR_MS);
    rig.terminate(&id).await;
    rig.until(&id, InstanceState::Terminated).await;
    rig.clock.jump(2 * HOUR_MS);
    rig.clc.wakes.expire.wake();
    rig.eventually("it is forgotten", async || {
        rig.instance(&id).await.is_none().then_some(())
    })
    .await;
    rig.clock.jump(23 * HOUR_MS);
    rig.clc.wakes.expire.wake();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(known().await);
    rig.clock.jump(2 * HOUR_MS);
    rig.clc.wakes.expire.wake();
    rig.eventually("its token is forgotten", async || {
        (!known().await).then_some(())
    })
    .await;
}
