//! How often a guest may ask. A bucket for each: a guest that asks in a loop slows nobody else.

use std::{collections::HashMap, net::Ipv4Addr};

use types::VpcId;

/// A booting cloud-init walks the whole tree, about sixty requests, in a moment.
const BURST: f64 = 200.0;
/// After that; ten times what an agent that polls needs.
const PER_SECOND: f64 = 50.0;
/// More addresses than a node has guests. Beyond it the full buckets are forgotten.
const ADDRESSES_MAX: usize = 4096;

/// The buckets of all guests.
#[derive(Debug, Default)]
pub(super) struct Limit(HashMap<(VpcId, Ipv4Addr), Bucket>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    at_ms: u64,
}

impl Bucket {
    fn fill(&mut self, now_ms: u64) {
        let passed_s = now_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        self.left = (self.left + passed_s * PER_SECOND).min(BURST);
        self.at_ms = now_ms;
    }
}

impl Limit {
    /// Whether this guest may ask now. Counts it if so.
    pub(super) fn admit(&mut self, vpc: &VpcId, address: Ipv4Addr, now_ms: u64) -> bool {
        if self.0.len() >= ADDRESSES_MAX {
            self.forget_full(now_ms);
        }
        let full = || Bucket {
            left: BURST,
            at_ms: now_ms,
        };
        let bucket = self.0.entry((vpc.clone(), address)).or_insert_with(full);
        bucket.fill(now_ms);
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        }
        admitted
    }

    fn forget_full(&mut self, now_ms: u64) {
        self.0.retain(|_, bucket| {
            bucket.fill(now_ms);
            bucket.left < BURST
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_asks_in_a_loop_is_slowed_and_no_other() {
        let mut limit = Limit::default();
        let vpc: VpcId = "vpc-00000001".parse().unwrap();
        let (loud, quiet) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let admitted = (0..1000).filter(|_| limit.admit(&vpc, loud, 0)).count();
        assert_eq!(admitted, BURST as usize);
        assert!(limit.admit(&vpc, quiet, 0));
        assert!(limit.admit(&vpc, loud, 100), "and it recovers");
    }

    #[test]
    fn buckets_do_not_pile_up() {
        let mut limit = Limit::default();
        let vpc: VpcId = "vpc-00000001".parse().unwrap();
        for n in 0..3 * ADDRESSES_MAX as u32 {
            assert!(limit.admit(&vpc, Ipv4Addr::from(n), u64::from(n) * 1000));
        }
        assert!(limit.0.len() <= ADDRESSES_MAX);
    }
}
