//! The configuration of a Node Controller, `/etc/mallee/nc.toml`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use daemon::config::{self, Admin, Log, Settings};
use serde::{Deserialize, Serialize};

use crate::{
    bandwidth::MIB_PER_S_MIN,
    disk::inject::InjectKeys,
    domain::{Accel, CacheMode},
};

/// Where the plain HTTP listener is by default.
const ADMIN_PORT: u16 = 8785;
/// Where control calls are taken by default.
const CONTROL_PORT: u16 = 8775;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where durable state is: certificates, instances, and the cache unless it is elsewhere.
    pub state_dir: PathBuf,
    /// Health, readiness and metrics.
    pub admin: Admin,
    /// What is logged.
    pub log: Log,
    /// Where the Cluster Controller reaches us.
    pub control: Control,
    /// How guests are run.
    pub hypervisor: Hypervisor,
    /// This node's part in the network.
    pub network: Network,
    /// Where images and disks are.
    pub storage: Storage,
    /// What instances may take from this host.
    pub capacity: Capacity,
    /// How long things may take.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: config::default_state_dir(Self::NAME),
            admin: Admin::on_port(ADMIN_PORT),
            log: Log::default(),
            control: Control::default(),
            hypervisor: Hypervisor::default(),
            network: Network::default(),
            storage: Storage::default(),
            capacity: Capacity::default(),
            limits: Limits::default(),
        }
    }
}

impl Settings for Config {
    const NAME: &'static str = "nc";

    fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn admin(&self) -> &Admin {
        &self.admin
    }

    fn log(&self) -> &Log {
        &self.log
    }

    fn check(&self) -> Result<(), String> {
        if self.capacity.cpu_overcommit < 1.0 || self.capacity.cpu_overcommit > OVERCOMMIT_MAX {
            return Err(format!(
                "capacity.cpu_overcommit must be 1 to {OVERCOMMIT_MAX}"
            ));
        }
        if self
            .network
            .images_mib_per_s
            .is_some_and(|mib| (1..MIB_PER_S_MIN).contains(&mib))
        {
            return Err(format!(
                "network.images_mib_per_s must be 0, for no limit, or {MIB_PER_S_MIN} at least"
            ));
        }
        Ok(())
    }
}

/// Beyond this a guest would wait for the processor for seconds.
const OVERCOMMIT_MAX: f64 = 64.0;

/// Where control calls are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, CONTROL_PORT)),
        }
    }
}

/// Which accelerator guests are run with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM where `/dev/kvm` and the processor's flag are both there, else TCG.
    #[default]
    Auto,
    /// KVM, or nothing starts.
    Kvm,
    /// TCG.
    Tcg,
}

impl Accelerator {
    /// What it comes to on a host with or without KVM.
    pub const fn choose(self, host_has_kvm: bool) -> Accel {
        match (self, host_has_kvm) {
            (Self::Kvm, _) | (Self::Auto, true) => Accel::Kvm,
            (Self::Tcg, _) | (Self::Auto, false) => Accel::Tcg,
        }
    }
}

/// How guests are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hypervisor {
    /// libvirt's URI.
    pub uri: String,
    /// `auto`, `kvm` or `tcg`.
    pub accelerator: Accelerator,
    /// The QEMU binary.
    pub emulator: PathBuf,
    /// How disks are cached on the host: `none`, `writeback`, `unsafe`.
    pub cache: CacheMode,
    /// Gives each guest a VNC display on the host's loopback.
    pub vnc: bool,
}

impl Default for Hypervisor {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            accelerator: Accelerator::Auto,
            emulator: PathBuf::from("/usr/bin/qemu-system-x86_64"),
            cache: CacheMode::None,
            vnc: false,
        }
    }
}

/// This node's part in the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The address that other nodes send guests' frames to; none takes that of `control.listen`.
    pub underlay: Option<Ipv4Addr>,
    /// The bridge that public addresses are reached through; empty means no public addresses.
    pub public_bridge: String,
    /// Begins the name of each VPC's namespace; must differ between two nodes on one machine.
    pub namespace_prefix: String,
    /// Resolvers for names outside the cloud; empty takes the host's.
    pub forwarders: Vec<Ipv4Addr>,
    /// How many connections each guest may have open, and as many again that others opened to it.
    pub connections_max: u32,
    /// How much of the network images may take each way, in MiB in a second, from Walrus and other
    /// nodes and to them: 0 is all of it, else 4 at least. None is four fifths of the link's speed
    /// where the kernel knows it.
    pub images_mib_per_s: Option<u32>,
    /// Where the files of each VPC's dnsmasq are.
    pub run_dir: PathBuf,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            underlay: None,
            public_bridge: String::new(),
            namespace_prefix: "mallee".to_owned(),
            forwarders: Vec::new(),
            connections_max: net::config::CONNECTIONS_MAX,
            images_mib_per_s: None,
            run_dir: PathBuf::from("/run/mallee/nc"),
        }
    }
}

