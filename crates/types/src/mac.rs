//! Ethernet addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An Ethernet address of an instance's interface; always locally administered and unicast.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// Text that is not `d0:0d:...`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an Ethernet address is six pairs of lower-case hex digits, joined by colons")]
pub struct MalformedMac;

impl MacAddr {
    /// Makes a new address: Eucalyptus's `d0:0d` and 32 random bits. `d0` is unicast, and has the
    /// locally administered bit clear, which is why Eucalyptus chose it: some old guests renumber
    /// interfaces whose bit is set.
    pub fn mint(rng: &mut impl rand::Rng) -> Self {
        let [a, b, c, d] = rng.next_u32().to_be_bytes();
        Self([0xd0, 0x0d, a, b, c, d])
    }
}

fn is_hex_pair(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl FromStr for MacAddr {
    type Err = MalformedMac;
    fn from_str(text: &str) -> Result<Self, MalformedMac> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs
                .next()
                .filter(|p| is_hex_pair(p))
                .ok_or(MalformedMac)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| MalformedMac)?;
        }
        if pairs.next().is_none() {
            Ok(Self(bytes))
        } else {
            Err(MalformedMac)
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_as_it_parses() {
        let mac = MacAddr::mint(&mut rand::rng());
        assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        for text in [
            "",
            "d0:0d",
            "d0:0d:00:00:00:00:00",
            "d00d00000000",
            "d0:0d:+1:00:00:00",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
