//! `mallee status`: the cloud on one page.

use control::{
    Cloud,
    cloud::{Ask, CloudStatus, ServiceStatus},
};

use crate::{
    Failure,
    admin::Admin,
    args,
    commands::nodes,
    output::{Output, bytes, dash, table},
};

/// Prints the cloud at a glance.
pub async fn run(admin: &args::Admin, output: Output) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let status = admin.cloud.status(&admin.call(), Ask {}).await?;
    output.print(&status, || text(&status))
}

fn text(status: &CloudStatus) -> String {
    let services: Vec<[String; 6]> = status.services.iter().map(service).collect();
    let sections = [
        format!("region {}, version {}\n", status.region, status.version),
        table(
            ["DAEMON", "NAME", "ZONE", "ADDRESS", "STATE", "SEEN"],
            &services,
        ),
        nodes::text(&status.nodes),
        storage(status),
        counts(status),
    ];
    let sections: Vec<String> = sections
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    sections.join("\n")
}

fn service(service: &ServiceStatus) -> [String; 6] {
    [
        service.role.to_string(),
        service.name.clone(),
        dash(service.zone.as_ref()),
        dash(service.address),
        service.state.clone(),
        dash(service.seen_at),
    ]
}

fn storage(status: &CloudStatus) -> String {
    let mut rows: Vec<[String; 4]> = status
        .pools
        .iter()
        .map(|(zone, pool)| {
            let state = pool.not_ready.clone().unwrap_or_else(|| "ready".to_owned());
            let free = format!("{} of {}", bytes(pool.free_bytes), bytes(pool.total_bytes));
            [format!("volumes in {zone}"), pool.kind.clone(), free, state]
        })
        .collect();
    if let Some(objects) = &status.objects {
        let kind = format!("{} buckets, {} objects", objects.buckets, objects.objects);
        let room = format!(
            "{} beside {}",
            bytes(objects.free_bytes),
            bytes(objects.bytes)
        );
        rows.push(["objects".to_owned(), kind, room, "ready".to_owned()]);
    }
    table(["STORAGE", "KIND", "FREE", "STATE"], &rows)
}

fn counts(status: &CloudStatus) -> String {
    let states: Vec<String> = status
        .instances
        .iter()
        .map(|(state, count)| format!("{count} {}", state.as_str()))
        .collect();
    let states = if states.is_empty() {
        "none".to_owned()
    } else {
        states.join(", ")
    };
    let (taken, all) = status.addresses;
    format!("instances: {states}\npublic addresses: {taken} of {all} taken\n")
}

#[cfg(test)]
mod tests {
    use control::{Role, objects::ObjectsStatus};
    use types::InstanceState;

    use super::*;

    #[test]
    fn a_cloud_reads_as_a_page() {
        let status = CloudStatus {
            region: "mallee-1".into(),
            version: "0.1.0".into(),
            services: vec![ServiceStatus {
                role: Role::Walrus,
                name: "walrus".into(),
                zone: None,
                address: Some("127.0.0.1:8778".parse().unwrap()),
                state: "up".into(),
                seen_at: None,
            }],
            nodes: Vec::new(),
            objects: Some(ObjectsStatus {
                buckets: 1,
                objects: 12,
                bytes: 2048,
                free_bytes: 1 << 30,
                identity_revision: 3,
            }),
            pools: Vec::new(),
            instances: vec![(InstanceState::Running, 2)],
            addresses: (2, 90),
        };
        assert_eq!(
            text(&status),
            "region mallee-1, version 0.1.0\n\
             \n\
             DAEMON  NAME    ZONE  ADDRESS         STATE  SEEN\n\
             walrus  walrus  -     127.0.0.1:8778  up     -\n\
             \n\
             STORAGE  KIND                   FREE                     STATE\n\
             objects  1 buckets, 12 objects  1.0 GiB beside 2.0 KiB  ready\n\
             \n\
             instances: 2 running\npublic addresses: 2 of 90 taken\n"
                .replace(
                    "FREE                     STATE",
                    "FREE                    STATE"
                )
        );
    }
}
