//! What only this node knows of the network. All else is in the document.

use std::{net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};
use types::NodeId;

/// The longest namespace prefix: namespaces are files, and a name should be readable.
const PREFIX_MAX: usize = 32;
/// [`NodeNetwork::connections_max`] unless it is set: a thirty-second of the table of connections that
/// Linux makes on a machine of more than 4 GiB (262,144). The kernel walks a guest's list where it
/// refuses, up to once a tick, so that more costs more than it spares: a packet beyond 8,192 was seen to
/// cost three times one that passes, a packet beyond 16,384 ten times.
pub const CONNECTIONS_MAX: u32 = 8192;
/// The longest interface name that Linux takes.
const INTERFACE_NAME_MAX: usize = 15;

/// This node's own part in the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNetwork {
    /// Which of the document's nodes this is.
    pub node: NodeId,
    /// The address that peers send vxlan to.
    pub underlay: Ipv4Addr,
    /// Begins the name of each VPC namespace. Namespaces are named machine-wide, so it must differ
    /// between two nodes on one machine.
    pub namespace_prefix: String,
    /// The bridge that public addresses are reached through; none means no public addresses.
    pub public_bridge: Option<String>,
    /// Resolvers that names outside the cloud are asked of.
    pub forwarders: Vec<Ipv4Addr>,
    /// How many connections a guest may have open, and as many again that others opened to it.
    pub connections_max: u32,
    /// Where each VPC's dnsmasq has its files. They matter only as long as the guests run, and
    /// dnsmasq reads them without privileges: a folder below `/run` that all may enter.
    pub run_dir: PathBuf,
}

/// A setting that cannot name what it is to name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// The prefix is used in file names and matched by its end.
    #[error("the namespace prefix is 1 to 32 lower-case letters, digits and dashes, not {0:?}")]
    NamespacePrefix(String),
    /// No interface can have this name.
    #[error("{0:?} cannot be the name of a bridge")]
    PublicBridge(String),
    /// Nobody could reach anything.
    #[error("the connections of a guest cannot be limited to none")]
    Connections,
    /// dnsmasq's configuration has no way to quote it.
    #[error("the run folder must be an absolute path of printable ASCII without spaces: {0:?}")]
    RunDir(PathBuf),
}

impl NodeNetwork {
    /// Says what is wrong with the settings, if anything is.
    pub fn check(&self) -> Result<(), BadSetting> {
        if !is_prefix(&self.namespace_prefix) {
            return Err(BadSetting::NamespacePrefix(self.namespace_prefix.clone()));
        }
        if let Some(bridge) = self
            .public_bridge
            .as_ref()
            .filter(|b| !is_interface_name(b))
        {
            return Err(BadSetting::PublicBridge(bridge.clone()));
        }
        if self.connections_max == 0 {
            return Err(BadSetting::Connections);
        }
        match self.run_dir.to_str() {
            Some(path) if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(())
            }
            _ => Err(BadSetting::RunDir(self.run_dir.clone())),
        }
    }
}

fn is_prefix(text: &str) -> bool {
    (1..=PREFIX_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

fn is_interface_name(text: &str) -> bool {
    (1..=INTERFACE_NAME_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text != "."
        && text != ".."
        && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> NodeNetwork {
        NodeNetwork {
            node: "node-0123456789abcdef0".parse().unwrap(),
            underlay: Ipv4Addr::new(10, 0, 0, 1),
            namespace_prefix: "mallee".to_owned(),
            public_bridge: Some("pub".to_owned()),
            forwarders: Vec::new(),
            connections_max: CONNECTIONS_MAX,
            run_dir: "/run/mallee/net".into(),
        }
    }

    #[test]
    fn settings_that_could_leave_their_place_are_refused() {
        assert_eq!(settings().check(), Ok(()));
        for prefix in ["", "-a", "a/b", "A", "a b", "..", &"a".repeat(33)] {
            let bad = NodeNetwork {
                namespace_prefix: prefix.to_owned(),
                ..settings()
            };
            assert!(bad.check().is_err(), "{prefix:?}");
        }
        for bridge in ["", "a b", "br/0", "-x", &"b".repeat(16)] {
            let bad = NodeNetwork {
                public_bridge: Some(bridge.to_owned()),
                ..settings()
            };
            assert!(bad.check().is_err(), "{bridge:?}");
        }
        for dir in ["run", "/run/a b", "/run/a\nserver=1.2.3.4"] {
            let bad = NodeNetwork {
                run_dir: dir.into(),
                ..settings()
            };
            assert!(bad.check().is_err(), "{dir:?}");
        }
    }
}
