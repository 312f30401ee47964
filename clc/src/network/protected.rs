//! What guests never reach: where nodes and the cloud's own daemons are. And what they may call
//! there all the same: the public API, which may share its host with all the rest.
//!
//! Guests need nothing else of them. Metadata, DHCP and DNS are answered in their VPC's namespace,
//! and the queries that its resolver forwards are the namespace's own, which nothing here touches.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use ipnet::Ipv4Net;
use store::{Error, Tx};

use crate::{
    config::Config,
    rows::{nodes, services},
};

/// The configured ranges, and every address of a node, of a daemon that joined and of ourselves.
/// Nodes of all zones, the dead ones too: a host that was given up may still run.
pub(super) fn protected(tx: &Tx, config: &Config) -> Result<Vec<Ipv4Net>, Error> {
    let nodes = nodes::list(tx)?;
    let services = services::list(tx)?;
    let underlays = nodes.iter().filter_map(|node| node.underlay);
    let controls = nodes.iter().map(|node| node.address.ip());
    let hosts: BTreeSet<Ipv4Addr> = controls
        .chain(services.iter().map(|service| service.address.ip()))
        .chain(own_addresses(config))
        .chain(objects_address(config))
        .filter_map(guests_could_reach)
        .chain(underlays)
        .collect();
    let mut all = config.network.protected.clone();
    all.extend(hosts.into_iter().map(Ipv4Net::from));
    Ok(all)
}

/// Where the public API is served on an address of ours, and where clients are told that it is.
pub(super) fn open(config: &Config) -> Vec<SocketAddrV4> {
    let port = config.api.listen.port();
    let listening = own_addresses(config).map(|address| (address, port));
    let told = config.public_end();
    let ends = listening.chain(told).filter_map(|(address, port)| {
        let address = guests_could_reach(address)?;
        Some(SocketAddrV4::new(address, port))
    });
    ends.collect::<BTreeSet<_>>().into_iter().collect()
}

fn own_addresses(config: &Config) -> impl Iterator<Item = IpAddr> {
    let control = config.advertised().map(|end| end.ip());
    [Some(config.api.listen.ip()), control]
        .into_iter()
        .flatten()
}

/// Where Walrus serves S3, which need not be where it joined from.
fn objects_address(config: &Config) -> Option<IpAddr> {
    let (_, authority) = config.s3_base().ok()?;
    authority.host().trim_matches(['[', ']']).parse().ok()
}

/// Guests speak IPv4, and a loopback or a wildcard is nobody's address on the network.
fn guests_could_reach(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(listen: &str, control: &str, url: &str) -> Vec<String> {
        let mut config = Config::default();
        config.api.listen = listen.parse().unwrap();
        config.api.public_url = url.to_owned();
        config.control.listen = control.parse().unwrap();
        open(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_public_api_is_open_and_nothing_beside_it() {
        for (listen, control, url, expected) in [
            ("10.0.0.5:8773", "10.0.0.5:8777", "", &["10.0.0.5:8773"][..]),
            ("0.0.0.0:8773", "10.0.0.5:8777", "", &["10.0.0.5:8773"]),
            (
                "0.0.0.0:8773",
                "10.0.0.5:8777",
                "https://198.51.100.9",
                &["10.0.0.5:8773", "198.51.100.9:443"],
            ),
            (
                "10.0.0.5:8773",
                "10.0.0.5:8777",
                "http://cloud.example:80/",
                &["10.0.0.5:8773"],
            ),
            ("127.0.0.1:8773", "127.0.0.1:8777", "", &[]),
        ] {
            assert_eq!(opened(listen, control, url), expected, "{listen} {url}");
        }
    }
}
