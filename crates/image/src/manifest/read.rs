//! The strict reader of manifests.

use std::collections::HashSet;

use super::{
    Architecture, Bundler, DeviceMapping, Kind, MAX_IMAGE_BYTES, MAX_MANIFEST_BYTES, MAX_PARTS,
    Manifest, ManifestError, PART_BYTES, Part, XmlError, invalid,
};
use crate::{
    digest::Sha1Digest,
    keys::WrappedKey,
    tree::{self, Element},
};

/// Three elements to a part, and room for the rest.
const MAX_ELEMENTS: usize = 3 * MAX_PARTS + 512;
/// The format's only version; Amazon's and every later bundler write it.
const VERSION: &str = "2007-10-10";
/// The longest file name that file systems and euca2ools handle.
const MAX_NAME_BYTES: usize = 255;
/// Mappings or product codes of one image.
const MAX_LIST: usize = 64;
/// An 8192-bit RSA ciphertext.
const MAX_WRAPPED_BYTES: usize = 1024;

pub(super) fn read(document: &[u8]) -> Result<Manifest, ManifestError> {
    if document.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge);
    }
    let document = std::str::from_utf8(document)
        .map_err(|_| XmlError::Malformed("it is not UTF-8".to_owned()))?;
    let root = tree::parse(document, MAX_ELEMENTS)?;
    if root.name != "manifest" {
        return Err(ManifestError::Missing("manifest element"));
    }
    if text(&root, "version")? != VERSION {
        return Err(invalid("version", "is not 2007-10-10"));
    }

    let machine = one(&root, "machine_configuration")?;
    let image = one(&root, "image")?;
    let parts = read_parts(one(image, "parts")?)?;
    let bundled_bytes = number(image, "bundled_size")?;
    check_sizes(bundled_bytes, parts.len())?;

    Ok(Manifest {
        bundler: read_bundler(&root)?,
        architecture: text(machine, "architecture")?.parse::<Architecture>()?,
        block_device_mapping: read_mappings(machine)?,
        product_codes: read_product_codes(machine)?,
        kernel_id: read_boot_id(machine, "kernel_id")?,
        ramdisk_id: read_boot_id(machine, "ramdisk_id")?,
        name: read_name(image)?,
        user: text(image, "user")?
            .parse()
            .map_err(|_| invalid("user", "is not 12 digits"))?,
        kind: text(image, "type")?.parse::<Kind>()?,
        digest: read_digest(one(image, "digest")?)?,
        size_bytes: read_size(image)?,
        bundled_bytes,
        cloud_key: read_wrapped(image, "ec2_encrypted_key", "ec2_encrypted_iv", true)?,
        user_key: read_wrapped(image, "user_encrypted_key", "user_encrypted_iv", false)?,
        parts,
        signature: read_signature(&root)?,
    })
}

fn optional<'a>(
    parent: &'a Element,
    name: &'static str,
) -> Result<Option<&'a Element>, ManifestError> {
    let mut found = parent.all(name);
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        _ => Err(ManifestError::Repeated(name)),
    }
}

fn one<'a>(parent: &'a Element, name: &'static str) -> Result<&'a Element, ManifestError> {
    optional(parent, name)?.ok_or(ManifestError::Missing(name))
}

fn text<'a>(parent: &'a Element, name: &'static str) -> Result<&'a str, ManifestError> {
    let element = one(parent, name)?;
    match element.children.is_empty() {
        true => Ok(&element.text),
        false => Err(invalid(name, "holds elements where text belongs")),
    }
}

fn number(parent: &Element, name: &'static str) -> Result<u64, ManifestError> {
    decimal(text(parent, name)?).ok_or(invalid(name, "is not a number of bytes"))
}

fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn plain(text: &str, max_bytes: usize) -> bool {
    text.len() <= max_bytes && !text.chars().any(char::is_control)
}

/// A base name and nothing else. Backslashes are refused too: someone's client may treat them so.
pub(crate) fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\'])
        && plain(name, MAX_NAME_BYTES)
}

fn read_name(image: &Element) -> Result<String, ManifestError> {
    let name = text(image, "name")?;
    match is_file_name(name) {
        true => Ok(name.to_owned()),
        false => Err(invalid("name", "is not a file name")),
    }
}

fn read_size(image: &Element) -> Result<u64, ManifestError> {
    match number(image, "size")? {
        0 => Err(invalid("size", "is zero")),
        size if size > MAX_IMAGE_BYTES => Err(invalid("size", "is more than 1 TiB")),
        size => Ok(size),
    }
}

