//! Things by id: a request that names several is refused whole if one of them is not there.

use ec2::Code;
use types::id::Id;

use super::errors::{Error, Result};

/// Refuses ids that name none of what was found.
pub fn all_found<I: Id>(asked: &[I], is_found: impl Fn(&I) -> bool) -> Result<()> {
    let missing: Vec<String> = asked
        .iter()
        .filter(|id| !is_found(id))
        .map(I::to_string)
        .collect();
    let message = match missing.len() {
        0 => return Ok(()),
        1 => format!("The {} '{}' does not exist", I::NOUN, missing[0]),
        _ => format!("The {}s '{}' do not exist", I::NOUN, missing.join(", ")),
    };
    Err(Error::new(Code::Id(I::NOT_FOUND), message))
}

/// Keeps the things that were asked for by id, all of them if none was, and refuses ids that name
/// none.
pub fn pick<T, I: Id + PartialEq>(
    things: Vec<T>,
    asked: &[I],
    id: impl Fn(&T) -> &I,
) -> Result<Vec<T>> {
    if asked.is_empty() {
        return Ok(things);
    }
    all_found(asked, |asked| things.iter().any(|thing| id(thing) == asked))?;
    Ok(things
        .into_iter()
        .filter(|thing| asked.contains(id(thing)))
        .collect())
}

/// The longest name or description of anything, as in EC2.
const TEXT_MAX: usize = 255;

/// Refuses a name that could not stand on a line by itself: it goes into metadata and key files.
pub fn printable(parameter: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > TEXT_MAX {
        let reason = format!("Expected 1 to {TEXT_MAX} characters");
        return Err(
            ec2::Error::invalid(parameter, text.get(..64).unwrap_or_default(), &reason).into(),
        );
    }
    if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        let reason = "Expected printable ASCII characters";
        return Err(ec2::Error::invalid(parameter, text.escape_debug(), reason).into());
    }
    Ok(())
}
