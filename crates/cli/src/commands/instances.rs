//! `mallee instances`: those of all accounts.

use control::{
    Cloud,
    cloud::{Ask, InstanceStatus},
};

use crate::{
    Failure,
    admin::Admin,
    args,
    output::{Output, dash, table},
};

/// Prints the instances.
pub async fn run(admin: &args::Admin, output: Output) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let instances = admin
        .cloud
        .instances(&admin.call(), Ask {})
        .await?
        .instances;
    output.print(&instances, || match instances.as_slice() {
        [] => "no instances\n".into(),
        instances => text(instances),
    })
}

/// The instances as a table.
pub(crate) fn text(instances: &[InstanceStatus]) -> String {
    let rows: Vec<[String; 10]> = instances.iter().map(row).collect();
    table(
        [
            "INSTANCE", "ACCOUNT", "STATE", "TYPE", "ZONE", "NODE", "PRIVATE", "PUBLIC",
            "LAUNCHED", "REASON",
        ],
        &rows,
    )
}

fn row(instance: &InstanceStatus) -> [String; 10] {
    [
        instance.instance.to_string(),
        instance.account.to_string(),
        instance.state.as_str().to_owned(),
        instance.vm_type.clone(),
        instance.zone.to_string(),
        dash(instance.node.as_ref()),
        dash(Some(&instance.private_address)),
        dash(Some(&instance.public_address)),
        instance.launched_at.to_string(),
        instance
            .reason
            .as_ref()
            .map(|reason| reason.message.clone())
            .unwrap_or_default(),
    ]
}
