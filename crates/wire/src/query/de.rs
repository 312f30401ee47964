//! The serde side of [`super`]: one deserializer per place in the tree.
//!
//! Serde's hooks report a fault where the type is known and the place is not; each level that knows
//! its place turns an unplaced [`Fault`] into a placed [`Error`] on its way out.

use std::{cell::RefCell, fmt};

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    },
    forward_to_deserialize_any,
};

use super::{ECHO_MAX, Error, Node, index};
use crate::verbatim;

/// Which pairs some field has read.
pub(super) struct Claims<'a> {
    pairs: &'a [(String, String)],
    claimed: RefCell<Vec<bool>>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(pairs: &'a [(String, String)]) -> Self {
        Self {
            pairs,
            claimed: RefCell::new(vec![false; pairs.len()]),
        }
    }

    fn take(&self, pair: usize) -> &'a str {
        self.claimed.borrow_mut()[pair] = true;
        &self.pairs[pair].1
    }

    /// Whether nothing at or below this place has a value.
    fn is_empty(&self, node: &Node) -> bool {
        node.pair.is_none_or(|pair| self.pairs[pair].1.is_empty())
            && node.children.values().all(|child| self.is_empty(child))
    }

    pub(super) fn unclaimed(&self) -> Vec<String> {
        let claimed = self.claimed.borrow();
        let left = self
            .pairs
            .iter()
            .zip(claimed.iter())
            .filter(|(pair, claimed)| !**claimed && !pair.1.is_empty());
        left.map(|((name, _), _)| name.clone()).collect()
    }
}

/// Reads the whole tree as one struct.
pub(super) fn read<T: DeserializeOwned>(root: &Node, claims: &Claims<'_>) -> Result<T, Error> {
    let path = Path {
        parent: None,
        segment: "",
    };
    let place = Place {
        node: root,
        claims,
        path: &path,
        empties_count: false,
    };
    T::deserialize(place).map_err(|fault| fault.at(&path, ""))
}

/// The names from the root to here.
#[derive(Clone, Copy)]
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: &'a str,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        if parent.parent.is_some() {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.segment)
    }
}

