//! How far the newest document is in place, VPC by VPC: one that cannot be made so keeps its own
//! guests waiting, and nobody else's.

use std::collections::BTreeMap;

use control::node::NetworkFailure;
use net::Applied;
use types::VpcId;

/// What is in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InPlace {
    /// The newest version that was gone through; 0 for none.
    pub version: u64,
    /// Why the node's own rules are not known to stand, if so: no guest may start.
    pub node: Option<String>,
    /// The VPCs that are not as that version says, and why.
    pub failed: BTreeMap<VpcId, String>,
}

impl InPlace {
    /// All of that version.
    pub fn at(version: u64) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    /// What is in place after an application.
    pub fn after(&self, applied: &Applied) -> Self {
        let mut next = Self::at(applied.version);
        for failure in &applied.failures {
            let why = failure.why.clone();
            match &failure.vpc {
                Some(vpc) => drop(next.failed.entry(vpc.clone()).or_insert(why)),
                // No VPC was touched.
                None => {
                    return Self {
                        node: Some(why),
                        ..self.clone()
                    };
                }
            }
        }
        next
    }

    /// Whether a guest of that VPC which needs that version may start.
    pub fn serves(&self, vpc: &VpcId, version: u64) -> bool {
        self.version >= version && self.hindrance(vpc).is_none()
    }

    /// What keeps guests of that VPC from starting, whatever version they need.
    pub fn hindrance(&self, vpc: &VpcId) -> Option<&String> {
        self.failed.get(vpc).or(self.node.as_ref())
    }

    /// What failed, as it is reported.
    pub fn failures(&self) -> Vec<NetworkFailure> {
        let node = self.node.iter().map(|why| NetworkFailure {
            vpc: None,
            why: why.clone(),
        });
        let vpcs = self.failed.iter().map(|(vpc, why)| NetworkFailure {
            vpc: Some(vpc.clone()),
            why: why.clone(),
        });
        node.chain(vpcs).collect()
    }
}

#[cfg(test)]
mod tests {
    use net::apply::Failure;

    use super::*;

    fn vpc(n: u32) -> VpcId {
        format!("vpc-{n:08x}").parse().unwrap()
    }

    fn applied(version: u64, failed: Option<Option<VpcId>>) -> Applied {
        let why = "no such device".to_owned();
        Applied {
            version,
            failures: failed
                .into_iter()
                .map(|vpc| Failure {
                    vpc,
                    why: why.clone(),
                })
                .collect(),
            ..Applied::default()
        }
    }

    #[test]
    fn a_vpc_that_fails_is_not_served_and_the_others_are() {
        let now = InPlace::at(6).after(&applied(7, Some(Some(vpc(1)))));
        assert!(now.serves(&vpc(2), 7) && !now.serves(&vpc(2), 8));
        assert!(!now.serves(&vpc(1), 6), "what is there of it is not known");
        assert_eq!(now.failures()[0].vpc, Some(vpc(1)));
        assert_eq!(now.after(&applied(7, None)), InPlace::at(7));
    }

    #[test]
    fn rules_of_the_node_that_fail_leave_the_version_where_it_was_and_serve_nobody() {
        let now = InPlace::at(6).after(&applied(7, Some(None)));
        assert_eq!(now.version, 6);
        assert!(!now.serves(&vpc(1), 6));
        assert_eq!(now.failures()[0].vpc, None);
    }
}
