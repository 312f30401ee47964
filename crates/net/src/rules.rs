//! Rulesets as text for `nft -f -`, which applies a text whole or not at all.
//!
//! [`node`] is the node's own namespace (anti-spoofing, security groups), [`vpc`] a VPC's (address
//! translation). Each table carries a chain without rules whose name is the text's digest, the
//! *seal*: what is loaded can be compared with what is wanted without reading rules back.

pub mod group;
pub mod node;
pub mod vpc;

use std::{
    fmt::{Arguments, Display, Write},
    hash::{DefaultHasher, Hash, Hasher},
};

/// The name of every table of ours.
pub const TABLE: &str = "mallee";
/// Begins the name of the chain that is a table's seal.
const SEAL: &str = "seal_";

/// One table: replaced whole in the transaction that its text is part of.
pub(crate) struct Table {
    family: &'static str,
    body: String,
}

impl Table {
    pub(crate) fn new(family: &'static str) -> Self {
        Self {
            family,
            body: String::new(),
        }
    }

    /// A chain of rules; with a hook when `base` says one.
    pub(crate) fn chain(&mut self, name: impl Display, base: &str, rules: &[String]) {
        self.open(format_args!("chain {name}"));
        if !base.is_empty() {
            self.line(format_args!("    {base};"));
        }
        for rule in rules {
            self.line(format_args!("    {rule}"));
        }
        self.line(format_args!("  }}"));
    }

    /// A set or a map. A text without elements is one of nft's syntax errors, so it has its own arm.
    pub(crate) fn elements(&mut self, kind: &str, spec: &str, elements: &[String]) {
        self.open(format_args!("{kind}"));
        self.line(format_args!("    {spec}"));
        if !elements.is_empty() {
            self.line(format_args!("    elements = {{"));
            for element in elements {
                self.line(format_args!("      {element},"));
            }
            self.line(format_args!("    }}"));
        }
        self.line(format_args!("  }}"));
    }

    fn open(&mut self, what: Arguments<'_>) {
        self.line(format_args!("  {what} {{"));
    }

    fn line(&mut self, line: Arguments<'_>) {
        writeln!(self.body, "{line}").expect("writing to a String cannot fail");
    }
}

/// The text of one transaction that puts these tables in place of what they were, sealed.
pub(crate) fn transaction(tables: &[Table]) -> String {
    let bodies: Vec<&str> = tables.iter().map(|table| table.body.as_str()).collect();
    let seal = digest(&bodies);
    tables
        .iter()
        .map(|table| replacement(table, &seal))
        .collect()
}

fn replacement(table: &Table, seal: &str) -> String {
    let Table { family, body } = table;
    format!(
        "table {family} {TABLE} {{}}\n\
         delete table {family} {TABLE}\n\
         table {family} {TABLE} {{\n  chain {seal} {{\n  }}\n{body}}}\n"
    )
}

// Not a secret and not stored: a new compiler's digest only costs one replacement of the tables.
fn digest(bodies: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    bodies.hash(&mut hasher);
    format!("{SEAL}{:016x}", hasher.finish())
}

/// The tables of a transaction, as (family, seal).
pub fn seals(text: &str) -> Vec<(String, String)> {
    let family = |line: &str| {
        line.strip_prefix("delete table ")?
            .strip_suffix(TABLE)
            .map(|f| f.trim().to_owned())
    };
    let seal = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("chain ")?.strip_suffix(" {"))
        .filter(|name| name.starts_with(SEAL))
        .unwrap_or_default();
    text.lines()
        .filter_map(family)
        .map(|family| (family, seal.to_owned()))
        .collect()
}