/// What serde's hooks can say, before and after the place is known.
#[derive(Debug)]
pub(super) enum Fault {
    Missing(&'static str),
    Empty,
    Invalid(String),
    Placed(Error),
}

impl Fault {
    fn at(self, path: &Path<'_>, value: &str) -> Error {
        match self {
            Self::Placed(error) => error,
            Self::Empty => Error::Missing {
                parameter: path.to_string(),
            },
            Self::Missing(field) => {
                let inner = Path {
                    parent: Some(path),
                    segment: field,
                };
                Error::Missing {
                    parameter: inner.to_string(),
                }
            }
            Self::Invalid(said) => {
                let (code, reason) = split_code(&said);
                Error::Invalid {
                    code: code.map(str::to_owned),
                    parameter: path.to_string(),
                    value: value.chars().take(ECHO_MAX).collect(),
                    reason: reason.to_owned(),
                }
            }
        }
    }
}

/// An id type prints with `{:#}` as `InvalidInstanceID.Malformed: Invalid id ...`.
fn split_code(said: &str) -> (Option<&str>, &str) {
    match said.split_once(": ") {
        Some((code, reason)) if code.starts_with("Invalid") && !code.contains(' ') => {
            (Some(code), reason)
        }
        _ => (None, said),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(said: T) -> Self {
        Self::Invalid(format!("{said:#}"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Invalid(format!("Expected one of: {}", expected.join(", ")))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Invalid(format!("Expected {expected}"))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Invalid(format!("Expected {expected}"))
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a Node,
    claims: &'a Claims<'a>,
    path: &'a Path<'a>,
    /// Inside a [`crate::Verbatim`].
    empties_count: bool,
}

impl<'a> Place<'a> {
    fn is_absent(&self) -> bool {
        let counts = self.empties_count && self.node.pair.is_some();
        !counts && self.claims.is_empty(self.node)
    }

    /// The fault, placed here.
    fn fault(&self, fault: Fault) -> Fault {
        let value = self
            .node
            .pair
            .map_or("", |pair| self.claims.pairs[pair].1.as_str());
        Fault::Placed(fault.at(self.path, value))
    }

    /// The value of this very name.
    fn scalar(&self) -> Result<&'a str, Fault> {
        let value = self.node.pair.map(|pair| self.claims.take(pair));
        match value {
            Some(value) if !value.is_empty() || self.empties_count => Ok(value),
            _ => Err(self.fault(Fault::Empty)),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, expected: &str) -> Result<T, Fault> {
        let value = self.scalar()?;
        let fault = || Fault::Invalid(format!("Expected {expected}"));
        value
            .parse()
            .map_err(|_| Fault::Placed(fault().at(self.path, value)))
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(self.parsed("an integer")?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Place<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = self.scalar()?;
        visitor.visit_str(value).map_err(|fault| self.fault(fault))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = self.scalar()?;
        match value.to_ascii_lowercase().as_str() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.fault(Fault::Invalid("Expected true or false".to_owned()))),
        }
    }

    integers! {
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f64(self.parsed("a number")?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_absent() {
            // Said, if with nothing: it is no parameter that we do not know.
            self.node.pair.map(|pair| self.claims.take(pair));
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let empties_count = self.empties_count || name == verbatim::NAME;
        visitor.visit_newtype_struct(Self {
            empties_count,
            ..self
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut elements: Vec<(u32, &str, &Node)> = self
            .node
            .children
            .iter()
            .filter_map(|(segment, node)| Some((index(segment)?, segment.as_str(), node)))
            .filter(|(_, _, node)| self.empties_count || !self.claims.is_empty(node))
            .collect();
        elements.sort_by_key(|&(index, ..)| index);
        // `InstanceId=i-1`, as a list of one.
        let alone = elements.is_empty() && !self.is_absent();
        visitor.visit_seq(Elements {
            list: self,
            left: elements.into_iter(),
            alone,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let access = Fields {
            outer: self,
            left: fields.iter(),
            value: None,
        };
        visitor.visit_map(access).map_err(|fault| self.fault(fault))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let value = self.scalar()?;
        visitor
            .visit_enum(value.into_deserializer())
            .map_err(|fault| self.fault(fault))
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct map
        identifier ignored_any
    }
}

/// The fields of a struct, looked up by name: the tree may hold any others.
struct Fields<'a> {
    outer: Place<'a>,
    left: std::slice::Iter<'static, &'static str>,
    value: Option<(&'static str, &'a Node)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let children = &self.outer.node.children;
        self.value = self
            .left
            .find_map(|&field| children.get(field).map(|node| (field, node)));
        let Some((field, _)) = self.value else {
            return Ok(None);
        };
        seed.deserialize(field.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (segment, node) = self
            .value
            .take()
            .expect("serde asks for a key before its value");
        let path = Path {
            parent: Some(self.outer.path),
            segment,
        };
        let place = Place {
            node,
            path: &path,
            ..self.outer
        };
        seed.deserialize(place).map_err(|fault| place.fault(fault))
    }
}

struct Elements<'a> {
    list: Place<'a>,
    left: std::vec::IntoIter<(u32, &'a str, &'a Node)>,
    alone: bool,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if std::mem::take(&mut self.alone) {
            return seed.deserialize(self.list).map(Some);
        }
        let Some((_, segment, node)) = self.left.next() else {
            return Ok(None);
        };
        let path = Path {
            parent: Some(self.list.path),
            segment,
        };
        let place = Place {
            node,
            path: &path,
            ..self.list
        };
        seed.deserialize(place)
            .map(Some)
            .map_err(|fault| place.fault(fault))
    }
}
