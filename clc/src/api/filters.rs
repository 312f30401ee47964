//! `Filter.N`: values of a filter are alternatives, filters must all hold. `*` is any run, `?` any
//! character, `\` takes the next one as it is; all compare case-sensitively.
//!
//! A noun lists its filters once, as names with what they look at; `tag:KEY`, `tag-key` and
//! `tag-value` hold for all that have tags. A name that is not listed is refused: a client that
//! misspells `instance-state-name` must not terminate everything.

use ec2::{Code, Filter, Tag};

use super::errors::{Error, Result};

/// Filters in one request, as in EC2.
const FILTERS_MAX: usize = 50;
/// Values of one filter, as in EC2.
const VALUES_MAX: usize = 200;

/// A filter's name, and the texts of a thing that it looks at: one of them must match.
pub type Field<T> = (&'static str, fn(&T) -> Vec<String>);

/// Something that can be filtered.
pub trait Filterable: Sized + 'static {
    /// Its filters.
    const FIELDS: &'static [Field<Self>];

    /// Its tags, if such a thing can have any.
    fn tags(&self) -> Option<&[Tag]>;
}

/// The filters of a request.
pub struct Filters<T> {
    all: Vec<(Looks<T>, Vec<String>)>,
}

/// What a filter looks at.
enum Looks<T> {
    At(fn(&T) -> Vec<String>),
    AtTag(String),
    AtTagKeys,
    AtTagValues,
}

impl<T: Filterable> Filters<T> {
    /// Reads the filters of a request.
    pub fn of(filters: Vec<Filter>) -> Result<Self> {
        if filters.len() > FILTERS_MAX {
            return Err(invalid(format!(
                "A request may have {FILTERS_MAX} filters at most"
            )));
        }
        let all = filters.into_iter().map(|Filter { name, values }| {
            if values.0.len() > VALUES_MAX {
                return Err(invalid(format!(
                    "The filter '{name}' may have {VALUES_MAX} values at most"
                )));
            }
            Ok((looks(&name)?, values.0))
        });
        Ok(Self {
            all: all.collect::<Result<_>>()?,
        })
    }

    /// Whether all filters hold for a thing.
    pub fn admit(&self, thing: &T) -> bool {
        self.all.iter().all(|(looks, patterns)| {
            let tags = thing.tags().unwrap_or_default();
            let any = |text: &str| patterns.iter().any(|pattern| matches(pattern, text));
            match looks {
                Looks::At(texts) => texts(thing).iter().any(|text| any(text)),
                Looks::AtTag(key) => tags.iter().any(|tag| tag.key == *key && any(&tag.value)),
                Looks::AtTagKeys => tags.iter().any(|tag| any(&tag.key)),
                Looks::AtTagValues => tags.iter().any(|tag| any(&tag.value)),
            }
        })
    }
}

fn looks<T: Filterable>(name: &str) -> Result<Looks<T>> {
    if let Some((_, texts)) = T::FIELDS.iter().find(|(field, _)| *field == name) {
        return Ok(Looks::At(*texts));
    }
    match name.split_once(':') {
        Some(("tag", key)) => return Ok(Looks::AtTag(key.to_owned())),
        _ if name == "tag-key" => return Ok(Looks::AtTagKeys),
        _ if name == "tag-value" => return Ok(Looks::AtTagValues),
        _ => {}
    }
    Err(invalid(format!("The filter '{name}' is invalid")))
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidParameterValue, message)
}

/// Whether the whole text matches. The last `*` is the only one to come back to, so that no pattern
/// takes more than its length times the text's.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (parts(pattern), text.chars().collect::<Vec<_>>());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(Part::Run) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Part::Any) => (p, t) = (p + 1, t + 1),
            Some(Part::Char(c)) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|part| matches!(part, Part::Run))
}

enum Part {
    Run,
    Any,
    Char(char),
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => Part::Run,
            '?' => Part::Any,
            '\\' => Part::Char(chars.next().unwrap_or('\\')),
            c => Part::Char(c),
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Thing {
        name: &'static str,
        tags: Vec<Tag>,
    }

    impl Filterable for Thing {
        const FIELDS: &'static [Field<Self>] = &[("name", |thing| vec![thing.name.to_owned()])];

        fn tags(&self) -> Option<&[Tag]> {
            Some(&self.tags)
        }
    }

    fn filter(name: &str, values: &[&str]) -> Filter {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Filter {
            name: name.to_owned(),
            values: wire::Verbatim(values),
        }
    }

    fn admits(filters: &[Filter]) -> bool {
        let tags = vec![Tag {
            key: "Role".to_owned(),
            value: String::new(),
        }];
        let thing = Thing {
            name: "web-1",
            tags,
        };
        Filters::of(filters.to_vec()).unwrap().admit(&thing)
    }

    #[test]
    fn values_are_alternatives_and_filters_must_all_hold() {
        assert!(admits(&[]));
        assert!(admits(&[filter("name", &["db-1", "web-*"])]));
        assert!(!admits(&[
            filter("name", &["web-*"]),
            filter("tag:Role", &["db"])
        ]));
        assert!(!admits(&[filter("name", &[])]));
    }

    #[test]
    fn tags_are_filtered_by_key_and_by_value_the_empty_one_too() {
        assert!(admits(&[filter("tag:Role", &[""])]));
        assert!(admits(&[filter("tag-key", &["R?le"])]));
        assert!(!admits(&[filter("tag-key", &["role"])]));
        assert!(!admits(&[filter("tag:Other", &["*"])]));
    }

    #[test]
    fn a_filter_that_does_not_exist_is_refused() {
        let error = Filters::<Thing>::of(vec![filter("nmae", &["x"])])
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "InvalidParameterValue: The filter 'nmae' is invalid"
        );
        assert!(Filters::<Thing>::of(vec![filter("name", &["x"; 201])]).is_err());
    }

    #[test]
    fn wildcards_match_as_in_ec2() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*f", "abcde", false),
            ("?b", "ab", true),
            ("?b", "b", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"a\?", "ab", false),
            (r"\\", r"\", true),
            ("A", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_escaped(text in any::<String>()) {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(&escaped, &text));
        }
    }
}
