//! Instance types: a name and a shape. The table is Eucalyptus 4.4's, by which its users' scripts
//! live; the names are AWS's first generations.

use serde::{Deserialize, Serialize};

use crate::{Gib, Mib};

/// A name and what an instance of it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmType {
    /// `m1.small`.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    #[serde(rename = "memory_mib")]
    pub memory: Mib,
    /// All local disk in GiB: root, and the rest as ephemeral0.
    #[serde(rename = "disk_gib")]
    pub disk: Gib,
    /// Network interfaces at most.
    pub network_interfaces: u32,
}

/// The types that a new cloud has, smallest first: name, vcpus, MiB, GiB, interfaces.
pub const DEFAULT_VM_TYPES: [(&str, u32, u32, u32, u32); 18] = [
    ("t1.micro", 1, 256, 5, 2),
    ("m1.small", 1, 256, 5, 2),
    ("m1.medium", 1, 512, 10, 2),
    ("c1.medium", 2, 512, 10, 2),
    ("m1.large", 2, 512, 10, 4),
    ("m1.xlarge", 2, 1024, 10, 4),
    ("c1.xlarge", 2, 2048, 10, 4),
    ("m2.xlarge", 2, 2048, 10, 4),
    ("m3.xlarge", 4, 2048, 15, 4),
    ("m2.2xlarge", 2, 4096, 30, 4),
    ("m3.2xlarge", 4, 4096, 30, 4),
    ("cc1.4xlarge", 8, 3072, 60, 8),
    ("m2.4xlarge", 8, 4096, 60, 8),
    ("hi1.4xlarge", 8, 6144, 120, 8),
    ("cc2.8xlarge", 16, 6144, 120, 8),
    ("cg1.4xlarge", 16, 12288, 200, 8),
    ("cr1.8xlarge", 16, 16384, 240, 8),
    ("hs1.8xlarge", 48, 119_808, 24000, 8),
];

impl VmType {
    /// The types that a new cloud has, smallest first.
    pub fn defaults() -> Vec<Self> {
        DEFAULT_VM_TYPES
            .iter()
            .map(|&(name, vcpus, memory, disk, network_interfaces)| Self {
                name: name.to_owned(),
                vcpus,
                memory: Mib(memory),
                disk: Gib(disk),
                network_interfaces,
            })
            .collect()
    }
}

/// The type of a launch that names none, as in EC2 and Eucalyptus.
pub const DEFAULT_VM_TYPE: &str = "m1.small";
