//! Who lives on this node: the newest wish of each instance that is not terminated, for those who
//! serve them (metadata by address, image tickets). Written by the keepers only.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, RwLock},
};

use control::node::InstanceWish;
use types::{InstanceId, VpcId};

/// The instances of the node. Cheap to clone; all clones are one list.
#[derive(Debug, Clone, Default)]
pub struct Residents(Arc<RwLock<HashMap<InstanceId, Arc<InstanceWish>>>>);

impl Residents {
    /// The instance with that private address in that VPC. Anti-spoofing makes the two an identity.
    pub fn at(&self, vpc: &VpcId, address: Ipv4Addr) -> Option<Arc<InstanceWish>> {
        let is_there = |wish: &&Arc<InstanceWish>| {
            let interface = &wish.spec.interface;
            interface.vpc == *vpc && interface.private_address == address
        };
        self.read().values().find(is_there).cloned()
    }

    /// The wish of that instance.
    pub fn get(&self, instance: &InstanceId) -> Option<Arc<InstanceWish>> {
        self.read().get(instance).cloned()
    }

    /// All wishes, in no order.
    pub fn all(&self) -> Vec<Arc<InstanceWish>> {
        self.read().values().cloned().collect()
    }

    /// An instance came, or its wish changed.
    pub fn put(&self, wish: Arc<InstanceWish>) {
        self.write().insert(wish.instance.clone(), wish);
    }

    /// An instance is gone.
    pub fn remove(&self, instance: &InstanceId) {
        self.write().remove(instance);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<InstanceId, Arc<InstanceWish>>> {
        self.0
            .read()
            .expect("no one panics while holding this lock")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<InstanceId, Arc<InstanceWish>>> {
        self.0
            .write()
            .expect("no one panics while holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::wish;

    #[test]
    fn an_instance_is_found_by_its_vpc_and_address_together_until_it_is_gone() {
        let residents = Residents::default();
        let wish = Arc::new(wish(1));
        let interface = wish.spec.interface.clone();
        residents.put(wish.clone());

        assert_eq!(
            residents.at(&interface.vpc, interface.private_address),
            Some(wish.clone())
        );
        let other_vpc = "vpc-00000000".parse().unwrap();
        assert_eq!(residents.at(&other_vpc, interface.private_address), None);
        residents.remove(&wish.instance);
        assert_eq!(
            residents.at(&interface.vpc, interface.private_address),
            None
        );
    }
}
