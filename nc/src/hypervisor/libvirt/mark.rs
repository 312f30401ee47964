//! Our mark in a domain's metadata: which node made it, for which placement.

use quick_xml::{Reader, events::Event};
use virt::{domain::Domain, sys};

use crate::{domain::XML_NAMESPACE, hypervisor::Mark};

/// The mark of a domain, if it bears one.
pub(super) fn of(domain: &Domain) -> Option<Mark> {
    let element = i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).ok()?;
    let xml = domain
        .metadata(element, Some(XML_NAMESPACE), sys::VIR_DOMAIN_AFFECT_LIVE)
        .ok()?;
    parse(&xml)
}

fn parse(xml: &str) -> Option<Mark> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) => {
                let attribute = |name: &str| {
                    element
                        .try_get_attribute(name)
                        .ok()?
                        .map(|found| found.value.into_owned())
                };
                return Some(Mark {
                    node: attribute("node")?.parse().ok()?,
                    epoch: attribute("epoch")?.parse().ok()?,
                });
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_with_or_without_its_prefix_and_nothing_else_is_a_mark() {
        let mark = Mark {
            node: "node-00000001".parse().unwrap(),
            epoch: 3,
        };
        for name in ["instance", "mallee:instance"] {
            let xml = format!("<{name} node=\"node-00000001\" epoch=\"3\"/>");
            assert_eq!(parse(&xml), Some(mark.clone()));
        }
        for xml in [
            "",
            "<instance/>",
            "<instance node='x' epoch='3'/>",
            "<instance node=",
        ] {
            assert_eq!(parse(xml), None, "{xml}");
        }
    }
}
