//! Tests get, put, delete, cas and list, and their exit codes.

use crate::kvctl::{command, fails, run, says};
use crate::server::Kvd;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};
use trial::{Port, run_to_end};

#[test]
fn value_comes_from_an_argument_a_file_or_stdin() {
    let kvd = Kvd::start();
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let value = || run(&kvd.url(), &["get", "a"], b"").stdout;
    assert_eq!(says(&kvd.url(), &["put", "a", "-hello"]), "");
    assert_eq!(value(), b"-hello");
    assert!(run(&kvd.url(), &["put", "a"], &bytes).status.success());
    assert_eq!(value(), bytes);
    let file = kvd.path("value");
    std::fs::write(&file, b"of\0file\n").unwrap();
    says(&kvd.url(), &["put", "a", "-f", file.to_str().unwrap()]);
    assert_eq!(value(), b"of\0file\n");
    assert!(run(&kvd.url(), &["put", "a", "-f", "-"], b"").status.success());
    assert_eq!(value(), b"");
    let mut binary =
        command(&kvd.url(), [OsStr::new("put"), OsStr::new("a"), OsStr::from_bytes(b"\xff\xfe")]);
    assert!(run_to_end(&mut binary).status.success());
    assert_eq!(value(), b"\xff\xfe");
}

#[test]
fn keys_of_any_text_are_found_again() {
    let kvd = Kvd::start();
    for key in ["a/b c", "100%", "?x=y#z", "к", "..", "a//b/"] {
        says(&kvd.url(), &["put", key, key]);
        assert_eq!(says(&kvd.url(), &["get", key]), key);
    }
    assert_eq!(says(&kvd.url(), &["list", "a"]), "a//b/\na/b c\n");
}

#[test]
fn json_has_the_revision() {
    let kvd = Kvd::start();
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&says(&kvd.url(), arguments)).unwrap() };
    let put = json(&["put", "a", "x", "--ttl", "1h", "--json"]);
    let get = json(&["get", "a", "--json"]);
    assert_eq!(
        (&get["revision"], get["key"].as_str(), get["value"].as_str()),
        (&put["revision"], Some("a"), Some("x"))
    );
    assert!(get["expires"].is_string() && get["bytes"] == 1);
    let listed = json(&["list", "--values", "--json"]);
    assert_eq!((&listed["revision"], listed["value"].as_str()), (&put["revision"], Some("x")));
    let deleted = json(&["delete", "a", "--json"]);
    assert_eq!(deleted["revision"].as_u64(), put["revision"].as_u64().map(|revision| revision + 1));
}

#[test]
fn missing_keys_are_named() {
    let kvd = Kvd::start();
    let (code, said) = fails(&kvd.url(), &["get", "a"]);
    assert_eq!((code, said), (1, format!("kvctl: no key \"a\" at {}\n", kvd.host())));
    says(&kvd.url(), &["put", "b", "x"]);
    let (code, said) = fails(&kvd.url(), &["delete", "a", "b", "c"]);
    assert!(code == 1 && said.contains("no keys \"a\", \"c\""), "{said}");
    assert_eq!(says(&kvd.url(), &["list"]), "", "the key between them is deleted");
}

#[test]
fn conditions_that_fail_are_65() {
    let kvd = Kvd::start();
    says(&kvd.url(), &["put", "a", "1", "--if-absent"]);
    let (code, said) = fails(&kvd.url(), &["put", "a", "2", "--if-absent"]);
    assert!(code == 65 && said.contains("condition"), "{said}");
    assert_eq!(fails(&kvd.url(), &["put", "a", "2", "--if-match", "7"]).0, 65);
    assert_eq!(fails(&kvd.url(), &["delete", "a", "--if-match", "7"]).0, 65);
    says(&kvd.url(), &["cas", "a", "--old", "1", "--new", "2"]);
    let (code, said) = fails(&kvd.url(), &["cas", "a", "--old", "1", "--new", "3"]);
    assert!(code == 65 && said.contains("not the old one"), "{said}");
    assert_eq!(fails(&kvd.url(), &["cas", "missing", "--old", "", "--new", "3"]).0, 65);
    assert_eq!(says(&kvd.url(), &["get", "a"]), "2");
    says(&kvd.url(), &["cas", "a", "--old", "2", "--new", "2", "--ttl", "1h"]);
    assert!(says(&kvd.url(), &["get", "a", "--json"]).contains("\"expires\""));
}

