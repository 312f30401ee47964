//! Who a certificate speaks for.

use std::{fmt, str::FromStr};

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Under which our names live; never asked of any DNS server.
pub const DOMAIN: &str = "mallee.internal";
/// A DNS label's limit (RFC 1035), since names become labels.
const LABEL_BYTES_MAX: usize = 63;
/// Stands for "no zone" in the URI, where an empty part would be easy to overlook.
const NO_ZONE: &str = "-";

/// What a daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Cloud Controller.
    Clc,
    /// Cluster Controller.
    Cc,
    /// Node Controller.
    Nc,
    /// Storage Controller.
    Sc,
    /// Walrus, the object store.
    Walrus,
    /// The administrator's command, `mallee`.
    Admin,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Clc,
        Self::Cc,
        Self::Nc,
        Self::Sc,
        Self::Walrus,
        Self::Admin,
    ];

    /// The word in certificates, configuration and tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clc => "clc",
            Self::Cc => "cc",
            Self::Nc => "nc",
            Self::Sc => "sc",
            Self::Walrus => "walrus",
            Self::Admin => "admin",
        }
    }

    /// Clusters, nodes and storage belong to a zone; the others serve the whole cloud.
    pub fn has_zone(self) -> bool {
        match self {
            Self::Cc | Self::Nc | Self::Sc => true,
            Self::Clc | Self::Walrus | Self::Admin => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownPeer;
    fn from_str(text: &str) -> Result<Self, UnknownPeer> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| {
                UnknownPeer(format!(
                    "{text:?} is no role (clc, cc, nc, sc, walrus, admin)"
                ))
            })
    }
}

/// A certificate or name that speaks for nobody in a cloud.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown peer: {0}")]
pub struct UnknownPeer(pub String);

/// One daemon, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// What it is.
    pub role: Role,
    /// Which one: unique among its role, a DNS label.
    pub name: String,
    /// The zone it serves, for roles that have one.
    pub zone: Option<String>,
}

impl Peer {
    /// A peer whose parts are checked: the name and zone are DNS labels, and a zone is given
    /// exactly to the roles that have one.
    pub fn new(role: Role, name: &str, zone: Option<&str>) -> Result<Self, UnknownPeer> {
        if !is_label(name) {
            return Err(UnknownPeer(format!(
                "{name:?} is no daemon name: lower-case letters, digits and dashes, at most 63"
            )));
        }
        match zone {
            Some(zone) if !is_label(zone) => Err(UnknownPeer(format!("{zone:?} is no zone name"))),
            Some(zone) if !role.has_zone() => Err(UnknownPeer(format!(
                "a {role} belongs to no zone, {zone:?} was given"
            ))),
            None if role.has_zone() => Err(UnknownPeer(format!("a {role} belongs to a zone"))),
            zone => Ok(Self {
                role,
                name: name.to_owned(),
                zone: zone.map(str::to_owned),
            }),
        }
    }

    /// `mallee://ROLE/NAME/ZONE`.
    pub fn uri(&self) -> String {
        let zone = self.zone.as_deref().unwrap_or(NO_ZONE);
        format!("mallee://{}/{}/{zone}", self.role, self.name)
    }

    /// The DNS names that clients verify: of the role, and of this very daemon.
    pub fn dns_names(&self) -> [String; 2] {
        [
            Self::role_name(self.role),
            Self::own_name(self.role, &self.name),
        ]
    }

    /// The name that any daemon of the role proves, `walrus.mallee.internal`.
    pub fn role_name(role: Role) -> String {
        format!("{role}.{DOMAIN}")
    }

    /// The name that only this daemon proves, `node-1.nc.mallee.internal`.
    pub fn own_name(role: Role, name: &str) -> String {
        format!("{name}.{role}.{DOMAIN}")
    }

    /// Reads who a (verified!) certificate speaks for. Exactly one `mallee://` name must be in it.
    pub fn of_certificate(der: &CertificateDer<'_>) -> Result<Self, UnknownPeer> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| UnknownPeer(format!("unreadable certificate: {error}")))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| UnknownPeer(format!("unreadable names: {error}")))?
            .ok_or_else(|| UnknownPeer("a certificate without names".to_owned()))?;
        let mut ours = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("mallee://") => Some(*uri),
                _ => None,
            });
        match (ours.next(), ours.next()) {
            (Some(uri), None) => uri.parse(),
            (None, _) => Err(UnknownPeer(
                "a certificate without a mallee:// name".to_owned(),
            )),
            (Some(_), Some(_)) => Err(UnknownPeer(
                "a certificate with two mallee:// names".to_owned(),
            )),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

impl FromStr for Peer {
    type Err = UnknownPeer;
    fn from_str(uri: &str) -> Result<Self, UnknownPeer> {
        let odd = || UnknownPeer(format!("{uri:?} is not mallee://ROLE/NAME/ZONE"));
        let rest = uri.strip_prefix("mallee://").ok_or_else(odd)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [role, name, zone] = parts[..] else {
            return Err(odd());
        };
        let zone = (zone != NO_ZONE).then_some(zone);
        Self::new(role.parse()?, name, zone)
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_reads_back_from_its_uri() {
        for peer in [
            Peer::new(Role::Clc, "main", None).unwrap(),
            Peer::new(Role::Nc, "node-1", Some("mallee-1a")).unwrap(),
        ] {
            assert_eq!(peer.uri().parse::<Peer>().unwrap(), peer);
        }
    }

    #[test]
    fn a_zone_is_given_exactly_to_roles_that_have_one() {
        assert!(Peer::new(Role::Nc, "n", None).is_err());
        assert!(Peer::new(Role::Clc, "n", Some("mallee-1a")).is_err());
    }

    #[test]
    fn names_that_could_break_out_of_a_label_are_refused() {
        for name in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "a b",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(Peer::new(Role::Walrus, name, None).is_err(), "{name:?}");
        }
        for uri in [
            "",
            "mallee://nc/a",
            "mallee://nc/a/b/c",
            "spiffe://nc/a/b",
            "mallee://root/a/-",
        ] {
            assert!(uri.parse::<Peer>().is_err(), "{uri:?}");
        }
    }
}
