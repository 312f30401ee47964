//! XML for S3: a writer that emits compact documents in a fixed order, and a strict reader into a
//! small tree. The reader refuses document types outright and has limits on size, depth and count,
//! which is where other object stores have been brought down.

use std::fmt::Write as _;

use quick_xml::{Reader, events::Event};

use crate::{Code, Error, Result};

/// The namespace of every S3 document.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The largest document that we read: 10,000 parts or 1000 long keys fit.
pub const MAX_DOCUMENT_BYTES: usize = 2 * 1024 * 1024;
const MAX_DEPTH: usize = 10;
const MAX_ELEMENTS: usize = 100_000;

/// Writes one document.
#[derive(Debug)]
pub struct Writer(String);

impl Writer {
    /// Opens a document of S3's namespace with this root.
    pub fn document(root: &str, body: impl FnOnce(&mut Self)) -> String {
        Self::rooted(root, &format!(" xmlns=\"{NAMESPACE}\""), body)
    }

    /// Opens a document without a namespace, as errors are.
    pub fn bare_document(root: &str, body: impl FnOnce(&mut Self)) -> String {
        Self::rooted(root, "", body)
    }

    /// A page for a browser.
    pub fn html(body: impl FnOnce(&mut Self)) -> String {
        let mut writer = Self("<!DOCTYPE html>\n".to_owned());
        writer.nest("html", body);
        writer.0
    }

    fn rooted(root: &str, attributes: &str, body: impl FnOnce(&mut Self)) -> String {
        let mut writer = Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned());
        let _ = write!(writer.0, "<{root}{attributes}>");
        body(&mut writer);
        let _ = write!(writer.0, "</{root}>");
        writer.0
    }

    /// An element with elements in it.
    pub fn nest(&mut self, name: &str, body: impl FnOnce(&mut Self)) {
        let _ = write!(self.0, "<{name}>");
        body(self);
        let _ = write!(self.0, "</{name}>");
    }

    /// An element with attributes, which must be safe already.
    pub fn nest_with(&mut self, name: &str, attributes: &str, body: impl FnOnce(&mut Self)) {
        let _ = write!(self.0, "<{name} {attributes}>");
        body(self);
        let _ = write!(self.0, "</{name}>");
    }

    /// An element with text in it.
    pub fn text(&mut self, name: &str, text: impl AsRef<str>) {
        let _ = write!(self.0, "<{name}>");
        escape(text.as_ref(), &mut self.0);
        let _ = write!(self.0, "</{name}>");
    }

    /// An element with something printable in it, that needs no escapes.
    pub fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "<{name}>{value}</{name}>");
    }

    /// Text inside the open element.
    pub fn raw_text(&mut self, text: &str) {
        escape(text, &mut self.0);
    }

    /// An element with text, if there is any.
    pub fn maybe(&mut self, name: &str, text: Option<impl AsRef<str>>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }
}

/// Control characters are written as references, which XML 1.0 does not allow and S3 does: a lister
/// that can't read them asks for `encoding-type=url`.
fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' | '\0'..'\u{20}' | '\u{7f}' => {
                let _ = write!(out, "&#x{:x};", u32::from(letter));
            }
            other => out.push(other),
        }
    }
}

/// An element that was read: its local name, attributes, text, and children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// The name without its namespace prefix.
    pub name: String,
    /// Attributes by local name.
    pub attributes: Vec<(String, String)>,
    /// All text directly inside, as it came.
    pub text: String,
    /// The elements inside.
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document whose root has this name, or answers `MalformedXML`.
    pub fn read(body: &[u8], root: &str) -> Result<Self> {
        if body.len() > MAX_DOCUMENT_BYTES {
            return Err(Code::MaxMessageLengthExceeded.into());
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8"))?;
        let element = read_tree(text)?;
        if element.name == root {
            Ok(element)
        } else {
            Err(malformed(&format!(
                "its root is {}, not {root}",
                element.name
            )))
        }
    }

    /// The first child of a name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of a child.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// The text of a child that must be there.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.text_of(name)
            .ok_or_else(|| malformed(&format!("{} has no {name}", self.name)))
    }
}

/// `MalformedXML` with the reason.
pub fn malformed(why: &str) -> Error {
    Error::new(
        Code::MalformedXML,
        format!("{} ({why})", Code::MalformedXML.message()),
    )
}

fn read_tree(text: &str) -> Result<Element> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = vec![Element::default()];
    let mut count = 0;

    loop {
        let event = reader
            .read_event()
            .map_err(|error| malformed(&error.to_string()))?;
        match event {
            Event::Start(start) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() > MAX_DEPTH {
                    return Err(malformed("it is too deep or has too many elements"));
                }
                open.push(opened(&start)?);
            }
            Event::Empty(start) => {
                count += 1;
                if count > MAX_ELEMENTS {
                    return Err(malformed("it has too many elements"));
                }
                let element = opened(&start)?;
                top(&mut open).children.push(element);
            }
            Event::End(_) => {
                let done = open.pop().filter(|_| !open.is_empty());
                let done = done.ok_or_else(|| malformed("an element ends that never began"))?;
                top(&mut open).children.push(done);
            }
            Event::Text(text) => top(&mut open).text.push_str(&text),
            Event::CData(data) => top(&mut open).text.push_str(&data),
            Event::GeneralRef(reference) => top(&mut open).text.push(resolved(&reference)?),
            Event::DocType(_) => return Err(malformed("document types are refused")),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }

    match (
        open.len(),
        open.pop()
            .map(|mut outer| (outer.children.pop(), outer.children.len())),
    ) {
        (1, Some((Some(root), 0))) => Ok(root),
        _ => Err(malformed("it is not one whole element")),
    }
}

fn top(open: &mut [Element]) -> &mut Element {
    open.last_mut()
        .expect("the outermost element is never closed")
}

fn opened(start: &quick_xml::events::BytesStart<'_>) -> Result<Element> {
    let name = start.local_name().as_ref().to_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| malformed(&error.to_string()))?;
        let name = attribute.key.local_name().as_ref().to_owned();
        attributes.push((name, attribute.value.into_owned()));
    }
    Ok(Element {
        name,
        attributes,
        ..Element::default()
    })
}

fn resolved(name: &str) -> Result<char> {
    let number = name
        .strip_prefix('#')
        .and_then(|digits| match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        });
    match name {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => number
            .and_then(char::from_u32)
            .ok_or_else(|| malformed(&format!("the entity {name} is unknown"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let nasty = "a<b>&\"c' \u{1}\r\n é";
        let text = Writer::document("Root", |xml| xml.nest("A", |xml| xml.text("Key", nasty)));
        let root = Element::read(text.as_bytes(), "Root").unwrap();
        assert_eq!(root.child("A").unwrap().text_of("Key"), Some(nasty));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"c\">]><Root>&b;</Root>";
        let deep = "<Root>".repeat(50) + &"</Root>".repeat(50);
        let wide = format!("<Root>{}</Root>", "<a/>".repeat(200_000));
        let big = format!("<Root>{}</Root>", "a".repeat(3 << 20));
        for bad in [
            bomb,
            &deep,
            &wide,
            &big,
            "",
            "text",
            "<Root>",
            "</Root>",
            "<Root/><Root/>",
            "<Other/>",
            "<Root>&b;</Root>",
            "<Root><a></b></Root>",
            "<Root>&#xd800;</Root>",
        ] {
            assert!(Element::read(bad.as_bytes(), "Root").is_err(), "{bad:.60}");
        }
        assert!(Element::read(b"\xff\xfe<", "Root").is_err());
    }
}
