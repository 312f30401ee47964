//! The `Condition` of a statement. Values are typed when the policy is read, so that a wrong date
//! or address is an error of whoever wrote it and not a silent refusal later.
//!
//! The rules: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>.

use std::{cmp::Ordering, net::IpAddr};

use ipnet::IpNet;
use serde_json::Value;
use types::Timestamp;

use crate::{Context, MalformedPolicy, policy::texts};

/// One operator over one fact.
#[derive(Debug, Clone)]
pub struct Condition {
    fact: String,
    quantifier: Quantifier,
    if_exists: bool,
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// No prefix: any value of the fact.
    Single,
    ForAnyValue,
    ForAllValues,
}

#[derive(Debug, Clone)]
enum Test {
    Text {
        values: Vec<String>,
        how: TextTest,
    },
    Number(Vec<f64>, Compare),
    Date(Vec<i64>, Compare),
    Flag(Vec<bool>),
    Address(Vec<IpNet>),
    /// Whether the fact is to be absent.
    Absent(bool),
}

#[derive(Debug, Clone, Copy)]
enum TextTest {
    Equal,
    EqualIgnoringCase,
    Like,
    Arn,
}

#[derive(Debug, Clone, Copy)]
enum Compare {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Equal => ordering == Some(Ordering::Equal),
            Self::Less => ordering == Some(Ordering::Less),
            Self::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => ordering == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

impl Condition {
    /// The fact that it looks at.
    pub(crate) fn fact(&self) -> &str {
        &self.fact
    }

    /// Reads `{"StringEquals": {"s3:prefix": ["a", "b"]}, ...}`.
    pub(crate) fn parse_all(value: &Value) -> Result<Vec<Self>, MalformedPolicy> {
        let operators = value
            .as_object()
            .ok_or(MalformedPolicy::new("Condition is no object"))?;
        let mut out = Vec::new();
        for (operator, facts) in operators {
            let facts = facts
                .as_object()
                .ok_or_else(|| MalformedPolicy::new(format!("{operator} is no object")))?;
            for (fact, values) in facts {
                out.push(Self::parse(operator, fact, values)?);
            }
        }
        Ok(out)
    }

    fn parse(operator: &str, fact: &str, values: &Value) -> Result<Self, MalformedPolicy> {
        let (quantifier, bare) = match operator.split_once(':') {
            None => (Quantifier::Single, operator),
            Some(("ForAnyValue", bare)) => (Quantifier::ForAnyValue, bare),
            Some(("ForAllValues", bare)) => (Quantifier::ForAllValues, bare),
            Some(_) => return Err(unknown(operator)),
        };
        let (bare, if_exists) = match bare.strip_suffix("IfExists") {
            Some(bare) => (bare, true),
            None => (bare, false),
        };
        let values = texts(values).ok_or_else(|| wrong(operator, fact))?;
        let (test, negated) = parse_test(bare, &values)
            .ok_or_else(|| unknown(operator))?
            .ok_or_else(|| wrong(operator, fact))?;
        let is_null = matches!(test, Test::Absent(_));
        if fact.is_empty() || is_null && (if_exists || quantifier != Quantifier::Single) {
            return Err(unknown(operator));
        }
        Ok(Self {
            fact: fact.to_owned(),
            quantifier,
            if_exists,
            negated,
            test,
        })
    }

