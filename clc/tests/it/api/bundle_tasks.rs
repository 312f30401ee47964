//! Bundle tasks: asked for with the client's own permission to store, told of by nodes, given up.

use base64::{Engine, engine::general_purpose::STANDARD};
use control::node::{BundleReport, BundleSeen};
use types::{BundleId, InstanceId, InstanceState};

use super::{World, all, enc, one, user};

/// As `euca-bundle-instance` makes it: base64 of JSON, signed by HMAC-SHA1 over the base64.
pub(super) fn policy(world: &World, prefix: &str) -> (String, String, String) {
    let document = format!(
        r#"{{"conditions": [{{"acl": "ec2-bundle-read"}}, {{"bucket": "images"}}, ["starts-with", "$key", "{prefix}"]], "expiration": "2027-01-01T00:00:00Z"}}"#
    );
    let policy = STANDARD.encode(document);
    let account = super::OURS.parse().unwrap();
    let key = world.clc.identity.of_account(&account).unwrap();
    let signature = sigv4::sign::v2_policy(&policy, key.secret.reveal());
    (key.id.to_string(), policy, signature)
}

pub(super) fn ask(
    instance: &str,
    prefix: &str,
    (key, policy, signature): (String, String, String),
) -> String {
    format!(
        "Action=BundleInstance&InstanceId={instance}&Storage.S3.Bucket=images&Storage.S3.Prefix={}\
         &Storage.S3.AWSAccessKeyId={key}&Storage.S3.UploadPolicy={}&Storage.S3.UploadPolicySignature={}",
        enc(prefix),
        enc(&policy),
        enc(&signature),
    )
}

pub(super) async fn running(world: &World) -> String {
    let instance = world.launch(1, "").await.remove(0);
    set_state(world, &instance, InstanceState::Running).await;
    instance
}

async fn set_state(world: &World, instance: &str, state: InstanceState) {
    let (id, now): (InstanceId, _) = (instance.parse().unwrap(), world.clc.now());
    let set = move |tx: &store::Tx| clc::rows::instances::set_state(tx, &id, state, None, now);
    world.clc.db.write(set).await.unwrap();
}

#[tokio::test]
async fn a_bundle_is_asked_for_listed_and_given_up() {
    let world = World::new().await;
    let instance = running(&world).await;
    let made = world
        .ok(&ask(&instance, "mine/web", policy(&world, "mine/")))
        .await;
    let task = one(&made, "bundleId");
    assert!(task.starts_with("bun-"));
    for (element, text) in [
        ("state", "pending"),
        ("progress", "0%"),
        ("bucket", "images"),
        ("prefix", "mine/web"),
        ("instanceId", &instance),
    ] {
        assert_eq!(one(&made, element), text, "{element}");
    }

    let busy = world
        .code(&ask(&instance, "mine/web", policy(&world, "mine/")))
        .await;
    assert_eq!(busy, "BundlingInProgress");
    let listed = world
        .ok("Action=DescribeBundleTasks&Filter.1.Name=state&Filter.1.Value.1=pending")
        .await;
    assert_eq!(all(&listed, "bundleId"), std::slice::from_ref(&task));
    let none = world
        .ok("Action=DescribeBundleTasks&Filter.1.Name=state&Filter.1.Value.1=failed")
        .await;
    assert!(none.contains("<bundleInstanceTasksSet/>"), "{none}");

    for _ in 0..2 {
        let given_up = world
            .ok(&format!("Action=CancelBundleTask&BundleId={task}"))
            .await;
        assert_eq!(one(&given_up, "state"), "cancelling");
    }
    let unknown = "Action=CancelBundleTask&BundleId=bun-00000001";
    assert_eq!(world.code(unknown).await, "InvalidBundleID.NotFound");
    let unknown = "Action=DescribeBundleTasks&BundleId.1=bun-00000001";
    assert_eq!(world.code(unknown).await, "InvalidBundleID.NotFound");
}