/// What is known before any part is fetched: ciphertext is whole AES blocks, and fits in its parts.
fn check_sizes(bundled_bytes: u64, parts: usize) -> Result<(), ManifestError> {
    if bundled_bytes == 0 || !bundled_bytes.is_multiple_of(16) {
        return Err(invalid(
            "bundled_size",
            "is not a whole number of AES blocks",
        ));
    }
    if bundled_bytes > parts as u64 * PART_BYTES {
        return Err(invalid(
            "bundled_size",
            "is more than its parts of 10 MiB can hold",
        ));
    }
    Ok(())
}

fn read_bundler(root: &Element) -> Result<Bundler, ManifestError> {
    let nothing = Element::default();
    let bundler = optional(root, "bundler")?.unwrap_or(&nothing);
    let field = |name| -> Result<String, ManifestError> {
        let text = optional(bundler, name)?.map_or("", |element| element.text.as_str());
        match plain(text, MAX_NAME_BYTES) {
            true => Ok(text.to_owned()),
            false => Err(invalid("bundler", "is not plain text")),
        }
    };
    Ok(Bundler {
        name: field("name")?,
        version: field("version")?,
        release: field("release")?,
    })
}

fn read_mappings(machine: &Element) -> Result<Vec<DeviceMapping>, ManifestError> {
    let Some(list) = optional(machine, "block_device_mapping")? else {
        return Ok(Vec::new());
    };
    let mut mappings = Vec::new();
    for mapping in list.all("mapping") {
        let (virtual_name, device) = (text(mapping, "virtual")?, text(mapping, "device")?);
        if mappings.len() == MAX_LIST || !plain(virtual_name, 64) || !plain(device, 64) {
            return Err(invalid(
                "block_device_mapping",
                "is not a short list of device names",
            ));
        }
        mappings.push(DeviceMapping {
            virtual_name: virtual_name.to_owned(),
            device: device.to_owned(),
        });
    }
    mappings.sort();
    Ok(mappings)
}

fn read_product_codes(machine: &Element) -> Result<Vec<String>, ManifestError> {
    let Some(list) = optional(machine, "product_codes")? else {
        return Ok(Vec::new());
    };
    let codes: Vec<_> = list
        .all("product_code")
        .map(|code| code.text.clone())
        .collect();
    match codes.len() <= MAX_LIST && codes.iter().all(|code| plain(code, MAX_NAME_BYTES)) {
        true => Ok(codes),
        false => Err(invalid("product_codes", "is not a short list of codes")),
    }
}

/// An id (`eki-…`, `ami-…`), `true`, or nothing. Whether it exists is for the registrar to say.
fn read_boot_id(machine: &Element, name: &'static str) -> Result<Option<String>, ManifestError> {
    let Some(element) = optional(machine, name)? else {
        return Ok(None);
    };
    let id = element.text.as_str();
    let fits = id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match (id, fits) {
        ("", _) => Ok(None),
        (_, true) => Ok(Some(id.to_owned())),
        (_, false) => Err(invalid(name, "is not an id")),
    }
}

fn read_digest(element: &Element) -> Result<Sha1Digest, ManifestError> {
    sha1(element).ok_or(invalid("digest", "is not a SHA-1 in hex"))
}

fn sha1(element: &Element) -> Option<Sha1Digest> {
    let algorithm = element.attribute("algorithm")?;
    algorithm
        .eq_ignore_ascii_case("SHA1")
        .then(|| element.text.parse().ok())
        .flatten()
}

fn read_wrapped(
    image: &Element,
    key: &'static str,
    iv: &'static str,
    required: bool,
) -> Result<WrappedKey, ManifestError> {
    let half = |name| -> Result<Vec<u8>, ManifestError> {
        let element = if required {
            Some(one(image, name)?)
        } else {
            optional(image, name)?
        };
        let bytes = hex::decode(element.map_or("", |element| element.text.as_str()))
            .map_err(|_| invalid(name, "is not hex"))?;
        match bytes.len() {
            0 if required => Err(invalid(name, "is empty")),
            0..=MAX_WRAPPED_BYTES => Ok(bytes),
            _ => Err(invalid(name, "is longer than an RSA ciphertext")),
        }
    };
    Ok(WrappedKey {
        key: half(key)?,
        iv: half(iv)?,
    })
}

fn read_parts(list: &Element) -> Result<Vec<Part>, ManifestError> {
    let count = list.attribute("count").and_then(decimal);
    let count = count.ok_or(invalid("parts", "has no count"))?;
    let mut parts = Vec::new();
    let mut names = HashSet::new();
    for (index, element) in list.all("part").enumerate() {
        let part = read_part(index, element)?;
        if !names.insert(part.file_name.clone()) {
            return Err(ManifestError::Part {
                index,
                why: "names a file that another part names",
            });
        }
        parts.push(part);
    }
    if parts.is_empty() || parts.len() > MAX_PARTS {
        return Err(invalid("parts", "is empty or too long"));
    }
    if parts.len() as u64 != count {
        return Err(invalid("parts", "has another count than it says"));
    }
    Ok(parts)
}

