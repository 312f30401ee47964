//! The Node Controller: makes instances on its host as the cluster wishes, and says what it sees.
//!
//! | module | owns |
//! |---|---|
//! | [`instance`] | the life of one instance: a pure machine, all decisions |
//! | [`domain`] | an instance as a libvirt domain: a model, and its XML |
//! | [`hypervisor`] | the hypervisor as a role; libvirt, and a fake that behaves |
//! | [`config`] | the configuration |
//! | [`needs`] | what a keeper needs of disks and network, as traits |
//! | [`residents`] | who lives here, for those who serve guests |
//! | [`signs`] | signs of life of a guest, told to its keeper |
//! | [`fakes`] | disks and network that exist in memory only |

pub mod config;
pub mod domain;
pub mod fakes;
pub mod hypervisor;
pub mod instance;
pub mod needs;
pub mod residents;
pub mod signs;
