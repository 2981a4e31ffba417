//! The query of a request.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Builds the query of a path, with its question mark. Empty if no parameter has a value.
pub fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let encoded =
        given.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    let joined = encoded.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_cannot_leave_their_place() {
        assert_eq!(query(&[("key", None), ("seal", None)]), "");
        assert_eq!(
            query(&[("key", Some("a&b=ä ")), ("seal", Some("true"))]),
            "?key=a%26b%3D%C3%A4%20&seal=true"
        );
    }
}
