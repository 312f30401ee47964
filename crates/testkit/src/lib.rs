//! In-process cloud, simulated fleet, virtual clock, golden and model checks. For tests only.