#[tokio::test]
async fn a_permission_that_is_none_of_the_callers_or_for_something_else_is_refused_with_nothing_done()
 {
    let world = World::new().await;
    let instance = running(&world).await;
    let good = policy(&world, "mine/");
    let (key, text, signature) = good.clone();
    let forged = format!("A{}", &signature[1..]);
    let other_key = "AKIAAAAAAAAAAAAAAAAA".to_owned();
    for (query, code) in [
        (
            ask(&instance, "mine/web", (key.clone(), text.clone(), forged)),
            "SignatureDoesNotMatch",
        ),
        (
            ask(&instance, "mine/web", (other_key, text, signature)),
            "SignatureDoesNotMatch",
        ),
        (
            ask(&instance, "yours/web", good.clone()),
            "InvalidParameterValue",
        ),
        (
            ask(&instance, "mine/", good.clone()),
            "InvalidParameterValue",
        ),
        (
            ask(&instance, "mine/../web\u{1}", good.clone()),
            "InvalidParameterValue",
        ),
        (
            ask("i-00000001", "mine/web", good.clone()),
            "InvalidInstanceID.NotFound",
        ),
    ] {
        assert_eq!(world.code(&query).await, code, "{query}");
    }
    let nobody = world
        .ask(&user(&[]), &ask(&instance, "mine/web", good.clone()))
        .await;
    assert_eq!(nobody.unwrap_err().code, "UnauthorizedOperation");
    let dry = format!("{}&DryRun=true", ask(&instance, "mine/web", good.clone()));
    assert_eq!(world.code(&dry).await, "DryRunOperation");
    set_state(&world, &instance, InstanceState::Terminated).await;
    assert_eq!(
        world.code(&ask(&instance, "mine/web", good)).await,
        "IncorrectState"
    );
    assert_eq!(world.count("bundle_tasks").await, 0);
}

#[tokio::test]
async fn a_task_of_ones_own_is_seen_and_no_one_elses() {
    let world = World::new().await;
    let instance = running(&world).await;
    let made = world
        .ok(&ask(&instance, "mine/web", policy(&world, "mine/")))
        .await;
    let task = one(&made, "bundleId");
    let other = super::root(super::THEIRS);
    let listed = world
        .ask(&other, "Action=DescribeBundleTasks")
        .await
        .unwrap();
    assert!(listed.contains("<bundleInstanceTasksSet/>"), "{listed}");
    let cancel = format!("Action=CancelBundleTask&BundleId={task}");
    assert_eq!(
        world.ask(&other, &cancel).await.unwrap_err().code,
        "InvalidBundleID.NotFound"
    );
}

#[tokio::test]
async fn what_its_node_says_is_shown_and_a_failure_says_why() {
    let world = World::new().await;
    let instance = running(&world).await;
    let made = world
        .ok(&ask(&instance, "mine/web", policy(&world, "mine/")))
        .await;
    let id: BundleId = one(&made, "bundleId").parse().unwrap();
    let wish_of = |id: InstanceId| async {
        world
            .clc
            .db
            .read(move |tx| clc::rows::bundle_tasks::wish_of(tx, &id))
            .await
            .unwrap()
    };
    assert_eq!(wish_of(instance.parse().unwrap()).await.unwrap().task, id);

    let error = types::StateReason::new(
        "Client.UploadFailed",
        "the store refuses part 0: 404 Not Found",
    );
    for (seen, percent, error) in [
        (BundleSeen::Bundling, 42, None),
        (BundleSeen::Failed, 0, Some(error)),
    ] {
        let (task, now) = (id.clone(), world.clc.now());
        let told = BundleReport {
            task,
            seen,
            percent,
            error,
        };
        let write = move |tx: &store::Tx| {
            let task = clc::rows::bundle_tasks::load(tx, &told.task)?.unwrap();
            clc::rows::bundle_tasks::set_seen(tx, task.state.on(&told), &told, now)
        };
        world.clc.db.write(write).await.unwrap();
        let shown = world
            .ok(&format!("Action=DescribeBundleTasks&BundleId.1={id}"))
            .await;
        assert_eq!(one(&shown, "progress"), format!("{percent}%"));
        if seen == BundleSeen::Failed {
            assert_eq!(
                (one(&shown, "state"), one(&shown, "code")),
                ("failed".to_owned(), "Client.UploadFailed".to_owned())
            );
        }
    }
    assert_eq!(wish_of(instance.parse().unwrap()).await, None);
    assert_eq!(
        world
            .code(&format!("Action=CancelBundleTask&BundleId={id}"))
            .await,
        "IncorrectState"
    );
}

#[tokio::test]
async fn a_task_whose_node_says_nothing_fails_and_the_node_is_told() {
    let world = World::new().await;
    let instance = running(&world).await;
    let made = world
        .ok(&ask(&instance, "mine/web", policy(&world, "mine/")))
        .await;
    let task = one(&made, "bundleId");
    let wished = async || {
        let id: InstanceId = instance.parse().unwrap();
        let load = move |tx: &store::Tx| clc::rows::instances::load(tx, &id);
        world.clc.db.read(load).await.unwrap().unwrap().generation
    };
    let before = wished().await;
    world.expire().await;
    assert_eq!(wished().await, before);

    world.clock.jump(25 * 60 * 60 * 1000 + 1);
    world.expire().await;
    let shown = world
        .ok(&format!("Action=DescribeBundleTasks&BundleId.1={task}"))
        .await;
    assert_eq!(one(&shown, "state"), "failed");
    assert_eq!(wished().await, before + 1, "a wish without the task");
}
