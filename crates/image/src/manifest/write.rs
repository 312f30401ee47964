//! The writer of manifests, in euca2ools 3.4's form: element order, compact, ASCII, and a signature
//! over the very bytes of `machine_configuration` and `image`.

use std::fmt::Write;

use super::Manifest;
use crate::keys::{CloudKey, KeyError};

/// What euca2ools' XML library writes first.
const DECLARATION: &str = "<?xml version='1.0' encoding='ASCII'?>\n";

pub(super) fn write(manifest: &Manifest, signer: Option<&CloudKey>) -> Result<String, KeyError> {
    let signed = format!("{}{}", machine_configuration(manifest), image(manifest));
    let signature = match signer {
        Some(key) => hex::encode(key.sign(signed.as_bytes())?),
        None => "UNSIGNED".to_owned(),
    };
    let bundler = [
        leaf("name", &manifest.bundler.name),
        leaf("version", &manifest.bundler.version),
        leaf("release", &manifest.bundler.release),
    ];
    Ok(format!(
        "{DECLARATION}<manifest>{}<bundler>{}</bundler>{signed}{}</manifest>",
        leaf("version", "2007-10-10"),
        bundler.concat(),
        leaf("signature", &signature),
    ))
}

fn machine_configuration(manifest: &Manifest) -> String {
    let mut xml = leaf("architecture", manifest.architecture.as_str());
    if !manifest.block_device_mapping.is_empty() {
        let mappings = manifest.block_device_mapping.iter().map(|mapping| {
            let pair = [
                leaf("virtual", &mapping.virtual_name),
                leaf("device", &mapping.device),
            ];
            format!("<mapping>{}</mapping>", pair.concat())
        });
        let mappings: String = mappings.collect();
        let _ = write!(
            xml,
            "<block_device_mapping>{mappings}</block_device_mapping>"
        );
    }
    if !manifest.product_codes.is_empty() {
        let codes: String = manifest
            .product_codes
            .iter()
            .map(|code| leaf("product_code", code))
            .collect();
        let _ = write!(xml, "<product_codes>{codes}</product_codes>");
    }
    for (name, id) in [
        ("kernel_id", &manifest.kernel_id),
        ("ramdisk_id", &manifest.ramdisk_id),
    ] {
        if let Some(id) = id {
            xml.push_str(&leaf(name, id));
        }
    }
    format!("<machine_configuration>{xml}</machine_configuration>")
}

fn image(manifest: &Manifest) -> String {
    const AES: &str = " algorithm=\"AES-128-CBC\"";
    const SHA: &str = " algorithm=\"SHA1\"";
    let fields = [
        leaf("name", &manifest.name),
        leaf("user", manifest.user.as_str()),
        leaf("type", manifest.kind.as_str()),
        leaf_with("digest", SHA, &manifest.digest.to_string()),
        leaf("size", &manifest.size_bytes.to_string()),
        leaf("bundled_size", &manifest.bundled_bytes.to_string()),
        leaf_with(
            "ec2_encrypted_key",
            AES,
            &hex::encode(&manifest.cloud_key.key),
        ),
        leaf_with(
            "user_encrypted_key",
            AES,
            &hex::encode(&manifest.user_key.key),
        ),
        leaf("ec2_encrypted_iv", &hex::encode(&manifest.cloud_key.iv)),
        leaf("user_encrypted_iv", &hex::encode(&manifest.user_key.iv)),
    ];
    let mut parts = String::new();
    for (index, part) in manifest.parts.iter().enumerate() {
        let name = leaf("filename", &part.file_name);
        let digest = leaf_with("digest", SHA, &part.digest.to_string());
        let _ = write!(parts, "<part index=\"{index}\">{name}{digest}</part>");
    }
    let count = manifest.parts.len();
    format!(
        "<image>{}<parts count=\"{count}\">{parts}</parts></image>",
        fields.concat()
    )
}

fn leaf(name: &str, text: &str) -> String {
    leaf_with(name, "", text)
}