/// Where images and disks are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Instances' disks; none is `instances` in the state folder.
    pub instances: Option<PathBuf>,
    /// The image cache, which nodes may share; none is `cache` in the state folder.
    pub cache: Option<PathBuf>,
    /// How much the cache may take in GiB; 0 is a fifth of its filesystem.
    pub cache_gib: u32,
    /// Whether instances' keys are put into their disks: `auto` where the image has no client of
    /// the metadata service, `always`, `never`.
    pub inject_keys: InjectKeys,
}

/// What instances may take from this host. 0 is whatever is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capacity {
    /// Virtual processors in all; 0 is the host's times `cpu_overcommit`.
    pub vcpus: u32,
    /// Memory in MiB; 0 is the host's less what the host itself needs.
    pub memory_mib: u32,
    /// Disk in GiB; 0 is what the filesystem has free.
    pub disk_gib: u32,
    /// Virtual processors for each of the host's.
    pub cpu_overcommit: f64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            vcpus: 0,
            memory_mib: 0,
            disk_gib: 0,
            cpu_overcommit: 4.0,
        }
    }
}

/// How long things may take, in seconds; and how much room there must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// An image that is not here after an hour is not coming. Who has run before waits on.
    pub disks_s: u64,
    /// The network document is compiled in seconds; ten minutes outlast a restart of all above us.
    pub network_s: u64,
    /// A guest that has not shut down by then is ended. Its disks are wiped anyway.
    pub shutdown_grace_s: u64,
    /// A guest that has not rebooted by then is reset. EC2 gives it four minutes.
    pub reboot_grace_s: u64,
    /// Between two attempts at something that failed; before the second attempt to have a guest run
    /// again, and longer before later ones.
    pub retry_s: u64,
    /// Between two attempts to resume a guest that stands still since its disk could not be written:
    /// each that is in vain costs a call to libvirt, and one write that fails.
    pub resume_s: u64,
    /// How much must be free before it is resumed: enough for all guests to write at full speed until
    /// the next look, so that they do not stop again at once. More than its file system ever has free
    /// leaves them standing.
    pub resume_free_mib: u64,
    /// How long a terminated instance is still reported, for a controller that was away.
    pub remember_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            disks_s: 3600,
            network_s: 600,
            shutdown_grace_s: 10,
            reboot_grace_s: 60,
            retry_s: 3,
            resume_s: 10,
            resume_free_mib: 1024,
            remember_s: 3600,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_taken_only_where_it_is_or_where_it_is_asked_for() {
        assert_eq!(Accelerator::Auto.choose(true), Accel::Kvm);
        assert_eq!(Accelerator::Auto.choose(false), Accel::Tcg);
        assert_eq!(Accelerator::Tcg.choose(true), Accel::Tcg);
        assert_eq!(Accelerator::Kvm.choose(false), Accel::Kvm);
    }

    #[test]
    fn the_defaults_are_a_configuration_that_passes_its_own_check() {
        assert_eq!(Config::default().check(), Ok(()));
        let text = daemon::config::show(&Config::default());
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn a_limit_that_no_image_would_come_under_is_refused_by_name() {
        let mut config = Config::default();
        for (mib, is_good) in [
            (0, true),
            (1, false),
            (3, false),
            (4, true),
            (u32::MAX, true),
        ] {
            config.network.images_mib_per_s = Some(mib);
            let checked = config.check();
            assert_eq!(checked.is_ok(), is_good, "{mib}: {checked:?}");
            assert!(
                checked
                    .err()
                    .is_none_or(|why| why.contains("images_mib_per_s"))
            );
        }
    }

    #[test]
    fn an_absurd_overcommit_is_refused_by_name() {
        let mut config = Config::default();
        config.capacity.cpu_overcommit = 0.5;
        assert!(config.check().unwrap_err().contains("cpu_overcommit"));
    }
}
