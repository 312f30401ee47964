//! `mallee nodes`: who there is to run instances, and what is left of them; `mallee node`: one of
//! them.

use control::{
    Cloud,
    cloud::{Ask, DeadAsk},
    cluster::{NodeStatus, Reach},
};

use crate::{
    Failure,
    admin::Admin,
    args,
    output::{Output, dash, table},
};

/// Prints the nodes.
pub async fn run(admin: &args::Admin, output: Output) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let nodes = admin.cloud.status(&admin.call(), Ask {}).await?.nodes;
    output.print(&nodes, || match nodes.as_slice() {
        [] => "no node has joined yet: `mallee-clc token --role nc --zone ZONE` makes a token\n"
            .into(),
        nodes => text(nodes),
    })
}

/// Declares a node dead, or takes that back.
pub async fn change(admin: &args::Admin, output: Output, ask: args::Node) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let args::Node::Dead { node, undo } = ask;
    let ask = DeadAsk {
        node: node.clone(),
        dead: !undo,
    };
    let done = admin.cloud.declare_dead(&admin.call(), ask).await?;
    let word = if undo { "alive" } else { "dead" };
    output.print(&done, || format!("{node} is declared {word}\n"))
}

/// The nodes as a table.
pub(crate) fn text(nodes: &[NodeStatus]) -> String {
    let rows: Vec<[String; 9]> = nodes.iter().map(row).collect();
    table(
        [
            "NODE",
            "HOST",
            "REACH",
            "VCPUS",
            "MEMORY MiB",
            "DISK GiB",
            "NETWORK",
            "HYPERVISOR",
            "WHY",
        ],
        &rows,
    )
}

fn row(node: &NodeStatus) -> [String; 9] {
    let report = node.report.as_ref();
    let taken = |taken: u32, of: fn(&control::node::Shape) -> u32| {
        dash(report.map(|report| format!("{taken}/{}", of(&report.capacity))))
    };
    let not_ready = report.and_then(|report| report.not_ready.clone());
    let why = not_ready.or(report.and_then(network_failure));
    [
        node.node.to_string(),
        dash(report.map(|report| &report.hostname)),
        reach(node.reach).to_owned(),
        taken(node.committed.vcpus, |shape| shape.vcpus),
        taken(node.committed.memory_mib.0, |shape| shape.memory_mib.0),
        taken(node.committed.disk_gib.0, |shape| shape.disk_gib.0),
        dash(report.map(|report| report.network_version)),
        dash(report.map(|report| &report.hypervisor)),
        why.unwrap_or_else(|| node.why.clone()),
    ]
}

/// The first VPC that could not be made as the network document says: its guests wait.
fn network_failure(report: &control::node::NodeReport) -> Option<String> {
    let failure = report.network_failures.first()?;
    let whose = failure.vpc.as_ref().map_or("the node", |vpc| vpc.as_str());
    let more = match report.network_failures.len() {
        1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    Some(format!("network of {whose}: {}{more}", failure.why))
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Unknown => "unknown",
        Reach::Up => "up",
        Reach::Unreachable => "unreachable",
        Reach::Dead => "dead",
    }
}
