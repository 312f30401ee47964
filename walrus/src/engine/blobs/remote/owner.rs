//! Whose the bucket is. A Walrus deletes what its journal does not name; in a bucket that two of them
//! believed to be their own, each would delete all that the other has. So the bucket carries a mark,
//! and what stands in it stands in a file beside the journal too.
//!
//! Pure: what is found in both places decides. The file is written before the mark and says whether
//! the mark is known to be there, so that a crash between the two is told from a bucket that was
//! exchanged.

/// The key of the mark, below the prefix. No file has such a name.
pub(super) const MARK: &str = "owner";
/// The file beside the journal.
pub(super) const FILE: &str = "blobs.owner";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Our name.
    pub(super) name: String,
    /// Whether the bucket was seen with our mark.
    pub(super) is_marked: bool,
}

impl Claim {
    /// A new name.
    pub(super) fn mint() -> Self {
        Self {
            name: hex::encode(rand::random::<[u8; 16]>()),
            is_marked: false,
        }
    }

    /// What stands in the file.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        Some(Self {
            name: words.next()?.to_owned(),
            is_marked: words.next() != Some("claiming"),
        })
    }

    pub(super) fn text(&self) -> String {
        let word = if self.is_marked { "" } else { " claiming" };
        format!("{}{word}\n", self.name)
    }
}

/// What to do before anything is written to the bucket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is ours.
    Begin,
    /// The file is to say that the mark is there.
    Note,
    /// The mark is to be set.
    Mark,
    /// A name is to be made and put into the file.
    Mint,
}

/// Decides from what the file and the bucket say.
pub(super) fn decide(claim: Option<&Claim>, mark: Option<&str>) -> Result<Step, String> {
    match (claim, mark) {
        (None, None) => Ok(Step::Mint),
        (Some(claim), Some(mark)) if claim.name == mark => Ok(match claim.is_marked {
            true => Step::Begin,
            false => Step::Note,
        }),
        (Some(claim), None) if !claim.is_marked => Ok(Step::Mark),
        (Some(claim), None) => Err(format!(
            "it has no mark of this Walrus ({}): is it the right one? If its objects are there, put \
             that name into its object `{MARK}`; to begin with an empty one, remove {FILE}",
            claim.name
        )),
        (_, Some(mark)) => Err(format!(
            "it belongs to another Walrus ({mark}), whose objects would be deleted. If this one takes \
             its place, put that name into {FILE}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_taken_once_and_never_from_somebody_else() {
        // Whatever a crash leaves: file and mark, as one step after the other makes them.
        let (mut claim, mut mark) = (None::<Claim>, None::<String>);
        let mut steps = Vec::new();
        loop {
            let read = claim
                .as_ref()
                .map(|claim| Claim::parse(&claim.text()).unwrap());
            assert_eq!(read, claim);
            match decide(claim.as_ref(), mark.as_deref()).unwrap() {
                Step::Begin => break,
                Step::Mint => claim = Some(Claim::mint()),
                Step::Mark => mark = claim.as_ref().map(|claim| claim.name.clone()),
                Step::Note => claim.as_mut().unwrap().is_marked = true,
            }
            steps.push(());
        }
        assert_eq!(steps.len(), 3);

        let ours = claim.unwrap();
        let why = decide(Some(&ours), Some("other")).unwrap_err();
        assert!(why.contains("another Walrus (other)"), "{why}");
        assert!(
            decide(None, Some("other")).is_err(),
            "a restored journal asks first"
        );
        let why = decide(Some(&ours), None).unwrap_err();
        assert!(why.contains("is it the right one"), "{why}");
        // An administrator who puts a name into the file says that it is the right one.
        let put = Claim::parse("other\n").unwrap();
        assert_eq!(decide(Some(&put), Some("other")), Ok(Step::Begin));
    }
}