fn leaf_with(name: &str, attributes: &str, text: &str) -> String {
    match text {
        "" => format!("<{name}{attributes}/>"),
        _ => format!("<{name}{attributes}>{}</{name}>", escape(text)),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            ' '..='~' => escaped.push(character),
            _ => {
                let _ = write!(escaped, "&#{};", u32::from(character));
            }
        }
    }
    escaped
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        digest::Sha1Digest,
        keys::{WrappedKey, tests::fresh_key},
        manifest::{Architecture, Bundler, DeviceMapping, Kind, Part},
    };

    pub(crate) fn sample() -> Manifest {
        let part = |index| Part {
            file_name: format!("tiny.part.0{index}"),
            digest: Sha1Digest::of(&[index]),
        };
        Manifest {
            bundler: Bundler {
                name: "euca2ools".to_owned(),
                version: "3.4.1".to_owned(),
                release: "0".to_owned(),
            },
            architecture: Architecture::X86_64,
            block_device_mapping: vec![DeviceMapping {
                virtual_name: "ami".to_owned(),
                device: "sda1".to_owned(),
            }],
            product_codes: vec![],
            kernel_id: Some("eki-12345678".to_owned()),
            ramdisk_id: None,
            name: "t<i>ny é".to_owned(),
            user: "123456789012".parse().unwrap(),
            kind: Kind::Machine,
            digest: Sha1Digest::of(b"tar"),
            size_bytes: 4096,
            bundled_bytes: 1024,
            cloud_key: WrappedKey {
                key: vec![1; 3],
                iv: vec![2; 3],
            },
            user_key: WrappedKey::default(),
            parts: vec![part(0), part(1)],
            signature: None,
        }
    }

    #[test]
    fn the_document_has_euca2ools_form() {
        let xml = sample().to_xml(None).unwrap();
        let expected = "<?xml version='1.0' encoding='ASCII'?>\n<manifest><version>2007-10-10</version>\
            <bundler><name>euca2ools</name><version>3.4.1</version><release>0</release></bundler>\
            <machine_configuration><architecture>x86_64</architecture><block_device_mapping><mapping>\
            <virtual>ami</virtual><device>sda1</device></mapping></block_device_mapping>\
            <kernel_id>eki-12345678</kernel_id></machine_configuration><image><name>t&lt;i&gt;ny &#233;</name>\
            <user>123456789012</user><type>machine</type>\
            <digest algorithm=\"SHA1\">45fcc8bd3e3b36dbf4e6d54cac1cfd24cd5f65e7</digest><size>4096</size>\
            <bundled_size>1024</bundled_size><ec2_encrypted_key algorithm=\"AES-128-CBC\">010101</ec2_encrypted_key>\
            <user_encrypted_key algorithm=\"AES-128-CBC\"/><ec2_encrypted_iv>020202</ec2_encrypted_iv>\
            <user_encrypted_iv/><parts count=\"2\"><part index=\"0\"><filename>tiny.part.00</filename>";
        assert_eq!(
            &xml[..expected.len()],
            expected.replace(
                "45fcc8bd3e3b36dbf4e6d54cac1cfd24cd5f65e7",
                &Sha1Digest::of(b"tar").to_string()
            )
        );
        assert!(xml.ends_with("</part></parts></image><signature>UNSIGNED</signature></manifest>"));
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        assert_eq!(
            Manifest::parse(sample().to_xml(None).unwrap().as_bytes()),
            Ok(sample())
        );
    }

    #[test]
    fn the_signature_covers_the_serialised_middle() {
        let key = fresh_key();
        let xml = sample().to_xml(Some(&key)).unwrap();
        let start = xml.find("<machine_configuration>").unwrap();
        let end = xml.find("<signature>").unwrap();
        let signature = Manifest::parse(xml.as_bytes()).unwrap().signature.unwrap();
        assert!(
            key.certificate()
                .verifies(&xml.as_bytes()[start..end], &signature)
        );
        assert!(!key.certificate().verifies(b"other", &signature));
    }
}
