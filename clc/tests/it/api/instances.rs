//! Instances after their launch.

use control::node::{InstanceReport, Seen};
use types::{InstanceId, InstanceState};

use super::{World, all, enc, one};

async fn set_state(world: &World, id: &str, state: InstanceState) {
    let (id, now): (InstanceId, _) = (id.parse().unwrap(), world.clc.now());
    let write = world
        .clc
        .db
        .write(move |tx| clc::rows::instances::set_state(tx, &id, state, None, now));
    write.await.unwrap();
}

#[tokio::test]
async fn an_instance_ends_once_and_is_still_shown() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    set_state(&world, &id, InstanceState::Running).await;
    let query = format!("Action=TerminateInstances&InstanceId.1={id}");
    let answer = world.ok(&query).await;
    assert!(answer.contains(
        "<currentState><code>32</code><name>shutting-down</name></currentState>\
         <previousState><code>16</code><name>running</name></previousState>"
    ));
    let described = world.ok("Action=DescribeInstances").await;
    assert_eq!(
        one(&described, "reason"),
        "User initiated (2026-11-23 03:01:59 GMT)"
    );
    assert!(described.contains("<stateReason><code>Client.UserInitiatedShutdown</code>"));

    set_state(&world, &id, InstanceState::Terminated).await;
    assert!(
        world
            .ok(&query)
            .await
            .contains("<previousState><code>48</code><name>terminated</name></previousState>")
    );
    assert!(
        world
            .ok("Action=DescribeInstances")
            .await
            .contains("<name>terminated</name>")
    );
    assert_eq!(
        world
            .code(&format!("Action=RebootInstances&InstanceId.1={id}"))
            .await,
        "IncorrectState"
    );
}

#[tokio::test]
async fn a_protected_instance_protects_all_that_are_named_with_it() {
    let world = World::new().await;
    let plain = world.launch(1, "").await.remove(0);
    let protected = world
        .launch(1, "&DisableApiTermination=true")
        .await
        .remove(0);
    let both = format!("Action=TerminateInstances&InstanceId.1={plain}&InstanceId.2={protected}");
    assert_eq!(world.code(&both).await, "OperationNotPermitted");
    assert_eq!(
        all(&world.ok("Action=DescribeInstances").await, "name"),
        ["pending", "pending"]
    );
}

#[tokio::test]
async fn protection_can_be_taken_off_as_terraform_does_before_it_ends_one() {
    let world = World::new().await;
    let id = world
        .launch(1, "&DisableApiTermination=true")
        .await
        .remove(0);
    let modify = format!("Action=ModifyInstanceAttribute&InstanceId={id}");
    world
        .ok(&format!("{modify}&DisableApiStop.Value=false"))
        .await;
    world
        .ok(&format!(
            "{modify}&Attribute=disableApiTermination&Value=true"
        ))
        .await;
    let end = format!("Action=TerminateInstances&InstanceId.1={id}");
    assert_eq!(world.code(&end).await, "OperationNotPermitted");
    world
        .ok(&format!("{modify}&DisableApiTermination.Value=false"))
        .await;
    world.ok(&end).await;

    for (more, code) in [
        ("", "MissingParameter"),
        (
            "&DisableApiTermination.Value=maybe",
            "InvalidParameterValue",
        ),
        (
            "&InstanceInitiatedShutdownBehavior.Value=sleep",
            "InvalidParameterValue",
        ),
        ("&InstanceType.Value=m1.large", "UnsupportedOperation"),
        ("&SourceDestCheck.Value=false", "UnsupportedOperation"),
        (
            "&DisableApiTermination.Value=true&GroupId.1=sg-00000001",
            "InvalidParameterCombination",
        ),
        ("&GroupId.1=sg-00000001", "InvalidGroup.NotFound"),
    ] {
        assert_eq!(world.code(&format!("{modify}{more}")).await, code, "{more}");
    }
}

