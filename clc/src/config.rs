//! The file `clc.toml`. `mallee-clc --check` prints it merged with the defaults.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use daemon::{
    config::{Admin, Log, Settings, default_state_dir},
    public::certificate::{Tls, own_names},
};
use http::uri::{Authority, Scheme, Uri};
use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use types::Region;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where database, certificates and keys are.
    pub state_dir: PathBuf,
    /// The listener for operators.
    pub admin: Admin,
    /// What is logged.
    pub log: Log,
    /// The public API.
    pub api: Api,
    /// https at the public API.
    pub tls: Tls,
    /// The listener for the cloud's own daemons.
    pub control: Control,
    /// Walrus's S3 listener.
    pub s3: S3,
    /// Addresses.
    pub network: Network,
    /// Machine images, kernels and ramdisks.
    pub images: Images,
    /// Times after which something is done.
    pub limits: Limits,
}

/// The section `[api]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Where EC2, IAM, STS and S3 are served.
    pub listen: SocketAddr,
    /// How clients reach that, for DescribeRegions and the like; empty: made from `listen`.
    pub public_url: String,
    /// Whether signatures of versions 1 and 2 are accepted on EC2, IAM and STS: old tools make them.
    /// For S3 it is Walrus's `s3.signature_v2`.
    pub signature_v2: bool,
}

/// The section `[control]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Where the other daemons and the administrator's command call us.
    pub listen: SocketAddr,
    /// How they reach that, for join tokens; must be given if `listen` is a wildcard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<SocketAddr>,
}

/// The section `[s3]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Walrus's S3 listener, as we and the nodes reach it: `http://HOST:PORT`, or https where it
    /// shows a certificate of the cloud's authority.
    pub url: String,
}

/// The section `[network]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The network that public addresses lie in; none: instances have private addresses only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_cidr: Option<Ipv4Net>,
    /// Its router, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_gateway: Option<Ipv4Addr>,
    /// The addresses that we may give: single ones and ranges, `10.0.0.10-10.0.0.99`.
    pub public_addresses: Vec<AddressRange>,
    /// More networks that no guest may reach. Nodes and daemons that joined are kept from them anyway.
    pub protected: Vec<Ipv4Net>,
    /// The address space of an account's default VPC, as in EC2.
    pub default_vpc: Ipv4Net,
    /// The domain of private names; empty: `REGION.internal`.
    pub domain: String,
}

/// The section `[images]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// Whether all accounts may register kernels and ramdisks, and not the administrators' alone.
    pub users_may_register_kernels: bool,
}

/// The section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long a terminated instance is still shown: an hour, as in EC2, so that waiters see it.
    pub terminated_shown_s: u64,
    /// How long a launch may show no progress before it is given up.
    pub pending_s: u64,
    /// How long the making or removing of a volume may take before it is in error.
    pub volume_s: u64,
    /// How long the copying of an image may be tried before it has failed.
    pub image_copy_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: default_state_dir("clc"),
            admin: Admin::on_port(8781),
            log: Log::default(),
            api: Api::default(),
            tls: Tls::default(),
            control: Control::default(),
            s3: S3::default(),
            network: Network::default(),
            images: Images::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: any(8773),
            public_url: String::new(),
            signature_v2: true,
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: any(8777),
            advertise: None,
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8779".to_owned(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            public_cidr: None,
            public_gateway: None,
            public_addresses: Vec::new(),
            protected: Vec::new(),
            default_vpc: Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 0, 0), 16),
            domain: String::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            terminated_shown_s: 3600,
            pending_s: 1800,
            volume_s: 1800,
            image_copy_s: 1800,
        }
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

impl Settings for Config {
    const NAME: &'static str = "clc";

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
        self.network.check()?;
        self.tls.check()?;
        self.s3_base().map(drop)
    }
}

impl Config {
    /// The URL that clients use, without a slash at its end.
    pub fn public_url(&self) -> String {
        match self.api.public_url.trim_end_matches('/') {
            "" if self.tls.http => format!("http://{}", self.api.listen),
            "" => format!("https://{}", self.api.listen),
            url => url.to_owned(),
        }
    }

    /// Address and port of the URL that clients use, where it names an address.
    pub fn public_end(&self) -> Option<(IpAddr, u16)> {
        let url: http::Uri = self.public_url().parse().ok()?;
        let host = url.host()?.trim_matches(['[', ']']);
        let usual = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        Some((host.parse().ok()?, url.port_u16().unwrap_or(usual)))
    }

    /// Where others reach our control listener, if the configuration says so.
    pub fn advertised(&self) -> Option<SocketAddr> {
        let listen = self.control.listen;
        self.control
            .advertise
            .or_else(|| (!listen.ip().is_unspecified()).then_some(listen))
    }

