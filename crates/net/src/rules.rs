//! Rulesets as text for `nft -f -`, which applies a text whole or not at all.
//!
//! [`node`] is the node's own namespace (anti-spoofing, security groups), [`vpc`] a VPC's (address
//! translation). Each table carries a chain without rules whose name is the text's digest, the
//! *seal*: what is loaded can be compared with what is wanted without reading rules back.

pub mod count;
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

/// The text of one transaction that puts these tables in place of what they were, sealed; `kept` is
/// the part of it that replaces no table.
pub(crate) fn transaction(tables: &[Table], kept: &str) -> String {
    let bodies = tables.iter().map(|table| table.body.as_str());
    let bodies: Vec<&str> = bodies.chain([kept]).collect();
    let seal = digest(&bodies);
    let replaced = tables.iter().map(|table| replacement(table, &seal));
    replaced.chain([kept.to_owned()]).collect()
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

/// A chain, by which one sees that a text is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The family of its table.
    pub family: String,
    /// Its table.
    pub table: &'static str,
    /// Its name.
    pub chain: String,
}

/// What is there when a transaction's text is loaded; nothing for a text that is none.
pub fn seals(text: &str) -> Vec<Seal> {
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
    let replaced = text.lines().filter_map(family).map(|family| Seal {
        family,
        table: TABLE,
        chain: seal.to_owned(),
    });
    let counts = text.contains(count::TABLE).then(|| Seal {
        family: "ip".to_owned(),
        table: count::TABLE,
        chain: count::CHAIN.to_owned(),
    });
    replaced.chain(counts).collect()
}
