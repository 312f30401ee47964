//! Answers the lists of what this cloud has none of.

use ec2::{
    Code,
    nothing::{NOTHING, Nothing},
};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use wire::Parameters;

use super::errors::{Error, Result};

/// The list of that name, if it is one that is always empty.
pub fn find(action: &str) -> Option<&'static Nothing> {
    NOTHING.iter().find(|nothing| nothing.action == action)
}

/// One empty list.
pub(super) struct Empty(&'static str);

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut fields = s.serialize_struct("Empty", 1)?;
        fields.serialize_field(self.0, &[(); 0][..])?;
        fields.end()
    }
}

/// Finds nothing; what is named by id is missed.
pub(super) fn list(nothing: &Nothing, parameters: &Parameters) -> Result<Empty> {
    if let Some((parameter, code)) = nothing.id {
        let names = |name: &str| {
            name.strip_prefix(parameter)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let named = parameters
            .pairs()
            .iter()
            .find(|(name, value)| names(name) && !value.is_empty());
        if let Some((_, id)) = named {
            let message = format!("The ID '{}' does not exist", id.escape_debug());
            return Err(Error::new(Code::Id(code), message));
        }
    }
    Ok(Empty(nothing.element))
}
