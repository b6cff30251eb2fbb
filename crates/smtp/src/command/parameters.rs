//! The parameters behind a path: `KEYWORD[=value]` (RFC 5321 §4.1.2).

use super::SyntaxError;

/// Iterates over keyword and value.
pub(super) fn iterate(rest: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    rest.split(' ').filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    })
}

/// Puts a value in its place once; a second or missing value is the parameter's fault.
pub(super) fn set_once<T>(place: &mut Option<T>, value: Option<T>, keyword: &'static str) -> Result<(), SyntaxError> {
    match (place.is_some(), value) {
        (false, Some(value)) => {
            *place = Some(value);
            Ok(())
        }
        _ => Err(SyntaxError::Parameter(keyword)),
    }
}
