//! Arithmetic of shapes: what instances take, what nodes have.

use control::node::Shape;
use types::{Gib, Mib};

/// Both together; the largest number where they overflow, which fits nowhere.
pub fn plus(a: Shape, b: Shape) -> Shape {
    Shape {
        vcpus: a.vcpus.saturating_add(b.vcpus),
        memory_mib: Mib(a.memory_mib.0.saturating_add(b.memory_mib.0)),
        disk_gib: Gib(a.disk_gib.0.saturating_add(b.disk_gib.0)),
    }
}

/// What is left of `a` without `b`; nothing where `b` is more.
pub fn less(a: Shape, b: Shape) -> Shape {
    Shape {
        vcpus: a.vcpus.saturating_sub(b.vcpus),
        memory_mib: Mib(a.memory_mib.0.saturating_sub(b.memory_mib.0)),
        disk_gib: Gib(a.disk_gib.0.saturating_sub(b.disk_gib.0)),
    }
}

/// All of them together.
pub fn sum(shapes: impl IntoIterator<Item = Shape>) -> Shape {
    shapes.into_iter().fold(Shape::default(), plus)
}

/// What `free` lacks to hold `ask`, in words; nothing if it fits.
pub fn lacks(ask: Shape, free: Shape) -> Option<String> {
    let mut lacking = Vec::new();
    if ask.vcpus > free.vcpus {
        lacking.push(format!("{} vCPUs asked, {} free", ask.vcpus, free.vcpus));
    }
    if ask.memory_mib > free.memory_mib {
        lacking.push(format!(
            "{} asked, {} free",
            ask.memory_mib, free.memory_mib
        ));
    }
    if ask.disk_gib > free.disk_gib {
        lacking.push(format!(
            "{} of disk asked, {} free",
            ask.disk_gib, free.disk_gib
        ));
    }
    (!lacking.is_empty()).then(|| lacking.join(", "))
}
