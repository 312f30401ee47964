//! Who pays for requests: a flag that is kept and given back. Nobody pays here.

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    xml::{Element, Writer, malformed},
};

/// Who pays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payer {
    /// The bucket's owner.
    #[default]
    BucketOwner,
    /// Whoever asks.
    Requester,
}

impl Payer {
    /// Reads a RequestPaymentConfiguration.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "RequestPaymentConfiguration")?;
        match configuration.required("Payer")?.trim() {
            "BucketOwner" => Ok(Self::BucketOwner),
            "Requester" => Ok(Self::Requester),
            _ => Err(malformed("Payer is BucketOwner or Requester")),
        }
    }

    /// The document.
    pub fn write(self) -> String {
        let word = match self {
            Self::BucketOwner => "BucketOwner",
            Self::Requester => "Requester",
        };
        Writer::document("RequestPaymentConfiguration", |xml| xml.text("Payer", word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payers_go_round() {
        for payer in [Payer::BucketOwner, Payer::Requester] {
            assert_eq!(Payer::read(payer.write().as_bytes()).unwrap(), payer);
        }
        assert!(Payer::read(b"<RequestPaymentConfiguration/>").is_err());
    }
}