fn read_part(index: usize, element: &Element) -> Result<Part, ManifestError> {
    let bad = |why| ManifestError::Part { index, why };
    if element.attribute("index").and_then(decimal) != Some(index as u64) {
        return Err(bad("is missing or out of order"));
    }
    let file_name = text(element, "filename")?;
    if !is_file_name(file_name) {
        return Err(bad("has a file name that is not a base name"));
    }
    let digest = sha1(one(element, "digest")?).ok_or(bad("has no SHA-1 digest in hex"))?;
    Ok(Part {
        file_name: file_name.to_owned(),
        digest,
    })
}

fn read_signature(root: &Element) -> Result<Option<Vec<u8>>, ManifestError> {
    let Some(element) = optional(root, "signature")? else {
        return Ok(None);
    };
    match element.text.as_str() {
        "" | "UNSIGNED" => Ok(None),
        hex_text => hex::decode(hex_text)
            .map(Some)
            .map_err(|_| invalid("signature", "is not hex")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::write::tests::sample;

    fn sample_xml() -> String {
        sample().to_xml(None).unwrap()
    }

    fn refusal(from: &str, to: &str) -> String {
        let original = sample_xml();
        assert!(original.contains(from), "{from} is not in the sample");
        read(original.replacen(from, to, 1).as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_manifest_cut_anywhere_is_refused() {
        let document = sample_xml();
        for end in 0..document.len() {
            assert!(
                read(&document.as_bytes()[..end]).is_err(),
                "cut at {end} was accepted"
            );
        }
    }

    #[test]
    fn hostile_part_names_are_refused() {
        let long = "x".repeat(256);
        for name in [
            "../../etc/x",
            "/etc/passwd",
            "a/b",
            "..",
            ".",
            "",
            "a\\b",
            "a&#9;b",
            "a&#127;b",
            &long,
        ] {
            let answer = refusal("tiny.part.01", name);
            assert_eq!(
                answer,
                "part 1 of the manifest has a file name that is not a base name"
            );
        }
    }

    #[test]
    fn counts_and_indexes_must_agree() {
        assert_eq!(
            refusal("count=\"2\"", "count=\"3\""),
            "the manifest's parts has another count than it says"
        );
        assert_eq!(
            refusal("count=\"2\"", "count=\"-2\""),
            "the manifest's parts has no count"
        );
        assert_eq!(
            refusal("index=\"1\"", "index=\"2\""),
            "part 1 of the manifest is missing or out of order"
        );
        assert_eq!(
            refusal("tiny.part.01", "tiny.part.00"),
            "part 1 of the manifest names a file that another part names"
        );
    }

    #[test]
    fn sizes_must_be_sane() {
        assert_eq!(
            refusal("<size>4096<", "<size>0<"),
            "the manifest's size is zero"
        );
        assert_eq!(
            refusal("<size>4096<", "<size>9999999999999<"),
            "the manifest's size is more than 1 TiB"
        );
        assert_eq!(
            refusal("<size>4096<", "<size>+4096<"),
            "the manifest's size is not a number of bytes"
        );
        assert_eq!(
            refusal("<bundled_size>1024<", "<bundled_size>1023<"),
            "the manifest's bundled_size is not a whole number of AES blocks"
        );
        assert_eq!(
            refusal("<bundled_size>1024<", "<bundled_size>31457280<"),
            "the manifest's bundled_size is more than its parts of 10 MiB can hold"
        );
    }

    #[test]
    fn fields_must_be_what_they_say() {
        assert_eq!(
            refusal("2007-10-10", "2010-11-15"),
            "the manifest's version is not 2007-10-10"
        );
        assert_eq!(
            refusal("<user>123456789012", "<user>bob"),
            "the manifest's user is not 12 digits"
        );
        assert_eq!(
            refusal("SHA1", "MD5"),
            "the manifest's digest is not a SHA-1 in hex"
        );
        assert_eq!(
            refusal("<signature>", "<image/><signature>"),
            "the manifest has more than one image"
        );
        assert_eq!(
            refusal("<type>machine</type>", ""),
            "the manifest has no type"
        );
        assert!(
            refusal("x86_64", "vax").starts_with("the manifest's Architecture is none of i386 ")
        );
        assert!(
            refusal("<manifest>", "<!DOCTYPE x><manifest>").contains("document type definitions")
        );
    }

    #[test]
    fn a_pretty_printed_manifest_reads_the_same() {
        let pretty = sample_xml().replace("><", ">\n  <").replace("> <", "><");
        assert_eq!(read(pretty.as_bytes()).unwrap(), sample());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..2000) {
            let mut document = sample_xml().into_bytes();
            let at = at % document.len();
            document.splice(at..at, bytes);
            let _ = read(&document);
        }
    }
}
