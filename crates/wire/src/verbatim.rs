//! Parameters whose emptiness means something.

use serde::{Deserialize, Deserializer, de};

/// The name by which [`crate::query`] knows this type.
pub(crate) const NAME: &str = "$mallee::Verbatim";

/// A parameter for which an empty value is a value, as in `Tag.1.Value=`. Everywhere else an empty
/// value reads as an absent parameter, since Terraform sends `Description=` for one it was not given.
///
/// Use it as `Verbatim<Option<String>>` or `Verbatim<Vec<String>>`, with `#[serde(default)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verbatim<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Verbatim<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Verbatim<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value, which may be empty")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                d: D,
            ) -> Result<Self::Value, D::Error> {
                T::deserialize(d).map(Verbatim)
            }
        }

        d.deserialize_newtype_struct(NAME, Visitor(std::marker::PhantomData))
    }
}
