//! What radosgw answers to `GET /?usage` (Ceph documentation, "Get usage stats"): what an account
//! holds and may hold. Names and order are radosgw's, which has no namespace here. `Entries` are its log
//! of requests by time, and empty there too unless that log is switched on.

use types::quota::{Bounds, Usage};

use crate::xml::Writer;

/// Answer of GetAccountUsage.
#[derive(Debug)]
pub struct AccountUsage<'a> {
    /// What the account holds.
    pub used: Usage,
    /// What it may hold.
    pub of_account: Bounds,
    /// What each of its buckets may hold of which nobody says anything else.
    pub of_bucket: Bounds,
    /// What its buckets hold, by name.
    pub buckets: &'a [(String, Usage)],
}

impl AccountUsage<'_> {
    /// The document.
    pub fn write(&self) -> String {
        Writer::bare_document("Usage", |xml| {
            xml.nest("Entries", |_| {});
            xml.nest("Summary", |xml| self.write_summary(xml));
            xml.nest("CapacityUsed", |xml| {
                xml.nest("User", |xml| {
                    xml.nest("Buckets", |xml| {
                        for (name, used) in self.buckets {
                            write_bucket(xml, name, *used);
                        }
                    });
                });
            });
        })
    }

    fn write_summary(&self, xml: &mut Writer) {
        xml.text("QuotaMaxBytes", limit(self.of_account.bytes));
        xml.text("QuotaMaxBuckets", limit_of_buckets(self.of_account.buckets));
        xml.text("QuotaMaxObjCount", limit(self.of_account.objects));
        xml.text("QuotaMaxBytesPerBucket", limit(self.of_bucket.bytes));
        xml.text("QuotaMaxObjCountPerBucket", limit(self.of_bucket.objects));
        xml.plain("TotalBytes", self.used.bytes);
        // radosgw rounds each object up to the blocks that it takes. Quotas count bytes here.
        xml.plain("TotalBytesRounded", self.used.bytes);
        xml.plain("TotalEntries", self.used.objects);
    }
}

fn write_bucket(xml: &mut Writer, name: &str, used: Usage) {
    xml.nest("Entry", |xml| {
        xml.text("Bucket", name);
        xml.plain("Bytes", used.bytes);
        xml.plain("Bytes_Rounded", used.bytes);
    });
}

/// A limit as radosgw writes it.
pub fn limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

/// A limit of buckets, of which radosgw says 0 where there is none and -1 where none may be made.
pub fn limit_of_buckets(limit: Option<u64>) -> String {
    match limit {
        None => "0".to_owned(),
        Some(0) => "-1".to_owned(),
        Some(limit) => limit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_as_radosgw_writes_it() {
        let used = Usage {
            bytes: 9,
            objects: 3,
        };
        let usage = AccountUsage {
            used,
            of_account: Bounds {
                bytes: None,
                objects: Some(50),
                buckets: Some(1000),
            },
            of_bucket: Bounds::default(),
            buckets: &[("photos".to_owned(), used)],
        };
        assert_eq!(
            usage.write(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Usage><Entries></Entries><Summary>\
             <QuotaMaxBytes>-1</QuotaMaxBytes><QuotaMaxBuckets>1000</QuotaMaxBuckets>\
             <QuotaMaxObjCount>50</QuotaMaxObjCount>\
             <QuotaMaxBytesPerBucket>-1</QuotaMaxBytesPerBucket>\
             <QuotaMaxObjCountPerBucket>-1</QuotaMaxObjCountPerBucket>\
             <TotalBytes>9</TotalBytes><TotalBytesRounded>9</TotalBytesRounded>\
             <TotalEntries>3</TotalEntries></Summary><CapacityUsed><User><Buckets><Entry>\
             <Bucket>photos</Bucket><Bytes>9</Bytes><Bytes_Rounded>9</Bytes_Rounded></Entry>\
             </Buckets></User></CapacityUsed></Usage>"
        );
    }

    #[test]
    fn no_limit_and_no_bucket_are_told_apart() {
        assert_eq!((limit(None), limit(Some(0))), ("-1".into(), "0".into()));
        let of_buckets = [None, Some(0), Some(7)].map(limit_of_buckets);
        assert_eq!(of_buckets, ["0", "-1", "7"]);
    }
}
