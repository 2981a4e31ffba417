//! The agents' pages in a real Chromium: they show what happens, their controls work, and strangers' text
//! does nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agent;
mod archives;
mod container_logs;
mod default_ports;
mod lines;
mod queues;
mod webdriver;

use webdriver::Browser;

/// Text that a stranger may send. A page that treated it as markup would run it, and one of its characters
/// would reverse the rest of the line.
const HOSTILE: &str =
    "<script>window.broken=1</script><img src=x onerror='window.broken=1'>\"'>&lt;\u{1b}[31m\u{0}\u{202e}end";

/// Checks that no text of a stranger was run, became an element, or was blocked by the policy on an attempt
/// to run.
fn assert_unharmed(browser: &Browser) {
    assert_eq!(browser.run("return window.broken ?? null"), serde_json::Value::Null);
    assert_eq!(browser.run("return document.querySelectorAll('main script, main img').length"), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Takes pictures in both colour schemes at a phone's and a desktop's width. If `$SCREENSHOTS` is set, they
/// are stored there for people to look at. At no width may anything be wider than the window.
fn pictures(browser: &Browser, name: &str) {
    for (width, height, device) in [(390, 844, "phone"), (1280, 900, "desk")] {
        browser.size(width, height);
        for (dark, scheme) in [(false, "light"), (true, "dark")] {
            browser.scheme(dark);
            let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
            let expected = if dark { "rgb(20, 23, 27)" } else { "rgb(251, 251, 250)" };
            assert_eq!(ground, expected);
            let picture = browser.picture();
            assert!(picture.starts_with(b"\x89PNG"));
            if let Ok(directory) = std::env::var("SCREENSHOTS") {
                std::fs::write(format!("{directory}/{name}-{device}-{scheme}.png"), picture).unwrap();
            }
        }
        let widest = browser.run("return document.documentElement.scrollWidth");
        assert!(widest.as_u64().unwrap() <= width.into(), "{widest} on {device}");
    }
}
