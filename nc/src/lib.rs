//! The Node Controller: image cache, disks, domains, taps, rules, metadata, console.