#[tokio::test]
async fn an_instance_changes_its_groups_while_it_lives() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    let made = world
        .ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d")
        .await;
    let group = one(&made, "groupId");
    world
        .ok(&format!(
            "Action=ModifyInstanceAttribute&InstanceId={id}&GroupId.1={group}"
        ))
        .await;
    let query = format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute=groupSet");
    assert_eq!(all(&world.ok(&query).await, "groupId"), [group]);
    let id: InstanceId = id.parse().unwrap();
    let row = world
        .clc
        .db
        .read(move |tx| clc::rows::instances::load(tx, &id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.generation, 2, "the metadata shows its groups");
}

#[tokio::test]
async fn a_reboot_is_counted_for_instances_that_run() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    let query = format!("Action=RebootInstances&InstanceId.1={id}");
    assert_eq!(world.code(&query).await, "IncorrectState");
    set_state(&world, &id, InstanceState::Running).await;
    assert!(world.ok(&query).await.contains("<return>true</return>"));
    world.ok(&query).await;
    let id: InstanceId = id.parse().unwrap();
    let row = world
        .clc
        .db
        .read(move |tx| clc::rows::instances::load(tx, &id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.reboots, row.generation), (2, 3));
}

#[tokio::test]
async fn status_shows_what_runs_and_on_request_all() {
    let world = World::new().await;
    let ids = world.launch(2, "").await;
    set_state(&world, &ids[0], InstanceState::Running).await;
    let running = world.ok("Action=DescribeInstanceStatus").await;
    assert_eq!(all(&running, "instanceId"), [ids[0].as_str()]);
    assert!(running.contains("<instanceStatus><status>ok</status><details><item><name>reachability</name><status>passed</status>"));
    let every = world
        .ok("Action=DescribeInstanceStatus&IncludeAllInstances=true")
        .await;
    assert_eq!(all(&every, "instanceId").len(), 2);

    let write = world.clc.db.write(move |tx| {
        clc::rows::instances::set_unreachable(
            tx,
            &"node-00000001".parse().unwrap(),
            Some(types::Timestamp(1)),
        )
    });
    write.await.unwrap();
    let impaired = world.ok("Action=DescribeInstanceStatus&Filter.1.Name=system-status.status&Filter.1.Value.1=impaired").await;
    assert_eq!(
        all(&impaired, "impairedSince"),
        ["1970-01-01T00:00:00.001Z"]
    );
}

#[tokio::test]
async fn the_console_is_what_the_node_has_and_nothing_if_it_has_none() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    let query = format!("Action=GetConsoleOutput&InstanceId={id}");
    assert_eq!(one(&world.ok(&query).await, "output"), "");
    *world.cluster.console.lock().unwrap() = Ok("login:".to_owned());
    let answer = world.ok(&query).await;
    assert_eq!(one(&answer, "output"), "bG9naW46");
    assert_eq!(one(&answer, "timestamp"), "2026-11-23T03:01:59.000Z");
    *world.cluster.console.lock().unwrap() = Err(control::Code::Unreachable);
    let refusal = world.refused(&query).await;
    assert_eq!((refusal.code, refusal.status), ("Unavailable", 503));
}

#[tokio::test]
async fn an_attribute_is_shown_alone() {
    let world = World::new().await;
    let id = world
        .launch(
            1,
            "&UserData=aGk%3D&InstanceInitiatedShutdownBehavior=terminate",
        )
        .await
        .remove(0);
    for (attribute, expected) in [
        (
            "instanceType",
            "<instanceType><value>m1.small</value></instanceType>",
        ),
        ("userData", "<userData><value>aGk=</value></userData>"),
        (
            "disableApiTermination",
            "<disableApiTermination><value>false</value></disableApiTermination>",
        ),
        (
            "disableApiStop",
            "<disableApiStop><value>false</value></disableApiStop>",
        ),
        (
            "instanceInitiatedShutdownBehavior",
            "<instanceInitiatedShutdownBehavior><value>terminate</value></instanceInitiatedShutdownBehavior>",
        ),
        ("blockDeviceMapping", "<blockDeviceMapping/>"),
        ("productCodes", "<productCodes/>"),
        ("kernel", "<kernel/>"),
        (
            "sourceDestCheck",
            "<sourceDestCheck><value>true</value></sourceDestCheck>",
        ),
    ] {
        let query =
            format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute={attribute}");
        let answer = world.ok(&query).await;
        assert!(
            answer.ends_with(&format!(
                "</instanceId>{expected}</DescribeInstanceAttributeResponse>"
            )),
            "{answer}"
        );
    }
    let odd = format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute=colour");
    assert_eq!(world.code(&odd).await, "InvalidParameterValue");
}

