//! How many instances of each type would fit, by what the clusters last said of their nodes. For
//! people to look at; whether a launch fits is the hold's to say.

use control::{
    cluster::{NodeStatus, Reach},
    node::Shape,
};
use types::{VmType, Zone};

use crate::Clc;

/// The room for one type in one zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// More would fit now.
    pub free: u64,
    /// Would fit if there were no others.
    pub max: u64,
}

/// The room for a type in a zone.
pub fn room(clc: &Clc, zone: &Zone, vm_type: &VmType) -> Room {
    let nodes = clc.seen.cluster(zone).nodes;
    let takes = Shape {
        vcpus: vm_type.vcpus,
        memory_mib: vm_type.memory,
        disk_gib: vm_type.disk,
    };
    nodes.values().fold(Room::default(), |room, node| {
        let here = on_node(node, takes);
        Room {
            free: room.free + here.free,
            max: room.max + here.max,
        }
    })
}

fn on_node(node: &NodeStatus, takes: Shape) -> Room {
    let Some(report) = node.report.as_ref().filter(|_| node.reach == Reach::Up) else {
        return Room::default();
    };
    let (all, used) = (report.capacity, node.committed);
    let left = Shape {
        vcpus: all.vcpus.saturating_sub(used.vcpus),
        memory_mib: types::Mib(all.memory_mib.0.saturating_sub(used.memory_mib.0)),
        disk_gib: types::Gib(all.disk_gib.0.saturating_sub(used.disk_gib.0)),
    };
    let free = if report.not_ready.is_some() {
        0
    } else {
        fits(left, takes)
    };
    Room {
        free,
        max: fits(all, takes),
    }
}

fn fits(room: Shape, takes: Shape) -> u64 {
    let times = |room: u32, takes: u32| room.checked_div(takes).unwrap_or(u32::MAX);
    let least = times(room.vcpus, takes.vcpus)
        .min(times(room.memory_mib.0, takes.memory_mib.0))
        .min(times(room.disk_gib.0, takes.disk_gib.0));
    u64::from(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(vcpus: u32, memory: u32, disk: u32) -> Shape {
        Shape {
            vcpus,
            memory_mib: types::Mib(memory),
            disk_gib: types::Gib(disk),
        }
    }

    #[test]
    fn what_is_scarcest_decides() {
        assert_eq!(fits(shape(8, 1024, 100), shape(1, 256, 5)), 4);
        assert_eq!(fits(shape(2, 1024, 100), shape(1, 256, 5)), 2);
        assert_eq!(fits(shape(8, 1024, 4), shape(1, 256, 5)), 0);
    }
}
