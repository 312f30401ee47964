//! EC2's XML as a serde format: what is absent writes no element, a list writes `<item>`s in one
//! wrapper, an empty list writes the empty wrapper (boto3 turns a missing one into a KeyError).
//!
//! Everything goes straight into one `String`; a reply of 10,000 instances is one pass. No blanks
//! are ever put between elements: euca2ools reads whitespace inside an empty structure as a string.

use std::fmt::{self, Write};

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible, SerializeSeq, SerializeStruct},
};

/// How the elements of a list are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListStyle {
    /// `<item>`, in EC2.
    Item,
    /// `<member>`, in IAM, STS and the services after them.
    Member,
}

/// A shape that this format cannot say: a map, a tuple, a struct where text must be. A bug in the
/// shape, which the tests of every shape find.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such thing in EC2's XML: {0}")]
pub struct Error(String);

impl ser::Error for Error {
    fn custom<T: fmt::Display>(said: T) -> Self {
        Self(said.to_string())
    }
}

/// Appends the fields of a struct, without an element around them.
pub fn write_fields(
    out: &mut String,
    style: ListStyle,
    value: &impl Serialize,
) -> Result<(), Error> {
    value.serialize(Element {
        out,
        name: "",
        style,
    })
}

/// Appends one element of that name, or nothing if the value is absent.
pub fn write_element(
    out: &mut String,
    style: ListStyle,
    name: &str,
    value: &impl Serialize,
) -> Result<(), Error> {
    value.serialize(Element { out, name, style })
}

/// Appends text so that any XML 1.0 parser reads back what was meant. What XML cannot say at all
/// (control characters, even as `&#1;`) becomes U+FFFD, or one such tag would break every listing.
pub fn escape(out: &mut String, text: &str) {
    if text.bytes().all(is_clean) {
        return out.push_str(text);
    }
    let mut clean = 0;
    for (at, c) in text.char_indices() {
        let instead = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            // A parser turns a bare one into a line feed.
            '\r' => "&#13;",
            '\t' | '\n' => continue,
            '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
            c if c < ' ' => "\u{fffd}",
            _ => continue,
        };
        out.push_str(&text[clean..at]);
        out.push_str(instead);
        clean = at + c.len_utf8();
    }
    out.push_str(&text[clean..]);
}

/// Whether a byte, wherever it stands, asks for no second look: nearly all text that we write is of
/// such bytes alone. U+FFFE and U+FFFF begin with 0xEF.
const fn is_clean(byte: u8) -> bool {
    !matches!(byte, 0..0x20 | b'&' | b'<' | b'>' | b'"' | 0xef)
}

/// An element that is about to be written; nameless at the root, where only fields are.
struct Element<'a> {
    out: &'a mut String,
    name: &'a str,
    style: ListStyle,
}

impl Element<'_> {
    fn open(&mut self) {
        if !self.name.is_empty() {
            self.out.push('<');
            self.out.push_str(self.name);
            self.out.push('>');
        }
    }

    fn text(mut self, text: &str) -> Result<(), Error> {
        self.open();
        escape(self.out, text);
        close(self.out, self.name);
        Ok(())
    }

    /// Text of which we know that it needs no escapes.
    fn plain(mut self, value: impl fmt::Display) -> Result<(), Error> {
        self.open();
        write!(self.out, "{value}").expect("a String takes all text");
        close(self.out, self.name);
        Ok(())
    }
}

fn close(out: &mut String, name: &str) {
    if !name.is_empty() {
        out.push_str("</");
        out.push_str(name);
        out.push('>');
    }
}

/// Ends an element that was opened at `start`: `<a></a>` becomes `<a/>`.
fn finish(out: &mut String, name: &str, start: usize) {
    if name.is_empty() || out.len() > start {
        return close(out, name);
    }
    out.pop();
    out.push_str("/>");
}

macro_rules! plain {
    ($($method:ident $kind:ty),*) => {$(
        fn $method(self, value: $kind) -> Result<(), Error> {
            self.plain(value)
        }
    )*};
}

