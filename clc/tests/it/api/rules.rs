//! What holds for every action: policies, dry runs, filters, pages, ids.

use super::{World, all, enc, one, user};

const ALLOW_ALL: &str =
    r#"{"Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}"#;

#[tokio::test]
async fn a_user_may_do_what_a_policy_allows_and_nothing_else() {
    let world = World::new().await;
    let describe = "Action=DescribeInstances";
    let nobody = world.ask(&user(&[]), describe).await.unwrap_err();
    assert_eq!((nobody.code, nobody.status), ("UnauthorizedOperation", 403));
    assert!(world.ask(&user(&[ALLOW_ALL]), describe).await.is_ok());
    let reads =
        r#"{"Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]}"#;
    assert!(world.ask(&user(&[reads]), describe).await.is_ok());
    let creates = world
        .ask(&user(&[reads]), "Action=CreateKeyPair&KeyName=k")
        .await;
    assert_eq!(creates.unwrap_err().code, "UnauthorizedOperation");
    assert_eq!(world.count("key_pairs").await, 0);
}

#[tokio::test]
async fn a_policy_decides_about_a_thing_however_it_is_named() {
    let world = World::new().await;
    let made = world
        .ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d")
        .await;
    let id = one(&made, "groupId");
    let deny = format!(
        r#"{{"Statement": [{{"Effect": "Deny", "Action": "*", "Resource": "arn:aws:ec2:*:*:security-group/{id}"}}]}}"#
    );
    let ann = user(&[ALLOW_ALL, &deny]);
    for query in [
        format!("Action=DeleteSecurityGroup&GroupId={id}"),
        "Action=DeleteSecurityGroup&GroupName=web".to_owned(),
        "Action=AuthorizeSecurityGroupIngress&GroupName=web&IpProtocol=tcp&FromPort=22&ToPort=22&CidrIp=0.0.0.0/0".to_owned(),
    ] {
        assert_eq!(world.ask(&ann, &query).await.unwrap_err().code, "UnauthorizedOperation", "{query}");
    }
    let image = world.image().await;
    let launch =
        format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&SecurityGroup.1=web");
    assert_eq!(
        world.ask(&ann, &launch).await.unwrap_err().code,
        "UnauthorizedOperation"
    );
    assert_eq!(world.cluster.held(), 0);
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_does_nothing() {
    let world = World::new().await;
    let image = world.image().await;
    for (query, table) in [
        (
            "Action=CreateKeyPair&KeyName=k&DryRun=true".to_owned(),
            "key_pairs",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=1&DryRun=TRUE".to_owned(),
            "volumes",
        ),
        (
            format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&DryRun=true"),
            "instances",
        ),
    ] {
        let refusal = world.refused(&query).await;
        assert_eq!(
            (refusal.code, refusal.status),
            ("DryRunOperation", 412),
            "{query}"
        );
        assert_eq!(
            refusal.message,
            "Request would have succeeded, but DryRun flag is set."
        );
        assert_eq!(world.count(table).await, 0, "{query}");
        let forbidden = world.ask(&user(&[]), &query).await.unwrap_err();
        assert_eq!(forbidden.code, "UnauthorizedOperation", "{query}");
    }
    assert_eq!(world.cluster.held(), 0);
    assert_eq!(
        world.code("Action=DescribeInstances&DryRun=true").await,
        "DryRunOperation"
    );
    assert_eq!(
        world
            .code("Action=DeleteVolume&VolumeId=vol-00000001&DryRun=true")
            .await,
        "InvalidVolume.NotFound"
    );
    assert_eq!(
        world.code("Action=DescribeInstances&DryRun=maybe").await,
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn pages_together_are_the_whole_list_in_its_order() {
    let world = World::new().await;
    world.cluster.set_room(100);
    let mut launched = world.launch(4, "&AddressingType=private").await;
    world.clock.jump(1000);
    launched.extend(world.launch(9, "&AddressingType=private").await);
    for list in [
        "DescribeInstances",
        "DescribeInstanceStatus&IncludeAllInstances=true",
    ] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let query = format!("Action={list}&MaxResults=5&NextToken={}", enc(&token));
            let page = world.ok(&query).await;
            let ids = all(&page, "instanceId");
            assert!(ids.len() <= 5);
            seen.extend(ids);
            match all(&page, "nextToken").pop() {
                Some(next) => token = next,
                None => break,
            }
        }
        seen.sort();
        let mut all_of_them = launched.clone();
        all_of_them.sort();
        assert_eq!(seen, all_of_them, "{list}");
    }
    let both = format!(
        "Action=DescribeInstances&MaxResults=5&InstanceId.1={}",
        launched[0]
    );
    assert_eq!(world.code(&both).await, "InvalidParameterCombination");
    assert_eq!(
        world.code("Action=DescribeInstances&MaxResults=4").await,
        "InvalidParameterValue"
    );
    assert_eq!(
        world.code("Action=DescribeInstances&NextToken=x").await,
        "InvalidNextToken"
    );
}

#[tokio::test]
async fn one_bad_id_refuses_the_whole_request_before_any_effect() {
    let world = World::new().await;
    let ids = world.launch(2, "").await;
    let missing = "i-0123456789abcdef0";
    let query = |action: &str, bad: &str| {
        format!(
            "Action={action}&InstanceId.1={}&InstanceId.2={bad}&InstanceId.3={}",
            ids[0], ids[1]
        )
    };
    for action in [
        "DescribeInstances",
        "DescribeInstanceStatus",
        "TerminateInstances",
        "RebootInstances",
    ] {
        assert_eq!(
            world.code(&query(action, missing)).await,
            "InvalidInstanceID.NotFound",
            "{action}"
        );
        assert_eq!(
            world.code(&query(action, "i-1")).await,
            "InvalidInstanceID.Malformed",
            "{action}"
        );
    }
    let states = all(&world.ok("Action=DescribeInstances&Filter.1.Name=instance-state-name&Filter.1.Value.1=pending").await, "instanceId");
    assert_eq!(states.len(), 2);
    assert_eq!(
        world.code("Action=TerminateInstances").await,
        "MissingParameter"
    );
    assert_eq!(
        world.code("Action=RebootInstances&InstanceId.1=").await,
        "MissingParameter"
    );
}

#[tokio::test]
async fn nobody_sees_or_touches_what_another_account_has() {
    let world = World::new().await;
    let instance = world.launch(1, "").await.remove(0);
    let volume = one(
        &world
            .ok("Action=CreateVolume&AvailabilityZone=mallee-1a&Size=1")
            .await,
        "volumeId",
    );
    let group = one(
        &world
            .ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d")
            .await,
        "groupId",
    );
    let image = world.image().await;
    let theirs = super::root(super::THEIRS);
    for (query, code) in [
        (
            format!("Action=DescribeInstances&InstanceId.1={instance}"),
            "InvalidInstanceID.NotFound",
        ),
        (
            format!("Action=TerminateInstances&InstanceId.1={instance}"),
            "InvalidInstanceID.NotFound",
        ),
        (
            format!("Action=GetConsoleOutput&InstanceId={instance}"),
            "InvalidInstanceID.NotFound",
        ),
        (
            format!("Action=DescribeInstanceAttribute&InstanceId={instance}&Attribute=userData"),
            "InvalidInstanceID.NotFound",
        ),
        (
            format!("Action=DeleteVolume&VolumeId={volume}"),
            "InvalidVolume.NotFound",
        ),
        (
            format!("Action=DeleteSecurityGroup&GroupId={group}"),
            "InvalidGroup.NotFound",
        ),
        (
            format!("Action=DescribeSecurityGroups&GroupId.1={group}"),
            "InvalidGroup.NotFound",
        ),
        (
            format!("Action=DeregisterImage&ImageId={image}"),
            "InvalidAMIID.NotFound",
        ),
        (
            format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1"),
            "InvalidAMIID.NotFound",
        ),
        (
            format!("Action=CreateTags&ResourceId.1={instance}&Tag.1.Key=k"),
            "InvalidInstanceID.NotFound",
        ),
    ] {
        assert_eq!(
            world.ask(&theirs, &query).await.unwrap_err().code,
            code,
            "{query}"
        );
    }
    for list in [
        "DescribeInstances",
        "DescribeVolumeStatus",
        "DescribeVolumes",
        "DescribeImages",
        "DescribeNetworkInterfaces",
        "DescribeTags",
    ] {
        let answer = world.ask(&theirs, &format!("Action={list}")).await.unwrap();
        assert!(!answer.contains("<item>"), "{list}: {answer}");
    }
}
