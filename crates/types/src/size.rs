//! Sizes with their unit in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! sizes {
    ($($(#[$doc:meta])* $name:ident, $unit:literal, $shift:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The size in bytes.
            pub const fn bytes(self) -> u64 {
                (self.0 as u64) << $shift
            }

            /// The least size that holds so many bytes; the largest size if none does.
            pub fn holding(bytes: u64) -> Self {
                Self(u32::try_from(bytes.div_ceil(1 << $shift)).unwrap_or(u32::MAX))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $unit), self.0)
            }
        }
    )*};
}

sizes! {
    /// Mebibytes: memory.
    Mib, "MiB", 20;
    /// Gibibytes: disks and volumes.
    Gib, "GiB", 30;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_holds_what_it_says() {
        assert_eq!(Gib(2).bytes(), 2_147_483_648);
        assert_eq!(Gib::holding(1), Gib(1));
        assert_eq!(Gib::holding(Gib(3).bytes()), Gib(3));
        assert_eq!(Mib::holding(u64::MAX), Mib(u32::MAX));
    }
}
