//! Every id the cloud knows, in one registry: its prefix, and the codes EC2 answers when it is
//! malformed or unknown. An id keeps the text that it was given, so lists echo what clients sent.
//!
//! The form is `prefix-` + 17 lower-case hex digits; 8 digits (the form before 2016) are accepted.

use std::{fmt, str::FromStr};

use rand::Rng;

use crate::text::text_like;

/// Hex digits in the ids that we mint.
const DIGITS: usize = 17;
/// Hex digits in the ids that EC2 made before 2016 and Eucalyptus made always.
const DIGITS_SHORT: usize = 8;

/// Text that is not an id of the kind that was asked for.
///
/// `{:#}` says the code first, so that it survives serde, whose errors keep only text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The EC2 error code of this kind of id.
    pub code: &'static str,
    /// The prefix that was expected.
    pub prefix: &'static str,
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, prefix, text } = self;
        if f.alternate() {
            write!(f, "{code}: ")?;
        }
        write!(f, "Invalid id: \"{text}\" (expecting \"{prefix}...\")")
    }
}

impl std::error::Error for Malformed {}

/// What all kinds of id have in common.
pub trait Id: fmt::Display + FromStr<Err = Malformed> {
    /// The prefix with its dash, `i-`.
    const PREFIX: &'static str;
    /// The EC2 code for an id that names nothing.
    const NOT_FOUND: &'static str;
    /// The EC2 code for text that is no such id.
    const MALFORMED: &'static str;
    /// The word EC2's messages use for the thing, `instance ID`.
    const NOUN: &'static str;
}

fn is_well_formed(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        (digits.len() == DIGITS || digits.len() == DIGITS_SHORT)
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn malformed(text: &str, prefix: &'static str, code: &'static str) -> Malformed {
    Malformed {
        code,
        prefix,
        text: text.chars().take(64).collect(),
    }
}

fn mint_text(prefix: &str, rng: &mut impl Rng) -> String {
    // AWS's long ids start with a zero; 64 random bits follow.
    format!("{prefix}0{:016x}", rng.next_u64())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal, $noun:literal, $not_found:literal, $malformed:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Makes a new id from random bits.
            pub fn mint(rng: &mut impl Rng) -> Self {
                Self(mint_text($prefix, rng))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Id for $name {
            const PREFIX: &'static str = $prefix;
            const NOT_FOUND: &'static str = $not_found;
            const MALFORMED: &'static str = $malformed;
            const NOUN: &'static str = $noun;
        }

        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                if is_well_formed(text, $prefix) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(malformed(text, $prefix, $malformed))
                }
            }
        }

        text_like!($name);
    )*};
}

ids! {
    /// An instance.
    InstanceId "i-", "instance ID", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed";
    /// What one RunInstances call made.
    ReservationId "r-", "reservation ID", "InvalidReservationID.NotFound", "InvalidReservationID.Malformed";
    /// A volume.
    VolumeId "vol-", "volume", "InvalidVolume.NotFound", "InvalidVolumeID.Malformed";
    /// A snapshot of a volume.
    SnapshotId "snap-", "snapshot", "InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed";
    /// The making of a bundle from an instance.
    BundleId "bun-", "bundle task ID", "InvalidBundleID.NotFound", "InvalidBundleID.Malformed";
    /// A security group.
    SecurityGroupId "sg-", "security group", "InvalidGroup.NotFound", "InvalidGroupId.Malformed";
    /// One rule of a security group.
    SecurityGroupRuleId "sgr-", "security group rule", "InvalidSecurityGroupRuleId.NotFound", "InvalidSecurityGroupRuleId.Malformed";
    /// A key pair.
    KeyPairId "key-", "key pair ID", "InvalidKeyPair.NotFound", "InvalidKeyPair.Malformed";
    /// A network interface.
    NetworkInterfaceId "eni-", "networkInterface ID", "InvalidNetworkInterfaceID.NotFound", "InvalidNetworkInterfaceID.Malformed";
    /// The attachment of a network interface to an instance.
    NetworkAttachmentId "eni-attach-", "attachment ID", "InvalidAttachmentID.NotFound", "InvalidAttachmentID.Malformed";
    /// A virtual private cloud.
    VpcId "vpc-", "vpc ID", "InvalidVpcID.NotFound", "InvalidVpcID.Malformed";
    /// A subnet of a VPC.
    SubnetId "subnet-", "subnet ID", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed";
    /// An allocated elastic address.
    AllocationId "eipalloc-", "allocation ID", "InvalidAllocationID.NotFound", "InvalidAllocationID.Malformed";
    /// The association of an address with an interface.
    AssociationId "eipassoc-", "association ID", "InvalidAssociationID.NotFound", "InvalidAssociationID.Malformed";
    /// A route table.
    RouteTableId "rtb-", "routeTable ID", "InvalidRouteTableID.NotFound", "InvalidRouteTableID.Malformed";
    /// An internet gateway.
    InternetGatewayId "igw-", "internetGateway ID", "InvalidInternetGatewayID.NotFound", "InvalidInternetGatewayID.Malformed";
    /// A network ACL.
    NetworkAclId "acl-", "networkAcl ID", "InvalidNetworkAclID.NotFound", "InvalidNetworkAclID.Malformed";
    /// A set of DHCP options.
    DhcpOptionsId "dopt-", "dhcpOptions ID", "InvalidDhcpOptionID.NotFound", "InvalidDhcpOptionID.Malformed";
    /// A node: a host that runs a Node Controller. Ours, not EC2's.
    NodeId "node-", "node ID", "InvalidNodeID.NotFound", "InvalidNodeID.Malformed";
}