#[test]
fn many_keys_are_listed_page_by_page() {
    let kvd = Kvd::start();
    let backup = kvd.path("keys.jsonl");
    let keys: Vec<String> = (0..2300).map(|number| format!("{number:04}")).collect();
    let line = |key: &String| format!("{{\"key\":\"{key}\",\"revision\":1,\"value\":\"v\\n\"}}\n");
    let lines: String = keys.iter().map(line).collect();
    let text = format!("{{\"kvd_backup\":1,\"revision\":1}}\n{lines}{{\"keys\":{}}}\n", keys.len());
    std::fs::write(&backup, text).unwrap();
    says(&kvd.url(), &["restore", backup.to_str().unwrap()]);
    assert_eq!(says(&kvd.url(), &["list"]).lines().collect::<Vec<_>>(), keys);
    assert_eq!(says(&kvd.url(), &["list", "000", "-n", "2", "--after", "0004"]), "0005\n0006\n");
    assert_eq!(says(&kvd.url(), &["list", "2299", "--values"]), "2299\tv\\n\n");
}

#[test]
fn faults_have_their_exit_codes() {
    let kvd = Kvd::with(&["--max-value-bytes", "10"]);
    let away = Port::reserve();
    let (code, said) = fails(&format!("http://{}", away.address), &["get", "a"]);
    assert!(code == 75 && said.contains("cannot connect"), "{said}");
    let (code, said) = fails(&kvd.url(), &["put", "a", "more than ten bytes"]);
    assert!(code == 1 && said.contains("--max-value-bytes"), "{said}");
    let (code, said) = fails("ftp://host", &["get", "a"]);
    assert!(code == 64 && said.contains("--server"), "{said}");
    let (code, said) = fails(&kvd.url(), &["get", "a", "--token-file", "/nowhere/token"]);
    assert!(code == 75 && said.contains("/nowhere/token"), "{said}");
    // Stands for another program: the course's door of kvd answers, but not in the form of the API.
    let (code, said) = fails(&format!("{}/load/x", kvd.url()), &["list"]);
    assert!(code == 1 && said.contains("this server is not kvd"), "{said}");
}

#[test]
fn https_server_must_prove_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let [certificate, key] = trial::self_signed(directory.path(), "server", "kvd.test", expires);
    let [certificate, key] = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let kvd = Kvd::with(&["--tls-cert", certificate, "--tls-key", key]);
    let url = format!("https://{}", kvd.host());
    says(&url, &["put", "a", "secret", "--ca", certificate, "--tls-name", "kvd.test"]);
    assert_eq!(says(&url, &["get", "a", "--ca", certificate, "--tls-name", "kvd.test"]), "secret");
    let (code, said) = fails(&url, &["get", "a", "--ca", certificate, "--tls-name", "other.test"]);
    assert!(code == 75 && said.contains("TLS handshake failed"), "{said}");
}

#[test]
fn token_is_sent_and_its_lack_is_78() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "reader-0123456789 read\n").unwrap();
    let kvd = Kvd::with(&["--tokens", tokens.path().to_str().unwrap()]);
    let token = kvd.path("token");
    std::fs::write(&token, "reader-0123456789\n").unwrap();
    let token = token.to_str().unwrap();
    assert_eq!(fails(&kvd.url(), &["list"]).0, 78);
    assert_eq!(says(&kvd.url(), &["list", "--token-file", token]), "");
    let (code, said) = fails(&kvd.url(), &["put", "a", "x", "--token-file", token]);
    assert!(code == 78 && said.contains("lacks the right"), "{said}");
}
