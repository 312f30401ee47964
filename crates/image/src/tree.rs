//! A small XML document as a tree, read with limits: no DTD, no entities but the five predefined,
//! no processing instructions, and bounded size, depth and number of elements.

use std::borrow::Cow;

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};

/// Deeper than any manifest (`manifest/image/parts/part/digest` is five).
const MAX_DEPTH: usize = 8;
/// An 8192-bit RSA ciphertext in hex is 2 KiB; no other text comes near it.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Attributes of one element; the format uses one.
const MAX_ATTRIBUTES: usize = 8;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, or not UTF-8.
    #[error("not well-formed XML: {0}")]
    Malformed(String),
    /// It ends before its root element does.
    #[error("the document is cut short")]
    Truncated,
    /// A DTD, entity or processing instruction: never needed, often an attack.
    #[error("{0} are not accepted")]
    Forbidden(&'static str),
    /// A limit of the reader.
    #[error("the document has too many or too deep elements, or too long text")]
    TooBig,
}

/// An element with what it holds; text is trimmed.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// All children of that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads `document` into its root element.
pub(crate) fn parse(document: &str, max_elements: usize) -> Result<Element, XmlError> {
    let mut reader = Reader::from_str(document);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0;

    loop {
        let event = reader.read_event().map_err(malformed)?;
        match event {
            Event::Start(start) => {
                count(&mut elements, max_elements, open.len())?;
                refuse_second_root(&root)?;
                open.push(opened(&start)?);
            }
            Event::Empty(start) => {
                count(&mut elements, max_elements, open.len())?;
                refuse_second_root(&root)?;
                close(opened(&start)?, &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open.pop().ok_or_else(|| malformed("a stray end tag"))?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => add_text(&mut open, &text.xml10_content())?,
            Event::CData(text) => add_text(&mut open, &text.xml10_content())?,
            Event::GeneralRef(entity) => add_text(&mut open, resolve(&entity)?.as_ref())?,
            Event::Comment(_) | Event::Decl(_) => {}
            Event::PI(_) => return Err(XmlError::Forbidden("processing instructions")),
            Event::DocType(_) => return Err(XmlError::Forbidden("document type definitions")),
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err(XmlError::Truncated);
    }
    root.ok_or(XmlError::Truncated)
}

fn malformed(why: impl ToString) -> XmlError {
    XmlError::Malformed(why.to_string())
}

fn count(elements: &mut usize, max_elements: usize, depth: usize) -> Result<(), XmlError> {
    *elements += 1;
    match *elements <= max_elements && depth < MAX_DEPTH {
        true => Ok(()),
        false => Err(XmlError::TooBig),
    }
}

fn refuse_second_root(root: &Option<Element>) -> Result<(), XmlError> {
    match root {
        Some(_) => Err(malformed("a second root element")),
        None => Ok(()),
    }
}

fn opened(start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut element = Element {
        name: start.name().into_inner().to_owned(),
        ..Element::default()
    };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(malformed)?;
        let value = attribute
            .normalized_value(XmlVersion::Explicit1_0)
            .map_err(malformed)?;
        if element.attributes.len() == MAX_ATTRIBUTES || value.len() > MAX_TEXT_BYTES {
            return Err(XmlError::TooBig);
        }
        element
            .attributes
            .push((attribute.key.into_inner().to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn close(mut element: Element, open: &mut [Element], root: &mut Option<Element>) {
    element.text = element.text.trim().to_owned();
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), XmlError> {
    let Some(element) = open.last_mut() else {
        return match text.trim().is_empty() {
            true => Ok(()),
            false => Err(malformed("text outside the root element")),
        };
    };
    if element.text.len() + text.len() > MAX_TEXT_BYTES {
        return Err(XmlError::TooBig);
    }
    element.text.push_str(text);
    Ok(())
}

fn resolve<'a>(entity: &BytesRef<'a>) -> Result<Cow<'a, str>, XmlError> {
    if let Some(character) = entity.resolve_char_ref().map_err(malformed)? {
        return Ok(character.to_string().into());
    }
    quick_xml::escape::resolve_predefined_entity(entity.as_ref())
        .map(Cow::Borrowed)
        .ok_or(XmlError::Forbidden("entities"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_a_tree() {
        let root = parse("<a x='1 &amp; 2'> <b>t&#101;xt &lt;</b><b/></a>", 10).unwrap();
        assert_eq!(root.attribute("x"), Some("1 & 2"));
        assert_eq!(
            root.all("b").map(|b| b.text.as_str()).collect::<Vec<_>>(),
            ["text <", ""]
        );
    }

    #[test]
    fn attacks_and_accidents_are_refused() {
        let dtd = "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>";
        assert_eq!(
            parse(dtd, 10).err(),
            Some(XmlError::Forbidden("document type definitions"))
        );
        assert_eq!(
            parse("<a>&b;</a>", 10).err(),
            Some(XmlError::Forbidden("entities"))
        );
        assert_eq!(
            parse("<?php ?><a/>", 10).err(),
            Some(XmlError::Forbidden("processing instructions"))
        );
        assert_eq!(parse("<a><b>", 10).err(), Some(XmlError::Truncated));
        assert_eq!(parse("", 10).err(), Some(XmlError::Truncated));
        assert!(matches!(parse("<a></b>", 10), Err(XmlError::Malformed(_))));
        assert!(matches!(parse("<a/><a/>", 10), Err(XmlError::Malformed(_))));
        assert!(matches!(parse("<a/>text", 10), Err(XmlError::Malformed(_))));
        assert_eq!(parse(&"<a>".repeat(9), 100).err(), Some(XmlError::TooBig));
        assert_eq!(
            parse(&format!("<a>{}</a>", "<b/>".repeat(10)), 10).err(),
            Some(XmlError::TooBig)
        );
        let long = format!("<a>{}</a>", "x".repeat(MAX_TEXT_BYTES + 1));
        assert_eq!(parse(&long, 10).err(), Some(XmlError::TooBig));
    }
}
