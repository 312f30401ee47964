//! Reading the few elements that we need from an answer. Entities but the five of XML, and document
//! types, are not looked at: the reader knows none.

use quick_xml::{Reader, events::Event};

/// The text of every element of this name, wherever it stands, in order.
pub(crate) fn texts(document: &str, name: &str) -> Vec<String> {
    let mut reader = Reader::from_str(document);
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                open = (start.local_name().as_ref() == name).then(String::new);
            }
            Ok(Event::Text(text)) => {
                if let Some(open) = &mut open {
                    open.push_str(&text.xml10_content());
                }
            }
            Ok(Event::GeneralRef(entity)) => {
                if let Some(open) = &mut open {
                    open.push_str(&resolve(&entity));
                }
            }
            Ok(Event::End(_)) => found.extend(open.take()),
            Ok(Event::Empty(element)) if element.local_name().as_ref() == name => {
                found.push(String::new());
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

/// The text of the first element of this name.
pub(crate) fn text(document: &str, name: &str) -> Option<String> {
    texts(document, name).into_iter().next()
}

fn resolve(entity: &str) -> String {
    let letter = match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => entity.strip_prefix('#').and_then(|number| {
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => number.parse().ok(),
            };
            code.and_then(char::from_u32)
        }),
    };
    letter.map(String::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_wherever_they_stand() {
        let document = "<?xml version=\"1.0\"?><R xmlns=\"x\"><a><id>1</id></a><id>a &lt;&#38; b</id><id/></R>";
        assert_eq!(texts(document, "id"), ["1", "a <& b", ""]);
        assert_eq!(text(document, "none"), None);
        assert_eq!(text("not xml at all <", "id"), None);
    }
}