impl<'a> Serializer for Element<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Inside<'a>;
    type SerializeStruct = Inside<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    plain!(serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    plain!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);
    plain!(serialize_f32 f32, serialize_f64 f64);

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        Err(Error("bytes; use a Blob".to_owned()))
    }

    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_seq(mut self, _: Option<usize>) -> Result<Inside<'a>, Error> {
        self.open();
        Ok(Inside::of(self))
    }

    fn serialize_struct(mut self, _: &'static str, _: usize) -> Result<Inside<'a>, Error> {
        self.open();
        Ok(Inside::of(self))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(Error("a tuple".to_owned()))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(Error(name.to_owned()))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(Error(name.to_owned()))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(Error("a map".to_owned()))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(Error(name.to_owned()))
    }
}

/// An open element, being filled.
struct Inside<'a> {
    out: &'a mut String,
    name: &'a str,
    style: ListStyle,
    start: usize,
}

impl<'a> Inside<'a> {
    fn of(element: Element<'a>) -> Self {
        let Element { out, name, style } = element;
        let start = out.len();
        Self {
            out,
            name,
            style,
            start,
        }
    }
}

impl SerializeStruct for Inside<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(Element {
            out: self.out,
            name,
            style: self.style,
        })
    }

    fn end(self) -> Result<(), Error> {
        finish(self.out, self.name, self.start);
        Ok(())
    }
}

impl SerializeSeq for Inside<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        let name = match self.style {
            ListStyle::Item => "item",
            ListStyle::Member => "member",
        };
        value.serialize(Element {
            out: self.out,
            name,
            style: self.style,
        })
    }

    fn end(self) -> Result<(), Error> {
        finish(self.out, self.name, self.start);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Volume {
        volume_id: &'static str,
        size: u32,
        encrypted: bool,
        snapshot_id: Option<&'static str>,
        attachment_set: Vec<Attachment>,
        tag_set: Vec<&'static str>,
        placement: Placement,
    }

    #[derive(Serialize)]
    struct Attachment {
        device: &'static str,
    }

    #[derive(Serialize)]
    struct Placement {
        zone: Option<&'static str>,
    }

    fn xml(style: ListStyle, value: &impl Serialize) -> String {
        let mut out = String::new();
        write_fields(&mut out, style, value).unwrap();
        out
    }

    #[test]
    fn absence_is_no_element_and_an_empty_list_is_an_empty_one() {
        let volume = Volume {
            volume_id: "vol-1",
            size: 5,
            encrypted: false,
            snapshot_id: None,
            attachment_set: vec![Attachment { device: "/dev/sdb" }],
            tag_set: vec![],
            placement: Placement { zone: None },
        };
        assert_eq!(
            xml(ListStyle::Item, &volume),
            "<volumeId>vol-1</volumeId><size>5</size><encrypted>false</encrypted><attachmentSet><item>\
             <device>/dev/sdb</device></item></attachmentSet><tagSet/><placement/>"
        );
        assert!(xml(ListStyle::Member, &volume).contains("<member><device>"));
    }

    #[test]
    fn text_never_breaks_the_document() {
        let mut out = String::new();
        escape(&mut out, "<a href=\"x\">&\u{1}\r\n\u{ffff}é");
        assert_eq!(
            out,
            "&lt;a href=&quot;x&quot;&gt;&amp;\u{fffd}&#13;\n\u{fffd}é"
        );
    }

    proptest! {
        #[test]
        fn a_parser_reads_back_what_was_written(text in any::<String>()) {
            let mut out = String::new();
            write_element(&mut out, ListStyle::Item, "value", &text).unwrap();
            let sayable = |c: char| c >= ' ' || c == '\t' || c == '\n' || c == '\r';
            let expected: String = text
                .chars()
                .map(|c| if sayable(c) && c != '\u{fffe}' && c != '\u{ffff}' { c } else { '\u{fffd}' })
                .collect();
            let inner = out.strip_prefix("<value>").unwrap().strip_suffix("</value>").unwrap();
            prop_assert_eq!(quick_xml::escape::unescape(inner).unwrap(), expected);
        }
    }
}