/// The id of an image: machine (EMI), kernel (EKI) or ramdisk (ERI).
///
/// AWS's prefixes `ami-`, `aki-`, `ari-` are understood where a client writes them and read as ours.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(String);

const IMAGE_PREFIXES: [(&str, &str); 6] = [
    ("emi-", "emi-"),
    ("eki-", "eki-"),
    ("eri-", "eri-"),
    ("ami-", "emi-"),
    ("aki-", "eki-"),
    ("ari-", "eri-"),
];

impl ImageId {
    /// Makes a new id of the given kind.
    pub fn mint(kind: crate::ImageKind, rng: &mut impl Rng) -> Self {
        Self(mint_text(kind.id_prefix(), rng))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Machine, kernel or ramdisk: the prefix says it.
    pub fn kind(&self) -> crate::ImageKind {
        match &self.0[..4] {
            "eki-" => crate::ImageKind::Kernel,
            "eri-" => crate::ImageKind::Ramdisk,
            _ => crate::ImageKind::Machine,
        }
    }
}

impl Id for ImageId {
    const PREFIX: &'static str = "emi-";
    const NOT_FOUND: &'static str = "InvalidAMIID.NotFound";
    const MALFORMED: &'static str = "InvalidAMIID.Malformed";
    const NOUN: &'static str = "image id";
}

impl FromStr for ImageId {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        IMAGE_PREFIXES
            .iter()
            .find(|(given, _)| is_well_formed(text, given))
            .map(|(given, ours)| Self(format!("{ours}{}", &text[given.len()..])))
            .ok_or_else(|| malformed(text, "ami-", Self::MALFORMED))
    }
}

text_like!(ImageId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_8_and_17_digits_parse_and_echo_their_text() {
        for text in ["i-1234abcd", "i-0123456789abcdef0"] {
            assert_eq!(text.parse::<InstanceId>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_malformed_with_the_code_of_its_kind() {
        for text in [
            "",
            "i-",
            "i-1234ABCD",
            "i-123",
            "vol-1234abcd",
            "i-1234abcd ",
            "i-../../etc",
        ] {
            assert_eq!(
                text.parse::<InstanceId>().unwrap_err().code,
                "InvalidInstanceID.Malformed"
            );
        }
    }

    #[test]
    fn a_minted_id_parses_and_no_two_are_equal() {
        let mut rng = rand::rng();
        let (a, b) = (VolumeId::mint(&mut rng), VolumeId::mint(&mut rng));
        assert_ne!(a, b);
        assert_eq!(a.to_string().parse::<VolumeId>().unwrap(), a);
    }

    #[test]
    fn an_amazon_image_id_is_read_as_ours() {
        let id: ImageId = "ami-0123456789abcdef0".parse().unwrap();
        assert_eq!(id.as_str(), "emi-0123456789abcdef0");
        assert_eq!(
            "aki-1234abcd".parse::<ImageId>().unwrap().kind(),
            crate::ImageKind::Kernel
        );
    }
}
