//! The vocabulary: typed ids, states, sizes, zones, VM types, ARNs, the network document. No I/O.
