//! The short way from one desired state to the next. After a complete application the host is as
//! that said, so a document that only adds or removes guests needs no look at it: rulesets, a batch
//! for `ip`, dnsmasq's files. Pure; whatever else has changed is for a whole application.

use crate::{
    actual::NodeState,
    desired::{Desired, Segment, Uplink, VpcNetwork},
    plan,
};

/// What is to be done in one VPC.
#[derive(Debug, PartialEq, Eq)]
pub struct Amendment<'a> {
    /// The VPC as it is to be.
    pub vpc: &'a VpcNetwork,
    /// Whether its ruleset is another one.
    pub rules: bool,
    /// For `bridge`, in the node's namespace.
    pub bridge: Vec<String>,
    /// Inside its namespace.
    pub inside: plan::Inside,
}

/// What leads from `old`, which is so, to `new`. None: only a look can tell. The same version again
/// is somebody who wants that look.
pub fn between<'a>(old: &Desired, new: &'a Desired) -> Option<Vec<Amendment<'a>>> {
    let comparable = old.version != new.version
        && old.rules.is_some()
        && new.rules.is_some()
        && old.vpcs.len() == new.vpcs.len();
    let pairs = comparable.then(|| old.vpcs.iter().zip(&new.vpcs))?;
    pairs.map(|(old, new)| amendment(old, new)).collect()
}

fn amendment<'a>(old: &VpcNetwork, new: &'a VpcNetwork) -> Option<Amendment<'a>> {
    let left = NodeState {
        forwarding: plan::forwarding_left_by(old),
        ..NodeState::default()
    };
    (frame(old) == frame(new)).then(|| Amendment {
        vpc: new,
        rules: old.rules != new.rules,
        bridge: plan::forwarding(new, &left),
        inside: plan::inside(new, &plan::left_by(old)),
    })
}

/// A VPC without what comes and goes with guests.
fn frame(vpc: &VpcNetwork) -> VpcNetwork {
    let segments = vpc.segments.iter().map(|segment| Segment {
        flood: Default::default(),
        neighbours: Default::default(),
        ..segment.clone()
    });
    let uplink = vpc.uplink.as_ref().map(|uplink| Uplink {
        addresses: Default::default(),
        ..uplink.clone()
    });
    VpcNetwork {
        vpc: vpc.vpc.clone(),
        namespace: vpc.namespace.clone(),
        cidr: vpc.cidr,
        services: vpc.services.clone(),
        segments: segments.collect(),
        uplink,
        rules: String::new(),
        dhcp: Default::default(),
    }
}
