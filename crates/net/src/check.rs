//! What is unsound in a document, found before it can break a ruleset for everyone.
//!
//! The CLC makes documents that pass. Should it ever not, the part that cannot be is left out and
//! named, and the rest is applied: one bad line must not take a node's network down.

use std::collections::BTreeSet;

use types::{
    VpcId,
    network::{Interface, NetworkDocument, Subnet, Vpc},
};

/// The largest vxlan network identifier.
const VNI_MAX: u32 = (1 << 24) - 1;
/// The longest DNS label, and the longest name we let a domain have.
const LABEL_MAX: usize = 63;
const DOMAIN_MAX: usize = 190;
/// The domain of private names when the document's is no domain.
const DOMAIN_FALLBACK: &str = "internal";

/// Something in the document that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In which VPC.
    pub vpc: VpcId,
    /// A sentence.
    pub what: String,
}

/// What must be unique among all VPCs of a document.
#[derive(Default)]
struct Taken {
    vpcs: BTreeSet<u32>,
    bridges: BTreeSet<u32>,
    zones: BTreeSet<u16>,
    vnis: BTreeSet<u32>,
    taps: BTreeSet<u32>,
    public: BTreeSet<std::net::Ipv4Addr>,
}

/// The document without what cannot be, and the list of that.
pub fn sound(document: &NetworkDocument) -> (NetworkDocument, Vec<Problem>) {
    let mut taken = Taken::default();
    let mut problems = Vec::new();
    let mut sound = document.clone();
    sound.vpcs.retain_mut(|vpc| {
        let id = vpc.id.clone();
        let mut report = |what: String| {
            problems.push(Problem {
                vpc: id.clone(),
                what,
            })
        };
        if !taken.vpcs.insert(vpc.short.0) {
            report(format!("its short id {:x} is another VPC's", vpc.short.0));
            return false;
        }
        tidy(vpc, &mut taken, &mut report);
        true
    });
    (sound, problems)
}

fn tidy(vpc: &mut Vpc, taken: &mut Taken, report: &mut impl FnMut(String)) {
    if !is_domain(&vpc.domain) {
        report(format!("{:?} is no domain", vpc.domain));
        vpc.domain = DOMAIN_FALLBACK.to_owned();
    }
    vpc.subnets
        .retain(|subnet| keep(subnet_fault(subnet, taken), subnet.id.as_str(), report));

    let Vpc {
        subnets,
        interfaces,
        ..
    } = vpc;
    let mut seen = SeenInVpc::default();
    interfaces.retain_mut(|interface| {
        tidy_name(interface, report);
        tidy_public(interface, taken, report);
        let fault = interface_fault(interface, subnets, taken, &mut seen);
        keep(fault, interface.id.as_str(), report)
    });
}

fn keep(fault: Option<&str>, id: &str, report: &mut impl FnMut(String)) -> bool {
    if let Some(fault) = fault {
        report(format!("{id}: {fault}"));
    }
    fault.is_none()
}

fn subnet_fault(subnet: &Subnet, taken: &mut Taken) -> Option<&'static str> {
    if !subnet.cidr.contains(&subnet.gateway) {
        return Some("the gateway is not in the subnet");
    }
    if subnet.vni == 0 || subnet.vni > VNI_MAX {
        return Some("the vxlan identifier is not 1 to 2^24 - 1");
    }
    if !taken.bridges.insert(subnet.short.0) {
        return Some("its short id is another subnet's");
    }
    if !taken.zones.insert(zone(subnet)) {
        return Some("the low 16 bits of its short id are another subnet's");
    }
    if !taken.vnis.insert(subnet.vni) {
        return Some("its vxlan identifier is another subnet's");
    }
    None
}

/// The conntrack zone of a subnet.
pub fn zone(subnet: &Subnet) -> u16 {
    (subnet.short.0 & 0xffff) as u16
}

#[derive(Default)]
struct SeenInVpc {
    addresses: BTreeSet<std::net::Ipv4Addr>,
    macs: BTreeSet<types::MacAddr>,
}

fn interface_fault(
    interface: &Interface,
    subnets: &[Subnet],
    taken: &mut Taken,
    seen: &mut SeenInVpc,
) -> Option<&'static str> {
    let Some(subnet) = subnets.iter().find(|s| s.id == interface.subnet) else {
        return Some("its subnet is not in the document");
    };
    if !subnet.cidr.contains(&interface.private_address)
        || interface.private_address == subnet.gateway
    {
        return Some("its address is not one of the subnet's");
    }
    if interface.mac.0[0] & 1 == 1 {
        return Some("its Ethernet address is a multicast one");
    }
    if !seen.addresses.insert(interface.private_address) {
        return Some("its address is another interface's");
    }
    if !seen.macs.insert(interface.mac) {
        return Some("its Ethernet address is another interface's");
    }
    if !taken.taps.insert(interface.short.0) {
        return Some("its short id is another interface's");
    }
    None
}

fn tidy_name(interface: &mut Interface, report: &mut impl FnMut(String)) {
    if !is_label(&interface.hostname) {
        report(format!(
            "{}: {:?} is no host name",
            interface.id, interface.hostname
        ));
        let [a, b, c, d] = interface.private_address.octets();
        interface.hostname = format!("ip-{a}-{b}-{c}-{d}");
    }
}

fn tidy_public(interface: &mut Interface, taken: &mut Taken, report: &mut impl FnMut(String)) {
    if let Some(public) = interface.public_address
        && !taken.public.insert(public)
    {
        report(format!("{}: {public} is another interface's", interface.id));
        interface.public_address = None;
    }
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_domain(text: &str) -> bool {
    text.len() <= DOMAIN_MAX && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_carry_a_line_of_configuration_are_no_names() {
        for text in [
            "",
            "-a",
            "a-",
            "a b",
            "a\nserver=1.2.3.4",
            "a,b",
            "#",
            "A",
            "é",
        ] {
            assert!(!is_label(text), "{text:?}");
            assert!(!is_domain(text), "{text:?}");
        }
        assert!(is_label("ip-172-31-0-10"));
        assert!(is_domain("mallee-1.internal"));
        assert!(!is_domain("a..b"));
    }
}