#[tokio::test]
async fn every_filter_finds_what_it_names() {
    let world = World::new().await;
    let image = world.image().await;
    let query = format!(
        "Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&ClientToken=mine\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Role&TagSpecification.1.Tag.1.Value=web"
    );
    let launched = world.ok(&query).await;
    let id = one(&launched, "instanceId");
    world
        .launch(1, "&InstanceType=c1.medium&AddressingType=private")
        .await;
    let private = all(&launched, "privateIpAddress")[0].clone();
    for (name, value) in [
        ("instance-id", id.clone()),
        ("image-id", image.to_string()),
        ("reservation-id", one(&launched, "reservationId")),
        ("instance-type", "m1.*".to_owned()),
        ("private-ip-address", private),
        ("ip-address", one(&launched, "ipAddress")),
        ("client-token", "mine".to_owned()),
        ("tag:Role", "w?b".to_owned()),
        ("tag-key", "Role".to_owned()),
        (
            "network-interface.addresses.association.public-ip",
            all(&launched, "publicIp").remove(0),
        ),
    ] {
        let query = format!(
            "Action=DescribeInstances&Filter.1.Name={name}&Filter.1.Value.1={}",
            enc(&value)
        );
        assert_eq!(
            all(&world.ok(&query).await, "instanceId"),
            [id.as_str()],
            "{name}"
        );
    }
    let none = world
        .ok("Action=DescribeInstances&Filter.1.Name=instance-state-name&Filter.1.Value.1=stopped")
        .await;
    assert!(none.contains("<reservationSet/>"));
}

#[tokio::test]
async fn interfaces_go_with_their_instance() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    let query = format!(
        "Action=DescribeNetworkInterfaces&Filter.1.Name=attachment.instance-id&Filter.1.Value.1={id}"
    );
    let listed = world.ok(&query).await;
    assert!(
        listed.contains("<status>in-use</status>")
            && listed.contains("<ipOwnerId>amazon</ipOwnerId>")
    );
    let group = all(&listed, "groupId").remove(0);
    let by_group =
        format!("Action=DescribeNetworkInterfaces&Filter.1.Name=group-id&Filter.1.Value.1={group}");
    assert_eq!(all(&world.ok(&by_group).await, "attachmentId").len(), 1);

    let instance: InstanceId = id.parse().unwrap();
    world
        .clc
        .db
        .write(move |tx| clc::rows::network::remove_interface_of(tx, &instance))
        .await
        .unwrap();
    set_state(&world, &id, InstanceState::Terminated).await;
    assert!(world.ok(&query).await.contains("<networkInterfaceSet/>"));
    let gone = world.ok("Action=DescribeInstances").await;
    assert!(gone.contains("<networkInterfaceSet/>") && !gone.contains("<privateIpAddress>"));
}

#[tokio::test]
async fn a_report_is_kept_whole() {
    let world = World::new().await;
    let id: InstanceId = world.launch(1, "").await.remove(0).parse().unwrap();
    let node = "node-00000001".parse().unwrap();
    let report = InstanceReport {
        stage: "waiting for the image".to_owned(),
        percent: Some(3),
        ..InstanceReport::new(id.clone(), node, 1, 1, Seen::Pending)
    };
    let (said, now) = (report.clone(), world.clc.now());
    let read = world.clc.db.write(move |tx| {
        clc::rows::instances::set_seen(tx, &id, &said, now)?;
        clc::rows::instances::seen(tx, &id)
    });
    assert_eq!(read.await.unwrap(), Some(report));

    // While it is pending, users read it: how far the image is, and how fast.
    let answer = world.ok("Action=DescribeInstances").await;
    let reason = "<stateReason><code>pending</code><message>pending: waiting for the image, 3 %</message></stateReason>";
    assert!(answer.contains(reason), "{answer}");
}

