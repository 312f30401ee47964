//! How many connections each guest of this node may have. The table of connections is the node's,
//! not the guest's, and when it is full nobody on the node gets a new one.
//!
//! The count must outlive the other rules, which are replaced whole with every change: whoever may
//! change a group could begin anew each time. So this table stays while the node has rules. What
//! names guests is emptied and filled in the transaction of all rules; the counting sets are left.
//!
//! Counted is what the groups have let through, once for each end that is a guest of this node, at
//! its first packet; a connection that has ended is found missing by the kernel and no longer counts.

use std::fmt::Write;

/// The table, and its one chain.
pub const TABLE: &str = "mallee_count";
/// What shows that the table is there.
pub const CHAIN: &str = "count";

/// The part of the node's transaction; `guests` are a bridge and an address each.
pub(super) fn text(guests: &[String], connections_max: u32) -> String {
    let key = "type ifname . ipv4_addr;";
    let mut text = format!(
        "add table ip {TABLE}\n\
         add set ip {TABLE} guests {{ {key} }}\n\
         add set ip {TABLE} open_from {{ {key} size 65535; flags dynamic; }}\n\
         add set ip {TABLE} open_to {{ {key} size 65535; flags dynamic; }}\n\
         add chain ip {TABLE} {CHAIN} {{ type filter hook forward priority filter + 2; policy accept; }}\n\
         flush set ip {TABLE} guests\n\
         flush chain ip {TABLE} {CHAIN}\n"
    );
    for guest in guests {
        writeln!(text, "add element ip {TABLE} guests {{ {guest} }}").expect(STRING);
    }
    for (set, guest) in [
        ("open_from", "iifname . ip saddr"),
        ("open_to", "oifname . ip daddr"),
    ] {
        writeln!(
            text,
            "add rule ip {TABLE} {CHAIN} ct state new {guest} @guests \
             add @{set} {{ {guest} ct count over {connections_max} }} drop"
        )
        .expect(STRING);
    }
    text
}

const STRING: &str = "writing to a String cannot fail";
