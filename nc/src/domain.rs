//! An instance as a libvirt domain: a typed model, and its XML as a pure function.
//!
//! The guest gets what it needs and nothing to attack: virtio disks and network, one serial
//! console, an entropy source. No USB, no graphics unless configured, no memory balloon, no sound.
//! Domains are transient: libvirt keeps no definition, so a domain that ended is gone.

mod xml;

use std::path::PathBuf;

use control::node::{InstanceSpec, InstanceWish, InterfaceSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::{InstanceId, MacAddr, Mib, NodeId, network::GUEST_MTU};

use crate::needs::BootDisks;

/// Marks a domain as ours in its metadata.
pub const XML_NAMESPACE: &str = "urn:mallee:domain:1";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The processor's own virtualisation.
    Kvm,
    /// QEMU's translation; works everywhere, some twenty times slower.
    Tcg,
}

impl Accel {
    /// `kvm` or `tcg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// How QEMU caches a disk on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// Not at all; what the guest flushed is on disk. Needs O_DIRECT.
    #[default]
    None,
    /// In the page cache; what the guest flushed is on disk.
    Writeback,
    /// In the page cache, flushes ignored: for throw-away test clouds.
    Unsafe,
}

impl CacheMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Writeback => "writeback",
            Self::Unsafe => "unsafe",
        }
    }
}

/// What is the same for all domains of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Which node.
    pub node: NodeId,
    /// What executes guests.
    pub accel: Accel,
    /// The QEMU binary.
    pub emulator: PathBuf,
    /// How disks are cached.
    pub cache: CacheMode,
    /// Whether each guest gets a VNC display on the host's loopback.
    pub vnc: bool,
}

/// The one network interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The guest's Ethernet address.
    pub mac: MacAddr,
    /// The bridge on the host.
    pub bridge: String,
    /// The tap on the host.
    pub tap: String,
    /// The largest frame, told to the guest by the device itself, whatever it thinks of DHCP.
    pub mtu: u16,
}

impl Nic {
    /// The interface as the network document names its parts.
    pub fn of(interface: &InterfaceSpec) -> Self {
        Self {
            mac: interface.mac,
            bridge: interface.subnet_short.name("mb"),
            tap: interface.short.name("mt"),
            mtu: GUEST_MTU,
        }
    }
}

/// A domain to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The domain's name.
    pub instance: InstanceId,
    /// The placement that it is started for.
    pub epoch: u64,
    /// The node's own part.
    pub host: Host,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mib,
    /// What it boots from.
    pub boot: BootDisks,
    /// Its network; none in tests of the hypervisor alone.
    pub nic: Option<Nic>,
    /// Where the serial console is logged.
    pub console_log: PathBuf,
}

impl Domain {
    /// The domain that a wish asks for.
    pub fn of(wish: &InstanceWish, boot: BootDisks, host: &Host, console_log: PathBuf) -> Self {
        let InstanceSpec {
            shape, interface, ..
        } = &wish.spec;
        Self {
            instance: wish.instance.clone(),
            epoch: wish.epoch,
            host: host.clone(),
            vcpus: shape.vcpus,
            memory: shape.memory_mib,
            boot,
            nic: Some(Nic::of(interface)),
            console_log,
        }
    }

    /// The domain's UUID, from the instance's id. cloud-init takes a machine for an EC2 instance
    /// if its SMBIOS UUID begins with `ec2` and equals its serial number.
    pub fn uuid(&self) -> String {
        let digest = hex::encode(Sha256::digest(self.instance.as_str()));
        format!(
            "ec2{}-{}-4{}-8{}-{}",
            &digest[3..8],
            &digest[8..12],
            &digest[13..16],
            &digest[17..20],
            &digest[20..32]
        )
    }

    /// The kernel's command line, where the kernel is not the disk's own.
    pub fn cmdline(&self) -> Option<String> {
        let kernel = self.boot.kernel.as_ref()?;
        // Under translation the TSC is emulated exactly and mitigations cost without protecting:
        // a third of a small guest's boot time (virtualisation lab, tiny image).
        let speed = match self.host.accel {
            Accel::Kvm => "",
            Accel::Tcg => " mitigations=off tsc=reliable no_timer_check",
        };
        Some(format!(
            "root=/dev/{} console=ttyS0{speed}",
            kernel.root_device
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fakes, needs::Kernel};

    fn host(accel: Accel) -> Host {
        Host {
            node: fakes::node_id(),
            accel,
            emulator: "/usr/bin/qemu-system-x86_64".into(),
            cache: CacheMode::None,
            vnc: false,
        }
    }

    fn domain(accel: Accel) -> Domain {
        let log = "/instances/i-00000001/console.log".into();
        Domain::of(&fakes::wish(1), fakes::boot_disks(), &host(accel), log)
    }

    #[test]
    fn the_domain_of_a_small_instance_under_tcg() {
        insta::assert_snapshot!(domain(Accel::Tcg).xml());
    }

    #[test]
    fn a_guest_under_kvm_has_the_hosts_processor_and_clock_sources() {
        insta::assert_snapshot!(domain(Accel::Kvm).xml());
    }

    #[test]
    fn a_guest_with_its_own_kernel_is_told_where_its_root_and_console_are() {
        let mut domain = domain(Accel::Tcg);
        domain.boot.kernel = Some(Kernel {
            kernel: "/cache/eki".into(),
            ramdisk: Some("/cache/eri".into()),
            root_device: "vda1".to_owned(),
        });
        insta::assert_snapshot!(domain.xml());
    }

    #[test]
    fn a_key_that_the_firmware_hands_over_is_a_credential_of_systemds() {
        let mut domain = domain(Accel::Tcg);
        assert!(!domain.xml().contains("oemStrings"));
        domain.boot.root_key = Some("ssh-ed25519 AAAA <me>\n".to_owned());
        let xml = domain.xml();
        let entry = "<entry>io.systemd.credential.binary:ssh.authorized_keys.root=\
                     c3NoLWVkMjU1MTkgQUFBQSA8bWU+Cg==</entry>";
        assert!(xml.contains(entry), "{xml}");
        assert!(xml.contains("<smbios mode=\"sysinfo\"/>"), "{xml}");
    }

    #[test]
    fn whatever_a_path_holds_it_stays_inside_its_attribute() {
        let mut domain = domain(Accel::Tcg);
        domain.console_log = "/a'/><evil a=\"&b".into();
        let xml = domain.xml();
        assert!(!xml.contains("<evil"), "{xml}");
        assert!(xml.contains("&amp;b"), "{xml}");
    }

    #[test]
    fn a_uuid_is_steady_valid_and_looks_like_ec2s() {
        let uuid = domain(Accel::Tcg).uuid();
        assert_eq!(uuid, domain(Accel::Kvm).uuid());
        assert!(uuid.starts_with("ec2"));
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        let other = Domain {
            instance: "i-00000002".parse().unwrap(),
            ..domain(Accel::Tcg)
        };
        assert_ne!(uuid, other.uuid());
    }

    #[test]
    fn names_of_disks_follow_their_order() {
        let mut domain = domain(Accel::Tcg);
        let disk = domain.boot.disks[0].clone();
        domain.boot.disks = vec![disk.clone(), disk.clone(), disk];
        let xml = domain.xml();
        for name in ["vda", "vdb", "vdc"] {
            assert!(xml.contains(&format!("dev=\"{name}\"")), "{xml}");
        }
    }
}
