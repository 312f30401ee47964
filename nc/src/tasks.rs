//! What goes on in a Node Controller besides keeping instances.

pub mod report_node;
pub mod trim_consoles;
pub mod watch_domains;

pub use report_node::ReportNode;
pub use trim_consoles::TrimConsoles;
pub use watch_domains::watch_domains;
