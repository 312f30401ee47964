//! Where log lines go: to standard error, as lines for people on a terminal, as JSON otherwise
//! (journald keeps one object per line). Levels: error = an operator must act, or an asked action
//! failed here; warn = odd, and recovered by itself; info = a state changed; debug = decisions.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// A filter that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}: {reason}")]
pub struct BadFilter {
    filter: String,
    reason: String,
}

/// Checks a filter (`info`, `info,clc::api=debug`) without using it.
pub fn check(filter: &str) -> Result<(), BadFilter> {
    parse(filter).map(drop)
}

/// Starts logging for the process. A second call changes nothing: the first filter stays.
pub fn init(filter: &str, format: Format) -> Result<(), BadFilter> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let human = match format {
        Format::Auto => std::io::stderr().is_terminal(),
        Format::Human => true,
        Format::Json => false,
    };
    let _already_set = if human {
        builder.with_target(false).try_init()
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
    };
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(filter).map_err(|error| BadFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        assert!(check("info,clc::api=debug").is_ok());
        assert!(check("clc=loud").unwrap_err().to_string().contains("loud"));
    }
}