    /// Whether the facts of a request meet the condition.
    pub(crate) fn holds(&self, context: &Context) -> bool {
        let found = context.get(&self.fact);
        if let Test::Absent(absent) = self.test {
            return found.is_none() == absent;
        }
        let Some(found) = found.filter(|values| !values.is_empty()) else {
            return match self.quantifier {
                Quantifier::Single => self.if_exists || self.negated,
                Quantifier::ForAnyValue => self.if_exists,
                Quantifier::ForAllValues => true,
            };
        };
        let meets = |value: &String| self.test.matches(value, context) != self.negated;
        match self.quantifier {
            // A negated operator asks that no value match, a plain one that some value do.
            Quantifier::Single if self.negated => found.iter().all(meets),
            Quantifier::Single | Quantifier::ForAnyValue => found.iter().any(meets),
            Quantifier::ForAllValues => found.iter().all(meets),
        }
    }
}

impl Test {
    /// Whether one value of the fact matches one of the policy's.
    fn matches(&self, given: &str, context: &Context) -> bool {
        match self {
            Self::Text { values, how } => values.iter().any(|v| how.matches(v, given, context)),
            Self::Number(values, compare) => given.trim().parse::<f64>().is_ok_and(|number| {
                values
                    .iter()
                    .any(|value| compare.holds(number.partial_cmp(value)))
            }),
            Self::Date(values, compare) => parse_date(given)
                .is_some_and(|date| values.iter().any(|v| compare.holds(Some(date.cmp(v))))),
            Self::Flag(values) => parse_flag(given).is_some_and(|flag| values.contains(&flag)),
            Self::Address(values) => given.parse::<IpAddr>().is_ok_and(|address| {
                values
                    .iter()
                    .any(|net| net.contains(&address.to_canonical()))
            }),
            Self::Absent(_) => false,
        }
    }
}

impl TextTest {
    fn matches(self, value: &str, given: &str, context: &Context) -> bool {
        let Some(filled) = context.fill_in(value) else {
            return false;
        };
        match self {
            Self::Equal => filled.literal() == given.as_bytes(),
            Self::EqualIgnoringCase => {
                String::from_utf8_lossy(&filled.literal()).to_lowercase() == given.to_lowercase()
            }
            Self::Like => filled.matches(given),
            Self::Arn => filled.matches_arn(given),
        }
    }
}

/// The test that an operator's name stands for, and whether it is negated. The outer `None`: there is
/// no such operator. The inner: a value is not of the operator's kind.
fn parse_test(operator: &str, values: &[String]) -> Option<Option<(Test, bool)>> {
    let text = |how, negated| {
        Some(Some((
            Test::Text {
                values: values.to_vec(),
                how,
            },
            negated,
        )))
    };
    match operator {
        "StringEquals" | "BinaryEquals" => return text(TextTest::Equal, false),
        "StringNotEquals" => return text(TextTest::Equal, true),
        "StringEqualsIgnoreCase" => return text(TextTest::EqualIgnoringCase, false),
        "StringNotEqualsIgnoreCase" => return text(TextTest::EqualIgnoringCase, true),
        "StringLike" => return text(TextTest::Like, false),
        "StringNotLike" => return text(TextTest::Like, true),
        "ArnEquals" | "ArnLike" => return text(TextTest::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => return text(TextTest::Arn, true),
        "Bool" => return Some(each(values, parse_flag).map(|flags| (Test::Flag(flags), false))),
        "IpAddress" => {
            return Some(each(values, parse_net).map(|nets| (Test::Address(nets), false)));
        }
        "NotIpAddress" => {
            return Some(each(values, parse_net).map(|nets| (Test::Address(nets), true)));
        }
        "Null" => {
            let flags = each(values, parse_flag).filter(|flags| flags.len() == 1);
            return Some(flags.map(|flags| (Test::Absent(flags[0]), false)));
        }
        _ => {}
    }
    if let Some(rest) = operator.strip_prefix("Numeric") {
        let (compare, negated) = parse_compare(rest)?;
        let numbers = each(values, |v| {
            v.trim().parse::<f64>().ok().filter(|n| n.is_finite())
        });
        return Some(numbers.map(|numbers| (Test::Number(numbers, compare), negated)));
    }
    let (compare, negated) = parse_compare(operator.strip_prefix("Date")?)?;
    Some(each(values, parse_date).map(|dates| (Test::Date(dates, compare), negated)))
}

fn parse_compare(text: &str) -> Option<(Compare, bool)> {
    Some(match text {
        "Equals" => (Compare::Equal, false),
        "NotEquals" => (Compare::Equal, true),
        "LessThan" => (Compare::Less, false),
        "LessThanEquals" => (Compare::LessOrEqual, false),
        "GreaterThan" => (Compare::Greater, false),
        "GreaterThanEquals" => (Compare::GreaterOrEqual, false),
        _ => return None,
    })
}

fn each<T>(values: &[String], parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    values.iter().map(|value| parse(value)).collect()
}

fn parse_flag(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn parse_net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// ISO 8601, a bare day, or seconds since 1970; as milliseconds.
fn parse_date(text: &str) -> Option<i64> {
    if let Ok(secs) = text.parse::<i64>() {
        return secs.checked_mul(1000);
    }
    let full = |text: &str| text.parse::<Timestamp>().ok().map(Timestamp::as_millis);
    full(text).or_else(|| {
        (text.len() == 10)
            .then(|| full(&format!("{text}T00:00:00Z")))
            .flatten()
    })
}

fn unknown(operator: &str) -> MalformedPolicy {
    MalformedPolicy::new(format!("unknown condition operator {operator:?}"))
}

fn wrong(operator: &str, fact: &str) -> MalformedPolicy {
    MalformedPolicy::new(format!(
        "{operator} of {fact:?} has a value of the wrong kind"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(condition: Value, facts: &[(&str, &str)], expected: bool) {
        let mut context = Context::new();
        for (name, value) in facts {
            context.add(name, *value);
        }
        let conditions = Condition::parse_all(&condition).unwrap();
        let holds = conditions.iter().all(|condition| condition.holds(&context));
        assert_eq!(holds, expected, "{condition} {facts:?}");
    }

    #[test]
    fn text_operators() {
        check(
            json!({"StringEquals": {"k": ["a", "b"]}}),
            &[("k", "b")],
            true,
        );
        check(json!({"StringEquals": {"k": "a*"}}), &[("k", "ab")], false);
        check(json!({"StringLike": {"k": "a*"}}), &[("k", "ab")], true);
        check(json!({"StringNotLike": {"k": "a*"}}), &[("k", "ab")], false);
        check(
            json!({"StringEqualsIgnoreCase": {"k": "AB"}}),
            &[("k", "ab")],
            true,
        );
        check(
            json!({"StringLike": {"k": "${aws:username}/*"}}),
            &[("aws:username", "ann"), ("k", "ann/x")],
            true,
        );
        check(
            json!({"StringLike": {"k": "${aws:username}/*"}}),
            &[("k", "ann/x")],
            false,
        );
    }

    #[test]
    fn an_absent_fact_fails_a_plain_operator_and_meets_a_negated_one() {
        check(json!({"StringEquals": {"k": "a"}}), &[], false);
        check(json!({"StringNotEquals": {"k": "a"}}), &[], true);
        check(json!({"StringEqualsIfExists": {"k": "a"}}), &[], true);
        check(
            json!({"StringEqualsIfExists": {"k": "a"}}),
            &[("k", "b")],
            false,
        );
        check(json!({"Null": {"k": "true"}}), &[], true);
        check(json!({"Null": {"k": false}}), &[], false);
        check(json!({"Null": {"k": false}}), &[("k", "")], true);
    }

    #[test]
    fn numbers_dates_flags_addresses_and_arns() {
        check(
            json!({"NumericLessThanEquals": {"k": 10}}),
            &[("k", "10")],
            true,
        );
        check(
            json!({"NumericGreaterThan": {"k": "10"}}),
            &[("k", "9.5")],
            false,
        );
        check(
            json!({"NumericEquals": {"k": "10"}}),
            &[("k", "ten")],
            false,
        );
        check(
            json!({"DateLessThan": {"t": "2026-11-24"}}),
            &[("t", "2026-11-23T23:59:59Z")],
            true,
        );
        check(
            json!({"DateGreaterThan": {"t": "1795402919"}}),
            &[("t", "2026-11-23T03:02:00Z")],
            true,
        );
        check(
            json!({"Bool": {"aws:SecureTransport": "false"}}),
            &[("aws:securetransport", "false")],
            true,
        );
        check(
            json!({"IpAddress": {"ip": ["10.0.0.0/8", "::1"]}}),
            &[("ip", "10.1.2.3")],
            true,
        );
        check(
            json!({"IpAddress": {"ip": "10.0.0.0/8"}}),
            &[("ip", "::ffff:10.1.2.3")],
            true,
        );
        check(
            json!({"NotIpAddress": {"ip": "10.0.0.0/8"}}),
            &[("ip", "10.1.2.3")],
            false,
        );
        check(
            json!({"ArnLike": {"a": "arn:aws:ec2:*:*:instance/*"}}),
            &[("a", "arn:aws:ec2:r:1:instance/i-1")],
            true,
        );
        check(
            json!({"ArnLike": {"a": "arn:*"}}),
            &[("a", "arn:aws:ec2:r:1:instance/i-1")],
            false,
        );
    }

    #[test]
    fn sets_of_values() {
        let tags = [("aws:TagKeys", "env"), ("aws:TagKeys", "cost")];
        check(
            json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["env", "cost"]}}),
            &tags,
            true,
        );
        check(
            json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["env"]}}),
            &tags,
            false,
        );
        check(
            json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["env"]}}),
            &[],
            true,
        );
        check(
            json!({"ForAnyValue:StringEquals": {"aws:TagKeys": ["env"]}}),
            &tags,
            true,
        );
        check(
            json!({"ForAnyValue:StringEquals": {"aws:TagKeys": ["env"]}}),
            &[],
            false,
        );
        check(
            json!({"StringNotEquals": {"aws:TagKeys": "env"}}),
            &tags,
            false,
        );
    }

    #[test]
    fn what_is_not_understood_does_not_parse() {
        for condition in [
            json!({"StringSortOfEquals": {"k": "a"}}),
            json!({"ForMostValues:StringEquals": {"k": "a"}}),
            json!({"NumericEquals": {"k": "ten"}}),
            json!({"DateEquals": {"k": "soon"}}),
            json!({"IpAddress": {"k": "10.0.0.0/33"}}),
            json!({"Bool": {"k": "yes"}}),
            json!({"Null": {"k": ["true", "false"]}}),
            json!({"NullIfExists": {"k": "true"}}),
            json!({"StringEquals": {"k": {}}}),
            json!({"StringEquals": "a"}),
            json!([]),
        ] {
            assert!(Condition::parse_all(&condition).is_err(), "{condition}");
        }
    }
}
