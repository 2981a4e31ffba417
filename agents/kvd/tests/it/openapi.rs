//! Tests that openapi.json and the server agree: on every path and method, on the fields of answers, and on
//! every status that any test receives.

use crate::daemon::Kvd;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../openapi.json");

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(TEXT).unwrap());

/// Returns the documented path that matches a request's path.
fn template(path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap();
    if path.len() > "/v1/keys/".len() && path.starts_with("/v1/keys/") {
        return Some("/v1/keys/{key}");
    }
    DOCUMENT["paths"].as_object().unwrap().keys().map(String::as_str).find(|template| *template == path)
}

/// Checks that the status of an answer is documented. Every test calls this with every answer.
#[track_caller]
pub(crate) fn check_status(method: &str, path: &str, status: u16) {
    let Some(template) = template(path) else { return };
    let responses = &DOCUMENT["paths"][template][method.to_lowercase()]["responses"];
    if responses.is_null() {
        assert!(matches!(status, 405 | 503), "{method} {path} is not documented: {status}");
    } else {
        // Overlong request lines are rejected before their path is read.
        let is_known = !responses[status.to_string()].is_null() || (status == 414 && path.len() > 65_000);
        assert!(is_known, "{method} {template} gave {status}, which is not documented");
    }
}

#[test]
fn documented_paths_are_the_real_routes() {
    let source = include_str!("../../src/http/mod.rs");
    let routes = source.split(".route(").skip(1).map(|call| call.split('"').nth(1).unwrap());
    // The last route catches all other paths below /v1.
    let routes = routes.filter(|route| *route != "/v1/{*unknown}").map(|route| route.replace('*', ""));
    let documented: BTreeSet<String> = DOCUMENT["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(routes.collect::<BTreeSet<_>>(), documented);
}

#[test]
fn documented_methods_are_the_real_ones() {
    let kvd = Kvd::in_memory(&[]);
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        // This client cannot read an endless stream or a chunked backup. Other tests read them.
        if path == "/v1/watch" || path == "/v1/backup" {
            continue;
        }
        let path = path.replace("{key}", "a");
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let answer = kvd.ask(method, &path, &[], b"");
            let documented = !methods[method.to_lowercase()].is_null();
            assert_eq!(answer.status != 405, documented, "{method} {path}: {}", answer.status);
            if !documented {
                assert_eq!(answer.error(), "method_not_allowed");
            }
        }
    }
    assert_eq!(kvd.get("/v1/nothing").expect(404).error(), "not_found");
}

#[test]
fn document_references_resolve() {
    for name in TEXT.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(!DOCUMENT["components"]["schemas"][name].is_null(), "{name}");
    }
}

/// Checks that the objects in answers have exactly the documented fields.
#[test]
fn documented_fields_are_the_real_ones() {
    let kvd = Kvd::in_memory(&[]);
    let fields = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let documented = |schema: &str| fields(&DOCUMENT["components"]["schemas"][schema]["properties"]);
    let put = kvd.put("/v1/keys/a?ttl=1h", "x").json();
    assert_eq!(fields(&put), documented("Changed"));
    kvd.put("/v1/keys/b?ttl=1h", b"\xff").expect(201);
    let listing = kvd.get("/v1/keys?values=true&limit=1").json();
    assert_eq!(fields(&listing), documented("Listing"));
    let both = kvd.get("/v1/keys?values=true").json();
    let of_both: BTreeSet<_> = fields(&both["keys"][0]).union(&fields(&both["keys"][1])).cloned().collect();
    assert_eq!(of_both, documented("KeyObject"));
    assert_eq!(fields(&kvd.get("/v1/stats").json()), documented("Stats"));
    let failed = kvd.batch(r#"{"op":"check","key":"a","if_match":1}"#).expect(412).json();
    assert_eq!(fields(&failed), documented("ConditionFailed"));
    assert_eq!(fields(&kvd.get("/v1/keys/missing").expect(404).json()), documented("Error"));
}