    /// The domain of private names.
    pub fn domain(&self, region: &Region) -> String {
        match self.network.domain.as_str() {
            "" => format!("{region}.internal"),
            domain => domain.to_owned(),
        }
    }

    /// The names by which clients may know us, for the certificate at the public port.
    pub fn public_names(&self) -> Vec<String> {
        let mut names = own_names(self.api.listen);
        let url: Option<Uri> = self.public_url().parse().ok();
        names.extend(url.and_then(|url| url.host().map(str::to_owned)));
        names
    }

    /// How Walrus's S3 listener is reached: scheme, and `HOST:PORT`.
    pub fn s3_base(&self) -> Result<(Scheme, Authority), String> {
        let no_url = || format!("s3.url: {:?} is not http://HOST:PORT", self.s3.url);
        let url: Uri = self.s3.url.parse().map_err(|_| no_url())?;
        let parts = url.into_parts();
        let is_bare = parts.path_and_query.is_none_or(|path| path == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority))
                if is_bare && [Scheme::HTTP, Scheme::HTTPS].contains(&scheme) =>
            {
                Ok((scheme, authority))
            }
            _ => Err(no_url()),
        }
    }
}

impl Network {
    fn check(&self) -> Result<(), String> {
        if self.default_vpc.prefix_len() > 24 || self.default_vpc.prefix_len() < 8 {
            return Err(
                "network.default_vpc: a prefix of 8 to 24 leaves room for subnets".to_owned(),
            );
        }
        if self.public_addresses.is_empty() {
            return Ok(());
        }
        let cidr = self
            .public_cidr
            .ok_or("network.public_cidr: must be given with network.public_addresses")?;
        let inside = |address: &Ipv4Addr| {
            cidr.contains(address) && *address != cidr.network() && *address != cidr.broadcast()
        };
        for range in &self.public_addresses {
            if !inside(range.0.start()) || !inside(range.0.end()) {
                return Err(format!(
                    "network.public_addresses: {range} is not within {cidr}"
                ));
            }
            if self
                .public_gateway
                .is_some_and(|gateway| range.0.contains(&gateway))
            {
                return Err(format!(
                    "network.public_addresses: {range} has the gateway in it"
                ));
            }
        }
        Ok(())
    }

    /// The addresses that may be given, in order.
    pub fn pool(&self) -> impl Iterator<Item = Ipv4Addr> {
        let numbers =
            |range: &AddressRange| u32::from(*range.0.start())..=u32::from(*range.0.end());
        self.public_addresses
            .iter()
            .flat_map(numbers)
            .map(Ipv4Addr::from)
    }
}

/// One address, or a range with both ends in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRange(pub RangeInclusive<Ipv4Addr>);

impl FromStr for AddressRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let odd = || format!("{text:?} is no address and no range FIRST-LAST");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let parse = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| odd());
        let range = parse(first)?..=parse(last)?;
        if range.is_empty() {
            Err(odd())
        } else {
            Ok(Self(range))
        }
    }
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl Serialize for AddressRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddressRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(cidr: Option<&str>, ranges: &[&str]) -> Network {
        Network {
            public_cidr: cidr.map(|cidr| cidr.parse().unwrap()),
            public_addresses: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            public_gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
            ..Network::default()
        }
    }

    #[test]
    fn the_pool_lists_single_addresses_and_ranges() {
        let pool: Vec<String> = network(Some("10.0.0.0/24"), &["10.0.0.9", "10.0.0.20-10.0.0.22"])
            .pool()
            .map(|address| address.to_string())
            .collect();
        assert_eq!(pool, ["10.0.0.9", "10.0.0.20", "10.0.0.21", "10.0.0.22"]);
    }

    #[test]
    fn a_pool_outside_its_network_or_with_its_gateway_is_refused() {
        assert!(
            network(Some("10.0.0.0/24"), &["10.0.0.2-10.0.0.254"])
                .check()
                .is_ok()
        );
        for (cidr, range) in [
            (None, "10.0.0.9"),
            (Some("10.0.0.0/24"), "10.0.1.9"),
            (Some("10.0.0.0/24"), "10.0.0.1-10.0.0.9"),
            (Some("10.0.0.0/24"), "10.0.0.200-10.0.0.255"),
        ] {
            assert!(network(cidr, &[range]).check().is_err(), "{cidr:?} {range}");
        }
        for text in ["", "10.0.0.9-", "10.0.0.9-10.0.0.1", "10.0.0.300", "a-b"] {
            assert!(text.parse::<AddressRange>().is_err(), "{text:?}");
        }
    }
}
