//! Sees guests get their addresses, for the timeline of a launch. Only a sign of life: nothing
//! depends on it.

use std::{collections::HashSet, fs, net::Ipv4Addr, sync::Arc, time::Duration};

use daemon::{BoxError, Context};
use types::{InstanceId, MacAddr};

use super::{Network, Place};
use crate::{
    residents::Residents,
    signs::{Sign, Signs},
};

/// How often the lease files are looked at: a fifth of a second is fine enough for people.
const PERIOD: Duration = Duration::from_millis(200);

/// Watches until the daemon stops.
pub(super) fn watch(network: Arc<Network>, context: &Context, residents: Residents, signs: Signs) {
    let (cancel, clock) = (context.cancel.clone(), context.clock.clone());
    context.spawn("watch_leases", async move {
        let mut told = HashSet::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok::<(), BoxError>(()),
                () = clock.sleep(PERIOD) => look(&network, &residents, &signs, &mut told),
            }
        }
    });
}

fn look(network: &Network, residents: &Residents, signs: &Signs, told: &mut HashSet<InstanceId>) {
    told.retain(|instance| residents.get(instance).is_some());
    if told.len() == residents.all().len() {
        return;
    }
    for place in network.places.borrow().iter() {
        for instance in leased(network, place, residents) {
            if told.insert(instance.clone()) {
                signs.saw(&instance, Sign::Dhcp);
            }
        }
    }
}

fn leased(network: &Network, place: &Place, residents: &Residents) -> Vec<InstanceId> {
    let path = net::dhcp::paths(&network.node, &place.namespace).leases;
    let text = fs::read_to_string(path).unwrap_or_default();
    let found = leases(&text).filter_map(|(mac, address)| {
        let wish = residents.at(&place.vpc, address)?;
        (wish.spec.interface.mac == mac).then(|| wish.instance.clone())
    });
    found.collect()
}

/// A line is `expiry mac address name client-id`.
fn leases(text: &str) -> impl Iterator<Item = (MacAddr, Ipv4Addr)> {
    text.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_and_anything_else_is_passed_over() {
        let text = "0 d0:0d:00:00:00:01 172.31.0.10 ip-172-31-0-10 *\nduid 00:01\n\n";
        let expected = (
            MacAddr([0xd0, 0x0d, 0, 0, 0, 1]),
            Ipv4Addr::new(172, 31, 0, 10),
        );
        assert_eq!(leases(text).collect::<Vec<_>>(), [expected]);
    }
}
