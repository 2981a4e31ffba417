//! Checks any file of tokens of queued: each line gives its token its rights, nobody else has any, and no
//! error reveals a secret.

use axum::http::HeaderValue;
use queued::http::tokens::{FILE, Right, permit};
use std::sync::Arc;

pub fn tokens(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let entries = match FILE.parse(text) {
        Ok(entries) => Some(Arc::new(entries)),
        // The error reveals no more of the file than a line number.
        Err(error) => {
            let known =
                ["", "a", "a b", "\u{e9} push"].map(|file| FILE.parse(file).err().as_deref().map(words));
            return assert!(known.contains(&Some(words(&error))), "{error}");
        }
    };
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    for (token, _) in &lines {
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        let authorization = header.as_ref().ok().and_then(|value| value.to_str().ok());
        assert!(authorization.is_some(), "a token that no header can carry was taken");
        let status =
            |right| permit(&entries, authorization, right).map_err(|problem| problem.status.as_u16());
        // The last line of a token counts.
        let (_, rights) = lines.iter().rfind(|(other, _)| other == token).unwrap();
        let has = |name| rights.split(',').any(|right| right == name);
        let may = |name| if has("admin") || has(name) { Ok(()) } else { Err(403) };
        let expected = [Ok(()), may("push"), may("push"), may("work"), may("admin")];
        let granted = [Right::Read, Right::Push, Right::PushOrAdmin, Right::Work, Right::Admin].map(status);
        assert_eq!(granted, expected, "{token:?} with {rights:?}");
        for stranger in [&format!("{token}{token}"), &token[..token.len() - 1]] {
            let answer = permit(&entries, Some(&format!("Bearer {stranger}")), Right::Read);
            assert_eq!(answer.is_ok(), lines.iter().any(|(token, _)| *token == stranger), "{stranger:?}");
        }
    }
}

fn words(error: &str) -> String {
    error.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}
