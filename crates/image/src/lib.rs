//! Machine images as bytes: what a bundle is, how one is made, how one becomes a bootable disk.
//!
//! | module | is |
//! |---|---|
//! | [`manifest`] | the bundle's manifest: strict reader, and the writer that speaks as euca2ools does |
//! | [`keys`] | the bundle's AES key and IV, and how they are wrapped for a cloud |
//! | [`bundle`] | image file → tar → gzip → AES → parts |
//! | [`unbundle`] | parts → AES → gunzip → untar → sparse file, in one pass |
//! | [`recognise`] | what the first bytes of a raw image say it is; formats that we refuse |
//! | [`overlay`] | a qcow2 overlay over a raw file, with all that a first write would have to say in it |
//! | [`extents`] | where a sparse file has data |
//! | [`qcow2`] | the header of a qcow2 file: which stand alone, and why another is not taken |
//! | [`gpt`], [`ebr`] | GUID partition tables, and logical partitions, read |
//! | [`mbr`], [`boot`] | a partition table and GRUB in the gap before a partition |
//! | [`blocks`] | a file's blocks and their digests |
//! | [`digest`] | SHA-1 and SHA-256 as types |
//! | [`meter`] | what each stage of a run has done so far |
//!
//! All input is hostile: it was written by a user. Nothing here mounts, runs a process, opens a
//! path that came from an image, or holds more than a few parts in memory.

pub mod blocks;
pub mod boot;
pub mod bundle;
pub mod digest;
pub mod ebr;
pub mod extents;
#[doc(hidden)]
pub mod fuzzing;
pub mod gpt;
pub mod keys;
pub mod manifest;
pub mod mbr;
pub mod meter;
pub mod overlay;
pub mod qcow2;
pub mod recognise;
pub mod unbundle;
pub mod write_behind;

mod member;
mod sparse;
mod tar;
mod tree;
