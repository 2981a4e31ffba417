//! Searches, deletes and moves items.

use crate::queuectl::{run, stderr, stdout};
use crate::server::Server;

#[test]
fn search_goes_on_until_the_limit_or_the_end() {
    let server = Server::with(&["red 1", "blue 2", "red 3", "red 4"]);
    let peek = |limit: &str| {
        let arguments = ["peek", "-q", "q", "--text", "red ", "-n", limit];
        let output = run(&server.url(), &arguments, b"");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let all = peek("10");
    let lines: Vec<_> = all.lines().collect();
    assert!(lines[0].starts_with("ID") && lines[0].ends_with("NOTE"), "{all}");
    assert_eq!(lines.len(), 4, "{all}");
    assert!(["red 1", "red 3", "red 4"].iter().all(|item| all.contains(item)), "{all}");
    assert_eq!(server.queue().requests.len(), 4);
    assert_eq!(peek("2").lines().count(), 3);
    assert_eq!(server.queue().requests.len(), 7, "the search ends with the second item that was found");
}

#[test]
fn delete_and_move_say_how_many_items_they_changed() {
    let server = Server::with(&["a", "b", "c", "d"]);
    let ids: Vec<String> = server.queue().ready.iter().map(|item| item.id.clone()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let change = |arguments: &[&str], ids: &[&str]| {
        let output = run(&server.url(), &[arguments, ids].concat(), b"");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(change(&["delete-items", "-q", "q"], &ids[..1]), "deleted 1 item\n");
    // The server moves a bounded number with one request.
    assert_eq!(change(&["move-items", "-q", "q", "--to", "r"], &ids[1..]), "moved 3 items\n");
    let said = change(&["delete-items", "-q", "q"], &ids[..2]);
    assert_eq!(said, "deleted 0 items of 2; the others are leased or do not exist\n");
    assert_eq!(change(&["delete-items", "-q", "q", "--json"], &ids[..2]), "{\"count\":0}\n");
}
