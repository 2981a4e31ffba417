//! Key/value servers as a StatefulSet, seen by the course's client: first without disks, then with one for each.

use crate::namespace::{Namespace, Pod};

const LETTERS: usize = 26;

/// The letters of one server, whose number is a letter's code modulo three.
fn is_of_server(letter: usize, server: usize) -> bool {
    (usize::from(b'a') + letter) % 3 == server
}

/// A client's lines so far, each with one character for each letter.
struct Lines(Vec<Vec<char>>);

impl Lines {
    #[track_caller]
    fn of(namespace: &Namespace, client: &str) -> Lines {
        let said = namespace.says(&["logs", client]);
        let lines = said.lines().skip(4).map(|line| {
            let letters: Vec<char> = line.split_whitespace().nth(2).unwrap_or_default().chars().collect();
            assert_eq!(letters.len(), LETTERS, "{client}: {line:?}");
            letters
        });
        Lines(lines.collect())
    }

    fn last_is(&self, expected: char) -> bool {
        self.0.last().is_some_and(|line| line.iter().all(|letter| *letter == expected))
    }

    /// Returns what was printed for a letter after the first `skipped` lines.
    fn column(&self, letter: usize, skipped: usize) -> String {
        self.0.iter().skip(skipped).map(|line| line[letter]).collect()
    }
}

fn lines(namespace: &Namespace) -> Lines {
    Lines::of(namespace, "client")
}

/// Deletes a pod, waits until its replacement is ready and every letter is found, and returns the number of
/// lines before.
#[track_caller]
fn replace_pod(namespace: &Namespace, name: &str) -> usize {
    let before = lines(namespace).0.len();
    let old = namespace.ready("app=server", 3).into_iter().find(|pod| pod.name == name).unwrap();
    namespace.says(&["delete", "pod", name]);
    namespace.until("the new pod", || {
        let new = namespace.pods("app=server").into_iter().find(|pod| pod.name == name)?;
        (new.uid != old.uid && new.ready).then_some(())
    });
    every_letter_after(namespace, before);
    before
}

/// Waits until every letter is found in a line whose letters were all looked for after the first `before`
/// lines.
#[track_caller]
fn every_letter_after(namespace: &Namespace, before: usize) {
    namespace.until("every letter again", || {
        let lines = lines(namespace);
        (lines.0.len() > before + 1 && lines.last_is('h')).then_some(())
    });
}

/// The client lives through everything, and the letters of other servers are found all the time.
#[track_caller]
fn others_are_always_found(lines: &Lines, skipped: usize, server: usize) {
    for letter in (0..LETTERS).filter(|letter| !is_of_server(*letter, server)) {
        let column = lines.column(letter, skipped);
        assert!(column.chars().all(|found| found == 'h'), "letter {letter}: {column}");
    }
}

fn client(namespace: &Namespace) -> Pod {
    namespace.ready("app=client", 1).remove(0)
}

#[test]
fn deleted_pod_loses_its_letters_without_a_disk_and_keeps_them_with_one() {
    let namespace = Namespace::new("kv");
    namespace.apply_example("kv/server.yaml");
    namespace.rolled_out("statefulset/server");
    namespace.apply_example("kv/client.yaml");
    client(&namespace);
    namespace.until("every letter", || lines(&namespace).last_is('h').then_some(()));

    // Without a disk, the letters of the deleted pod are written again, after 5 or a full stop.
    let skipped = replace_pod(&namespace, "server-1");
    let seen = lines(&namespace);
    others_are_always_found(&seen, skipped, 1);
    for letter in (0..LETTERS).filter(|letter| is_of_server(*letter, 1)) {
        let column = seen.column(letter, skipped);
        let written = column.trim_start_matches('h').trim_start_matches(['5', '.']);
        assert!(
            written.starts_with('w') && written[1..].chars().all(|found| found == 'h'),
            "{letter}: {column}"
        );
    }

    // More servers are no trouble for this client, and it finds everything after they are gone.
    for replicas in [5, 3] {
        namespace.says(&["scale", "statefulset/server", &format!("--replicas={replicas}")]);
        namespace.until("the pods", || {
            let pods = namespace.pods("app=server");
            (pods.len() == replicas && pods.iter().all(|pod| pod.ready)).then_some(())
        });
    }
    assert!(lines(&namespace).last_is('h'));

    // A reader finds what the writer wrote.
    namespace.apply_example("kv/client-ro-3.yaml");
    namespace.ready("app=client", 2);
    namespace
        .until("the reader's letters", || Lines::of(&namespace, "client-ro-3").last_is('h').then_some(()));
    namespace.says(&["delete", "pod", "client-ro-3"]);

    // With disks nothing is written twice, not even when the whole StatefulSet is deleted.
    namespace.says(&["delete", "statefulset", "server", "--wait=true"]);
    namespace.until("the end of its pods", || namespace.pods("app=server").is_empty().then_some(()));
    namespace.apply_example("kv/server-disk.yaml");
    namespace.rolled_out("statefulset/server");
    every_letter_after(&namespace, lines(&namespace).0.len());
    let skipped = replace_pod(&namespace, "server-2");
    others_are_always_found(&lines(&namespace), skipped, 2);
    namespace.says(&["delete", "statefulset", "server", "--wait=true"]);
    namespace.until("the end of its pods", || namespace.pods("app=server").is_empty().then_some(()));
    namespace.apply_example("kv/server-disk.yaml");
    namespace.rolled_out("statefulset/server");
    every_letter_after(&namespace, lines(&namespace).0.len());
    let written: Vec<String> = (0..LETTERS)
        .map(|letter| lines(&namespace).column(letter, skipped))
        .filter(|column| column.contains('w'))
        .collect();
    assert!(written.is_empty(), "letters were written again: {written:?}");
    assert_eq!(client(&namespace).restarts, 0, "the client never dies");
}