/// Its node reports a guest.
async fn report(world: &World, id: &str, seen: Seen, impaired: Option<types::StateReason>) {
    let (instance, node) = (id.parse().unwrap(), "node-00000001".parse().unwrap());
    let report = InstanceReport {
        impaired,
        ..InstanceReport::new(instance, node, 1, 1, seen)
    };
    let now = world.clc.now();
    let written = world
        .clc
        .db
        .write(move |tx| clc::rows::instances::set_seen(tx, &report.instance, &report, now));
    written.await.unwrap();
}

#[tokio::test]
async fn a_guest_that_stands_still_on_its_host_is_shown_as_impaired_until_it_goes_on() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    set_state(&world, &id, InstanceState::Running).await;
    let say = async |impaired| report(&world, &id, Seen::Running, impaired).await;
    let why = "Server.InternalError: paused: its disk is full";
    say(Some(types::StateReason::new("Server.InternalError", why))).await;
    let listed = world.ok("Action=DescribeInstances").await;
    assert!(
        listed.contains(&format!("<message>{why}</message>")),
        "{listed}"
    );
    assert_eq!(all(&listed, "name"), ["running"]);
    let filter = "Filter.1.Name=system-status.status&Filter.1.Value.1=impaired";
    let status = world
        .ok(&format!("Action=DescribeInstanceStatus&{filter}"))
        .await;
    assert_eq!(all(&status, "instanceId"), [id.as_str()]);
    assert_eq!(all(&status, "impairedSince").len(), 2, "{status}");

    say(None).await;
    assert!(!world.ok("Action=DescribeInstances").await.contains(why));
    let status = world.ok("Action=DescribeInstanceStatus").await;
    assert_eq!(all(&status, "status"), ["ok", "passed", "ok", "passed"]);

    // What ended is explained by its end.
    say(Some(types::StateReason::new("Server.InternalError", why))).await;
    set_state(&world, &id, InstanceState::Terminated).await;
    assert!(!world.ok("Action=DescribeInstances").await.contains(why));
}

/// What a listing of ten thousand costs on this machine, in the shape that it has without a release
/// build. The bench has the number; this holds that it does not grow with the square.
#[tokio::test]
async fn a_listing_of_thousands_is_one_pass() {
    let world = World::new().await;
    world.cluster.set_room(u64::MAX / 2);
    for _ in 0..3 {
        world.launch(1000, "&AddressingType=private").await;
    }
    let began = std::time::Instant::now();
    let answer = world.ok("Action=DescribeInstances").await;
    let took = began.elapsed();
    assert_eq!(all(&answer, "instanceState").len(), 3000);
    assert!(took.as_secs() < 10, "{took:?}");
}

#[tokio::test]
async fn one_that_goes_down_by_itself_is_wished_away_when_it_is_asked_to_end() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    set_state(&world, &id, InstanceState::ShuttingDown).await;
    for _ in 0..2 {
        let ended = world
            .ok(&format!("Action=TerminateInstances&InstanceId.1={id}"))
            .await;
        assert!(ended.contains("<name>shutting-down</name>"));
    }
    let parsed = id.parse().unwrap();
    let read = world
        .clc
        .db
        .read(move |tx| clc::rows::instances::load(tx, &parsed));
    let row = read.await.unwrap().unwrap();
    assert_eq!(row.wanted, control::node::Wanted::Terminated);
}

#[tokio::test]
async fn a_guest_that_its_node_cannot_have_run_again_is_shown_impaired_with_the_reason() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    set_state(&world, &id, InstanceState::Running).await;
    let why = "Server.InternalError: not running, its disks are kept: the disk is full";
    let impaired = types::StateReason::new("Server.InternalError", why);
    report(&world, &id, Seen::Pending, Some(impaired)).await;

    let shown = world.ok("Action=DescribeInstances").await;
    assert!(shown.contains("<name>running</name>"), "{shown}");
    let reason = format!("<code>Server.InternalError</code><message>{why}</message>");
    assert!(shown.contains(&reason), "{shown}");
    let status = world.ok("Action=DescribeInstanceStatus").await;
    assert!(
        status.contains("<instanceStatus><status>impaired</status>"),
        "{status}"
    );
}
