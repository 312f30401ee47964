//! Region and zone names. A zone is a cluster.

use std::str::FromStr;

use crate::text::text_like;

/// The longest name, so that `NAME.ROLE.mallee.internal` stays a DNS name.
const NAME_MAX: usize = 32;

/// Text that is no region or zone name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a region or zone name is 1 to 32 lower-case letters, digits and inner dashes")]
pub struct MalformedName;

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = MalformedName;
            fn from_str(text: &str) -> Result<Self, MalformedName> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(MalformedName) }
            }
        }

        text_like!($name);
    )*};
}

names! {
    /// The region: the whole cloud. `mallee-1` unless `init` was told otherwise.
    Region;
    /// An availability zone: one cluster. `mallee-1a` is the first.
    Zone;
}

impl Region {
    /// The region of a cloud whose `init` named none.
    pub fn first() -> Self {
        Self("mallee-1".to_owned())
    }

    /// The first zone of this region: the region's name and `a`.
    pub fn first_zone(&self) -> Zone {
        Zone(format!("{}a", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_not_be_dns_labels_are_refused() {
        assert_eq!(Region::first().first_zone().as_str(), "mallee-1a");
        for text in ["", "-a", "a-", "A", "a b", "a/b", "é", &"a".repeat(33)] {
            assert!(text.parse::<Zone>().is_err(), "{text:?}");
        }
    }
}
