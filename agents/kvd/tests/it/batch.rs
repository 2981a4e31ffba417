//! Tests that a batch applies all of its operations or none.

use crate::daemon::{Kvd, revision};

#[test]
fn batch_is_done_whole() {
    for kvd in [Kvd::start(&[]), Kvd::in_memory(&[])] {
        let first = revision(&kvd.put("/v1/keys/old", "x"));
        let answer = kvd.batch(
            r#"{"op":"put","key":"new","value":"text"},
               {"op":"put","key":"binary","value_base64":"/wA=","ttl":"1h","if_none_match":"*"},
               {"op":"delete","key":"old","if_match":"*"},
               {"op":"delete","key":"missing"},
               {"op":"check","key":"absent","if_none_match":"*"}"#,
        );
        let results = answer.expect(200).json()["results"].clone();
        let result = |index: usize| {
            let result = &results[index];
            (
                result["key"].as_str().unwrap(),
                result["existed"].as_bool().unwrap(),
                result["revision"].as_u64(),
            )
        };
        assert_eq!(result(0), ("new", false, Some(first + 1)));
        assert_eq!(result(1), ("binary", false, Some(first + 2)));
        assert_eq!(result(2), ("old", true, Some(first + 3)));
        assert_eq!(result(3), ("missing", false, None));
        assert_eq!(result(4), ("absent", false, None));
        assert_eq!(kvd.get("/v1/keys/new").text(), "text");
        assert_eq!(kvd.get("/v1/keys/binary").body, b"\xff\0");
        assert_eq!(kvd.get("/v1/keys/old").status, 404);
    }
}

#[test]
fn failed_condition_changes_nothing_and_is_named() {
    for kvd in [Kvd::start(&[]), Kvd::in_memory(&[])] {
        let present = revision(&kvd.put("/v1/keys/b", "x"));
        let refused = kvd
            .batch(r#"{"op":"put","key":"a","value":"1"},{"op":"check","key":"b","if_match":17}"#)
            .expect(412)
            .json();
        assert_eq!(refused["error"], "condition_failed");
        assert_eq!((refused["operation"].as_u64(), refused["key"].as_str()), (Some(1), Some("b")));
        assert_eq!(refused["revision"], present);
        assert_eq!(kvd.get("/v1/keys/a").status, 404);
        let accepted = format!(
            r#"{{"op":"put","key":"a","value":"1"}},{{"op":"check","key":"b","if_match":{present}}}"#
        );
        kvd.batch(&accepted).expect(200);
        assert_eq!(kvd.get("/v1/keys/a").text(), "1");
    }
}

#[test]
fn wrong_batches_are_refused_with_the_operation() {
    let kvd = Kvd::in_memory(&[]);
    let good = r#"{"op":"put","key":"a","value":""}"#;
    for (wrong, status, reason) in [
        (good.to_owned(), 422, "twice"),
        (r#"{"op":"put","key":"b"}"#.to_owned(), 422, "operations[1]: put needs value"),
        (r#"{"op":"put","key":"b","value":"","value_base64":""}"#.to_owned(), 422, "either"),
        (r#"{"op":"put","key":"b","value_base64":"?"}"#.to_owned(), 422, "value_base64"),
        (r#"{"op":"delete","key":"b","value":""}"#.to_owned(), 422, "only put"),
        (r#"{"op":"check","key":"b","ttl":"1s"}"#.to_owned(), 422, "only put"),
        (r#"{"op":"put","key":"","value":""}"#.to_owned(), 422, "at least one"),
        (r#"{"op":"fly","key":"b"}"#.to_owned(), 422, "fly"),
        (r#"{"op":"put","key":"b","value":"","if_match":"x"}"#.to_owned(), 422, "revision"),
        (r#"{"op":"put","key":"b","value":"","wings":2}"#.to_owned(), 422, "wings"),
        ("{".to_owned(), 400, "not JSON"),
    ] {
        let answer = kvd.batch(&format!("{good},{wrong}"));
        assert_eq!(answer.status, status, "{wrong}: {answer:?}");
        assert!(answer.text().contains(reason), "{wrong}: {}", answer.text());
    }
    assert_eq!(kvd.get("/v1/keys/a").status, 404);
}
